"""Sockets that listen."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

BACKLOG = 2048

# IPVS, the mesh's load balancer, forgets a connection after 900 s of silence; a hashing PUT or a slow disk is silent.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


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
            socket.create_server(("::", int(port)), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return _prepared(socket.create_server((host, int(port)), family=family, backlog=BACKLOG))


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
