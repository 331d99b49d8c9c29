"""Where blocking storage calls run: one hop to a thread for a whole store operation."""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from registry.oci.errors import StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Threads:
    """A bounded pool of threads.

    Args:
        most: threads at the same time; an operation above that waits for its turn.
    """

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, "store")

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function, without waiting. It runs to its end even if nobody waits any more."""
        return self._pool.submit(_translated(function), *args, **kwargs)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function and wait for it.

        Raises:
            StorageFull: it met a full disk or quota.
        """
        return await asyncio.wrap_future(self.start(function, *args, **kwargs))

    def close(self) -> None:
        """Wait for what runs, and end."""
        self._pool.shutdown()


def _translated(function: Callable[P, T]) -> Callable[P, T]:
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(f"the storage is full: {error.strerror}") from error
            raise

    return run
