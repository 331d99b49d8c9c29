"""Asking a registry on this machine whether it serves: what an image's health check does."""

from __future__ import annotations

import http.client
import socket
import ssl

_ALIVE = frozenset({200, 401})


class _Unix(http.client.HTTPConnection):
    """HTTP over a socket with a path."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(address: str, network: str, path: str, *, tls: bool, timeout: float) -> None:
    """GET a path of the registry that listens at `address`; it is well if it answers 200, or asks who is there.

    Args:
        address: as `server.listen` takes it; all addresses are asked at the loopback one.
        network: tcp or unix.
        path: of a URL, such as `/v2/`.
        tls: whether it speaks HTTPS. Its certificate is not looked at: it is made for another name than loopback.
        timeout: seconds for each step.

    Raises:
        OSError: nobody answers, or not in time, or not with what a registry answers.
    """
    connection = _connection(address, network, tls=tls, timeout=timeout)
    shaken = False
    try:
        connection.connect()
        shaken = tls
        connection.request("GET", path, headers={"User-Agent": "registry-ping"})
        answer = connection.getresponse()
        answer.read()
    except ssl.SSLError as error:
        if not shaken and "ALERT" not in (error.reason or ""):
            raise ConnectionError(f"no TLS: {error.reason or error}") from None
        return  # it speaks TLS, and wants a certificate of ours
    except ConnectionError as error:
        if shaken:
            return  # the same: asyncio goes without an alert when it sees, after the handshake, that there is none
        if isinstance(error, http.client.RemoteDisconnected):
            raise ConnectionError("no HTTP answer: it closed the connection") from None
        raise
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP answer: {error!r}") from None
    finally:
        connection.close()
    if answer.status not in _ALIVE:
        raise ConnectionError(f"it answered {answer.status} {answer.reason}")


def _connection(address: str, network: str, *, tls: bool, timeout: float) -> http.client.HTTPConnection:
    if network == "unix":
        return _Unix(address, timeout)
    host, _, port = address.rpartition(":")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))  # noqa: S104
    if not tls:
        return http.client.HTTPConnection(host, int(port), timeout=timeout)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, int(port), timeout=timeout, context=context)
