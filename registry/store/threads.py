"""Where blocking storage calls run: one hop to a thread for a whole store operation."""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from registry.oci.errors import StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class Closable(Protocol):
    """Something that is held until it is closed."""

    def close(self) -> None: ...


Opened = TypeVar("Opened", bound=Closable)

_TOGETHER = 32  # looks in one hop: one that meets a cold disk holds up no more than these
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Threads:
    """A bounded pool of threads.

    Args:
        most: threads at the same time; an operation above that waits for its turn.
    """

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, "store")
        self._asked: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function, without waiting. It runs to its end even if nobody waits any more."""
        return self._pool.submit(_translated(function), *args, **kwargs)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function and wait for it.

        Raises:
            StorageFull: it met a full disk or quota.
        """
        return await asyncio.wrap_future(self.start(function, *args, **kwargs))

    async def open(self, function: Callable[P, Opened], *args: P.args, **kwargs: P.kwargs) -> Opened:
        """Like `run`; what it opened is closed again where the caller was cancelled meanwhile."""
        opening = self.start(function, *args, **kwargs)
        try:
            return await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    async def look(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `run`, for what takes microseconds unless the medium is cold.

        All that is asked for in one turn of the event loop goes to a thread together: a hop costs more than a look.
        """
        asked: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._asked:
            asked.get_loop().call_soon(self._send_off)
        self._asked.append((asked, partial(function, *args, **kwargs)))
        return await asked

    def _send_off(self) -> None:
        everything, self._asked = self._asked, []
        for first in range(0, len(everything), _TOGETHER):
            self._pool.submit(_look_all, everything[first : first + _TOGETHER])

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be the threads of an event loop's own blocking calls, too: of reading files, and `asyncio.to_thread`."""
        loop.set_default_executor(self._pool)

    def close(self) -> None:
        """Wait for what runs, and end."""
        self._pool.shutdown()


def _close(opened: Future[Opened]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()


def _look_all(asked: list[tuple[asyncio.Future[Any], Callable[[], Any]]]) -> None:
    """In a thread: call them all, and give back all that they return or raise in one go."""
    found: list[tuple[asyncio.Future[Any], Any, Exception | None]] = []
    for future, function in asked:
        try:
            found.append((future, function(), None))
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            found.append((future, None, error))
    with suppress(RuntimeError):  # the event loop has ended, and nobody waits
        asked[0][0].get_loop().call_soon_threadsafe(_settle, found)


def _settle(found: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    for future, value, error in found:
        if future.done():  # cancelled
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


def _translated(function: Callable[P, T]) -> Callable[P, T]:
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(f"the storage is full: {error.strerror}") from error
            raise

    return run
