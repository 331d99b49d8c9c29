"""Blobs, drafts and records on a POSIX filesystem, in registry:2's tree.

Locks are `flock`: they end with their holder, hold between processes, and on NFS between hosts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import uuid
from collections import OrderedDict
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from registry.oci.digest import Digest, hasher
from registry.oci.errors import Denied, DigestInvalid
from registry.storage import durable, layout
from registry.storage.base import Busy, Key, LocalFile, Missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.oci.digest import Bytes, Hasher

_READ_SIZE = 1024 * 1024
_HASHERS_KEPT = 1024
_RECORD_MOST = 256 * 1024 * 1024
_COARSE_CLOCK = 2_000_000_000  # ns; two changes of a directory within it may leave one mtime on some filesystems


class Filesystem:
    """A storage root: where keys are, and how much room is left.

    Args:
        root: directory of the whole storage (registry:2's `rootdirectory`).
        floor: bytes of free space below which new content is refused; 0 = no floor.
    """

    def __init__(self, root: Path, floor: int = 0) -> None:
        self.root = os.path.abspath(root)
        self.floor = floor
        self.temporary = self.path(layout.TEMPORARY)
        self.directories = durable.Directories(self.root)

    def require_writable(self) -> None:
        """Make the root if it is missing, and see that all of the tree takes writes.

        Raises:
            OSError: it does not; `filename` says where.
        """
        durable.make_directories(self.temporary)
        with suppress(OSError):  # the directory above may not be ours to read
            durable.sync_directory(os.path.dirname(self.root))
        probe = f"{self.temporary}/{uuid.uuid4()}"
        durable.write_new(probe, b"")
        durable.remove_quietly(probe)
        for key in (layout.V2, layout.BLOBS, layout.REPOSITORIES):
            path = self.path(key)
            if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def path(self, key: Key) -> str:
        return f"{self.root}/{key}"

    def require_room(self, wanted: int = 0) -> None:
        """Raises Denied where `wanted` more bytes would leave less room than the floor."""
        if not self.floor:
            return
        room = os.statvfs(self.root)
        free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
        if free - wanted < self.floor:
            needed = f"{_mib(wanted)} more would leave" if wanted else "that is"
            raise Denied(
                f"the registry's disk is nearly full: {_mib(free)} of {_mib(total)} are free, {needed} less than the "
                f"floor of {_mib(self.floor)} (storage.filesystem.minfreespace); free some space, then push again",
                detail={"free": free, "total": total, "wanted": wanted, "floor": self.floor},
            )


def _mib(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB"


class FilesystemBlobs:
    """`storage.base.Blobs` in `blobs/` and `_uploads/`."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._files = filesystem
        self._hashers = _Hashers()

    def size(self, digest: Digest) -> int:
        return self._stat(digest).st_size

    def open(self, digest: Digest) -> LocalFile:
        return LocalFile(Path(self._path(digest)), self._stat(digest).st_size)

    def read(self, digest: Digest, limit: int) -> bytes:
        data = _read(self._path(digest), limit)
        if _is_torn(digest, len(data)):
            raise Missing(digest)
        return data

    def put(self, digest: Digest, data: bytes) -> None:
        if Digest.of(data, digest.algorithm) != digest:
            raise DigestInvalid
        durable.write_atomically(self._files.directories, self._path(digest), data, self._files.temporary)

    def promise(self, digest: Digest, *, lease: float = 0) -> int:
        if lease:
            found = self._stat(digest)
            if found.st_mtime > time.time() - lease:
                return found.st_size
        try:
            size = durable.promise(self._path(digest)).st_size
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(digest) from None
        if _is_torn(digest, size):
            raise Missing(digest)
        return size

    def begin(self, key: Key, algorithm: str) -> FilesystemDraft:
        self._files.require_room()
        directory = self._files.path(key)
        durable.make_directories(directory)
        started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        durable.write_new(f"{directory}/startedat", started.encode())
        progress = Progress(Digest.of(b"", algorithm), 0)
        durable.write_new(f"{directory}/progress", progress.render())
        descriptor = os.open(f"{directory}/data", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return FilesystemDraft(self._files, self._hashers, directory, descriptor, progress)

    def resume(self, key: Key) -> FilesystemDraft:
        directory = self._files.path(key)
        try:
            descriptor = os.open(f"{directory}/data", os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(key) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            progress = _read_progress(directory, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise Busy(key) from None
        except BaseException:
            os.close(descriptor)
            raise
        return FilesystemDraft(self._files, self._hashers, directory, descriptor, progress)

    def offset(self, key: Key) -> int:
        return _read_progress(self._files.path(key)).size

    def discard(self, key: Key) -> None:
        directory = self._files.path(key)
        self._hashers.drop(directory)
        with suppress(OSError):
            durable.remove_tree(self._files.directories, directory)

    def _path(self, digest: Digest) -> str:
        return self._files.path(layout.blob(digest))

    def _stat(self, digest: Digest) -> os.stat_result:
        try:
            found = os.stat(self._path(digest))
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(digest) from None
        if _is_torn(digest, found.st_size):
            raise Missing(digest)
        return found


def _is_torn(digest: Digest, size: int) -> bool:
    """Whether it is what a power cut leaves of a blob that registry:2 wrote: a name without bytes."""
    return size == 0 and not digest.is_of_nothing


def _is_named(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _read(path: str, limit: int) -> bytes:
    """All of a file. Raises Missing, also for one of more than `limit` bytes."""
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise Missing(path)
            data = b""
            while part := file.read(size - len(data)):
                data += part
            return data
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Missing(path) from None


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
        return cls(Digest(digest), int(size))


def _read_progress(directory: str, descriptor: int | None = None) -> Progress:
    """A draft's last checkpoint. Raises Missing.

    A session that registry:2 began has no `progress`, and a power cut may have emptied ours: then every byte counts,
    and the closing digest tells whether they are right.

    Args:
        directory: the draft.
        descriptor: its locked `data`. The last holder of the lock may have published that file under its digest, and
            then it is no draft any more: never write to it.
    """
    try:
        found = os.stat(f"{directory}/data")
    except (FileNotFoundError, NotADirectoryError):
        raise Missing(directory) from None
    if descriptor is not None and not os.path.samestat(found, os.fstat(descriptor)):
        raise Missing(directory)
    try:
        progress = Progress.parse(_read(f"{directory}/progress", 256).decode("ascii", "replace"))
    except (Missing, ValueError, DigestInvalid):
        return Progress(None, found.st_size)
    if progress.size > found.st_size:
        raise Missing(directory)
    return progress


class _Hashers:
    """Hashers of open sessions at their last checkpoint, so that the next chunk goes on from there.

    Only a shortcut of this process: a session that another process wrote to in between is hashed from its beginning.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, Hasher]] = OrderedDict()
        self._lock = Lock()

    def keep(self, directory: str, size: int, hashed: Hasher) -> None:
        with self._lock:
            self._kept[directory] = (size, hashed.copy())
            self._kept.move_to_end(directory)
            if len(self._kept) > _HASHERS_KEPT:
                self._kept.popitem(last=False)

    def take(self, directory: str, progress: Progress) -> Hasher | None:
        """The hasher of exactly these bytes, if it is here."""
        with self._lock:
            size, hashed = self._kept.pop(directory, (0, None))
        if hashed is None or size != progress.size or Digest.from_hasher(hashed) != progress.digest:
            return None
        return hashed

    def drop(self, directory: str) -> None:
        with self._lock:
            self._kept.pop(directory, None)


class FilesystemDraft:
    """`storage.base.Draft` in `_uploads/<uuid>/`. Holds the lock on its `data` until it is closed."""

    def __init__(
        self, files: Filesystem, hashers: _Hashers, directory: str, descriptor: int, progress: Progress
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
        hashed = self._hashed()
        if not self._written:
            # Bytes after the checkpoint are of a request that did not end.
            durable.truncate(self._descriptor, self._checkpoint.size)
            self._written = True
        durable.append(self._descriptor, batch)
        for part in batch:
            hashed.update(part)
            self.offset += len(part)

    def checkpoint(self) -> None:
        if not self._written:
            return
        hashed = self._hashed()
        durable.sync(self._descriptor)  # before `progress` vouches for the bytes
        self._checkpoint = Progress(Digest.from_hasher(hashed), self.offset)
        try:
            durable.replace(f"{self._directory}/progress", self._checkpoint.render())
        except FileNotFoundError:
            raise Missing(self._directory) from None
        self._written = False
        self._hashers.keep(self._directory, self.offset, hashed)

    def commit(self, digest: Digest) -> int:
        found = self._digest(digest.algorithm)
        if found != digest:
            raise DigestInvalid(detail={"digest": str(digest), "content": str(found)})
        durable.truncate(self._descriptor, self.offset)
        durable.touch(self._descriptor)
        durable.sync(self._descriptor)
        try:
            durable.publish(self._files.directories, f"{self._directory}/data", self._files.path(layout.blob(digest)))
        except FileNotFoundError:
            raise Missing(self._directory) from None
        self._hashers.drop(self._directory)
        return self.offset

    def close(self) -> None:
        if self._descriptor < 0:
            return
        # Give the room of bytes that do not count back at once: on a full disk it is what the next push needs.
        if self._written and _is_named(self._descriptor, f"{self._directory}/data"):
            with suppress(OSError):
                durable.truncate(self._descriptor, self._checkpoint.size)
        os.close(self._descriptor)
        self._descriptor = -1

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


class FilesystemRecords:
    """`storage.base.Records` as files below the root."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._files = filesystem

    def read(self, key: Key) -> bytes:
        return _read(self._files.path(key), _RECORD_MOST)

    def write(self, key: Key, value: bytes) -> None:
        durable.write_atomically(self._files.directories, self._files.path(key), value, self._files.temporary)

    def keep(self, key: Key) -> None:
        self._files.directories.make(self._files.path(key))

    def delete(self, key: Key) -> None:
        try:
            durable.remove(self._files.path(key))
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(key) from None

    def clear(self, key: Key) -> None:
        durable.remove_tree(self._files.directories, self._files.path(key))

    def list(self, key: Key) -> list[str]:
        try:
            return os.listdir(self._files.path(key))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def version(self, key: Key) -> object:
        try:
            found = os.stat(self._files.path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if time.time_ns() - found.st_mtime_ns < _COARSE_CLOCK:
            return None
        return (found.st_ino, found.st_mtime_ns)

    @contextmanager
    def shared(self, key: Key) -> Iterator[None]:
        with self._locked(key, fcntl.LOCK_SH):
            yield

    @contextmanager
    def exclusive(self, key: Key) -> Iterator[None]:
        with self._locked(key, fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, key: Key, how: int) -> Iterator[None]:
        path = self._files.path(key)
        durable.make_directories(os.path.dirname(path))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)
