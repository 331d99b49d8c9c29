"""A server that does nothing: it throws away what is pushed, sends what is pulled by sendfile, and has one answer for
each small request. What the client reaches against it is the ceiling of every number in the table."""

import contextlib
import os
import select
import socket
import ssl
import threading
from pathlib import Path

from source import MANIFEST, Source
from transfer import CHUNK

_WASTE = 4 * 1024 * 1024


def framed(size: int) -> int:
    """Bytes of a body of that size in chunks, as `Connection.send_chunked` sends it."""
    whole, rest = divmod(size, CHUNK)
    return whole * len(b"%x\r\n\r\n" % CHUNK) + (len(b"%x\r\n\r\n" % rest) if rest else 0) + size + len(b"0\r\n\r\n")


class Responder:
    """Small requests are answered from an epoll loop; a connection that moves a body gets a thread."""

    def __init__(self, source: Source, sizes: dict[str, int], tls: tuple[Path, Path] | None = None) -> None:
        """`sizes`: of each repository's blobs in chunks. Their end cannot be seen where the bytes are not read."""
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self._source, self._sizes, self._context = source, sizes, None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
        blobs = [source.whole, *source.quarters, *source.small, *source.app.layers]
        blobs += [layer for image in source.images for layer in image.layers]
        self._blobs = {piece.digest: piece for piece in blobs}
        self._manifests = {image.digest: image.manifest for image in [source.app, *source.images]}
        self._app = _answer("200 OK", source.app.manifest)

    def serve(self) -> None:
        poll = select.epoll()
        poll.register(self.listener, select.EPOLLIN)
        open_: dict[int, socket.socket] = {}
        while True:
            for number, _ in poll.poll():
                if number == self.listener.fileno():
                    connection, _ = self.listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if self._context:
                        self._hand_over(connection, b"")
                    else:
                        open_[connection.fileno()] = connection
                        poll.register(connection, select.EPOLLIN)
                    continue
                connection = open_[number]
                data = connection.recv(65536)
                if data.startswith(b"GET /v2/bench/app/manifests/"):
                    connection.send(self._app)
                    continue
                poll.unregister(open_.pop(number))
                if data:
                    self._hand_over(connection, data)
                else:
                    connection.close()

    def _hand_over(self, connection: socket.socket, data: bytes) -> None:
        threading.Thread(target=self._talk, args=(connection, data), daemon=True).start()

    def _talk(self, connection: socket.socket, data: bytes) -> None:
        with contextlib.suppress(OSError):
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                waste = bytearray(_WASTE)
                while True:
                    while b"\r\n\r\n" not in data:
                        more = connection.recv(65536)
                        if not more:
                            return
                        data += more
                    head, _, data = data.partition(b"\r\n\r\n")
                    self._reply(connection, head.decode("latin-1"), data, waste)
                    data = b""

    def _reply(self, connection: socket.socket, head: str, early: bytes, waste: bytearray) -> None:
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        repository, name = path.removeprefix("/v2/").split("?")[0].split("/")[:2], path.rpartition("/")[2]
        size = int(headers.get("content-length", 0))
        if "transfer-encoding" in headers:
            size = framed(self._sizes["/".join(repository)])
        self._discard(connection, size - len(early), waste)
        location = "Location: /v2/{}/blobs/uploads/1\r\n".format("/".join(repository))
        if method in {"POST", "PATCH"}:
            connection.sendall(_answer("202 Accepted", more=location))
        elif method == "PUT":
            connection.sendall(_answer("201 Created"))
        elif "/manifests/" in path:
            body = self._manifests.get(name, self._source.app.manifest)
            connection.sendall(_answer("200 OK", body, is_head=method == "HEAD"))
        elif method == "HEAD" or name not in self._blobs:
            connection.sendall(_answer("200 OK"))
        else:
            self._send(connection, name, headers.get("range", ""))

    def _discard(self, connection: socket.socket, size: int, waste: bytearray) -> None:
        flags = 0 if self._context else socket.MSG_TRUNC
        while size > 0:
            taken = connection.recv_into(waste, min(size, len(waste)), flags)
            if not taken:
                raise ConnectionResetError
            size -= taken

    def _send(self, connection: socket.socket, digest: str, wanted: str) -> None:
        piece, status = self._blobs[digest], "200 OK"
        start, end = piece.start, piece.start + piece.size
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end, status = piece.start + int(first), piece.start + int(last) + 1, "206 Partial Content"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {end - start}\r\n\r\n".encode()
        if self._context:
            connection.sendall(head)
            while start < end:
                part = os.pread(self._source.file, min(_WASTE, end - start), start)
                connection.sendall(part)
                start += len(part)
            return
        connection.sendall(head, socket.MSG_MORE)
        while start < end:
            start += os.sendfile(connection.fileno(), self._source.file, start, end - start)


def _answer(status: str, body: bytes = b"", more: str = "", *, is_head: bool = False) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {MANIFEST}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if is_head else body)
