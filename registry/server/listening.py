"""Sockets that listen, and TLS."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKLOG = 2048

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


def listen(address: str, network: str = "tcp", count: int = 1) -> list[socket.socket]:
    """Listening sockets, among which the kernel divides the connections.

    Args:
        address: `host:port`, with an empty host for all addresses of both families; a path where `network` is unix.
        network: tcp or unix; of the latter there is one socket, so many times.
        count: of sockets.

    Raises:
        OSError: the address is in use, not ours, or not allowed.
    """
    if network == "unix":
        return [_listen_unix(address)] * count
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    # The first is bound without sharing: it fails where another server has the port, also if that would share.
    first = _bound(family, ("::" if dual else host, int(port)), dual=dual)
    bound = [first]
    if count > 1:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound += (_bound(family, first.getsockname(), dual=dual, shared=True) for _ in range(count - 1))
    for listener in bound:
        listener.listen(BACKLOG)
    return bound


def _bound(family: socket.AddressFamily, address: Any, *, dual: bool, shared: bool = False) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted connections inherit it
    for option, value in _KEEPALIVE:
        bound.setsockopt(socket.IPPROTO_TCP, option, value)
    return bound


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
    listener.listen(BACKLOG)
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
