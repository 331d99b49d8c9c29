"""The server's life: uvicorn's, with its own way to stop."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import uvicorn
from uvicorn.server import ServerState

from registry.server.listening import BACKLOG
from registry.server.protocol import IDLE, HttpProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine
    from types import FrameType

    from starlette.types import ASGIApp

    from registry.server.renewal import Renewal

_QUIET = 0.5  # seconds without a request before a draining server stops: a push is several, with gaps between them
_LAST_WORDS = 5  # seconds for connections to close once nothing is under way
_TICKS_OF_A_SECOND = 10  # as uvicorn counts them
_STDIN = 0
_TRANSFERS = 32  # threads that read and write sockets


HangUp: TypeAlias = "Callable[[], Coroutine[Any, Any, None]]"


class Busy(Protocol):
    """What the server asks the app before it stops (`api.middleware.Traffic`)."""

    active: int
    served: int
    draining: bool


def serve(  # noqa: PLR0913 - what it serves, where, and how it changes and ends
    app: ASGIApp,
    listener: socket.socket,
    busy: Busy,
    drain: float,
    tls: Renewal | None = None,
    *,
    hang_up: HangUp | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then let transfers under way end, for up to `drain` seconds.

    A second signal stops at once. SIGHUP runs `hang_up`; but where the terminal is gone that the registry was started
    from, it counts as SIGTERM.
    """
    config = uvicorn.Config(
        app,
        ws="none",
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=_LAST_WORDS,
    )
    config.load()
    config.ssl = tls.context if tls is not None else None
    _allow_many_files()
    with ThreadPoolExecutor(_TRANSFERS, "transfer") as threads:
        config.http_protocol_class = cast("type[asyncio.Protocol]", partial(HttpProtocol, threads=threads))
        _Server(config, busy, drain, tls, hang_up).run(sockets=[listener])


def _allow_many_files() -> None:
    """Each transfer has a socket, its copy and a file: as many as the system lets us, not as many as it proposes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class State(ServerState):
    """What all connections share. `head` is the part of an answer's head that is the same for all."""

    def __init__(self) -> None:
        super().__init__()
        self.head = b""


class _Server(uvicorn.Server):
    """Goes on listening while it drains: new transfers are told to come back, others are still answered."""

    def __init__(
        self,
        config: uvicorn.Config,
        busy: Busy,
        drain: float,
        tls: Renewal | None,
        hang_up: HangUp | None,
    ) -> None:
        super().__init__(config)
        self.server_state = self._state = State()
        self._busy = busy
        self._drain = drain
        self._tls = tls
        self._hang_up = hang_up
        self._beside: set[asyncio.Task[None]] = set()
        self._has_terminal = os.isatty(_STDIN)
        self._deadline = 0.0
        self._served = 0
        self._quiet_since = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._hang_up is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._handle_hang_up, self._hang_up)
        if self._tls is not None:
            self._run_beside(self._tls.watch())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._beside:
            task.cancel()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        if self._busy.draining or not self._drain:
            self._stop_at_once()
            return
        self._busy.draining = True
        self._deadline = time.monotonic() + self._drain
        self._quiet_since = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        if self._busy.draining:
            now = time.monotonic()
            if self._busy.active or self._busy.served != self._served:
                self._served, self._quiet_since = self._busy.served, now
            if now > self._deadline:
                self._stop_at_once()
            elif now - self._quiet_since >= _QUIET:
                self.should_exit = True
        ends = await super().on_tick(counter)
        if counter % _TICKS_OF_A_SECOND == 0:
            headers = self._state.default_headers
            self._state.head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
            now = asyncio.get_running_loop().time()
            for connection in list(self._state.connections):
                cast("HttpProtocol", connection).expire(now)
        return ends

    def _handle_hang_up(self, hang_up: HangUp) -> None:
        if self._has_terminal and not os.isatty(_STDIN):
            self.handle_exit(signal.SIGHUP, None)
        else:
            self._run_beside(hang_up())

    def _run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _stop_at_once(self) -> None:
        self.config.timeout_graceful_shutdown = 0
        self.should_exit = True
