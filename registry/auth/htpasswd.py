r"""The text of an htpasswd file: reading and editing it. No I/O.

    # a comment
    alice:$2y$10$<22 characters of salt><31 of the hash>

As registry:2 reads it: blank lines and comments are passed over, the last of several lines for one name counts, and
only bcrypt is taken. `htpasswd -B` writes `$2y$`; `$2a$` and `$2b$` are the same algorithm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import bcrypt

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL_COST = 10
LEAST_COST = 4
MOST_COST = 17
"""Each step doubles the time of a check; at 17 it takes seconds. A slip of the hand must not block all logins."""

MOST_PASSWORD = 72
"""Bytes. bcrypt knows no more, and neither did whatever made the hash: see `matches`."""

_HASH = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_ALPHABET = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_LAST_OF_SALT = 28
_UNFIT = re.compile(r"[\x00-\x1f\x7f:]")


@dataclass(frozen=True, slots=True)
class Wrong:
    """A line that lets nobody in. `what` says what to do, and never quotes a hash."""

    number: int
    what: str
    line: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Entries:
    """What a file says.

    Attributes:
        users: the hash for each name.
        costs: of those hashes.
        wrong: lines that cannot be used.
    """

    users: Mapping[bytes, bytes] = field(repr=False)
    costs: tuple[int, ...]
    wrong: tuple[Wrong, ...] = ()


def parse(data: bytes) -> Entries:
    """Read a file's content. Never fails: what is wrong is in the answer."""
    users: dict[bytes, bytes] = {}
    wrong: list[Wrong] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if (name := _name(line)) is None:
            continue
        hashed = line.strip().partition(b":")[2].strip()
        if what := _objection(line, name, hashed):
            wrong.append(Wrong(number, what, line.strip()))
        else:
            users[name] = _canonical(hashed)
    return Entries(users, tuple(int(hashed[4:6]) for hashed in users.values()), tuple(wrong))


def _name(line: bytes) -> bytes | None:
    """Of the user whose line it is; None for a blank line or a comment."""
    text = line.strip()
    return None if not text or text.startswith(b"#") else text.partition(b":")[0]


def _objection(line: bytes, name: bytes, hashed: bytes) -> str:
    if b":" not in line or not name:
        return "expected NAME:HASH; remove the line, or add the user with: registry user add NAME"
    found = _HASH.fullmatch(hashed)
    shown = name.decode("utf-8", "replace")
    if found is None:
        return f"the password of {shown!r} is not hashed with bcrypt; set it again: registry user passwd {shown!r}"
    if not LEAST_COST <= int(found[1]) <= MOST_COST:
        return (
            f"the password of {shown!r} has cost {int(found[1])}, and {LEAST_COST} to {MOST_COST} are taken; "
            f"set it again: registry user passwd {shown!r}"
        )
    return ""


def _canonical(hashed: bytes) -> bytes:
    """The salt's last character has four bits to spare, which some tools set, and the library wants as zeros."""
    spare = _ALPHABET.index(hashed[_LAST_OF_SALT]) & 0b110000
    return hashed[:_LAST_OF_SALT] + _ALPHABET[spare : spare + 1] + hashed[_LAST_OF_SALT + 1 :]


def matches(password: bytes, hashed: bytes) -> bool:
    """Whether bcrypt says so: tens of milliseconds, without the GIL.

    What exceeds 72 bytes does not count, as in registry:2 and in the tools that made the hash; `hash_of` makes none.
    """
    return bcrypt.checkpw(password[:MOST_PASSWORD], hashed)


def stand_in(cost: int) -> bytes:
    """A hash that takes as long to check as any of that cost, and belongs to nobody."""
    return b"$2b$%02d$" % cost + b"." * 53


def hash_of(password: str, cost: int = USUAL_COST) -> bytes:
    """A new hash. Raises ValueError, with what to do instead, where the password cannot be used."""
    data = password.encode("utf-8", "surrogateescape")
    if not data:
        raise ValueError("the password is empty")
    if any(sign in password for sign in "\0\r\n"):
        raise ValueError("the password has a line end or a zero byte in it: give it on one line")
    if len(data) > MOST_PASSWORD:
        raise ValueError(f"the password has {len(data)} bytes; bcrypt takes {MOST_PASSWORD}: choose a shorter one")
    # `htpasswd` writes $2y$ for the same algorithm, and every reader of such files knows that.
    return b"$2y$" + bcrypt.hashpw(data, bcrypt.gensalt(cost))[4:]


def usable_name(name: str) -> bytes:
    """A name as it stands in a file. Raises ValueError, with what is wrong."""
    if not name or name != name.strip() or name.startswith("#") or _UNFIT.search(name):
        raise ValueError(
            f"{name!r} cannot be a user's name: expected text without colons and control characters, "
            "that begins with no # and has no space at its ends"
        )
    return name.encode("utf-8", "surrogateescape")


def has_user(data: bytes, name: bytes) -> bool:
    return any(_name(line) == name for line in data.split(b"\n"))


def with_user(data: bytes, name: bytes, hashed: bytes) -> bytes:
    """The content with that user's line, in its old place or at the end; all other lines as they are."""
    line = name + b":" + hashed
    if has_user(data, name):
        return _edited(data, name, [line])
    end = b"" if not data or data.endswith(b"\n") else b"\n"
    return data + end + line + b"\n"


def without_user(data: bytes, name: bytes) -> bytes:
    """The content without any line of that user."""
    return _edited(data, name, [])


def _edited(data: bytes, name: bytes, instead: list[bytes]) -> bytes:
    lines: list[bytes] = []
    for line in data.split(b"\n"):
        if _name(line) == name:
            lines += instead
            instead = []
        else:
            lines.append(line)
    return b"\n".join(lines)
