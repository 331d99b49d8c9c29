"""The server's life: uvicorn's, with its own way to stop."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import uvicorn
from uvicorn.server import ServerState

from registry.api.traffic import Stage
from registry.server.listening import BACKLOG
from registry.server.protocol import IDLE, HttpProtocol
from registry.server.workers import is_hung_up, supervise

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Sequence
    from types import FrameType

    from starlette.types import ASGIApp

    from registry.api.traffic import Traffic
    from registry.server.renewal import Renewal

_QUIET = 0.5  # seconds without a request before a draining server stops: a push is several, with gaps between them
_LAST_WORDS = 5  # seconds for connections to close once nothing is under way
_TICKS_OF_A_SECOND = 10  # as uvicorn counts them
_TRANSFERS = 32  # threads that read and write sockets


Work: TypeAlias = "Callable[[], Coroutine[Any, Any, None]]"


@dataclass(frozen=True, slots=True)
class Service:
    """What is served, and how.

    Attributes:
        app: answers requests.
        traffic: of all its processes.
        drain: seconds that transfers under way have to end, once it is told to stop.
        tls: None for plain HTTP.
        hang_up: run at SIGHUP, in each process.
        beside: run as long as the server does, in one process.
    """

    app: ASGIApp
    traffic: Traffic
    drain: float
    tls: Renewal | None = None
    hang_up: Work | None = None
    beside: Work | None = None


def serve(service: Service, listeners: Sequence[socket.socket]) -> None:
    """Serve until SIGTERM or SIGINT; then let transfers under way end. A second signal stops at once.

    SIGHUP runs `hang_up`; but where the terminal is gone that the registry was started from, it counts as SIGTERM.
    For several sockets there are as many processes.
    """

    def stop() -> None:
        late = service.traffic.stage or not service.drain
        service.traffic.stage = Stage.STOPPING if late else Stage.DRAINING

    def work(number: int, at_signal: Callable[[], None] = lambda: None) -> None:
        service.traffic.join(number)
        _serve(service if number == 0 else replace(service, beside=None), listeners[number], at_signal)

    if len(listeners) == 1:
        work(0, stop)
    else:
        supervise(len(listeners), work, stop)


def _serve(service: Service, listener: socket.socket, at_signal: Callable[[], None]) -> None:
    config = uvicorn.Config(
        service.app,
        ws="none",
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=_LAST_WORDS,
    )
    config.load()
    config.ssl = service.tls.context if service.tls is not None else None
    _allow_many_files()
    with ThreadPoolExecutor(_TRANSFERS, "transfer") as threads:
        config.http_protocol_class = cast("type[asyncio.Protocol]", partial(HttpProtocol, threads=threads))
        _Server(config, service, at_signal).run(sockets=[listener])


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

    def __init__(self, config: uvicorn.Config, service: Service, at_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self.server_state = self._state = State()
        self._traffic = service.traffic
        self._drain = service.drain
        self._tls = service.tls
        self._hang_up = service.hang_up
        self._work = service.beside
        self._at_signal = at_signal
        self._beside: set[asyncio.Task[None]] = set()
        self._deadline = 0.0
        self._served = 0
        self._quiet_since = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._hang_up is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._handle_hang_up, self._hang_up)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # a worker has it blocked until here
        if self._tls is not None:
            self._run_beside(self._tls.watch())
        if self._work is not None:
            self._run_beside(self._work())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        self._at_signal()

    async def on_tick(self, counter: int) -> bool:
        if self._traffic.stage:
            self._let_end(time.monotonic())
        ends = await super().on_tick(counter)
        if counter % _TICKS_OF_A_SECOND == 0:
            headers = self._state.default_headers
            self._state.head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
            now = asyncio.get_running_loop().time()
            for connection in list(self._state.connections):
                cast("HttpProtocol", connection).expire(now)
        return ends

    def _let_end(self, now: float) -> None:
        """Stop once all processes are quiet, or the time is over."""
        if not self._deadline:
            self._deadline, self._quiet_since = now + self._drain, now
        if self._traffic.active or self._traffic.served != self._served:
            self._served, self._quiet_since = self._traffic.served, now
        if self._traffic.stage is Stage.STOPPING or now > self._deadline:
            self.config.timeout_graceful_shutdown = 0
            self.should_exit = True
        elif now - self._quiet_since >= _QUIET:
            self.should_exit = True

    def _handle_hang_up(self, hang_up: Work) -> None:
        if is_hung_up():
            self.handle_exit(signal.SIGHUP, None)
        else:
            self._run_beside(hang_up())

    def _run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
