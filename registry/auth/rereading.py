"""A file that is read again when it changes, and never while anybody waits on the event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("registry.auth")

_LOOK_EVERY = 1.0
_PATIENCE = 2.0  # seconds to wait for a filesystem that does not answer, before going on with what is known

_Signature: TypeAlias = tuple[int, ...]


class RereadFile:
    """A file whose last good content counts.

    One that vanished, cannot be read, or became wrong changes nothing: a slip of an editor must not lock everybody out.
    A line of the log says so, once.

    Args:
        path: of the file.
        clock: seconds.

    Raises:
        OSError: it cannot be read.
    """

    keeps = "content"
    """What it goes on with, for the log."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._seen: _Signature | None
        self._seen, data = _read(path)
        self._begin(data)
        self._next_look = clock() + _LOOK_EVERY
        self._looking: asyncio.Task[None] | None = None
        self._complaint = ""

    def _begin(self, data: bytes) -> None:
        """Take the first content."""
        raise NotImplementedError

    def _take(self, data: bytes) -> str:
        """Take a new content, or answer what is wrong with it."""
        raise NotImplementedError

    async def look(self) -> None:
        """Take what the file says, or said about a second ago. Whoever finds it older than that waits for a look."""
        if self._clock() >= self._next_look:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
            await asyncio.wait({self._looking}, timeout=_PATIENCE)

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(_read_if_changed, self.path, self._seen)
        except OSError as error:
            self._seen = None
            self._complain(f"cannot be read: {error.strerror}")
        else:
            if found is not None:
                self._seen = found[0]
                if what := self._take(found[1]):
                    self._complain(what)
                else:
                    self._complaint = ""
        finally:
            self._next_look = self._clock() + _LOOK_EVERY
            self._looking = None

    def _complain(self, what: str) -> None:
        if what != self._complaint:
            self._complaint = what
            log.error("%s: %s. Going on with the %s of before, until it is mended", self.path, what, self.keeps)


def _read_if_changed(path: Path, seen: _Signature | None) -> tuple[_Signature, bytes] | None:
    return None if _signature(path.stat()) == seen else _read(path)


def _read(path: Path) -> tuple[_Signature, bytes]:
    """The content, and what the file looked like before: a write meanwhile is seen at the next look."""
    with path.open("rb") as file:
        return _signature(os.fstat(file.fileno())), file.read()


def _signature(found: os.stat_result) -> _Signature:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
