"""One HTTP/1.1 connection that moves much with little: sendfile out, chunks gathered by sendmsg, bodies thrown away
in the kernel. A client that copies what it receives would be measured along with the server."""

import base64
import ctypes
import json
import mmap
import os
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

CHUNK = 32 * 1024
"""What docker writes at once, and so the size of its chunks."""

_CHUNKS_AT_ONCE = 500  # two pieces each; the kernel takes 1024 in one call
_ENTER = b"%x\r\n" % CHUNK
_NEXT = b"\r\n" + _ENTER
_SLICE = 1024 * 1024
_SECONDS = 120.0


@dataclass(frozen=True)
class Target:
    """Where a server is, and what every request to it carries."""

    host: str
    port: int
    tls: bool = False
    user: tuple[str, str] | None = None
    pid: int | None = None
    headers: bytes = field(init=False)

    def __post_init__(self) -> None:
        lines = f"Host: {self.host}:{self.port}\r\n"
        if self.user:
            lines += f"Authorization: Basic {base64.b64encode(':'.join(self.user).encode()).decode()}\r\n"
        object.__setattr__(self, "headers", lines.encode())

    def connect(self) -> socket.socket:
        connection = socket.create_connection((self.host, self.port), timeout=_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return trusting().wrap_socket(connection) if self.tls else connection

    def request(self, method: str, path: str, *headers: str, length: int | None = None) -> bytes:
        """The bytes of a request up to its body."""
        lines = list(headers)
        if length is not None:
            lines.append(f"Content-Length: {length}")
        more = "".join(line + "\r\n" for line in lines)
        return f"{method} {path} HTTP/1.1\r\n".encode() + self.headers + more.encode() + b"\r\n"


def trusting() -> ssl.SSLContext:
    """A client's TLS that takes any certificate: the servers under test have made theirs themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""
    size: int = 0

    def json(self) -> Any:
        return json.loads(self.body)


class UnexpectedAnswer(Exception):
    pass


class Connection:
    """Requests one after the other; every answer must have the status that was expected."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.socket = target.connect()
        if not target.tls:
            # With a time limit Python makes the socket non-blocking, and sendmsg could then end halfway.
            self.socket.settimeout(None)
        self._waste = bytearray(4 * _SLICE)
        self._early = b""
        self.moved = ctypes.c_uint64()
        """Bytes of bodies so far; may be put into memory that another process reads."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # Ask

    def ask(self, method: str, path: str, *headers: str, body: bytes | None = None, expect: tuple[int, ...]) -> Answer:
        """A small request with a small answer, read whole."""
        length = len(body or b"") if body is not None or method in {"POST", "PUT", "PATCH"} else None
        self.socket.sendall(self.target.request(method, path, *headers, length=length) + (body or b""))
        return self.answer(method, expect)

    def send_file(self, head: bytes, file: int, start: int, size: int) -> None:
        self.socket.sendall(head, socket.MSG_MORE) if not self.target.tls else self.socket.sendall(head)
        end = start + size
        if self.target.tls:
            while start < end:
                part = os.pread(file, min(_SLICE, end - start), start)
                self.socket.sendall(part)
                start += len(part)
            return
        while start < end:
            start += os.sendfile(self.socket.fileno(), file, start, end - start)

    def send_chunked(self, head: bytes, content: mmap.mmap, start: int, size: int) -> None:
        """The body in chunks of 32 KiB as docker sends them, 500 in one call."""
        view = memoryview(content)
        whole, rest = divmod(size, CHUNK)
        pieces: list[bytes | memoryview] = [head]
        first = True
        for offset in range(start, start + whole * CHUNK, CHUNK):
            pieces += (_ENTER if first else _NEXT, view[offset : offset + CHUNK])
            first = False
            if len(pieces) > 2 * _CHUNKS_AT_ONCE:
                self._gather(pieces)
                pieces = []
        if rest:
            pieces += (b"%s%x\r\n" % (b"" if first else b"\r\n", rest), view[start + size - rest : start + size])
        pieces.append(b"0\r\n\r\n" if not size else b"\r\n0\r\n\r\n")
        self._gather(pieces)

    def _gather(self, pieces: list[bytes | memoryview]) -> None:
        if self.target.tls:
            self.socket.sendall(b"".join(pieces))
            return
        due, sent = sum(map(len, pieces)), self.socket.sendmsg(pieces)
        if sent != due:
            raise UnexpectedAnswer(f"the server took {sent} of {due} bytes")
        self.moved.value += sent

    # Hear

    def answer(self, method: str, expect: tuple[int, ...]) -> Answer:
        """The next answer with its body, which must be small."""
        answer = self.head(expect)
        if method == "HEAD" or answer.status in {204, 304}:
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            return Answer(answer.status, answer.headers, self._chunks())
        body = self._early
        while len(body) < answer.size:
            body += self._receive()
        self._early = body[answer.size :]
        return Answer(answer.status, answer.headers, body[: answer.size], answer.size)

    def head(self, expect: tuple[int, ...]) -> Answer:
        """Status and headers; the body is still to come."""
        data = self._early
        while b"\r\n\r\n" not in data:
            data += self._receive()
        top, _, self._early = data.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        if status not in expect:
            raise UnexpectedAnswer(f"{first} {self._early[:300].decode('latin-1')}".strip())
        return Answer(status, headers, size=int(headers.get("content-length", 0)))

    def _chunks(self) -> bytes:
        body, data = b"", self._early
        while True:
            while b"\r\n" not in data:
                data += self._receive()
            line, _, data = data.partition(b"\r\n")
            size = int(line, 16)
            while len(data) < size + 2:
                data += self._receive()
            body += data[:size]
            data = data[size + 2 :]
            if not size:
                self._early = data
                return body

    def _receive(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise UnexpectedAnswer("the server closed the connection")
        return data

    def discard(self, size: int) -> None:
        """Take a body off the connection; in the kernel, without a copy, where there is no TLS."""
        size -= len(self._early)
        self._early = b""
        flags = 0 if self.target.tls else socket.MSG_TRUNC
        while size > 0:
            taken = self.socket.recv_into(self._waste, min(size, len(self._waste)), flags)
            if not taken:
                raise UnexpectedAnswer(f"the server closed the connection {size} bytes early")
            self.moved.value += taken
            size -= taken

    def read(self, size: int, into: Any) -> None:
        """Feed a body to `into.update`."""
        into.update(self._early)
        size -= len(self._early)
        self._early = b""
        view = memoryview(self._waste)
        while size > 0:
            taken = self.socket.recv_into(self._waste, min(size, len(self._waste)))
            if not taken:
                raise UnexpectedAnswer(f"the server closed the connection {size} bytes early")
            into.update(view[:taken])
            size -= taken


def path_of(location: str) -> str:
    """Path and query of a Location, absolute or not."""
    parts = urlsplit(location)
    return parts.path + ("?" + parts.query if parts.query else "")


def with_digest(location: str, digest: str) -> str:
    path = path_of(location)
    return f"{path}{'&' if '?' in path else '?'}digest={digest}"
