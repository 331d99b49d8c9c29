"""Where the body of a request ends: by its length, or by chunked coding. RFC 9112 sections 6 and 7. No I/O.

The parser sees heads alone. What a body is made of is decided here, once, for both ways in which bytes come: from the
event loop, and from a thread that reads the socket.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LAST_CHUNK = b"0\r\n\r\n"
"""How bodies in chunked coding end, unless trailers follow."""

_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n")
_BETWEEN = re.compile(rb"\r\n([1-9a-fA-F][0-9a-fA-F]{0,15})\r\n")  # two chunks, when all of it is there
_LINE_MOST = 1024  # bytes of a line that says how long a chunk is, and of a trailer
_TRAILER_MOST = 64  # lines


class Sized:
    """A body of so many bytes."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    @property
    def ended(self) -> bool:
        return not self.left

    def feed(self, data: memoryview) -> tuple[list[memoryview], int]:
        """Take what belongs to the body.

        Returns:
            The body's bytes in `data`, and how many bytes of `data` are of this request; others follow only its end.
        """
        part = data[: self.left]
        self.left -= len(part)
        return [part], len(part)


class _Next(Enum):
    SIZE = auto()
    DATA = auto()
    END_OF_DATA = auto()
    TRAILER = auto()
    NOTHING = auto()


class Chunked:
    """A body in chunked coding. What is not exactly that coding is refused: a proxy might read it otherwise."""

    __slots__ = ("_left", "_line", "_next", "_trailers")

    def __init__(self) -> None:
        self._next = _Next.SIZE
        self._left = 0
        self._line = b""
        self._trailers = 0

    @property
    def ended(self) -> bool:
        return self._next is _Next.NOTHING

    def feed(self, data: memoryview) -> tuple[list[memoryview], int]:
        """As `Sized.feed`. Raises ValueError where this is no chunked coding."""
        parts: list[memoryview] = []
        position = 0
        while position < len(data) and self._next is not _Next.NOTHING:
            if self._next is _Next.DATA:
                part = data[position : position + self._left]
                parts.append(part)
                position += len(part)
                self._left -= len(part)
                if not self._left:
                    self._next = _Next.END_OF_DATA
            elif self._next is _Next.END_OF_DATA and (found := _BETWEEN.match(data, position)):
                self._left = int(found[1], 16)
                self._next = _Next.DATA
                position = found.end()
            else:
                position += self._take_line(data[position:])
        return parts, position

    def _take_line(self, data: memoryview) -> int:
        piece = bytes(data[: _LINE_MOST - len(self._line)])
        length = piece.find(b"\n") + 1
        self._line += piece[:length] if length else piece
        if length:
            line, self._line = self._line, b""
            self._understand(line)
        elif len(self._line) >= _LINE_MOST:
            raise ValueError("a line of chunked coding is too long")
        return length or len(piece)

    def _understand(self, line: bytes) -> None:
        if self._next is _Next.SIZE:
            found = _SIZE.fullmatch(line)
            if found is None:
                raise ValueError("no size of a chunk")
            self._left = int(found[1], 16)
            self._next = _Next.DATA if self._left else _Next.TRAILER
        elif self._next is _Next.END_OF_DATA:
            if line != b"\r\n":
                raise ValueError("a chunk is longer than its size")
            self._next = _Next.SIZE
        elif line == b"\r\n":
            self._next = _Next.NOTHING
        else:
            self._trailers += 1
            if self._trailers > _TRAILER_MOST or not line.endswith(b"\r\n"):
                raise ValueError("no trailer of a chunked body")


Framing = Sized | Chunked


def of(headers: Iterable[tuple[bytes, bytes]]) -> Framing | None:
    """How the body of a request is framed; None without one.

    Args:
        headers: with names in lower case, as a parser gives them that refuses both framings at once.

    Raises:
        ValueError: it is framed in a way that we do not read.
    """
    framing: Framing | None = None
    for name, value in headers:
        if name == b"transfer-encoding":
            if value.strip().lower() != b"chunked" or framing is not None:
                raise ValueError("a transfer coding other than chunked")
            framing = Chunked()
        elif name == b"content-length":
            if framing is not None or not value.strip().isdigit():
                raise ValueError("two lengths of one body, or none")
            framing = Sized(int(value))
    return framing
