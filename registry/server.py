"""All that knows uvicorn: listening, TLS, and stopping without breaking what is under way."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from starlette.types import ASGIApp

log = logging.getLogger("registry.server")

_BACKLOG = 2048
_IDLE = 120  # seconds an unused connection stays open: longer than the clients' own limits, so that they close first
_QUIET = 0.5  # seconds without a request before a draining server stops: a push is several, with gaps between them
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
    if Path(path).is_socket():
        Path(path).unlink()  # left by a server that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
    except OSError:
        listener.close()
        raise
    listener.listen(_BACKLOG)
    return listener


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
    """uvicorn's protocol, for clients that do not speak HTTP: docker tries TLS first wherever it may fall back."""

    def send_400_response(self, msg: str) -> None:
        log.debug("not HTTP, or not well-formed: closed the connection of %s", self.client)
        body = json.dumps({"errors": [{"code": "UNSUPPORTED", "message": msg, "detail": None}]}).encode() + b"\n"
        head = (
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


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
            self.should_exit = True
            return
        self._busy.draining = True
        self._deadline = time.monotonic() + self._drain
        self._quiet_since = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        if self._busy.draining:
            now = time.monotonic()
            if self._busy.active or self._busy.served != self._served:
                self._served, self._quiet_since = self._busy.served, now
            if now > self._deadline or now - self._quiet_since >= _QUIET:
                self.should_exit = True
        return await super().on_tick(counter)
