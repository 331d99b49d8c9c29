"""One request and its answer, as ASGI has them: what the app receives, and how what it sends reaches the client.

Large bodies are read by a thread straight from the socket, and `http.response.zerocopysend` sends files by the kernel
alone; both where the connection is a plain socket. With TLS the event loop does all of it.
"""

from __future__ import annotations

import asyncio
import logging
from functools import lru_cache
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from registry.server.descriptor import Descriptor
from registry.server.framing import LAST_CHUNK, Sized

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.server.framing import Framing
    from registry.server.protocol import HttpProtocol

log = logging.getLogger("registry.server")
access = logging.getLogger("uvicorn.access")

_BUFFER = 1024 * 1024  # bytes that a thread reads at a time
_BUFFERED_MOST = 256 * 1024  # bytes of a body that wait for the app on the event loop
_WORTH_A_THREAD = 64 * 1024  # bytes of a body that are still to come
_CONTINUE = (b"expect", b"100-continue")
_FLUSH = 0.005  # seconds between two looks at what is not sent yet
_WITHOUT_BODY = frozenset({204, 304})
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in HTTPStatus}


@lru_cache(maxsize=1024)
def _rendered(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, int | None, bool]:
    """The lines of a head, the body's length, and whether the connection ends; many answers have the same ones."""
    lines = [_STATUS_LINES[status], *(name + b": " + value + b"\r\n" for name, value in headers)]
    head = b"".join(lines)
    if not len(lines) == head.count(b"\n") == head.count(b"\r"):
        raise RuntimeError("a header with a line end in it")
    length = next((int(value) for name, value in headers if name == b"content-length"), None)
    return head, length, (b"connection", b"close") in headers


