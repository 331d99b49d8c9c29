"""An htpasswd file that is read again when it changes, and never while anybody waits on the event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, TypeAlias

from registry.auth.htpasswd import Entries, parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("registry.auth")

_LOOK_EVERY = 1.0
_PATIENCE = 2.0  # seconds to wait for a filesystem that does not answer, before going on with what is known

_Signature: TypeAlias = tuple[int, ...]


class PasswordFile:
    """Users and their hashes.

    A file that vanished, cannot be read, or has a wrong line that it had not before keeps its last good content: a
    slip of an editor must not lock everybody out. A line of the log says so, once.

    Args:
        path: of the file.
        clock: seconds.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._seen: _Signature | None
        self._seen, data = _read(path)
        self._entries = parse(data)
        self._next_look = clock() + _LOOK_EVERY
        self._looking: asyncio.Task[None] | None = None
        self._complaint = ""
        for wrong in self._entries.wrong:
            log.warning("%s, line %d: %s", path, wrong.number, wrong.what)
        if not self._entries.users:
            log.warning("%s lets nobody in; add a user with: registry user add NAME", path)

    async def entries(self) -> Entries:
        """What the file says, or said about a second ago. Whoever finds it older than that waits for a look at it."""
        if self._clock() >= self._next_look:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
            await asyncio.wait({self._looking}, timeout=_PATIENCE)
        return self._entries

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(_read_if_changed, self.path, self._seen)
        except OSError as error:
            self._seen = None
            self._complain(f"cannot be read: {error.strerror}")
        else:
            if found is not None:
                self._seen = found[0]
                self._take(parse(found[1]))
        finally:
            self._next_look = self._clock() + _LOOK_EVERY
            self._looking = None

    def _take(self, entries: Entries) -> None:
        known = {wrong.line for wrong in self._entries.wrong}
        new = [wrong for wrong in entries.wrong if wrong.line not in known]
        if new:
            self._complain("; ".join(f"line {wrong.number}: {wrong.what}" for wrong in new))
            return
        self._entries = entries
        self._complaint = ""
        log.info("%s was read again: users: %d", self.path, len(entries.users))

    def _complain(self, what: str) -> None:
        if what != self._complaint:
            self._complaint = what
            log.error("%s: %s. Going on with the users of before, until it is mended", self.path, what)


def _read_if_changed(path: Path, seen: _Signature | None) -> tuple[_Signature, bytes] | None:
    return None if _signature(path.stat()) == seen else _read(path)


def _read(path: Path) -> tuple[_Signature, bytes]:
    """The content, and what the file looked like before: a write meanwhile is seen at the next look."""
    with path.open("rb") as file:
        return _signature(os.fstat(file.fileno())), file.read()


def _signature(found: os.stat_result) -> _Signature:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
