"""Many small requests on many connections, each with one in flight: an epoll loop that does little per request."""

import itertools
import select
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer import Target, UnexpectedAnswer

if TYPE_CHECKING:
    import socket

_SECONDS = 60.0  # without any answer


@dataclass(frozen=True)
class Sample:
    """How it went: seconds each request took, in the order of their ends, and seconds in all."""

    latencies: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def run(target: Target, requests: Sequence[bytes], connections: int, seconds: float | None = None) -> Sample:
    """Send `requests` over and over for `seconds`, or each once without; wait for all that was begun."""
    turns = iter(requests) if seconds is None else itertools.cycle(requests)
    loop = _Loop(target, turns, seconds, has_bodies=not requests[0].startswith(b"HEAD "))
    try:
        return loop.run(connections)
    finally:
        loop.close()


class _Loop:
    def __init__(self, target: Target, requests: Iterator[bytes], seconds: float | None, *, has_bodies: bool) -> None:
        self._target, self._requests, self._limit, self._has_bodies = target, requests, seconds, has_bodies
        self._sockets: dict[int, socket.socket] = {}
        self._began: dict[int, float] = {}
        self._parts: dict[int, bytes] = {}
        self._latencies: list[float] = []
        self._poll = select.epoll()

    def run(self, connections: int) -> Sample:
        for _ in range(connections):
            connection = self._target.connect()
            connection.setblocking(False)
            self._sockets[connection.fileno()] = connection
            self._poll.register(connection.fileno(), select.EPOLLIN)
        start = time.perf_counter()
        deadline = start + self._limit if self._limit is not None else float("inf")
        for number in self._sockets:
            self._next(number, start)
        while self._began:
            events = self._poll.poll(_SECONDS)
            if not events:
                raise TimeoutError(f"no answer in {_SECONDS:g} s")
            for number, _ in events:
                if self._hear(number):
                    now = time.perf_counter()
                    self._latencies.append(now - self._began.pop(number))
                    if now < deadline:
                        self._next(number, now)
        return Sample(self._latencies, time.perf_counter() - start)

    def _next(self, number: int, now: float) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._began[number] = now
            sent = self._sockets[number].send(request)
            if sent != len(request):
                raise UnexpectedAnswer("the server does not read its requests")

    def _hear(self, number: int) -> bool:
        """Whether the answer is whole now."""
        connection = self._sockets[number]
        try:
            data = connection.recv(262144)
            while isinstance(connection, ssl.SSLSocket) and connection.pending():
                data += connection.recv(262144)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        if not data:
            raise UnexpectedAnswer("the server closed a connection")
        data = self._parts.pop(number, b"") + data
        if data[9:10] != b"2":
            raise UnexpectedAnswer(data[:300].decode("latin-1"))
        if is_whole(data, has_body=self._has_bodies):
            return True
        self._parts[number] = data
        return False

    def close(self) -> None:
        self._poll.close()
        for connection in self._sockets.values():
            connection.close()


_heads: dict[bytes, int] = {}


def is_whole(data: bytes, *, has_body: bool = True) -> bool:
    """Whether an answer is all there. What its head says is remembered: a server repeats itself, but for the date."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or not has_body:
        return end >= 0
    length = _heads.get(data[:end])
    if length is None:
        length = _content_length(data[:end].lower())
        if len(_heads) < 4096:
            _heads[data[:end]] = length
    if length == _CHUNKED:
        return data.endswith(b"\r\n0\r\n\r\n")
    return len(data) >= end + 4 + length


_CHUNKED = -1


def _content_length(head: bytes) -> int:
    if b"\r\ntransfer-encoding: chunked" in head:
        return _CHUNKED
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0
