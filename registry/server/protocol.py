"""HTTP/1.1 on a connection: heads are parsed here, one request at a time is answered by an `Exchange`.

uvicorn's own protocol would do. But it reads all bodies on the event loop, cannot send a file without copying it, and
spends more on a small request than the registry does. This one takes its place and gives what uvicorn's server asks of
one: it adds itself to `connections` and its work to `tasks`, and has `shutdown`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools

from registry.server import framing
from registry.server.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from concurrent.futures import Executor

    import uvicorn

    from registry.server.running import State

log = logging.getLogger("registry.server")

IDLE = 120  # seconds an unused connection stays open: longer than the clients' own limits, so that they close first
HEAD_SECONDS = 60  # from a connection, or the first byte of a request, to the end of its head
_REST_SECONDS = 30  # without a byte of the rest of a body that was answered before it ended
_HEAD_MOST = 1024 * 1024  # bytes before a body, as Go's servers take
_HELD_MOST = 64 * 1024  # bytes of requests that were sent ahead
_BY_KERNEL: dict[str, dict[str, Any]] = {"http.response.zerocopysend": {}}
_END_OF_HEAD = b"\r\n\r\n"


class HttpProtocol(asyncio.Protocol):
    """One connection.

    Args:
        config, server_state, app_state, _loop: as uvicorn gives them.
        threads: where sockets are read and written for large bodies.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: State,
        app_state: dict[str, Any],  # noqa: ARG002 - uvicorn's
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        threads: Executor,
    ) -> None:
        self.app: Any = config.loaded_app
        self.state = server_state
        self.threads = threads
        self.loop = _loop or asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.deadline = 0.0
        """When a connection without a request under way is closed, on the event loop's clock."""
        self.is_plain = True
        self._exchange: Exchange | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._held = b""
        self._is_held_up = False
        self._is_closing = False
        self._is_lingering = False
        self.drained: asyncio.Future[None] | None = None
        """Set while more is written than the client takes."""
        self._begin_head()

    # What the event loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.is_plain = transport.get_extra_info("sslcontext") is None
        self.client = _address(transport.get_extra_info("peername"))
        self.server = _address(transport.get_extra_info("sockname"))
        self.state.connections.add(self)  # type: ignore[arg-type]
        self.deadline = self.loop.time() + HEAD_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._is_closing = True
        self.state.connections.discard(self)
        self.resume_writing()
        if self._exchange is not None:
            self._exchange.leave()

    def eof_received(self) -> bool:
        """The transport closes itself: nobody that speaks to a registry waits for an answer after the last word."""
        return False

    def pause_writing(self) -> None:
        if self.drained is None:
            self.drained = self.loop.create_future()

    def resume_writing(self) -> None:
        if self.drained is not None:
            self.drained.set_result(None)
            self.drained = None

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None and not self._held:
            self._parse(data)
        elif self._is_lingering:
            self.deadline = self.loop.time() + _REST_SECONDS
        elif exchange is None or exchange.body_ended:
            self._hold(data)
        elif (used := self._feed_body(exchange, data)) >= 0:
            if used < len(data):
                self._hold(data[used:])
            if exchange.is_over:
                self._turn()
            elif exchange.is_complete:
                self.deadline = self.loop.time() + _REST_SECONDS

    # What uvicorn calls

    def shutdown(self) -> None:
        """Close, after the answer that is under way."""
        if self._exchange is None or self._is_lingering:
            self.close()
        else:
            self._exchange.keeps_alive = False

    # What an exchange calls

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written."""
        while self.drained is not None:
            await self.drained

    def close(self) -> None:
        """Close once everything is sent."""
        self._is_closing = True
        self.transport.close()

    def hold_up(self) -> None:
        """Read no more for now."""
        if not self._is_held_up and not self._is_closing:
            self._is_held_up = True
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self._is_held_up and not self._is_closing:
            self._is_held_up = False
            self.transport.resume_reading()

    def take_back(self, data: memoryview) -> None:
        """Bytes that a thread read past the end of the body: they came before those that are held."""
        self._held = bytes(data) + self._held

    def refuse_body(self, error: ValueError) -> None:
        """The body is not framed as was said: nothing on this connection can be trusted any more."""
        self._refuse("400 Bad Request", str(error))

    def answered(self) -> None:
        """The answer is complete; so is the exchange, unless some of the body is still to come, and thrown away."""
        self.state.total_requests += 1
        exchange = self._exchange
        assert exchange is not None
        if exchange.body_ended:
            self._turn()
            return
        self.deadline = self.loop.time() + _REST_SECONDS
        if not exchange.keeps_alive:
            self._linger()
        self.go_on()

    def expire(self, now: float) -> None:
        """Close if nothing came for too long."""
        is_waiting = self._exchange is None or self._exchange.is_complete
        if is_waiting and now > self.deadline and not self._is_closing:
            self.close()

    def _linger(self) -> None:
        """Say no more, but go on reading: closed with bytes unread, the client may lose the answer to a reset."""
        self._is_lingering = True
        if self.is_plain:
            self.transport.write_eof()

    def _turn(self) -> None:
        """Answer the request that was sent ahead, or wait for one."""
        exchange, self._exchange = self._exchange, None
        if self._is_closing:
            return
        if exchange is not None and not exchange.keeps_alive:
            self.close()
            return
        self.deadline = self.loop.time() + IDLE
        if self._held:
            self.loop.call_soon(self._parse_held)  # not here: of many that were sent ahead, each would call the next
        else:
            self.go_on()

    def _parse_held(self) -> None:
        data, self._held = self._held, b""
        if self._exchange is not None or self._is_closing:
            self._held = data
            return
        self._parse(data)
        if len(self._held) <= _HELD_MOST:
            self.go_on()

    # Heads

    def _begin_head(self) -> None:
        self._end = b""  # the last bytes that were parsed, of an end of head that may come in two pieces
        self._size = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []

    def _parse(self, data: bytes) -> None:
        """Parse heads, up to the end of one: what follows is for its exchange, or for after it."""
        while data and not self._is_closing:
            if not self._size:
                self.deadline = self.loop.time() + HEAD_SECONDS
            if self._end:
                found = (self._end + data).find(_END_OF_HEAD)
                length = found + 4 - len(self._end) if found >= 0 else len(data)
            else:
                found = data.find(_END_OF_HEAD)
                length = found + 4 if found >= 0 else len(data)
            self._end = b"" if found >= 0 else (self._end + data[-3:])[-3:]
            self._size += length
            head, data = data[:length], data[length:]
            if not self._feed_head(head):
                return
            if self._exchange is not None:
                if found < 0:  # the parser saw an end that we did not, and may have taken some of the body
                    self._refuse("400 Bad Request", "Invalid HTTP request received.")
                    return
                self._start(self._exchange, data)
                return
            if self._size > _HEAD_MOST:
                self._refuse("431 Request Header Fields Too Large", f"more than {_HEAD_MOST} bytes of headers")

    def _feed_head(self, head: bytes) -> bool:
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            # Java's client offers HTTP/2 with its first request, and goes on without.
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError:
            # A docker client tries TLS first wherever it may fall back to plain HTTP; it wants to hear a no at once.
            log.debug("not HTTP, or not well-formed: closed the connection of %s", self.client)
            self._refuse("400 Bad Request", "Invalid HTTP request received.")
            return False
        return True

    def _start(self, exchange: Exchange, data: bytes) -> None:
        """Begin to answer. `data` came with the head."""
        if not exchange.body_ended:
            self._parser = httptools.HttpRequestParser(self)  # the one that waits for a body never gets it
            used = self._feed_body(exchange, data)
            if used < 0:
                return
            data = data[used:]
        if data:
            self._hold(data)
        self._run(exchange.run(self.app))

    def _run(self, answering: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine: at once up to where it waits, and from there as a task.

        Most answers wait for nothing, and a task costs about as much as one of those. So the app's first step has no
        current task; it must not ask for one.
        """
        try:
            awaited = answering.send(None)
        except StopIteration:
            return
        task = self.loop.create_task(_end(_Rest(answering, awaited)))
        self.state.tasks.add(task)
        task.add_done_callback(self.state.tasks.discard)

    def _feed_body(self, exchange: Exchange, data: bytes) -> int:
        """How many bytes of `data` are of the body; -1 where they are no such body."""
        try:
            return exchange.feed(data)
        except ValueError as error:
            self.refuse_body(error)
            return -1

    def _hold(self, data: bytes) -> None:
        """Keep requests that were sent ahead until it is their turn."""
        self._held += data
        if len(self._held) > _HELD_MOST:
            self.hold_up()

    # What the parser calls

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        body = framing.of(self._headers)
        # The parser leaves a body out where a change of protocol is offered, and would read it as the next request.
        if body is not None and not body.ended and self._parser.should_upgrade():
            raise ValueError("Upgrade with a body")
        url = httptools.parse_url(self._url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        version = self._parser.get_http_version()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": "http" if self.is_plain else "https",
            "method": self._parser.get_method().decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "headers": self._headers,
            "extensions": _BY_KERNEL if self.is_plain else {},
        }
        self._exchange = Exchange(self, scope, body, version != "1.0" and self._parser.should_keep_alive())
        self._begin_head()

    def _refuse(self, status: str, message: str) -> None:
        """Answer what nobody can read, and close."""
        body = json.dumps({"errors": [{"code": "UNSUPPORTED", "message": message, "detail": None}]}) + "\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        if self._exchange is None or not self._exchange.has_answered:
            self.transport.write(f"{head}Connection: close\r\n\r\n{body}".encode("ascii"))
        self.close()


@dataclass(slots=True)
class _Rest:
    """The rest of a coroutine that has begun to wait, to be awaited."""

    coroutine: Coroutine[Any, Any, None]
    awaited: Any

    def __await__(self) -> Generator[Any, Any, None]:
        while True:
            try:
                try:
                    value = yield self.awaited
                except BaseException as error:  # noqa: BLE001 - it is for the coroutine, cancellation too
                    self.awaited = self.coroutine.throw(error)
                else:
                    self.awaited = self.coroutine.send(value)
            except StopIteration:
                return


async def _end(rest: _Rest) -> None:
    await rest


def _address(name: object) -> tuple[str, int] | None:
    """As ASGI has it; a socket with a path has none."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
