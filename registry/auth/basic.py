"""HTTP's Basic scheme (RFC 7617): credentials from a header, and the challenge that asks for them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_BYTES = 4096
"""Of an Authorization header: far above any name with a password, far below what is a burden."""

_UNFIT = re.compile(rb"[\x00-\x1f\x7f]")


class Malformed(Exception):
    """The header holds no credentials. Its text never quotes the header."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, as the bytes that came: UTF-8 from every container client."""

    user: bytes
    password: bytes = field(repr=False)

    @classmethod
    def parse(cls, given: Sequence[bytes]) -> Credentials:
        """From the values of a request's Authorization headers.

        Raises:
            Malformed: not one header, another scheme, or not what the scheme says.
        """
        if len(given) != 1:
            raise Malformed("expected one Authorization header")
        if len(given[0]) > MOST_BYTES:
            raise Malformed(f"the Authorization header has more than {MOST_BYTES} bytes")
        scheme, _, token = given[0].strip().partition(b" ")
        if scheme.lower() != b"basic":
            raise Malformed("expected an Authorization header of the Basic scheme")
        try:
            user, colon, password = base64.b64decode(token.strip(), validate=True).partition(b":")
        except binascii.Error:
            raise Malformed("the Authorization header is not base64") from None
        # A zero byte would end bcrypt's key early: another password with the same hash.
        if not colon or _UNFIT.search(user) or b"\0" in password:
            raise Malformed("the Authorization header has no name and password in it")
        return cls(user, password)


def challenge(realm: str) -> str:
    """The value of WWW-Authenticate."""
    return f"Basic realm={quoted(realm)}"


def quoted(text: str) -> str:
    """As RFC 9110 section 5.6.4 has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
