"""What is remembered of logins: what bcrypt said, who failed of late, what was logged. All of it is bounded."""

from __future__ import annotations

import ipaddress
import logging
import math
import mmap
import multiprocessing.synchronize  # not at its first use: root may have been given up by then
from collections import OrderedDict
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("registry.auth")

_MOST = 10_000  # entries
_PLACES = 16_384  # a failure needs a bcrypt, so no attacker fills them within the time that attempts count
_PLACE = 88  # bytes: a key, and ten times
_RIGHT = 24  # bytes: the first half of a mark, and a time
_PATIENCE = 0.05  # seconds


class Verdict(Enum):
    """What is known of a name with a password."""

    RIGHT = auto()
    RIGHT_BEFORE = auto()  # to be checked again, but nobody is guessing
    WRONG = auto()
    UNKNOWN = auto()


class Verdicts:
    """What bcrypt said of late, by marks: keyed hashes of name, password and line, which only we can make.

    What was right is known to all processes that are forked from the one that made this; what was wrong to each alone.
    """

    FRESH = 300.0
    KNOWN = 24 * 3600.0

    def __init__(self) -> None:
        shared = mmap.mmap(-1, _PLACES * _RIGHT)
        self._marks = memoryview(shared)
        self._times = memoryview(shared).cast("d")
        self._wrong: OrderedDict[bytes, float] = OrderedDict()

    def of(self, mark: bytes, now: float) -> Verdict:
        place = _right_place(mark)
        if self._marks[place : place + 16] == mark[:16]:
            since = self._times[place // 8 + 2]
            if now - since < self.FRESH:
                return Verdict.RIGHT
            if now - since < self.KNOWN:
                return Verdict.RIGHT_BEFORE
        if now - self._wrong.get(mark, -math.inf) < self.FRESH:
            return Verdict.WRONG
        return Verdict.UNKNOWN

    def note(self, mark: bytes, now: float, *, right: bool) -> None:
        if right:
            place = _right_place(mark)
            # Whoever looks in between finds a mark that nobody has, or one that has been right for ages.
            self._times[place // 8 + 2] = -math.inf
            self._marks[place : place + 16] = mark[:16]
            self._times[place // 8 + 2] = now
        else:
            self._wrong[mark] = now
            self._wrong.move_to_end(mark)
            if len(self._wrong) > _MOST:
                self._wrong.popitem(last=False)


def _right_place(mark: bytes) -> int:
    return int.from_bytes(mark[16:24], "little") % _PLACES * _RIGHT


class Failures:
    """Wrong passwords of late, by user and address. Attempts count from their begin, so that many at once count, too.

    The same wrong password again is not a guess, and is not counted: see `Verdict.WRONG`.

    All processes that are forked from the one that made this count together, in memory that they share: for each of
    many places the key that has it, and when its attempts began. A key takes the place that its hash names, from
    another one that may have it.
    """

    MOST = 10
    WINDOW = 60.0
    SLOWEST = 2.0

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _PLACES * _PLACE)
        self._keys = memoryview(self._shared).cast("Q")
        self._times = memoryview(self._shared).cast("d")
        self._lock = multiprocessing.get_context("fork").Lock()

    def begin(self, key: bytes, now: float) -> int:
        """Count an attempt. Answers the seconds to wait where there were too many, else 0.

        Args:
            key: a keyed hash.
            now: seconds of a clock that all processes share, above 0.
        """
        with self._alone():
            place = self._place(key)
            recent = self._recent(place, now)
            if len(recent) >= self.MOST:
                return max(1, math.ceil(recent[0] + self.WINDOW - now))
            self._write(place, [*recent, now])
        return 0

    def forgive(self, key: bytes, began: float) -> None:
        """Take an attempt back: it was right. The others stay, as another may have made them behind that address."""
        with self._alone():
            place = self._place(key)
            if began in (attempts := self._recent(place, began)):
                attempts.remove(began)
                self._write(place, attempts)

    def delay(self, key: bytes, now: float) -> float:
        """Seconds to let a wrong one wait: 0.1, 0.2, 0.4 and so on."""
        with self._alone():
            count = len(self._recent(self._place(key), now))
        return min(0.05 * 2.0**count, self.SLOWEST)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Microseconds. One that was killed in them keeps the lock; then nobody waits for it for long."""
        has_it = self._lock.acquire(timeout=_PATIENCE)
        try:
            yield
        finally:
            if has_it:
                self._lock.release()

    def _place(self, key: bytes) -> int:
        """Where a key's numbers begin; it is the key's from now on."""
        name = int.from_bytes(key[:8], "little") or 1
        place = name % _PLACES * (_PLACE // 8)
        if self._keys[place] != name:
            self._keys[place] = name
            self._write(place, [])
        return place

    def _recent(self, place: int, now: float) -> list[float]:
        began = self._times[place + 1 : place + 1 + self.MOST]
        return sorted(time for time in began if time and now - time < self.WINDOW)

    def _write(self, place: int, attempts: list[float]) -> None:
        for number in range(self.MOST):
            self._times[place + 1 + number] = attempts[number] if number < len(attempts) else 0.0


class Notes:
    """Lines of the log on logins that failed: so many a minute, then one that says how many were left out."""

    MOST = 30
    WINDOW = 60.0

    def __init__(self) -> None:
        self._began = -math.inf
        self._count = 0

    def note(self, user: bytes, address: str, reason: str, now: float) -> None:
        if now - self._began >= self.WINDOW:
            if self._count > self.MOST:
                log.warning("login failed: and %d more within a minute", self._count - self.MOST)
            self._began, self._count = now, 0
        self._count += 1
        if self._count <= self.MOST:
            shown = user[:64].decode("utf-8", "replace")
            log.warning("login failed: user=%r address=%s reason=%s", shown, address or "-", reason)


def network(address: str) -> str:
    """What counts as one address: of IPv6 the network, since one customer has all of it."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), 64), strict=False))
