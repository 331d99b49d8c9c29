"""Content addresses: `<algorithm>:<hex>`.

Source: image-spec, "Digests". sha256 must be supported; sha512 may, and is here.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, TypeAlias

from registry.oci.errors import DigestInvalid

if TYPE_CHECKING:
    import _hashlib

Hasher: TypeAlias = "_hashlib.HASH"

ALGORITHMS = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
"""Registered algorithms by name; each makes a hasher."""

Bytes = bytes | bytearray | memoryview

_PATTERN = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_EMPTY = frozenset(f"{name}:{make().hexdigest()}" for name, make in ALGORITHMS.items())


class Digest(str):
    """A validated digest of a supported algorithm. Being one, it is safe as a part of a path.

    Raises:
        DigestInvalid: the text is no digest, or its algorithm is not supported.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Digest:
        if _PATTERN.fullmatch(text) is None:
            raise DigestInvalid(f"invalid digest {text[:160]!r}: expected sha256:<64 hex> or sha512:<128 hex>")
        return super().__new__(cls, text)

    @property
    def algorithm(self) -> str:
        return self[:6]

    @property
    def hex(self) -> str:
        return self[7:]

    @property
    def is_of_nothing(self) -> bool:
        """Whether this is the digest of zero bytes."""
        return self in _EMPTY

    @classmethod
    def of(cls, data: Bytes, algorithm: str = "sha256") -> Digest:
        """The digest of some bytes in memory."""
        return cls.from_hasher(hasher(algorithm, data))

    @classmethod
    def from_hasher(cls, hashed: Hasher) -> Digest:
        """The digest of everything that a hasher was fed."""
        return super().__new__(cls, f"{hashed.name}:{hashed.hexdigest()}")


def hasher(algorithm: str, data: Bytes = b"") -> Hasher:
    """A hasher, fed with some first bytes.

    Raises:
        DigestInvalid: the algorithm is not supported.
    """
    try:
        make = ALGORITHMS[algorithm]
    except KeyError:
        known = ", ".join(ALGORITHMS)
        raise DigestInvalid(f"unsupported digest algorithm {algorithm[:40]!r}: supported are {known}") from None
    return make(data, usedforsecurity=False)
