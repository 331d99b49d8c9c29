"""Where an export goes: a directory, or a tar as a file or a stream. What is in them under a digest has that digest."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

from registry.archive import tape
from registry.archive.base import CHUNK, Unusable, is_sound
from registry.oci.digest import Digest, hasher
from registry.oci.imagelayout import DOCKER_LIST, INDEX, MARK, MARK_TEXT, blob_path
from registry.storage import durable
from registry.storage.base import LocalFile, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from registry.storage.base import BlobSource

_PARTIAL = ".partial"


class Damaged(Exception):
    """Content has another digest, or cannot be read to its end."""


@dataclass(frozen=True, slots=True)
class Documents:
    """What is written last: the index, and the list for docker, if there is any."""

    index: bytes
    docker: bytes | None


class Target(Protocol):
    """A layout that is being written. It is none before `finish`."""

    def has(self, digest: Digest, size: int) -> bool:
        """Whether content of so many bytes is there already, from before or by `add`."""

    def add(self, digest: Digest, source: BlobSource, done: Callable[[int], None]) -> None:
        """Copy content, telling how far. Raises Damaged, and then nothing of it is left behind; OSError."""

    def keep_only(self, needed: Iterable[Digest]) -> None:
        """Remove what was added and is not needed: of images that were left out after all. A tar has no holes."""

    def finish(self, documents: Documents) -> None:
        """Make it a layout. Raises OSError."""

    def close(self) -> None:
        """Let go of it. What was not finished is no layout."""


class DirectoryTarget:
    """A layout in a directory, which an earlier export may have begun or made. One writer at a time.

    Args:
        path: the directory; made if it is missing.
        verify: hash what is there already, and copy it again if it is wrong; else its size will do.

    Raises:
        Unusable: something else is in it, or another export writes to it.
        OSError: it takes no writes.
    """

    def __init__(self, path: Path, *, verify: bool = False) -> None:
        self._verify = verify
        self._added: set[Digest] = set()
        self._seen: set[Digest] = set()
        path.mkdir(parents=True, exist_ok=True)
        self._root = os.path.abspath(path)
        self._lock = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._begin()
        except BaseException:
            os.close(self._lock)
            raise

    def _begin(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unusable(f"another export writes to {self._root}") from None
        names = set(os.listdir(self._root)) - {"lost+found"}
        if names and MARK not in names:
            raise Unusable(f"{self._root} holds something else than an image layout: name a new directory, or empty it")
        self._directories = durable.Directories(self._root)
        self._partial = f"{self._root}/{_PARTIAL}"
        self._tidy()
        durable.make_directories(self._partial)
        self._write(MARK, MARK_TEXT)

    def has(self, digest: Digest, size: int) -> bool:
        if digest in self._seen:
            return True
        path = self._path(blob_path(digest))
        try:
            found = os.stat(path).st_size == size and (not self._verify or _has_digest(path, digest))
        except FileNotFoundError:
            return False
        if found:
            self._seen.add(digest)
        return found

    def add(self, digest: Digest, source: BlobSource, done: Callable[[int], None]) -> None:
        part = f"{self._partial}/{digest.hex}"
        descriptor = durable.create(part)
        try:
            for chunk in _verified(digest, source):
                durable.append(descriptor, [chunk])
                done(len(chunk))
            durable.sync(descriptor)
            durable.publish(self._directories, part, self._path(blob_path(digest)))
        except BaseException:
            durable.remove_quietly(part)
            raise
        finally:
            os.close(descriptor)
        self._seen.add(digest)
        self._added.add(digest)

    def keep_only(self, needed: Iterable[Digest]) -> None:
        for digest in self._added.difference(needed):
            durable.remove_quietly(self._path(blob_path(digest)))

    def finish(self, documents: Documents) -> None:
        if documents.docker is None:
            durable.remove_quietly(self._path(DOCKER_LIST))
        else:
            self._write(DOCKER_LIST, documents.docker)
        self._write(INDEX, documents.index)

    def close(self) -> None:
        self._tidy()
        os.close(self._lock)

    def _tidy(self) -> None:
        durable.remove_tree(self._directories, self._partial)

    def _write(self, name: str, data: bytes) -> None:
        durable.write_atomically(self._directories, self._path(name), data, self._partial)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


class TarTarget:
    """A layout as a tar file, under a name of its own until it is whole.

    Args:
        path: the file; one that is there is replaced at the end.

    Raises:
        Unusable: another export writes it.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.partial")
        self._file = os.fdopen(os.open(self._part, os.O_RDWR | os.O_CREAT, 0o666), "r+b", CHUNK)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise Unusable(f"another export writes to {path}") from None
        self._file.truncate()
        self._tape = _Tape(self._file)

    def has(self, digest: Digest, size: int) -> bool:  # noqa: ARG002 - a tar is never one from before
        return digest in self._tape.written

    def add(self, digest: Digest, source: BlobSource, done: Callable[[int], None]) -> None:
        begin = self._file.tell()
        try:
            self._tape.blob(digest, source.size, _told(_verified(digest, source), done))
        except Damaged:
            self._file.seek(begin)
            self._file.truncate()
            raise

    def keep_only(self, needed: Iterable[Digest]) -> None:
        pass

    def finish(self, documents: Documents) -> None:
        self._tape.finish(documents)
        os.fsync(self._file.fileno())
        self._part.rename(self._path)
        durable.sync_directory(os.path.dirname(os.path.abspath(self._path)))

    def close(self) -> None:
        if self._is_ours():
            with suppress(OSError):
                self._part.unlink()
        with suppress(OSError):  # a full disk refuses what is still to be written, and nobody needs it
            self._file.close()

    def _is_ours(self) -> bool:
        """Whether the name is that of the open file: after `finish`, another export may have begun under it."""
        try:
            return os.path.samestat(os.stat(self._part), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False


class StreamTarget:
    """A layout as a tar on a stream. What has been written cannot be taken back, so content is looked at before."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._tape = _Tape(file)

    def has(self, digest: Digest, size: int) -> bool:  # noqa: ARG002 - a stream is never one from before
        return digest in self._tape.written

    def add(self, digest: Digest, source: BlobSource, done: Callable[[int], None]) -> None:
        for _ in _verified(digest, source):
            pass
        self._tape.blob(digest, source.size, _told(_verified(digest, source), done))

    def keep_only(self, needed: Iterable[Digest]) -> None:
        pass

    def finish(self, documents: Documents) -> None:
        self._tape.finish(documents)

    def close(self) -> None:
        pass


class _Tape:
    """A layout as the members of a tar."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.written: set[Digest] = set()
        self._member(MARK, len(MARK_TEXT), [MARK_TEXT])

    def blob(self, digest: Digest, size: int, chunks: Iterable[bytes]) -> None:
        self._member(blob_path(digest), size, chunks)
        self.written.add(digest)

    def finish(self, documents: Documents) -> None:
        if documents.docker is not None:
            self._member(DOCKER_LIST, len(documents.docker), [documents.docker])
        self._member(INDEX, len(documents.index), [documents.index])
        self._file.write(tape.end())
        self._file.flush()

    def _member(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        self._file.write(tape.header(name, size))
        for chunk in chunks:
            self._file.write(chunk)
        self._file.write(tape.padding(size))


def _told(chunks: Iterable[bytes], done: Callable[[int], None]) -> Iterable[bytes]:
    for chunk in chunks:
        yield chunk
        done(len(chunk))


def _verified(digest: Digest, source: BlobSource) -> Iterator[bytes]:
    """Content in pieces. Raises Damaged at its end where it is wrong."""
    hashed, size = hasher(digest.algorithm), 0
    try:
        for piece in pieces(source, CHUNK):
            hashed.update(piece)
            size += len(piece)
            yield piece
    except OSError as error:
        raise Damaged(f"{digest} cannot be read: {error.strerror}") from None
    if size != source.size or Digest.from_hasher(hashed) != digest:
        raise Damaged(f"{digest} is damaged: its content has another digest")


def _has_digest(path: str, digest: Digest) -> bool:
    with open(path, "rb", buffering=0) as file:
        return is_sound(digest, LocalFile(file, os.fstat(file.fileno()).st_size))
