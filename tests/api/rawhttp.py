"""One connection, byte by byte: requests that no HTTP library would send, and answers as they come."""

import socket
import struct
import uuid
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from remote import Remote
from serving import Process

SECONDS = 15.0
"""Every wait for the server ends after this, and fails the test."""


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of one answer."""

    status_code: int
    headers: httpx.Headers
    content: bytes

    def json(self) -> Any:
        return httpx.Response(200, content=self.content).json()


class Connection:
    """A TCP connection to a registry. Close it, or use it as a context manager.

    Args:
        server: what to connect to.
        window: bytes that the kernel takes in unread, about; small = the server soon has to wait for this reader.
    """

    def __init__(self, server: Process, *, window: int = 0) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(SECONDS)
        if window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.connect((server.host, server.port))
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Send

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def request(self, method: str, target: str | bytes, body: bytes = b"", **headers: str | int) -> Self:
        """A request. Headers are as given, with `_` for `-`; without a Content-Length one is sent where it is due."""
        raw = target.encode() if isinstance(target, str) else target
        given = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        if not {"Content-Length", "Transfer-Encoding"} & given.keys() and (body or method in {"POST", "PUT", "PATCH"}):
            given["Content-Length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "localhost", **given}.items())
        return self.send(method.encode() + b" " + raw + b" HTTP/1.1\r\n" + lines.encode() + b"\r\n" + body)

    def begin(self, method: str, target: str, length: int, body: bytes) -> Self:
        """Send a request's head and the beginning of its body, and return once the server takes it in."""
        self.request(method, target, Content_Length=length, Expect="100-continue")
        assert self.head()[0] == 100
        return self.send(body)

    def chunk(self, data: bytes) -> Self:
        """One chunk of a body in chunked coding; the empty one ends it."""
        return self.send(b"%x\r\n%b\r\n" % (len(data), data))

    # Receive

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, whole."""
        status, headers = self.head()
        if method == "HEAD" or status in {204, 304}:
            return Answer(status, headers, b"")
        if "content-length" in headers:
            length = int(headers["content-length"])
            body = self.read(length)
            assert len(body) == length, f"{len(body)} of {length} bytes came"
        else:
            body = self._file.read()
        return Answer(status, headers, body)

    def head(self) -> tuple[int, httpx.Headers]:
        """The next answer's status and headers alone."""
        line = self._file.readline()
        assert line.startswith(b"HTTP/1."), f"no answer, but {line!r}"
        headers = []
        while (field := self._file.readline()) not in {b"\r\n", b""}:
            name, _, value = field.partition(b":")
            headers.append((name, value.strip()))
        return int(line.split()[1]), httpx.Headers(headers)

    def read(self, length: int) -> bytes:
        return self._file.read(length)

    def is_closed_by_server(self) -> bool:
        """Wait for the server to close; True if nothing comes before it does."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    # End

    def half_close(self) -> None:
        """Say that nothing more will be sent, and go on listening."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish without a goodbye: the server finds its connection reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def ask(server: Process, method: str, target: str | bytes, body: bytes = b"", **headers: str | int) -> Answer:
    """One request on a connection of its own."""
    with Connection(server) as connection:
        connection.request(method, target, body, Connection="close", **headers)
        return connection.answer(method)


def is_draining(remote: Remote) -> bool:
    """Whether an upload to where nobody pushed before is told to come back."""
    return remote.http.post(f"/v2/{uuid.uuid4()}/blobs/uploads/").status_code == 503
