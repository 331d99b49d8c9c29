"""How much is stored and how much is being pushed, against limits: numbers in memory that all processes share.

They are an estimate that errs upwards: what `store.census` counted last, and all that pushes have added since it began.
Two processes never pass a limit together: each claims its room first, and then looks whether it is there.
"""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.oci.names import RepositoryName
    from registry.oci.patterns import RepositoryPattern

_NUMBER = 8  # bytes
_HEAD = 3
_BEGUN, _TOOK, _COLLECTION = range(_HEAD)


@dataclass(frozen=True, slots=True)
class Limit:
    """How much may be stored.

    Attributes:
        setting: the name of the setting that says so.
        most: bytes.
        repositories: whose content counts, each blob once, however many of them have it; None = all that is stored.
    """

    setting: str
    most: int
    repositories: tuple[RepositoryPattern, ...] | None = None

    def covers(self, repository: RepositoryName) -> bool:
        return self.repositories is None or any(pattern.matches(repository) for pattern in self.repositories)


@dataclass(frozen=True, slots=True)
class Count:
    """A census: when it began and how long it took (seconds, `time.monotonic`), and the last collection before it."""

    begun: float
    took: float
    collection: int


class Accounts:
    """What is stored and claimed for each limit.

    A process writes to its own row alone. Bytes that were added only grow; a census notes how many it began with.

    Args:
        limits: at least one.
        processes: that will serve, at most.
    """

    def __init__(self, limits: Sequence[Limit], processes: int = 1) -> None:
        self.limits = tuple(limits)
        size, rows = len(limits), len(limits) * processes
        shared = memoryview(mmap.mmap(-1, (_HEAD + size + 2 * rows) * _NUMBER)).cast("q")
        self._head, self._counted = shared[:_HEAD], shared[_HEAD : _HEAD + size]
        self._added, self._claimed = shared[_HEAD + size :][:rows], shared[_HEAD + size + rows :]
        self._own = 0

    def join(self, process: int) -> None:
        """Be the process of that number, from 0 on. What another one with it had claimed ended with it."""
        self._own = process * len(self.limits)
        for number in range(len(self.limits)):
            self._claimed[self._own + number] = 0

    def last(self) -> Count | None:
        """The last census; None before the first."""
        begun, took, collection = self._head
        return Count(begun / 1000, took / 1000, collection) if begun else None

    def added(self) -> list[int]:
        """Bytes that pushes ever added, for each limit; to be asked for before a census begins."""
        return [sum(self._added[number :: len(self.limits)]) for number in range(len(self.limits))]

    def set(self, stored: Sequence[int], added: Sequence[int], count: Count) -> None:
        """Take over what a census found. What was added while it went on counts in any case, so some of it twice."""
        for number in range(len(self.limits)):
            self._counted[number] = stored[number] - added[number]
        self._head[_TOOK], self._head[_COLLECTION] = round(count.took * 1000), count.collection
        self._head[_BEGUN] = max(1, round(count.begun * 1000))

    def used(self, number: int) -> int:
        """Bytes that are stored under the limit of that number."""
        return self._counted[number] + sum(self._added[number :: len(self.limits)])

    def claimed(self, number: int) -> int:
        """Bytes that are being pushed."""
        return sum(self._claimed[number :: len(self.limits)])

    @property
    def is_known(self) -> bool:
        """Whether there was a census."""
        return bool(self._head[_BEGUN])

    def is_over(self, number: int) -> bool:
        """Whether what is stored and claimed is more than the limit; never before the first census."""
        return self.is_known and self.used(number) + self.claimed(number) > self.limits[number].most

    def claim(self, number: int, size: int) -> None:
        """Claim more bytes, or fewer where it is negative."""
        self._claimed[self._own + number] += size

    def add(self, number: int, size: int) -> None:
        """Count bytes as stored."""
        self._added[self._own + number] += size


def now() -> float:
    """Of a clock that all processes share, in seconds."""
    return time.monotonic()
