"""Answers: errors as JSON, and blobs in whole or in parts."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any, assert_never

from aiofiles.threadpool.binary import AsyncFileIO

from registry.storage.base import BlobSource, LocalFile, Stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from registry.oci.errors import RegistryError
    from registry.oci.headers import ByteRange

    Header = tuple[bytes, bytes]
    SendPart = Callable[[int, int], Awaitable[None]]
    """Sends so many bytes (the second) from an offset (the first)."""

_SLICE = 1024 * 1024
_WITHOUT_LENGTH = frozenset({204, 304})


class Response:
    """A status, headers, and a body that is in memory. The server leaves the body out of the answer to a HEAD.

    Args:
        headers: with names in lower case, as ASGI has them; on length, too, where there is one.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: list[Header], body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def encoded(headers: Mapping[str, str]) -> list[Header]:
    """Headers as ASGI has them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def content_length(size: int) -> Header:
    return b"content-length", b"%d" % size


def error_response(error: RegistryError) -> Response:
    """`{"errors": [...]}`, as distribution-spec, "Error Codes", has it."""
    headers = {**error.headers, "Content-Type": "application/json"}
    return _with_body(error.status, headers, _json({"errors": error.entries()}))


def json_response(
    content: Any, headers: Mapping[str, str] | None = None, media_type: str = "application/json", status: int = 200
) -> Response:
    """JSON without a charset: a referrers list's Content-Type is compared to the letter by clients."""
    return _with_body(status, {**(headers or {}), "Content-Type": media_type}, _json(content))


def empty_response(status: int, headers: Mapping[str, str]) -> Response:
    """No body. A Content-Length of 0 is sent where the status allows one."""
    if status in _WITHOUT_LENGTH:
        return Response(status, encoded(headers))
    return _with_body(status, headers, b"")


def _with_body(status: int, headers: Mapping[str, str], body: bytes) -> Response:
    return Response(status, [content_length(len(body)), *encoded(headers)], body)


def _json(content: Any) -> bytes:
    """With a line end, as registry:2 has it: people read it with curl."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, default=str).encode() + b"\n"


class BlobResponse:
    """A blob, or ranges of it.

    Args:
        source: where the bytes are; closed when they are sent.
        ranges: what to send; empty = everything.
        headers: of the answer, without those on length and range.
    """

    def __init__(self, source: BlobSource, ranges: tuple[ByteRange, ...], headers: Mapping[str, str]) -> None:
        self._source = source
        self._ranges = ranges
        self._headers = dict(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Raises ConnectionError where the client leaves."""
        try:
            await self._answer(send, _sender(self._source, scope, send))
        finally:
            self._source.close()

    async def _answer(self, send: Send, send_part: SendPart) -> None:
        match self._ranges:
            case ():
                await self._start(send, 200, self._source.size)
                await send_part(0, self._source.size)
            case (one,):
                self._headers["Content-Range"] = one.render(self._source.size)
                await self._start(send, 206, one.length)
                await send_part(one.first, one.length)
            case several:
                await self._send_parts(send, send_part, several)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_parts(self, send: Send, send_part: SendPart, ranges: tuple[ByteRange, ...]) -> None:
        """RFC 9110 section 14.6. The boundary is letters and digits: containers/image reads no other."""
        boundary = secrets.token_hex(16)
        kind = self._headers["Content-Type"]
        heads = [
            f"\r\n--{boundary}\r\nContent-Type: {kind}\r\n"
            f"Content-Range: {part.render(self._source.size)}\r\n\r\n".encode("ascii")
            for part in ranges
        ]
        tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        length = sum(map(len, heads)) + sum(part.length for part in ranges) + len(tail)
        self._headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
        await self._start(send, 206, length)
        for head, part in zip(heads, ranges, strict=True):
            await send({"type": "http.response.body", "body": head, "more_body": True})
            await send_part(part.first, part.length)
        await send({"type": "http.response.body", "body": tail, "more_body": True})

    async def _start(self, send: Send, status: int, length: int) -> None:
        headers = [content_length(length), *encoded(self._headers)]
        await send({"type": "http.response.start", "status": status, "headers": headers})


def _sender(source: BlobSource, scope: Scope, send: Send) -> SendPart:
    """How to send so many bytes from an offset: by the kernel alone, where the server can have it do that."""
    match source:
        case LocalFile(file=file) if "http.response.zerocopysend" in scope.get("extensions", ()):

            async def send_by_kernel(offset: int, length: int) -> None:
                message = {"type": "http.response.zerocopysend", "file": file, "offset": offset, "count": length}
                if length:
                    await send(message | {"more_body": True})

            return send_by_kernel
        case LocalFile(file=file):
            reader = AsyncFileIO(file, asyncio.get_running_loop(), None)

            async def read_file(offset: int, length: int) -> bytes:
                await reader.seek(offset)
                return await reader.read(length)

            return _copier(read_file, send)
        case Stream(read=read):

            async def read_stream(offset: int, length: int) -> bytes:
                return read(offset, length)

            return _copier(read_stream, send)
        case _:
            assert_never(source)


def _copier(read: Callable[[int, int], Awaitable[bytes]], send: Send) -> SendPart:
    async def copy(offset: int, length: int) -> None:
        while length:
            part = await read(offset, min(_SLICE, length))
            if not part:
                raise EOFError(f"the blob ends {length} bytes early")
            await send({"type": "http.response.body", "body": part, "more_body": True})
            offset += len(part)
            length -= len(part)

    return copy
