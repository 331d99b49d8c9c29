"""Opening and reading files without waiting: what is not in memory already is left to a thread.

A look at a link takes microseconds when the kernel has it in memory, and a hop to a thread a hundred. But nobody can
say beforehand whether a call will wait for a disk. Linux can: `openat2` with RESOLVE_CACHED (5.12) refuses where a name
on the way would have to be looked up, and `preadv2` with RWF_NOWAIT where bytes would have to be fetched. So the event
loop may ask, on filesystems of this machine; one of a file server asks its server at each open. Anywhere else, and on
a system without these calls, the answer is always `Cold`.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress

from registry.storage.base import Cold, Missing

_OPENAT2 = 437  # on every architecture
_AT_FDCWD = -100
_RESOLVE_CACHED = 0x20
_LOCAL = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})
_MOST = 256  # bytes
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR})


class _How(ctypes.Structure):
    """`struct open_how`."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_READ = _How(os.O_RDONLY | os.O_CLOEXEC, 0, _RESOLVE_CACHED)
_READ_POINTER = ctypes.byref(_READ)
_READ_SIZE = ctypes.sizeof(_How)

# The interpreter's lock is kept: the call does not wait, and giving the lock up costs more than the call.
_syscall = ctypes.PyDLL(None, use_errno=True).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long


class Warm:
    """Files of one filesystem that are in memory.

    Args:
        root: a directory on it.
    """

    def __init__(self, root: str) -> None:
        kind = _filesystem(root)
        self._is_local = kind in _LOCAL
        # What has no other place than memory does not know the flag, and needs none.
        self._flags = 0 if kind == "tmpfs" else os.RWF_NOWAIT

    def open(self, path: str) -> int:
        """A descriptor for reading a file whose name is in memory. Raises Missing, Cold."""
        if not self._is_local:
            raise Cold(path)
        descriptor: int = _syscall(_OPENAT2, _AT_FDCWD, path.encode(), _READ_POINTER, _READ_SIZE)
        if descriptor >= 0:
            return descriptor
        raise Missing(path) if ctypes.get_errno() in _NOTHING_THERE else Cold(path)

    def read(self, path: str) -> bytes:
        """All of a file that is no larger than a link, and in memory. Raises Missing, Cold."""
        descriptor = self.open(path)
        buffer = bytearray(_MOST + 1)
        try:
            length = os.preadv(descriptor, [buffer], 0, self._flags)
        except OSError:  # not in memory, or not to be known on this filesystem
            raise Cold(path) from None
        finally:
            os.close(descriptor)
        if length > _MOST:
            raise Cold(path)
        return bytes(buffer[:length])


def _filesystem(path: str) -> str:
    """The kind of filesystem that a path is on; "" where the system does not tell."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            fields = line.split()
            if fields[2] == wanted:
                return fields[fields.index("-") + 1]
    return ""
