"""Where an import comes from: a layout in a directory, or in a tar that can be read at any place."""

from __future__ import annotations

import os
import stat
from typing import IO, TYPE_CHECKING, Protocol

from registry.archive import tape
from registry.archive.base import Body, Unusable
from registry.oci.imagelayout import DOCKER_LIST, INDEX, MARK, MOST_INDEX_BYTES, blob_at, blob_path, check_mark

if TYPE_CHECKING:
    from pathlib import Path

    from registry.oci.digest import Digest

_MOST_BLOBS = 2_000_000
DOCUMENTS = frozenset({INDEX, MARK, DOCKER_LIST})
"""What is read of a tar beside its blobs."""


class Source(Protocol):
    """A layout that is read. What it gives out is not verified."""

    def index(self) -> bytes:
        """Its `index.json`. Raises Unusable."""

    def size(self, digest: Digest) -> int | None:
        """Of some content, in bytes; None where the layout has it not."""

    def open(self, digest: Digest) -> Body:
        """Some content that it has, to be closed. Raises Unusable."""

    def total(self) -> int:
        """Bytes of all its content; 0 = nobody knows."""

    def close(self) -> None: ...


class DirectorySource:
    """A layout in a directory. Raises Unusable where there is none, OSError."""

    def __init__(self, path: Path) -> None:
        self._root = path
        if not (path / MARK).exists() and not (path / INDEX).exists():
            raise Unusable(f"{path} is no image layout: it has no {INDEX}")
        if (path / MARK).exists():
            check_mark(self._read(MARK, 4096))

    def index(self) -> bytes:
        return self._read(INDEX, MOST_INDEX_BYTES)

    def size(self, digest: Digest) -> int | None:
        try:
            found = os.stat(self._root / blob_path(digest), follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open(self, digest: Digest) -> Body:
        try:
            return self._open(blob_path(digest))
        except OSError as error:
            raise Unusable(f"it cannot be read: {error.strerror}") from None

    def total(self) -> int:
        files = (path for path in self._root.glob("blobs/*/*") if path.is_file())
        return sum(path.stat().st_size for path in files)

    def close(self) -> None:
        pass

    def _read(self, name: str, most: int) -> bytes:
        try:
            body = self._open(name)
        except FileNotFoundError:
            raise Unusable(f"{self._root} is no image layout: it has no {name}") from None
        try:
            return whole(name, body, most)
        finally:
            body.close()

    def _open(self, name: str) -> Body:
        """Never through a symbolic link, which may lead to whatever root can read; never a pipe, which may hang."""
        path = self._root / name
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0)
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            file.close()
            raise Unusable(f"{path} is no regular file")
        return Body(found.st_size, file.read, file.close)


class TarSource:
    """A layout in a tar file, whose members are looked for once. Raises Unusable, OSError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._documents: dict[str, bytes] = {}
        self._places: dict[Digest, tape.Member] = {}
        for member, body in tape.Reader(file).members():
            if member.is_file and member.name in DOCUMENTS:
                self._documents[member.name] = whole(member.name, body, MOST_INDEX_BYTES)
            elif (digest := blob_at(member.name)) is not None:
                self._places[digest] = member
            require_few(len(self._places))

    def index(self) -> bytes:
        return index_of(self._documents)

    def size(self, digest: Digest) -> int | None:
        member = self._places.get(digest)
        return member.size if member is not None and member.is_file else None

    def open(self, digest: Digest) -> Body:
        member = self._places[digest]
        self._file.seek(member.offset)
        return Body(member.size, self._file.read)

    def total(self) -> int:
        return sum(member.size for member in self._places.values())

    def close(self) -> None:
        self._file.close()


class Taken:
    """What a stream has brought: its content is in the storage by now, so there is nothing more to read."""

    def __init__(self, documents: dict[str, bytes]) -> None:
        self._documents = documents

    def index(self) -> bytes:
        return index_of(self._documents)

    def size(self, digest: Digest) -> int | None:  # noqa: ARG002 - a source's
        return None

    def open(self, digest: Digest) -> Body:
        raise Unusable(f"{digest} has gone by")

    def total(self) -> int:
        return 0

    def close(self) -> None:
        pass


def whole(name: str, body: Body, most: int) -> bytes:
    """All of a document. Raises Unusable where it is too large to be one."""
    if body.size > most:
        raise Unusable(f"{name} has {body.size} bytes, at most {most} are read")
    data = b""
    while part := body.read(body.size):
        data += part
    return data


def require_few(blobs: int) -> None:
    if blobs > _MOST_BLOBS:
        raise Unusable(f"more than {_MOST_BLOBS} blobs in one layout: import it in parts")


def index_of(documents: dict[str, bytes]) -> bytes:
    """The index of a tar. Raises Unusable where it holds no layout, ManifestInvalid for one of another version."""
    if INDEX not in documents and DOCKER_LIST in documents:
        raise Unusable(
            "it is no image layout, but an archive of docker before 25; make one of it with: "
            "skopeo copy docker-archive:FILE oci-archive:OTHER:REPOSITORY:TAG"
        )
    if INDEX not in documents:
        raise Unusable(f"it is no image layout: there is no {INDEX} in it")
    if MARK in documents:
        check_mark(documents[MARK])
    return documents[INDEX]
