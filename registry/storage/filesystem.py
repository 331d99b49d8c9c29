"""Blobs, drafts and records on a POSIX filesystem, in registry:2's tree.

Locks are `flock`: they end with their holder, hold between processes, and on NFS between hosts.
"""

from __future__ import annotations

import fcntl
import math
import os
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from registry.oci.digest import ALGORITHMS, Digest
from registry.oci.errors import DigestInvalid
from registry.storage import durable, layout
from registry.storage.base import Busy, Key, LocalFile, Missing, StoredBlob
from registry.storage.draft import FilesystemDraft, Progress, read_progress
from registry.storage.hashing import Hashers
from registry.storage.root import Filesystem, read

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECORD_MOST = 256 * 1024 * 1024
_COARSE_CLOCK = 2_000_000_000  # ns; two changes of a directory within it may leave one mtime on some filesystems
_ABSENT = "absent"


class FilesystemBlobs:
    """`storage.base.Blobs` in `blobs/` and `_uploads/`."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._files = filesystem
        self._hashers = Hashers()

    def size(self, digest: Digest) -> int:
        return self._stat(digest).st_size

    def open(self, digest: Digest) -> LocalFile:
        try:
            descriptor = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(digest) from None
        return _opened(digest, descriptor)

    def open_warm(self, digest: Digest) -> LocalFile:
        return _opened(digest, self._files.warm.open(self._path(digest)))

    def read(self, digest: Digest, limit: int) -> bytes:
        data = read(self._path(digest), limit)
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

    def renewed(self, digest: Digest) -> float:
        return self._stat(digest).st_mtime

    def condemn(self, digest: Digest, cutoff: float) -> int | None:
        key = layout.blob(digest)
        path, trash = self._files.path(key), self._files.path(layout.condemned(key))
        found = durable.condemn(self._files.directories, path, trash, cutoff)
        return None if found is None else found.st_size

    def restore(self) -> None:
        self._files.put_back(layout.BLOBS)

    def walk(self) -> Iterator[StoredBlob]:
        for algorithm in ALGORITHMS:
            top = self._files.path(layout.blobs_named_by(algorithm))
            for prefix in _names(top):
                for name in _names(f"{top}/{prefix}"):
                    try:
                        digest = Digest(f"{algorithm}:{name}")
                        found = os.stat(f"{top}/{prefix}/{name}/data")
                    except (DigestInvalid, FileNotFoundError, NotADirectoryError):
                        continue
                    if name.startswith(prefix):  # at any other place it is nobody's blob
                        yield StoredBlob(digest, found.st_size, found.st_mtime)

    def begin(self, key: Key, algorithm: str) -> FilesystemDraft:
        self._files.require_room()
        progress = Progress(Digest.of(b"", algorithm), 0)
        directory = self._files.path(key)
        started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            durable.make_directories(directory)
            durable.write_new(f"{directory}/startedat", started.encode())
            durable.write_new(f"{directory}/progress", progress.render())
            descriptor = durable.create(f"{directory}/data")
        except OSError:
            self.discard(key)
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            self.discard(key)
            raise
        return FilesystemDraft(self._files, self._hashers, directory, descriptor, progress)

    def resume(self, key: Key) -> FilesystemDraft:
        directory = self._files.path(key)
        try:
            descriptor = os.open(f"{directory}/data", os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(key) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            progress = read_progress(directory, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise Busy(key) from None
        except BaseException:
            os.close(descriptor)
            raise
        return FilesystemDraft(self._files, self._hashers, directory, descriptor, progress)

    def offset(self, key: Key) -> int:
        return read_progress(self._files.path(key)).size

    def draft_size(self, key: Key) -> int:
        try:
            return os.stat(f"{self._files.path(key)}/data").st_size
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(key) from None

    def expire(self, key: Key, cutoff: float, *, dry_run: bool = False) -> int | None:
        directory = self._files.path(key)
        if _last_change(directory) >= cutoff:
            return None
        try:
            draft: FilesystemDraft | None = self.resume(key)
        except Busy:
            return None
        except Missing:
            draft = None  # what is left of one: nobody can go on with it
        try:
            if _last_change(directory) >= cutoff:  # now that no writer has it
                return None
            if not dry_run:
                self.discard(key)
            return draft.offset if draft is not None else 0
        finally:
            if draft is not None:
                draft.close()

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


def _opened(digest: Digest, descriptor: int) -> LocalFile:
    """A blob's open file; the descriptor is closed where it is none."""
    size = os.fstat(descriptor).st_size
    if _is_torn(digest, size):
        os.close(descriptor)
        raise Missing(digest)
    return LocalFile(open(descriptor, "rb", buffering=0), size)


def _is_torn(digest: Digest, size: int) -> bool:
    """Whether it is what a power cut leaves of a blob that registry:2 wrote: a name without bytes."""
    return size == 0 and not digest.is_of_nothing


def _last_change(directory: str) -> float:
    """When a draft was last written or checkpointed, in seconds since the epoch; never, where there is no draft."""
    times = []
    for name in ("", "data", "progress"):
        with suppress(FileNotFoundError, NotADirectoryError):
            times.append(os.stat(f"{directory}/{name}").st_mtime)
    return max(times, default=math.inf)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


class FilesystemRecords:
    """`storage.base.Records` as files below the root."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._files = filesystem

    def read(self, key: Key) -> bytes:
        return read(self._files.path(key), _RECORD_MOST)

    def read_warm(self, key: Key) -> bytes:
        return self._files.warm.read(self._files.path(key))

    def written(self, key: Key) -> float:
        try:
            return os.stat(self._files.path(key)).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(key) from None

    def write(self, key: Key, value: bytes) -> None:
        durable.write_atomically(self._files.directories, self._files.path(key), value, self._files.temporary)

    def keep(self, key: Key) -> None:
        durable.keep(self._files.directories, self._files.path(key))

    def delete(self, key: Key) -> None:
        try:
            durable.remove(self._files.path(key))
        except (FileNotFoundError, NotADirectoryError):
            raise Missing(key) from None

    def condemn(self, key: Key, cutoff: float) -> bool:
        path, trash = self._files.path(key), self._files.path(layout.condemned(key))
        return durable.condemn(self._files.directories, path, trash, cutoff) is not None

    def restore(self) -> None:
        self._files.put_back(layout.REPOSITORIES)

    def clear(self, key: Key) -> None:
        durable.remove_tree(self._files.directories, self._files.path(key))

    def list(self, key: Key) -> list[str]:
        return _names(self._files.path(key))

    def version(self, key: Key) -> object:
        try:
            found = os.stat(self._files.path(key))
        except (FileNotFoundError, NotADirectoryError):
            return _ABSENT
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
    def exclusive_at_once(self, key: Key) -> Iterator[None]:
        try:
            with self._locked(key, fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield
        except BlockingIOError:
            raise Busy(key) from None

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
