"""Several processes that serve on one socket, so that more than one core works: a parent, and its forks.

The parent serves nothing. It waits for signals, starts a worker anew that was killed, and is told to stop for all of
them: what to do stands in memory that they share (`api.traffic`), so that a signal to the whole group does no harm.
Everything else that workers need to know of each other is on the volume.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger("registry.server")

_STOP = frozenset({signal.SIGTERM, signal.SIGINT})
_AWAITED = _STOP | {signal.SIGHUP, signal.SIGCHLD}
_STDIN = 0
_HAS_TERMINAL = os.isatty(_STDIN)
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
_SHORT_LIFE = 5.0  # seconds; a worker that ends sooner is not started anew at once
_PAUSE = 1.0  # seconds before it is


def supervise(count: int, work: Callable[[int], None], stop: Callable[[], None]) -> None:
    """Run `work(0)` to `work(count - 1)`, each in a process of its own, until they have all ended after a `stop`.

    Args:
        count: of processes.
        work: returns when the worker is to end. It begins with SIGHUP blocked, so that one that comes before it can
            deal with it waits.
        stop: called at each SIGTERM and SIGINT: tells the workers.
    """
    gc.freeze()  # what is there by now is shared, as long as nobody writes to it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    workers = {_start(number, work): (number, time.monotonic()) for number in range(count)}
    is_stopping = False
    while workers:
        number = signal.sigwait(_AWAITED)
        if number in _STOP or (number == signal.SIGHUP and is_hung_up()):
            is_stopping = True
            stop()
            continue
        if number == signal.SIGHUP:
            _pass_on(workers)
            continue
        for pid, status in _ended():
            worker, began = workers.pop(pid, (None, 0.0))
            if worker is None or is_stopping:
                continue
            log.error("worker %d ended: %s; starting another one", worker, _told(status))
            if time.monotonic() - began < _SHORT_LIFE:
                time.sleep(_PAUSE)
            workers[_start(worker, work)] = worker, time.monotonic()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(number: int, work: Callable[[int], None]) -> int:
    """The worker's pid, in the parent."""
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _work(number, work, parent)
    return pid


def _work(number: int, work: Callable[[int], None], parent: int) -> NoReturn:
    """In the worker. It ends here: what the parent's stack would still do is not its business."""
    status = 1
    try:
        _die_with(parent)
        for each in _STOP:
            signal.signal(each, signal.SIG_IGN)  # they are the parent's
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED - {signal.SIGHUP})
        work(number)
        status = 0
    except BaseException:
        log.exception("worker %d failed", number)
    finally:
        os._exit(status)


def _die_with(parent: int) -> None:
    """A parent that was killed leaves no worker behind, to serve beside the one that is started in its place."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _pass_on(workers: Iterable[int]) -> None:
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)


def is_hung_up() -> bool:
    """Whether the terminal is gone that this was started from."""
    return _HAS_TERMINAL and not os.isatty(_STDIN)


def _ended() -> list[tuple[int, int]]:
    """Children that have ended since, with their status."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not pid:
            return ended
        ended.append((pid, status))


def _told(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
