"""What a tree of processes has cost, read from /proc, and jobs that cannot outlive their time."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_TICK = os.sysconf("SC_CLK_TCK")
_FORK = multiprocessing.get_context("fork")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def tree(pid: int) -> list[int]:
    """The process and all below it that still run; empty where it does not."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        if _stat(each):
            found.append(each)
        waiting += children.get(each, [])
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on: the name before it may hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree, and of its children that have ended."""
    ticks = 0
    for each in tree(pid):
        if fields := _stat(each):
            ticks += sum(map(int, fields[11:15] if each == pid else fields[11:13]))
    return ticks / _TICK


def memory_mib(pid: int, field: str = "VmHWM") -> float:
    """Resident memory of the tree: its peak (VmHWM) or what it is now (VmRSS). Shared pages count in each process."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/status").read_text().splitlines():
                if line.startswith(field + ":"):
                    total += int(line.split()[1])
    return total / 1024


def forget_peak(pid: int) -> None:
    """Let VmHWM start again from what is resident now, so that each row has a peak of its own."""
    for each in tree(pid):
        with contextlib.suppress(OSError):
            Path(f"/proc/{each}/clear_refs").write_text("5")


@dataclass
class Meter:
    """Wall clock, and CPU of the server and of this client, over a `with` block."""

    pid: int | None
    seconds: float = 0.0
    cpu: float | None = None
    client_cpu: float = 0.0

    def __enter__(self) -> Self:
        self._server = cpu_seconds(self.pid) if self.pid else 0.0
        self._client = sum(os.times()[:4])
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self.client_cpu = sum(os.times()[:4]) - self._client
        if self.pid:
            self.cpu = cpu_seconds(self.pid) - self._server


class Job:
    """A function in a process of its own; its result, or its exception, comes back through a pipe."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, leads: bool = False) -> None:
        """`leads`: the process is the head of a group, which ends with it; what it starts stays in that group."""
        self._leads = leads
        self._receiver, sender = _FORK.Pipe(duplex=False)
        self._process = _FORK.Process(target=_run, args=(sender, os.getpid(), leads, function, arguments))
        self._process.start()
        sender.close()

    def result(self, seconds: float | None = None) -> Any:
        """Wait for it.

        Raises:
            TimeoutError: it took longer; it is killed, with its group.
            RuntimeError: it failed; the text says how.
        """
        try:
            if not self._receiver.poll(seconds):
                raise TimeoutError(f"took longer than {seconds:g} s")
            outcome, value = self._receiver.recv()
        except EOFError:
            raise RuntimeError("the client process ended without a word") from None
        finally:
            self.kill()
        if outcome == "failed":
            raise RuntimeError(value)
        if outcome == "missing":
            raise NotImplementedError(value)
        return value

    def kill(self) -> None:
        pid = self._process.pid
        with contextlib.suppress(ProcessLookupError):
            if self._leads and os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
        self._process.join()
        self._receiver.close()


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the one that started it is gone, however it went."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _run(sender: Any, parent: int, leads: bool, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:  # noqa: FBT001
    die_with(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN if leads else signal.SIG_DFL)
    if leads:
        os.setpgid(0, 0)
    try:
        outcome = ("done", function(*arguments))
    except NotImplementedError as error:
        outcome = ("missing", str(error))
    except Exception as error:
        outcome = ("failed", f"{type(error).__name__}: {error}")
    sender.send(outcome)
    if leads:
        # Stay the head of the group until the result is read: a group without its head cannot be told from a stranger.
        time.sleep(60)
