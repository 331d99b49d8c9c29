"""The storage contracts: `Blobs` and `Draft` for content, `Records` for names.

There are two because media differ in two ways. Blobs are big, immutable and named by their digest; a visible blob is
complete, verified and durable. Records are tiny named values (links, tags); a write replaces atomically and durably.
When a method that changes something returns, the change outlives a power cut, unless its docstring says otherwise.

All methods block; `store` calls them from threads. Every implementation passes `tests/contracts`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from io import FileIO

    from registry.oci.digest import Bytes, Digest

Key = NewType("Key", str)
"""A path below the storage's root, parts joined by `/`. Only `layout` makes one, and only from validated values."""


class Missing(LookupError):
    """Nothing is there: no such blob, record or draft."""


class Cold(Exception):
    """It is not in memory: only a thread may wait for it."""


class Busy(Exception):
    """Another one holds the draft, or the lock."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as a walk over all of them finds it.

    Attributes:
        digest: its name.
        size: in bytes.
        renewed: when its lease was last renewed, in seconds since the epoch.
    """

    digest: Digest
    size: int
    renewed: float


@dataclass(frozen=True, slots=True)
class LocalFile:
    """Content in an open file, for the server to send as it likes best: it outlives the blob's name.

    Whoever gets it closes it.
    """

    file: FileIO
    size: int

    def close(self) -> None:
        self.file.close()


@dataclass(frozen=True, slots=True)
class Stream:
    """Content behind a function: `read(offset, length)` gives up to `length` bytes, none only at the end."""

    size: int
    read: Callable[[int, int], bytes]

    def close(self) -> None:
        pass


BlobSource = LocalFile | Stream
"""Where a blob's bytes are. Storage says what to send; the API decides how."""


def pieces(source: BlobSource, length: int) -> Iterator[bytes]:
    """All of some content from its beginning, in pieces of up to `length` bytes, and no more than its size."""
    offset = 0
    while offset < source.size:
        wanted = min(length, source.size - offset)
        if isinstance(source, Stream):
            piece = source.read(offset, wanted)
        else:
            piece = os.pread(source.file.fileno(), wanted, offset)
        if not piece:
            return
        offset += len(piece)
        yield piece


def first_bytes(source: BlobSource, length: int) -> bytes:
    """The beginning of some content, which is closed."""
    try:
        return source.read(0, length) if isinstance(source, Stream) else source.file.read(length)
    finally:
        source.close()


class Draft(Protocol):
    """A blob being written, by one writer at a time in all processes that share the medium.

    Bytes count only once they are checkpointed: what was written after the last checkpoint is gone when the draft is
    opened again, whether its writer closed it, crashed, or was killed.
    """

    @property
    def offset(self) -> int:
        """Bytes written so far, in this and earlier openings."""

    def expect(self, length: int) -> None:
        """Say how many bytes will come.

        Raises:
            Denied: they would leave less room than the medium's floor.
        """

    def write(self, batch: Sequence[Bytes]) -> None:
        """Append bytes and hash them. Not durable before `checkpoint` or `commit`.

        Raises:
            Denied: the medium has less room than its floor.
            OSError: the medium refused (ENOSPC when it is full); nothing after the last checkpoint counts.
        """

    def checkpoint(self) -> None:
        """Make the bytes written so far count, for every process; a power cut may take that back, or the draft.

        Raises:
            Missing: the draft was discarded meanwhile.
        """

    def commit(self, digest: Digest) -> int:
        """Verify the content and make it the visible blob `digest`, in place of one that may be there.

        Returns:
            Its size in bytes.

        Raises:
            DigestInvalid: the content has another digest. The draft stays as it was at its last checkpoint.
            Missing: the draft was discarded meanwhile.
        """

    def close(self) -> None:
        """Let other writers in. May be called twice."""


