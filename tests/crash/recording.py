"""Every change that the storage makes to a disk, written down in order.

`Recorder` stands in for the `os` module in `registry.storage`: it does what is asked for, and keeps a log of it in
terms of inodes, so that `powercut` can build what a power cut would leave after any part of the log.
"""

# What stands in for `os` speaks as `os` does.
# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH112, PTH120

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

ROOT = 0
"""The inode of the storage's root directory."""


@dataclass(frozen=True)
class Made:
    """A name came into a directory: of a new file, of one that has another name, or of a new directory."""

    directory: int
    name: str
    inode: int
    is_directory: bool

    @property
    def directories(self) -> tuple[int, ...]:
        return (self.directory,)


@dataclass(frozen=True)
class Renamed:
    """A name moved, in one step, over one that may have been there."""

    source: int
    source_name: str
    directory: int
    name: str
    inode: int

    @property
    def directories(self) -> tuple[int, ...]:
        return (self.source, self.directory)


@dataclass(frozen=True)
class Removed:
    """A name went."""

    directory: int
    name: str
    inode: int

    @property
    def directories(self) -> tuple[int, ...]:
        return (self.directory,)


@dataclass(frozen=True)
class Written:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Cut:
    inode: int
    size: int


@dataclass(frozen=True)
class Synced:
    """`fsync` returned, of a file or a directory."""

    inode: int


@dataclass(frozen=True)
class Begun:
    """From here on these facts may be true: the client has asked for them."""

    facts: Mapping[object, object]


@dataclass(frozen=True)
class Acknowledged:
    """From here on these facts must be true: the client was told so."""

    facts: Mapping[object, object]


Naming = Made | Renamed | Removed
Change = Naming | Written | Cut | Synced | Begun | Acknowledged

_UNKNOWN = {
    *("chmod", "chown", "fchmod", "fchown", "removexattr", "setxattr"),
    *("copy_file_range", "fallocate", "posix_fallocate", "pwrite", "pwritev", "sendfile", "truncate", "write"),
    *("mkfifo", "mknod", "remove", "removedirs", "renames", "replace", "symlink"),
    *("fdatasync", "sync"),
}
"""Ways to change a disk that the storage does not use, so that the recorder need not know them."""


class Recorder:
    """The `os` module of the storage under `root`, with a log.

    Args:
        root: an empty directory.
        deaf_to: functions of `registry.storage.durable` whose fsync is not made: what a programmer may forget.
    """

    def __init__(self, root: str, deaf_to: frozenset[str] = frozenset()) -> None:
        self.log: list[Change] = []
        self.when_made: Callable[[Made], None] = lambda made: None
        """Called after a directory was made, before whoever made it goes on."""
        self._root = root
        self._deaf_to = deaf_to
        self._lock = threading.RLock()
        self._names: dict[int, dict[str, int]] = {ROOT: {}}
        self._open: dict[int, int] = {}
        self._last = ROOT

    def __getattr__(self, name: str) -> Any:
        assert name not in _UNKNOWN, f"the recorder has to learn os.{name} before the storage uses it"
        return getattr(os, name)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """In place of `os` in every module of the storage."""
        modules = [
            module
            for name, module in sys.modules.items()
            if name.startswith("registry.storage.") and getattr(module, "os", None) is os
        ]
        assert any(module.__name__ == "registry.storage.durable" for module in modules)
        patches = [patch.object(module, "os", self) for module in modules]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()

    # What the storage calls

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        with self._lock:
            place = self._find(path)
            descriptor = os.open(path, flags, mode)
            if place is not None:
                self._open[descriptor] = self._opened(*place, flags)
            return descriptor

    def _opened(self, directory: int, name: str, flags: int) -> int:
        inode = self._names[directory].get(name) if name else directory
        if inode is None:
            assert flags & os.O_CREAT
            inode = self._new(directory, name, is_directory=False)
        elif flags & os.O_TRUNC:
            self.log.append(Cut(inode, 0))
        return inode

    def close(self, descriptor: int) -> None:
        with self._lock:
            self._open.pop(descriptor, None)
            os.close(descriptor)

    def writev(self, descriptor: int, parts: list[Any]) -> int:
        with self._lock:
            offset = os.lseek(descriptor, 0, os.SEEK_CUR)
            written = os.writev(descriptor, parts)
            if descriptor in self._open:
                self.log.append(Written(self._open[descriptor], offset, b"".join(parts)[:written]))
            return written

    def ftruncate(self, descriptor: int, size: int) -> None:
        with self._lock:
            os.ftruncate(descriptor, size)
            if descriptor in self._open:
                self.log.append(Cut(self._open[descriptor], size))

    def fsync(self, descriptor: int) -> None:
        if _caller() in self._deaf_to:
            return
        with self._lock:
            os.fsync(descriptor)
            if descriptor in self._open:
                self.log.append(Synced(self._open[descriptor]))

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            os.rename(source, target)
            from_, to = self._find(source), self._find(target)
            assert from_ is not None
            assert to is not None
            inode = self._names[from_[0]].pop(from_[1])
            self._names[to[0]][to[1]] = inode
            self.log.append(Renamed(*from_, *to, inode))

    def link(self, source: str, target: str) -> None:
        with self._lock:
            os.link(source, target)
            from_, to = self._find(source), self._find(target)
            assert from_ is not None
            assert to is not None
            inode = self._names[from_[0]][from_[1]]
            self._names[to[0]][to[1]] = inode
            self.log.append(Made(*to, inode, is_directory=False))

    def unlink(self, path: str) -> None:
        with self._lock:
            os.unlink(path)
            self._remove(path)

    def rmdir(self, path: str) -> None:
        with self._lock:
            os.rmdir(path)
            self._remove(path)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        with self._lock:
            os.mkdir(path, mode)
            place = self._find(path)
            assert place is not None
            self._new(*place, is_directory=True)
            made = self.log[-1]
        assert isinstance(made, Made)
        self.when_made(made)

    def makedirs(self, path: str, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            self.makedirs(parent, mode, exist_ok=True)
        try:
            self.mkdir(path, mode)
        except FileExistsError:
            if not exist_ok or not os.path.isdir(path):
                raise

    # What it keeps

    def _find(self, path: str) -> tuple[int, str] | None:
        """The directory and the name in it; an empty name for the root itself; None outside."""
        if path == self._root:
            return ROOT, ""
        if not path.startswith(f"{self._root}/"):
            return None
        *above, name = path[len(self._root) + 1 :].split("/")
        inode = ROOT
        for part in above:
            found = self._names.get(inode, {}).get(part)
            if found is None:
                return inode, part  # the call itself will fail, or has failed
            inode = found
        return inode, name

    def _new(self, directory: int, name: str, *, is_directory: bool) -> int:
        self._last += 1
        self._names[directory][name] = self._last
        if is_directory:
            self._names[self._last] = {}
        self.log.append(Made(directory, name, self._last, is_directory))
        return self._last

    def _remove(self, path: str) -> None:
        place = self._find(path)
        assert place is not None
        self.log.append(Removed(*place, self._names[place[0]].pop(place[1])))


def _caller() -> str:
    """The function of `durable` that wants the fsync; for a directory, the one that wants its names durable."""
    frame = sys._getframe(2)
    if frame.f_code.co_name == "sync_directory" and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_name
