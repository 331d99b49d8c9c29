"""Upload sessions on a POSIX filesystem: the bytes so far, what is known of their hash, and one writer at a time."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from registry.oci.digest import Digest, hasher
from registry.oci.errors import DigestInvalid
from registry.storage import durable, layout
from registry.storage.base import Missing
from registry.storage.root import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.oci.digest import Bytes, Hasher
    from registry.storage.hashing import Hashers
    from registry.storage.root import Filesystem

_READ_SIZE = 1024 * 1024


class Progress:
    """What an upload's bytes were at its last checkpoint: their digest and their number.

    It exists because a hash in progress cannot be saved: with it, the closing request of a session need not read the
    blob again, whichever process it reaches.
    """

    __slots__ = ("digest", "size")

    def __init__(self, digest: Digest | None, size: int) -> None:
        self.digest = digest
        self.size = size

    def render(self) -> bytes:
        return f"{self.digest} {self.size}\n".encode()

    @classmethod
    def parse(cls, text: str) -> Progress:
        """Raises ValueError, DigestInvalid."""
        digest, size = text.split()
        if not size.isdecimal():
            raise ValueError(size)
        return cls(Digest(digest), int(size))


def read_progress(directory: str, descriptor: int | None = None) -> Progress:
    """A draft's last checkpoint. Raises Missing.

    A session that registry:2 began has no `progress`, and a power cut may have emptied ours: then every byte counts,
    and the closing digest tells whether they are right.

    Args:
        directory: the draft.
        descriptor: its locked `data`. The last holder of the lock may have published that file under its digest, and
            then it is no draft any more: never write to it.
    """
    try:
        progress = Progress.parse(read(f"{directory}/progress", 256).decode("ascii", "replace"))
    except (Missing, ValueError, DigestInvalid):
        progress = None
    try:
        found = os.stat(f"{directory}/data")  # after `progress`, which a writer may move on right now
    except (FileNotFoundError, NotADirectoryError):
        raise Missing(directory) from None
    if descriptor is not None and not os.path.samestat(found, os.fstat(descriptor)):
        raise Missing(directory)
    if progress is None:
        return Progress(None, found.st_size)
    if progress.size > found.st_size:
        raise Missing(directory)
    return progress


class FilesystemDraft:
    """`storage.base.Draft` in `_uploads/<uuid>/`. Holds the lock on its `data` until it is closed."""

    def __init__(
        self, files: Filesystem, hashers: Hashers, directory: str, descriptor: int, progress: Progress
    ) -> None:
        self._files = files
        self._hashers = hashers
        self._directory = directory
        self._descriptor = descriptor
        self._checkpoint = progress
        self._hasher: Hasher | None = None
        self._written = False
        self.offset = progress.size

    def expect(self, length: int) -> None:
        self._files.require_room(length)

    def write(self, batch: Sequence[Bytes]) -> None:
        self._files.require_room()
        hashed = self._hashed()  # of what is there: before anything is written
        if not self._written:
            # Bytes after the checkpoint are of a request that did not end.
            durable.truncate(self._descriptor, self._checkpoint.size)
            self._written = True
        hashing = self._hashers.update(hashed, batch)
        try:
            durable.append(self._descriptor, batch)
        except OSError:
            hashing.wait()
            self._go_back()
            raise
        hashing.wait()
        self.offset += sum(map(len, batch))

    def checkpoint(self) -> None:
        if not self._is_there():
            raise Missing(self._directory)
        if not self._written:
            return
        hashed = self._hashed()
        durable.sync(self._descriptor)  # before `progress` vouches for the bytes
        progress = Progress(Digest.from_hasher(hashed), self.offset)
        try:
            durable.replace(f"{self._directory}/progress", progress.render(), self._files.temporary)
        except FileNotFoundError:
            raise Missing(self._directory) from None
        self._checkpoint, self._written = progress, False
        self._hashers.keep(self._directory, self.offset, hashed)

    def commit(self, digest: Digest) -> int:
        found = self._digest(digest.algorithm)
        if found != digest:
            raise DigestInvalid(detail={"digest": str(digest), "content": str(found)})
        durable.truncate(self._descriptor, self.offset)
        durable.touch(self._descriptor)
        durable.sync(self._descriptor)
        if not self._is_there():
            raise Missing(self._directory)
        self._written = False  # from here on the file may be a blob: nothing is given back any more
        try:
            durable.publish(self._files.directories, f"{self._directory}/data", self._files.path(layout.blob(digest)))
        except FileNotFoundError:
            raise Missing(self._directory) from None
        self._hashers.drop(self._directory)
        return self.offset

    def close(self) -> None:
        if self._descriptor < 0:
            return
        self._go_back()
        os.close(self._descriptor)
        self._descriptor = -1

    def _go_back(self) -> None:
        """To the last checkpoint, giving back the room of later bytes: on a full disk the next push needs it."""
        if self._written and self._is_there():
            with suppress(OSError):
                durable.truncate(self._descriptor, self._checkpoint.size)
        self.offset, self._hasher, self._written = self._checkpoint.size, None, False

    def _is_there(self) -> bool:
        """Whether the open file is still the draft's: not published, discarded, or begun again by others."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(f"{self._directory}/data"))
        except FileNotFoundError:
            return False

    def _digest(self, algorithm: str) -> Digest:
        """The digest of all bytes so far, from what is known already if that will do."""
        known = self._checkpoint.digest
        if not self._written and known is not None and known.algorithm == algorithm:
            return known
        if self._hashed().name == algorithm:
            return Digest.from_hasher(self._hashed())
        return Digest.from_hasher(self._rehash(algorithm))

    def _hashed(self) -> Hasher:
        if self._hasher is None:
            known = self._checkpoint.digest
            algorithm = known.algorithm if known else "sha256"
            self._hasher = self._hashers.take(self._directory, self._checkpoint) or self._rehash(algorithm)
        return self._hasher

    def _rehash(self, algorithm: str) -> Hasher:
        hashed, position = hasher(algorithm), 0
        while position < self.offset:
            part = os.pread(self._descriptor, min(_READ_SIZE, self.offset - position), position)
            if not part:
                raise Missing(self._directory)
            hashed.update(part)
            position += len(part)
        return hashed
