"""A connection's socket, read and written by threads while the event loop looks away.

A large body costs the event loop a callback for each 64 KiB or so, and a copy of each. A thread that reads the socket
itself fills a megabyte, or sends a file without copying it, with the interpreter's lock given up. A peer that is slow
holds no thread: its turn ends when it pauses, and the event loop waits for it.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = 20  # ms that a thread waits for a peer that kept up so far
_SIP = 128 * 1024  # bytes read at a time from a peer that does not keep up
_TURN = 32 * 1024 * 1024  # bytes that one thread sends before others have a turn
_SLICE = 4 * 1024 * 1024  # bytes of one sendfile: it can be ended between two


class Descriptor:
    """A second descriptor of a connection's socket. It stays valid for a thread when the first is closed.

    Args:
        descriptor: of a connected stream socket in non-blocking mode.
        threads: where the blocking part runs.
    """

    def __init__(self, descriptor: int, threads: Executor) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = threads
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._users = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._closing = False
        self._kept_up = True
        self._has_ended = False  # the peer has sent its last byte, or is gone

    async def receive(self, most: int, take: Callable[[memoryview], T], end: bytes = b"") -> T | None:
        """Read as far as the peer sends without a pause, and understand it, in a thread.

        Args:
            most: bytes to read; all of them in memory at once, but none while the peer is waited for.
            take: makes something of the bytes that came. It may keep them.
            end: what the last bytes look like; a peer that has sent them is not waited for.

        Returns:
            What `take` makes of the bytes that came, some at least; None where the peer has ended.

        Raises:
            What `take` raises.
        """
        while not self._closing:
            received, taken = await self._in_thread(self._receive, most, take, end)
            if received or self._has_ended:
                return taken
            await self._ready(self._loop.add_reader, self._loop.remove_reader)
        return None

    async def send_file(self, head: bytes, file: int, offset: int, count: int) -> None:
        """Send some bytes, then a part of a file, without copying it through this process.

        Raises:
            ConnectionError: the peer is gone.
            EOFError: the file is shorter.
        """
        while head or count:
            rest, sent = await self._in_thread(self._send_file, head, file, offset, count)
            progress = sent or rest is not head
            head, offset, count = rest, offset + sent, count - sent
            if not progress:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)

    def close(self) -> None:
        """Let go of the socket, once nobody uses it any more."""
        self._closing = True
        for ready in self._waiting:
            _settle(ready)
        if not self._users:
            self._socket.close()

    # In a thread

    def _receive(self, most: int, take: Callable[[memoryview], T], end: bytes) -> tuple[int, T | None]:
        buffer = memoryview(bytearray(most if self._kept_up else min(most, _SIP)))
        filled = 0
        while filled < len(buffer):
            try:
                received = self._socket.recv_into(buffer[filled:])
            except BlockingIOError:
                last = buffer[max(0, filled - len(end)) : filled]
                if (last and end.endswith(last)) or not self._waits_for(select.POLLIN):
                    break
                continue
            except OSError:
                received = 0
            if not received:
                self._has_ended = True
                break
            filled += received
        self._kept_up = filled == len(buffer)
        if filled < len(buffer) // 2:
            buffer = memoryview(bytearray(buffer[:filled]))  # whoever keeps the bytes keeps no more than them
        return filled, take(buffer[:filled]) if filled else None

    def _send_file(self, head: bytes, file: int, offset: int, count: int) -> tuple[bytes, int]:
        sent = 0
        end = min(count, _TURN)
        while head or sent < end:
            try:
                if head:
                    head = head[self._socket.send(head, socket.MSG_MORE if count else 0) :]
                    continue
                part = os.sendfile(self._socket.fileno(), file, offset + sent, min(end - sent, _SLICE))
            except BlockingIOError:
                if not self._waits_for(select.POLLOUT):
                    break
                continue
            if not part:
                raise EOFError(f"the file ends {count - sent} bytes early")
            sent += part
        self._kept_up = sent == end
        return head, sent

    def _waits_for(self, event: int) -> bool:
        """Whether the peer, if it has kept up so far, goes on within a moment."""
        if self._closing or not self._kept_up:
            return False
        waiting = select.poll()
        waiting.register(self._socket, event)
        return bool(waiting.poll(_PATIENCE))

    # On the event loop

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """It runs to its end, also if nobody waits any more: only then is the socket let go."""
        if self._closing:
            raise ConnectionAbortedError
        self._users += 1
        job = asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))
        job.add_done_callback(self._has_run)
        return await asyncio.shield(job)

    def _has_run(self, job: asyncio.Future[T]) -> None:
        if not job.cancelled():
            job.exception()  # it counts as seen, also where nobody waits
        self._leave()

    async def _ready(self, add: Callable[..., object], remove: Callable[..., object]) -> None:
        """Wait until the socket can be used, or is closed here."""
        ready: asyncio.Future[None] = self._loop.create_future()
        self._users += 1
        self._waiting.add(ready)
        add(self._socket.fileno(), _settle, ready)
        try:
            await ready
        finally:
            remove(self._socket.fileno())
            self._waiting.discard(ready)
            self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if self._closing:
            self.close()


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