class Exchange:
    """A request, from its head to the end of its answer.

    Args:
        protocol: the connection.
        scope: of ASGI.
        body: how the request's body is framed; None without one.
        keeps_alive: whether another request may follow.
    """

    __slots__ = (
        "_body",
        "_descriptor",
        "_expects_continue",
        "_head",
        "_is_chunked",
        "_is_read",
        "_left",
        "_parts",
        "_protocol",
        "_scope",
        "_size",
        "_wanted",
        "has_answered",
        "has_left",
        "is_complete",
        "keeps_alive",
    )

    def __init__(self, protocol: HttpProtocol, scope: dict[str, Any], body: Framing | None, keeps_alive: bool) -> None:  # noqa: FBT001
        self._protocol = protocol
        self._scope = scope
        self._descriptor: Descriptor | None = None
        self.keeps_alive = keeps_alive
        self.has_left = False
        # The request
        self._body = body
        self._parts: list[bytes | memoryview] = []
        self._size = 0
        self._is_read = False
        self._wanted: asyncio.Future[None] | None = None
        self._expects_continue = body is not None and _CONTINUE in scope["headers"]
        # The answer
        self._head = b""
        self._left = 0
        self._is_chunked = False
        self.has_answered = False
        self.is_complete = False

    @property
    def body_ended(self) -> bool:
        """Whether all of the request has come."""
        return self._body is None or self._body.ended

    @property
    def is_over(self) -> bool:
        return self.is_complete and self.body_ended

    # What the protocol calls

    async def run(self, app: Any) -> None:
        """Answer. An app that fails is cut: half an answer must not pass for a whole one."""
        try:
            await app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._protocol.close()
            raise
        except Exception:
            log.exception("%s %r failed", self._scope["method"], self._scope["path"])
            self._protocol.close()
        else:
            if not self.is_complete and not self.has_left:
                log.error("%s %r was not answered", self._scope["method"], self._scope["path"])
                self._protocol.close()
        finally:
            self._let_go()

    def feed(self, data: bytes) -> int:
        """Take bytes of the body from the event loop; returns how many were of it. Raises ValueError."""
        assert self._body is not None
        parts, used = self._body.feed(memoryview(data))
        if not self.is_complete:
            self._parts += parts
            self._size += used
            if self._size > _BUFFERED_MOST:
                self._protocol.hold_up()
            if self._parts or self._body.ended:
                self._wake()
        return used

    def leave(self) -> None:
        """The client is gone."""
        self.has_left = True
        if self._descriptor is not None:
            self._descriptor.close()
        self._wake()

    # ASGI: receiving

    async def receive(self) -> dict[str, Any]:
        """The next part of the body; after its end `http.disconnect`, once the client leaves or has its answer."""
        if self._expects_continue:
            self._expects_continue = False
            self._protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.has_left or self.is_complete):
            if self._parts or (self.body_ended and not self._is_read):
                return self._received()
            if not self._is_read and self._is_worth_a_thread():
                await self._receive_by_thread()
            else:
                self._protocol.go_on()
                await self._wait()
        return {"type": "http.disconnect"}

    def _received(self) -> dict[str, Any]:
        parts, self._parts, self._size = self._parts, [], 0
        self._is_read = self.body_ended
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return {"type": "http.request", "body": body, "more_body": not self._is_read}

    def _is_worth_a_thread(self) -> bool:
        if isinstance(self._body, Sized) and self._body.left < _WORTH_A_THREAD:
            return False
        return self._protocol.is_plain

    async def _receive_by_thread(self) -> None:
        """Let a thread read some of the body, without a copy; the event loop reads nothing meanwhile."""
        size, end = (min(self._body.left, _BUFFER), b"") if isinstance(self._body, Sized) else (_BUFFER, LAST_CHUNK)
        self._protocol.hold_up()
        try:
            found = await self._own_descriptor().receive(size, self._take, end)
        except ValueError as error:
            self._protocol.refuse_body(error)
            self.has_left = True
            return
        except asyncio.CancelledError:
            self.keeps_alive = False  # the thread may take bytes yet, and nobody would miss them
            raise
        if found is None:
            self.has_left = True
            self._protocol.close()
            return
        self._parts, rest = found
        if self.body_ended:
            if rest:
                self._protocol.take_back(rest)
            self._protocol.go_on()

    def _take(self, data: memoryview) -> tuple[list[bytes | memoryview], memoryview]:
        """In the thread, too: the body in what was read, in one piece, and what comes after it."""
        assert self._body is not None
        parts, used = self._body.feed(data)
        rest = data[used:]
        if len(parts) == 1:
            return [*parts], rest
        end = 0
        for part in parts:  # moved together where they are: what lies between them is not needed any more
            begin, end = end, end + len(part)
            data[begin:end] = part
        return [data[:end]] if end else [], rest

    async def _wait(self) -> None:
        self._wanted = asyncio.get_running_loop().create_future()
        try:
            await self._wanted
        finally:
            self._wanted = None

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    # ASGI: sending

    async def send(self, message: dict[str, Any]) -> None:
        """A part of the answer. The head waits for what comes first after it: both go out together.

        Raises:
            ConnectionError: the client is gone.
        """
        if self._protocol.drained is not None:
            await self._protocol.drain()
        if self.has_left:
            raise ConnectionResetError("the client is gone")
        match message["type"]:
            case "http.response.start" if not self.has_answered:
                self._begin(message["status"], message["headers"])
                return
            case "http.response.body" if self.has_answered and not self.is_complete:
                self._write(message.get("body", b""))
            case "http.response.zerocopysend" if self.has_answered and not self.is_complete:
                await self._send_file(message["file"], message["offset"], message["count"])
            case other:
                raise RuntimeError(f"{other} is not what comes next in an answer")
        if not message.get("more_body", False):
            self._complete()

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.has_answered = True
        self._expects_continue = False
        if access.isEnabledFor(logging.INFO):
            self._log(status)
        head, length, closes = _rendered(status, tuple(headers))
        if length is None and status not in _WITHOUT_BODY:
            self._is_chunked = True
            head += b"transfer-encoding: chunked\r\n"
        if closes:
            self.keeps_alive = False
        elif not self.keeps_alive:
            head += b"connection: close\r\n"
        self._left = length or 0
        self._head = head + self._protocol.state.head + b"\r\n"

    def _write(self, body: bytes | memoryview) -> None:
        head, self._head = self._head, b""
        if self._scope["method"] == "HEAD":
            body = b""
        elif self._is_chunked:
            body = b"".join([b"%x\r\n" % len(body), body, b"\r\n"]) if body else b""
        else:
            self._account(len(body))
        if head or body:
            self._protocol.transport.write(head + body if head else body)

    async def _send_file(self, file: IO[bytes], offset: int, count: int) -> None:
        if self._scope["method"] == "HEAD":
            self._write(b"")
            return
        self._account(count)
        head, self._head = self._head, b""
        pause = 0.0
        while self._protocol.transport.get_write_buffer_size() and not self.has_left:
            await asyncio.sleep(pause)  # what the event loop has not sent yet goes before
            pause = _FLUSH
        try:
            await self._own_descriptor().send_file(head, file.fileno(), offset, count)
        except (ConnectionError, asyncio.CancelledError):
            self.has_left = True
            self._protocol.close()
            raise

    def _account(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise RuntimeError("an answer longer than its Content-Length")

    def _complete(self) -> None:
        if self._scope["method"] != "HEAD":
            if self._left:
                raise RuntimeError("an answer shorter than its Content-Length")
            if self._is_chunked:
                self._protocol.transport.write(self._head + b"0\r\n\r\n")
        self.is_complete = True
        self._wake()
        self._protocol.answered()

    def _log(self, status: int) -> None:
        scope = self._scope
        path = quote(scope["path"])
        if scope["query_string"]:
            path = f"{path}?{scope['query_string'].decode('ascii')}"
        client = "{}:{}".format(*scope["client"]) if scope["client"] else ""
        access.info('%s - "%s %s HTTP/%s" %d', client, scope["method"], path, scope["http_version"], status)

    def _own_descriptor(self) -> Descriptor:
        if self._descriptor is None:
            descriptor = self._protocol.transport.get_extra_info("socket").fileno()
            self._descriptor = Descriptor(descriptor, self._protocol.threads)
        return self._descriptor

    def _let_go(self) -> None:
        if self._descriptor is not None:
            self._descriptor.close()
