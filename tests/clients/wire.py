"""The wire between a client and a registry: a relay that counts, slows and cuts.

Clients get `wire.address` instead of the server's. What went up and down says more than what a client prints: a
mounted layer is one that did not go up again.
"""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self

_PIECE = 16 * 1024


class Flow:
    """One direction, over all connections."""

    def __init__(self) -> None:
        self.total = 0
        self.cuts = 0
        self.bytes_per_second = 0
        self._cut_at = 0
        self._lock = threading.Lock()

    def slow(self, bytes_per_second: int) -> None:
        """Let no connection send faster; 0 lifts the limit."""
        self.bytes_per_second = bytes_per_second

    def cut_after(self, count: int) -> None:
        """End the connection that carries the `count`-th byte from now on; once."""
        with self._lock:
            self._cut_at = self.total + count

    def _cuts(self, size: int) -> bool:
        """Count a piece; true if it is the one that must not get through."""
        with self._lock:
            self.total += size
            if not 0 < self._cut_at <= self.total:
                return False
            self._cut_at = 0
            self.cuts += 1
            return True

    def relay(self, source: socket.socket, sink: socket.socket) -> None:
        """Carry bytes until the source ends; if either side breaks, both do."""
        try:
            while piece := source.recv(_PIECE):
                if self._cuts(len(piece)):
                    _hang_up(source, sink)
                    return
                sink.sendall(piece)
                if rate := self.bytes_per_second:
                    time.sleep(len(piece) / rate)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            _hang_up(source, sink)


class Wire:
    """Relays connections from a port of its own to 127.0.0.1:`port`."""

    def __init__(self, port: int) -> None:
        self.up = Flow()
        self.down = Flow()
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._acceptor = threading.Thread(target=self._accept)
        self._relays: list[threading.Thread] = []
        self._acceptor.start()

    def slow(self, bytes_per_second: int) -> None:
        """Limit each connection in both directions; 0 lifts the limit."""
        self.up.slow(bytes_per_second)
        self.down.slow(bytes_per_second)

    def close(self) -> None:
        self.slow(0)
        _hang_up(self._listener)  # wakes accept(), which closing alone would not
        self._acceptor.join(10)
        self._listener.close()
        with self._lock:
            _hang_up(*self._open)
        for thread in self._relays:
            thread.join(10)
            assert not thread.is_alive(), "a relay did not end"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError:  # the server is down: its client sees the connection end
                client.close()
                continue
            server.settimeout(None)
            thread = threading.Thread(target=self._connect, args=(client, server))
            with self._lock:
                self._open |= {client, server}
            self._relays.append(thread)
            thread.start()

    def _connect(self, client: socket.socket, server: socket.socket) -> None:
        down = threading.Thread(target=self.down.relay, args=(server, client))
        down.start()
        self.up.relay(client, server)
        down.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
