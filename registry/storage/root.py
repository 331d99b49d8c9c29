"""A storage root on a POSIX filesystem: where keys are, how much room is left, and reading small files."""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from registry.oci.errors import Denied
from registry.storage import durable, layout
from registry.storage.base import Key, Missing
from registry.storage.warm import Warm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_SMALL = 4096  # bytes; a link, and most manifests, are read in one piece
_LEFTOVER = 24 * 3600  # seconds; no file takes so long to write, in any process that shares the root


class Filesystem:
    """A storage root: where keys are, and how much room is left.

    Args:
        root: directory of the whole storage (registry:2's `rootdirectory`).
        floor: bytes of free space below which new content is refused; 0 = no floor.
    """

    def __init__(self, root: Path, floor: int = 0) -> None:
        self.root = os.path.abspath(root)
        self.floor = floor
        self.temporary = self.path(layout.TEMPORARY)
        self.directories = durable.Directories(self.root)

    @cached_property
    def warm(self) -> Warm:
        """What of it is in memory; asked for once the root is there."""
        return Warm(self.root)

    def require_writable(self) -> None:
        """Make the root if it is missing, tidy up after a crash, and see that all of the tree takes writes.

        Raises:
            OSError: it does not; `filename` says where.
        """
        durable.make_directories(self.temporary)
        with suppress(OSError):  # the directory above may not be ours to read
            durable.sync_directory(os.path.dirname(self.root))
        durable.remove_older(self.temporary, _LEFTOVER)
        self.put_back(layout.V2)
        probe = f"{self.temporary}/{uuid.uuid4()}"
        durable.write_new(probe, b"")
        durable.remove_quietly(probe)
        for key in (layout.V2, layout.BLOBS, layout.REPOSITORIES):
            path = self.path(key)
            if not os.path.exists(path):
                continue
            if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            if os.stat(path).st_dev != os.stat(self.temporary).st_dev:  # nothing could be renamed into place
                raise OSError(errno.EXDEV, "it is on another filesystem than the directory itself", path)

    def require_there(self) -> None:
        """Raises OSError where the root is gone."""
        os.stat(self.root)

    def require_usable(self) -> None:
        """See that a block can be written, and that the floor holds; makes nothing that is missing.

        Raises:
            OSError: the root is gone, full, or takes no writes.
            Denied: there is less room than the floor.
        """
        self.require_room()
        probe = f"{self.temporary}/{uuid.uuid4()}"
        try:
            durable.write_new(probe, bytes(_SMALL))
        finally:
            durable.remove_quietly(probe)

    def holds_a_registry(self) -> bool:
        """Whether a registry was served from here before: ours, or registry:2."""
        return any(os.path.exists(self.path(key)) for key in (layout.VOLUME_ID, layout.V2))

    def volume_id(self) -> str:
        """Which volume this is; made, durably, where it has no name yet."""
        try:
            return read(self.path(layout.VOLUME_ID), 64).decode("ascii").strip()
        except Missing:
            name = str(uuid.uuid4())
            durable.write_atomically(self.directories, self.path(layout.VOLUME_ID), name.encode(), self.temporary)
            return name

    def secret(self, key: Key, make: Callable[[], bytes]) -> bytes:
        """A small file that its owner alone may read; made where it is missing. All that share the root get the same.

        Raises:
            OSError: it can be neither read nor made.
        """
        try:
            return read(self.path(key), _SMALL)
        except Missing:
            durable.write_once(self.directories, self.path(key), make(), self.temporary)
        return read(self.path(key), _SMALL)

    def put_back(self, key: Key) -> None:
        """Put back what a killed collection of garbage had in its hands of what is below `key`."""
        durable.put_back_all(self.directories, self.path(layout.in_trash(key)), self.path(key))

    def path(self, key: Key) -> str:
        return f"{self.root}/{key}"

    def room(self) -> tuple[int, int]:
        """Bytes that are free on the disk, and those that it has."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def require_room(self, wanted: int = 0) -> None:
        """Raises Denied where `wanted` more bytes would leave less room than the floor."""
        if not self.floor:
            return
        free, total = self.room()
        if free - wanted < self.floor:
            needed = f"{_mib(wanted)} more would leave" if wanted else "that is"
            raise Denied(
                f"the registry's disk is nearly full: {_mib(free)} of {_mib(total)} are free, {needed} less than the "
                f"floor of {_mib(self.floor)} (storage.filesystem.minfreespace); free some space, then push again",
                detail={"free": free, "total": total, "wanted": wanted, "floor": self.floor},
            )


def _mib(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB"


def read(path: str, limit: int) -> bytes:
    """All of a file. Raises Missing, also for one of more than `limit` bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        raise Missing(path) from None
    try:
        data = os.read(descriptor, _SMALL)
        if len(data) == _SMALL:
            size = os.fstat(descriptor).st_size
            if size > limit:
                raise Missing(path)
            while part := os.read(descriptor, size - len(data)):
                data += part
    except IsADirectoryError:
        raise Missing(path) from None
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise Missing(path)
    return data
