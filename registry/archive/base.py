"""What exports and imports share: who watches them, and what can be wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from registry.oci.digest import Digest, hasher
from registry.storage.base import pieces

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.storage.base import BlobSource

CHUNK = 1024 * 1024
"""Bytes that are read at a time."""


class Unusable(Exception):
    """There is no layout where one should be read or written, or it cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that was not exported or imported, and why."""

    repository: str
    tags: tuple[str, ...]
    digest: str
    reason: str


@dataclass(slots=True)
class Report:
    """What an export or an import did.

    Attributes:
        repositories: of which something was copied, or was there.
        tags: that are there now.
        untagged: images without a tag that are there now.
        blobs_copied: how many of them, and how many bytes.
        blobs_present: which were there before.
        seconds: that it took.
        left_out: images that are not there now.
    """

    repositories: int = 0
    tags: int = 0
    untagged: int = 0
    blobs_copied: int = 0
    bytes_copied: int = 0
    blobs_present: int = 0
    bytes_present: int = 0
    seconds: float = 0
    left_out: list[LeftOut] = field(default_factory=list)


def is_sound(digest: Digest, source: BlobSource) -> bool:
    """Whether content has the digest that it should have. The source stays open."""
    hashed = hasher(digest.algorithm)
    for piece in pieces(source, CHUNK):
        hashed.update(piece)
    return Digest.from_hasher(hashed) == digest


class Watch(Protocol):
    """Who wants to see the work."""

    def begin(self, task: str, steps: int) -> None:
        """A task of so many steps begins; 0 = nobody knows how many."""

    def advance(self, steps: int = 1) -> None:
        """So many more are done."""


class Body:
    """Some content that is read once, from its beginning.

    Args:
        size: in bytes.
        read: gives up to so many of its next bytes.
        close: lets go of what they come from.
    """

    def __init__(self, size: int, read: Callable[[int], bytes], close: Callable[[], None] = lambda: None) -> None:
        self.size = size
        self.close = close
        self._left = size
        self._read = read

    def read(self, length: int) -> bytes:
        """Up to so many bytes, none only at the end. Raises Unusable where it cannot be read, or ends too early."""
        try:
            part = self._read(min(length, self._left))
        except OSError as error:
            raise Unusable(f"it cannot be read: {error.strerror}") from None
        if not part and self._left:
            raise Unusable(f"it ends {self._left} bytes too early")
        self._left -= len(part)
        return part
