"""Hashing uploads: on another core than the one that writes them, and on from where the last request ended."""

from __future__ import annotations

import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock, Semaphore
from typing import TYPE_CHECKING

from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from registry.oci.digest import Bytes, Hasher
    from registry.storage.draft import Progress

_HASHERS_KEPT = 1024
_WORTH_A_THREAD = 256 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Hashing:
    """A batch that is being hashed."""

    _job: Future[None] | None

    def wait(self) -> None:
        """Return once it is: until then neither the batch nor the hasher may be touched."""
        if self._job is not None:
            self._job.result()


class Hashers:
    """Hashers of open sessions at their last checkpoint, so that the next chunk goes on from there.

    Only a shortcut of this process: a session that another process wrote to in between is hashed from its beginning.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, Hasher]] = OrderedDict()
        self._lock = Lock()
        helpers = max(1, len(os.sched_getaffinity(0)) - 1)
        self._helpers = ThreadPoolExecutor(helpers, "hashing")
        self._free = Semaphore(helpers)

    def update(self, hashed: Hasher, batch: Sequence[Bytes]) -> Hashing:
        """Hash a batch: in a thread of its own, beside what the caller does, or at once where none is free for it."""
        if sum(map(len, batch)) < _WORTH_A_THREAD or not self._free.acquire(blocking=False):
            _update(hashed, batch)
            return Hashing(None)
        job = self._helpers.submit(_update, hashed, batch)
        job.add_done_callback(lambda _: self._free.release())
        return Hashing(job)

    def keep(self, directory: str, size: int, hashed: Hasher) -> None:
        with self._lock:
            self._kept[directory] = (size, hashed.copy())
            self._kept.move_to_end(directory)
            if len(self._kept) > _HASHERS_KEPT:
                self._kept.popitem(last=False)

    def take(self, directory: str, progress: Progress) -> Hasher | None:
        """The hasher of exactly these bytes, if it is here."""
        with self._lock:
            size, hashed = self._kept.pop(directory, (0, None))
        if hashed is None or size != progress.size or Digest.from_hasher(hashed) != progress.digest:
            return None
        return hashed

    def drop(self, directory: str) -> None:
        with self._lock:
            self._kept.pop(directory, None)


def _update(hashed: Hasher, batch: Sequence[Bytes]) -> None:
    for part in batch:
        hashed.update(part)
