"""All that knows uvicorn: listening, TLS, and stopping without breaking what is under way."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from types import FrameType

    from starlette.types import ASGIApp

log = logging.getLogger("registry.server")

_BACKLOG = 2048
_IDLE = 120  # seconds an unused connection stays open: longer than the clients' own limits, so that they close first
_QUIET = 0.5  # seconds without a request before a draining server stops: a push is several, with gaps between them
_HEAD_MOST = 1024 * 1024  # bytes before a body, as Go's servers take
_HEAD_SECONDS = 60  # from a connection, or the first byte of a request, to the end of its headers
_LAST_WORDS = 5  # seconds for connections to close once nothing is under way

# IPVS, the mesh's load balancer, forgets a connection after 900 s of silence; a hashing PUT or a slow disk is silent.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))

_CLIENT_CERTIFICATES = {
    "request-client-cert": ssl.CERT_OPTIONAL,  # OpenSSL cannot take one unverified: the stricter way
    "require-any-client-cert": ssl.CERT_REQUIRED,
    "verify-client-cert-if-given": ssl.CERT_OPTIONAL,
    "require-and-verify-client-cert": ssl.CERT_REQUIRED,
}

_TLS_VERSIONS = {
    "tls1.0": ssl.TLSVersion.TLSv1,
    "tls1.1": ssl.TLSVersion.TLSv1_1,
    "tls1.2": ssl.TLSVersion.TLSv1_2,
    "tls1.3": ssl.TLSVersion.TLSv1_3,
}


class Busy(Protocol):
    """What the server asks the app before it stops (`api.middleware.Traffic`)."""

    active: int
    served: int
    draining: bool


def listen(address: str, network: str = "tcp") -> socket.socket:
    """A listening socket.

    Args:
        address: `host:port`, with an empty host for all addresses of both families; a path where `network` is unix.
        network: tcp or unix.

    Raises:
        OSError: the address is in use, not ours, or not allowed.
    """
    if network == "unix":
        return _listen_unix(address)
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    dual = not host and socket.has_dualstack_ipv6()
    if dual:
        return _prepared(
            socket.create_server(("::", int(port)), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return _prepared(socket.create_server((host, int(port)), family=family, backlog=_BACKLOG))


def _prepared(listener: socket.socket) -> socket.socket:
    """Set what accepted connections inherit."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        listener.setsockopt(socket.IPPROTO_TCP, option, value)
    return listener


def _listen_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if Path(path).is_socket():
            _require_dead(path)
            Path(path).unlink()
        listener.bind(path)
    except OSError:
        listener.close()
        raise
    listener.listen(_BACKLOG)
    return listener


def _require_dead(path: str) -> None:
    """Raises OSError where a server answers at a socket; one that was killed leaves its name behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


@dataclass(frozen=True, slots=True)
class Tls:
    """How to serve HTTPS: PEM files and limits, by registry:2's names."""

    certificate: Path
    key: Path
    client_authorities: Sequence[Path] = ()
    client_certificate: str = "require-and-verify-client-cert"
    minimum: str = "tls1.2"
    ciphers: Sequence[str] = ()

    def context(self) -> ssl.SSLContext:
        """Raises OSError, ssl.SSLError where a file or a cipher suite cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _TLS_VERSIONS[self.minimum]
        context.load_cert_chain(self.certificate, self.key)
        for authority in self.client_authorities:
            context.load_verify_locations(authority)
            context.verify_mode = _CLIENT_CERTIFICATES[self.client_certificate]
        # The suites of TLS 1.3 are not chosen one by one, in Go either.
        if chosen := [_openssl_name(name) for name in self.ciphers if "_WITH_" in name]:
            context.set_ciphers(":".join(chosen))
        return context


def _openssl_name(name: str) -> str:
    """OpenSSL's name of a cipher suite: ECDHE-RSA-AES128-GCM-SHA256 for TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256."""
    exchange, _, cipher = name.removeprefix("TLS_").partition("_WITH_")
    cipher = cipher.replace("AES_128_CBC", "AES128").replace("AES_256_CBC", "AES256")
    cipher = cipher.replace("AES_128", "AES128").replace("AES_256", "AES256").replace("3DES_EDE_CBC", "DES-CBC3")
    cipher = cipher.replace("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305")
    parts = cipher if exchange == "RSA" else f"{exchange}_{cipher}"
    return parts.replace("_", "-")


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits on what precedes a request's body, and an answer for what is not HTTP."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_size = 0
        self._is_in_head = False
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head:
            self._head_size += len(data)
            if self._head_size > _HEAD_MOST and not self.transport.is_closing():
                self._refuse("431 Request Header Fields Too Large", f"more than {_HEAD_MOST} bytes of headers")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_size, self._is_in_head = 0, True
        self._head_timer.cancel()
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_timer.cancel()
        # The parser leaves a body out where a change of protocol is offered, and would read it as the next request.
        if self.parser.should_upgrade() and any(map(_is_of_a_body, self.headers)):
            raise ValueError("Upgrade with a body")
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """A docker client tries TLS first wherever it may fall back to plain HTTP; it wants to hear a no at once."""
        log.debug("not HTTP, or not well-formed: closed the connection of %s", self.client)
        self._refuse("400 Bad Request", msg)

    def _refuse(self, status: str, message: str) -> None:
        body = json.dumps({"errors": [{"code": "UNSUPPORTED", "message": message, "detail": None}]}) + "\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(f"{head}Connection: close\r\n\r\n{body}".encode("ascii"))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: Java's client offers HTTP/2 with its first request, and goes on without."""


def _is_of_a_body(header: tuple[bytes, bytes]) -> bool:
    name, value = header
    return name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")


def _is_news(record: logging.LogRecord) -> bool:
    """Whether uvicorn's log says something that `_Protocol` does not."""
    return not str(record.msg).startswith("Invalid HTTP request")


def serve(app: ASGIApp, listener: socket.socket, busy: Busy, drain: float, tls: ssl.SSLContext | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then let transfers under way end, for up to `drain` seconds.

    A second signal stops at once.
    """
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=_LAST_WORDS,
    )
    config.load()
    config.ssl = tls
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    _Server(config, busy, drain).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Goes on listening while it drains: new transfers are told to come back, others are still answered."""

    def __init__(self, config: uvicorn.Config, busy: Busy, drain: float) -> None:
        super().__init__(config)
        self._busy = busy
        self._drain = drain
        self._deadline = 0.0
        self._served = 0
        self._quiet_since = 0.0

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
        return await super().on_tick(counter)

    def _stop_at_once(self) -> None:
        self.config.timeout_graceful_shutdown = 0
        self.should_exit = True
