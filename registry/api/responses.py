"""Answers: errors as JSON, and blobs in whole or in parts."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, assert_never

import aiofiles
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from registry.oci.errors import BlobUnknown, RegistryError
from registry.storage.base import BlobSource, LocalFile, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.types import Message, Receive, Scope, Send

    from registry.oci.headers import ByteRange

    Read = Callable[[int, int], Awaitable[bytes]]

_SLICE = 1024 * 1024


def error_response(error: RegistryError) -> Response:
    """`{"errors": [...]}`, as distribution-spec, "Error Codes", has it."""
    return Response(
        _json({"errors": error.entries()}), error.status, {**error.headers, "Content-Type": "application/json"}
    )


def json_response(
    content: Any, headers: Mapping[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    """JSON without a charset: a referrers list's Content-Type is compared to the letter by clients."""
    return Response(_json(content), 200, {**(headers or {}), "Content-Type": media_type})


def _json(content: Any) -> bytes:
    """With a line end, as registry:2 has it: people read it with curl."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, default=str).encode() + b"\n"


def empty_response(status: int, headers: Mapping[str, str]) -> Response:
    """No body. A Content-Length of 0 is sent where the status allows one."""
    return Response(b"", status, dict(headers))


class BlobResponse:
    """A blob, or ranges of it. The blob is opened before the headers go out: one that vanished is a clean 404.

    Args:
        source: where the bytes are.
        ranges: what to send; empty = everything.
        headers: of the answer, without those on length and range.
    """

    def __init__(self, source: BlobSource, ranges: tuple[ByteRange, ...], headers: Mapping[str, str]) -> None:
        self._source = source
        self._ranges = ranges
        self._headers = dict(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        departure = asyncio.create_task(_departure(receive))

        async def send_if_there(message: Message) -> None:
            if departure.done():
                raise ClientDisconnect
            await send(message)

        try:
            async with _opened(self._source) as read:
                await self._answer(send_if_there, read)
        finally:
            departure.cancel()

    async def _answer(self, send: Send, read: Read) -> None:
        match self._ranges:
            case ():
                await self._start(send, 200, self._source.size)
                await self._send(send, read, 0, self._source.size)
            case (one,):
                self._headers["Content-Range"] = one.render(self._source.size)
                await self._start(send, 206, one.length)
                await self._send(send, read, one.first, one.length)
            case several:
                await self._send_parts(send, read, several)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_parts(self, send: Send, read: Read, ranges: tuple[ByteRange, ...]) -> None:
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
            await self._send(send, read, part.first, part.length)
        await send({"type": "http.response.body", "body": tail, "more_body": True})

    async def _start(self, send: Send, status: int, length: int) -> None:
        headers = [(b"content-length", str(length).encode("ascii"))]
        headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send(self, send: Send, read: Read, offset: int, length: int) -> None:
        while length:
            part = await read(offset, min(_SLICE, length))
            if not part:
                raise OSError(f"blob ended {length} bytes early: {self._source}")
            await send({"type": "http.response.body", "body": part, "more_body": True})
            offset += len(part)
            length -= len(part)


async def _departure(receive: Receive) -> None:
    """Return when the client has left: servers take sends to nobody without a word, up to the blob's end."""
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def _opened(source: BlobSource) -> AsyncIterator[Read]:
    match source:
        case LocalFile(path=path):
            try:
                file = await aiofiles.open(path, "rb", buffering=0)
            except FileNotFoundError:
                raise BlobUnknown from None
            position = 0

            async def read_file(offset: int, length: int) -> bytes:
                nonlocal position
                if offset != position:
                    await file.seek(offset)
                data = await file.read(length)
                position = offset + len(data)
                return data

            try:
                yield read_file
            finally:
                await file.close()
        case Stream(read=read):

            async def read_stream(offset: int, length: int) -> bytes:
                return read(offset, length)

            yield read_stream
        case _:
            assert_never(source)
