"""Tar, as far as layouts need it: written and read as a stream, in little memory whatever the headers say.

`tarfile` would read extended headers of any size into memory, and keep a list of all members.
"""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from registry.archive.base import CHUNK, Body, Unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = tarfile.BLOCKSIZE
_MOST_EXTENDED = 1024 * 1024  # bytes of an extended header
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_END = bytes(2 * _BLOCK)
_WITHOUT_CONTENT = frozenset(  # whatever size their header has
    {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE}
)
_PAX_RECORD = re.compile(rb"(\d{1,20}) ([^=\n]{1,100})=")


@dataclass(frozen=True, slots=True)
class Member:
    """Something in a tar.

    Attributes:
        name: its path, without `./` before it.
        is_file: False for directories, links and everything else.
        offset: where its content begins.
        size: of its content, in bytes.
    """

    name: str
    is_file: bool
    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """What comes before the content of a file; the same whoever makes it, and when."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """What comes after content of so many bytes."""
    return bytes(-size % _BLOCK)


def end() -> bytes:
    """What comes after the last member."""
    return _END


class Reader:
    """The members of a tar, one after the other.

    Args:
        file: it, at its beginning.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._is_seekable = file.seekable()
        self._offset = 0

    def members(self) -> Iterator[tuple[Member, Body]]:
        """Each with its content, which may be read until the next is asked for. Raises Unusable."""
        name: str | None = None
        size: int | None = None
        while (block := self._header()) is not None:
            if block.type in {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}:
                name, size = _extended(self._whole(block.size), name, size)
                continue
            if block.type == tarfile.GNUTYPE_LONGNAME:
                name = self._whole(block.size).rstrip(b"\0").decode("utf-8", "replace")
                continue
            if block.type in {tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK}:
                self._whole(block.size)
                continue
            has_content = block.type not in _WITHOUT_CONTENT
            length = (block.size if size is None else size) if has_content else 0
            is_file = block.type in {tarfile.REGTYPE, tarfile.AREGTYPE}
            member = Member(_safe(name or block.name), is_file, self._offset, length)
            yield from self._content(member)
            name = size = None

    def _content(self, member: Member) -> Iterator[tuple[Member, Body]]:
        after = member.offset + member.size + len(padding(member.size))
        yield member, Body(member.size, self._read)
        self._skip(after - self._offset)

    def _header(self) -> tarfile.TarInfo | None:
        """The next header; None at the end."""
        first = self._offset == 0
        block = self._exactly(_BLOCK)
        if first and block.startswith((_GZIP, _ZSTD)):
            raise Unusable("it is compressed; unpack it and pipe it in: gunzip --stdout FILE | registry import ... -")
        if not any(block):
            return None
        try:
            found = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except tarfile.HeaderError:
            raise Unusable(f"no tar file, or a damaged one (at byte {self._offset - _BLOCK})") from None
        if found.size < 0:
            raise Unusable(f"a damaged tar file: {found.name[:100]!r} has a size below zero")
        return found

    def _whole(self, size: int) -> bytes:
        """The content of an extended header."""
        if size > _MOST_EXTENDED:
            raise Unusable(f"a header of {size} bytes in the tar file, at most {_MOST_EXTENDED} are read")
        data = self._exactly(size)
        self._skip(len(padding(size)))
        return data

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._read(size - len(data))
            if not part:
                raise Unusable(f"the tar file ends in the middle, after {self._offset} bytes")
            data += part
        return data

    def _read(self, length: int) -> bytes:
        part = self._file.read(length)
        self._offset += len(part)
        return part

    def _skip(self, length: int) -> None:
        if self._is_seekable:  # what is missing is noticed by the next read: a tar does not end with content
            try:
                self._offset = self._file.seek(self._offset + length)
            except (OSError, OverflowError):
                raise Unusable(f"a damaged tar file: at byte {self._offset}, {length} bytes are to come") from None
            return
        while length > 0:
            part = self._read(min(length, CHUNK))
            if not part:
                raise Unusable(f"the tar file ends in the middle, after {self._offset} bytes")
            length -= len(part)


def _extended(records: bytes, name: str | None, size: int | None) -> tuple[str | None, int | None]:
    """Path and size as a header of pax has them; its records are `<length> <name>=<value>`, and a newline."""
    position = 0
    while found := _PAX_RECORD.match(records, position):
        end = position + int(found[1])
        if end <= found.end() or end > len(records):
            raise Unusable("a damaged tar file: an extended header of wrong length")
        value = records[found.end() : end - 1]
        match found[2]:
            case b"path":
                name = value.decode("utf-8", "replace")
            case b"size" if value.isdigit() and len(value) < 20:
                size = int(value)
            case _:
                pass
        position = end
    return name, size


def _safe(name: str) -> str:
    """Nothing is ever unpacked by its name; but who writes such names means no good."""
    plain = name.removeprefix("./").rstrip("/")
    if plain.startswith("/") or ".." in plain.split("/"):
        raise Unusable(f"the tar file has a member named {name[:200]!r}, which leads out of it")
    return plain
