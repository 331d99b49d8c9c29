"""Around every request. Pure ASGI: starlette's BaseHTTPMiddleware would cost a task each and break zero-copy sends."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from starlette.requests import ClientDisconnect

from registry.api.responses import encoded, error_response
from registry.api.traffic import Traffic, stopping
from registry.oci.errors import InternalError, NoSuchEndpoint, RegistryError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("registry.api")


class Living(Protocol):
    """What lives as long as the server does."""

    def begin(self) -> None:
        """On the event loop, before the first request."""

    def end(self) -> None:
        """After the last one."""


class Edge:
    """Counts requests, adds headers to every answer, and answers what the handlers raise.

    Args:
        app: answers requests.
        traffic: is kept up to date.
        headers: of every answer, beside the API version that old docker engines look for.
        living: begins and ends with the server.

    A RegistryError is answered as itself, anything else as 500 with a line in the log. The headers are the configured
    ones, and the API version that old docker engines look for.
    """

    def __init__(
        self,
        app: ASGIApp,
        traffic: Traffic,
        headers: Mapping[str, Sequence[str]],
        living: Living,
    ) -> None:
        self._app = app
        self._living = living
        self._traffic = traffic
        self._headers = [(b"docker-distribution-api-version", b"registry/2.0")]
        for name, values in headers.items():
            for value in values:
                self._headers += encoded({name: value})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._live(receive, send)
            return
        started = False

        def send_with_headers(message: Message) -> Awaitable[None]:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] += self._headers
            return send(message)

        self._traffic.begin()
        try:
            _refuse_ambiguous(scope)
            await self._app(scope, receive, send_with_headers)
        except asyncio.CancelledError:  # the server's time to stop is over, and nothing comes after this
            if not started:
                await error_response(stopping())(scope, receive, send_with_headers)
        except (ClientDisconnect, ConnectionError):
            log.info("client left: %s %r", scope["method"], scope["path"])
        except Exception as raised:
            error = _told(raised, scope)
            if started:
                raise  # too late for another answer: the server cuts the connection, so that nobody takes it for whole
            await error_response(error)(scope, receive, send_with_headers)
        finally:
            self._traffic.end()

    async def _live(self, receive: Receive, send: Send) -> None:
        """The server's lifespan messages."""
        await receive()
        self._living.begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._living.end()
        await send({"type": "lifespan.shutdown.complete"})


def _refuse_ambiguous(scope: Scope) -> None:
    """`%2f` became a separator when the server decoded the path, and a pattern's `$` overlooks a line end.

    No client sends them, but who tries paths out.
    """
    raw = scope["raw_path"]
    if b"%" in raw and (b"%2f" in raw.lower() or "\n" in scope["path"]):
        raise NoSuchEndpoint("no such endpoint: the path has an encoded slash or line end")


def _told(raised: Exception, scope: Scope) -> RegistryError:
    """What the client hears of an error, and the log of what the client does not hear."""
    request = f"{scope['method']} {scope['path']!r}"
    match raised:
        case RegistryError():
            if raised.status >= 500 and raised.status != Unavailable.status:
                log.error("%s: %s", request, raised.message)
            return raised
        case _:
            log.error("%s failed", request, exc_info=raised)
            return InternalError("internal error: the registry's log has it")
