"""The requests under way, in all processes that serve, and which pushes a server that is about to stop still takes."""

from __future__ import annotations

import mmap
import time
from enum import IntEnum
from typing import TYPE_CHECKING

from registry.oci.errors import Unavailable

if TYPE_CHECKING:
    from registry.oci.names import RepositoryName

_PUSH_GAP = 30_000  # milliseconds between two requests of one push, at most
_PUSHES_REMEMBERED = 1024
_RETRY_AFTER = 5  # seconds; by then another task of the service answers

_NUMBER = 8  # bytes
_ACTIVE, _SERVED, _ROW = 0, 1, 2
_NAME, _WHEN, _PUSH = 0, 1, 2


class Stage(IntEnum):
    """Of a server's life."""

    SERVING = 0
    DRAINING = 1
    """About to stop: what is under way goes on to its end."""
    STOPPING = 2
    """At once."""


class Traffic:
    """What the processes that serve one registry know of each other.

    It is in memory that they share from the fork on: a row of counts for each process, which no other one writes to,
    and the pushes of late, of which a new one may take an old one's place.

    A push is many requests, and docker gives up all of it when its config or manifest is refused. So what is let to its
    end is not a request, but the push: a repository that was pushed to just before goes on taking uploads.

    Args:
        processes: that will serve, at most.

    Attributes:
        process: the number of this one.
    """

    def __init__(self, processes: int = 1) -> None:
        self.process = 0
        numbers = 1 + _ROW * processes + _PUSH * _PUSHES_REMEMBERED
        shared = memoryview(mmap.mmap(-1, numbers * _NUMBER)).cast("q")
        self._stage, self._counts = shared[:1], shared[1 : 1 + _ROW * processes]
        self._pushes = shared[1 + _ROW * processes :]
        self._own = self._counts[:_ROW]

    def join(self, process: int) -> None:
        """Be the one of that number, from 0 on. What another one with it had under way ended with it."""
        self.process = process
        self._own = self._counts[_ROW * process : _ROW * (process + 1)]
        self._own[_ACTIVE] = 0

    @property
    def active(self) -> int:
        """Requests that are being answered."""
        return sum(self._counts[_ACTIVE::_ROW])

    @property
    def served(self) -> int:
        """Requests that were."""
        return sum(self._counts[_SERVED::_ROW])

    @property
    def stage(self) -> Stage:
        return Stage(self._stage[0])

    @stage.setter
    def stage(self, stage: Stage) -> None:
        self._stage[0] = stage

    def begin(self) -> None:
        """Count a request in."""
        self._own[_ACTIVE] += 1

    def end(self) -> None:
        """Count it out again."""
        self._own[_ACTIVE] -= 1
        self._own[_SERVED] += 1

    def admit(self, repository: RepositoryName) -> None:
        """Let an upload begin. Raises Unavailable when about to stop, unless it belongs to a push under way."""
        if self._stage[0] and not self._is_pushed_to(repository):
            raise stopping()

    def pushes(self, repository: RepositoryName) -> None:
        """Note a request that pushes to a repository."""
        at, name = _place(repository)
        self._pushes[at + _WHEN] = _milliseconds()
        self._pushes[at + _NAME] = name

    def _is_pushed_to(self, repository: RepositoryName) -> bool:
        at, name = _place(repository)
        return self._pushes[at + _NAME] == name and self._pushes[at + _WHEN] > _milliseconds() - _PUSH_GAP


def stopping() -> Unavailable:
    """What a client hears that comes too late."""
    return Unavailable("the registry is stopping: try again", headers={"Retry-After": str(_RETRY_AFTER)})


def _place(repository: RepositoryName) -> tuple[int, int]:
    """Where a push is noted, and by what: a hash that is the same in all processes, as they are forks of one."""
    name = hash(repository)
    return name % _PUSHES_REMEMBERED * _PUSH, name


def _milliseconds() -> int:
    """Of a clock that all processes share. Never 0: a place that is empty is not a push of late."""
    return time.monotonic_ns() // 1_000_000 + _PUSH_GAP