class Blobs(Protocol):
    """Content by digest."""

    def size(self, digest: Digest) -> int:
        """Size in bytes. Raises Missing."""

    def open(self, digest: Digest) -> BlobSource:
        """Where its bytes are; to be closed. Raises Missing."""

    def open_warm(self, digest: Digest) -> BlobSource:
        """As `open`, without waiting for the medium: for the event loop. Raises Missing, Cold."""

    def read(self, digest: Digest, limit: int) -> bytes:
        """All of its bytes, in memory. Raises Missing, also for a blob of more than `limit` bytes."""

    def put(self, digest: Digest, data: bytes) -> None:
        """Make a small blob from memory. Raises DigestInvalid where `data` has another digest."""

    def promise(self, digest: Digest, *, lease: float = 0) -> int:
        """Renew the lease that keeps garbage collection away, unless it is younger than `lease` seconds.

        Returns:
            The blob's size in bytes.

        Raises:
            Missing: it is not there, or went away before the lease was seen to hold.
        """

    def renewed(self, digest: Digest) -> float:
        """When its lease was last renewed, in seconds since the epoch. Raises Missing."""

    def condemn(self, digest: Digest, cutoff: float) -> int | None:
        """Remove a blob whose lease was last renewed before `cutoff`, unless it is promised meanwhile.

        A promise that was given is kept: either the blob stays, or `promise` raises Missing. While the decision is
        taken the blob may be missing for a moment. One that a killed process had in its hands is put back by `restore`.

        Returns:
            The bytes that it had; None where it stays, or is not there.
        """

    def restore(self) -> None:
        """Put back what killed processes had condemned and neither removed nor spared."""

    def walk(self) -> Iterator[StoredBlob]:
        """Every blob, in no order; those that come or go meanwhile may be among them or not."""

    def begin(self, key: Key, algorithm: str) -> Draft:
        """A new draft at `key`, open for writing; `algorithm` is the one that it will most likely be named by.

        Raises:
            Denied: the medium has less room than its floor.
        """

    def resume(self, key: Key) -> Draft:
        """Open a draft again, at its last checkpoint. Raises Missing, or Busy while another writer has it."""

    def offset(self, key: Key) -> int:
        """A draft's last checkpoint, in bytes, without opening it. Raises Missing."""

    def draft_size(self, key: Key) -> int:
        """Bytes that a draft takes on the medium: those that count, or more. Raises Missing."""

    def expire(self, key: Key, cutoff: float, *, dry_run: bool = False) -> int | None:
        """Discard a draft that was last written before `cutoff`, or what is left of one, unless somebody has it open.

        Returns:
            The bytes that it had; None where it stays, or is not there.
        """

    def discard(self, key: Key) -> None:
        """Remove a draft, or what is left of one that was committed. Never fails, but may leave something behind."""


class Records(Protocol):
    """Small values by key."""

    def read(self, key: Key) -> bytes:
        """Raises Missing."""

    def read_warm(self, key: Key) -> bytes:
        """As `read`, without waiting for the medium: for the event loop. Raises Missing, Cold."""

    def written(self, key: Key) -> float:
        """When a value was last written, in seconds since the epoch. Raises Missing."""

    def write(self, key: Key, value: bytes) -> None:
        """Set a value, atomically: a reader sees the old value or the new one, also after a crash."""

    def keep(self, key: Key) -> None:
        """Make the collection at `key` exist, empty or not, where the medium has such a thing (a directory)."""

    def delete(self, key: Key) -> None:
        """Raises Missing."""

    def condemn(self, key: Key, cutoff: float) -> bool:
        """Remove a value that was last written before `cutoff`, unless it is written again meanwhile.

        A value that is written again stays. While the decision is taken it may be missing for a moment. With the last
        value of a collection that collection goes, too.

        Returns:
            Whether it was removed.
        """

    def restore(self) -> None:
        """Put back what killed processes had condemned and neither removed nor spared."""

    def clear(self, key: Key) -> None:
        """Remove everything below `key`. What others write there meanwhile may stay. Nothing there is no error."""

    def list(self, key: Key) -> list[str]:
        """Names of what is directly below `key`, in no order; empty if nothing is there."""

    def version(self, key: Key) -> object:
        """Something that differs once a name directly below `key` has come or gone, or None: not known, look."""

    def shared(self, key: Key) -> AbstractContextManager[None]:
        """Hold a lock together with others that share it. It is gone with its holder, even a killed one."""

    def exclusive(self, key: Key) -> AbstractContextManager[None]:
        """Hold a lock alone."""

    def exclusive_at_once(self, key: Key) -> AbstractContextManager[None]:
        """Hold a lock alone, without waiting for it. Raises Busy where another one holds it."""
