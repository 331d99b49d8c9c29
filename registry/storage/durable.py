"""The only place that changes the medium: every write, fsync, rename, unlink and utime of ours is here.

The order that all of it keeps: write bottom-up, delete top-down. A name is made only after what it names is durable:
temporary file -> fsync -> rename -> fsync of the directory, and of each directory above it that may be new.
`docs/storage-format.md` shows what a crash leaves behind after each step; `tests/crash` replays them all.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections import OrderedDict
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.oci.digest import Bytes

_WRITEV_MOST = 512  # parts in one call; the kernel's limit is 1024
_REMEMBERED = 4096  # directories whose entry is known to be durable
_NOT_OURS_TO_WRITE = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_ATTEMPTS = 8  # at publishing into a directory that others remove meanwhile


class Directories:
    """Makes directories whose names outlive a power cut.

    Finding a directory is not enough: the thread or process that made it may not have synced its parent yet. So each is
    synced once by every process that relies on it, and remembered.

    Args:
        root: the storage's root, which exists.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._durable: OrderedDict[str, None] = OrderedDict()
        self._lock = Lock()

    def make(self, path: str) -> None:
        """Make a directory and those above it, durably, down from the root."""
        if path == self._root or self._known(path):
            return
        parent = os.path.dirname(path)
        self.make(parent)
        with suppress(FileExistsError):
            os.mkdir(path)
        sync_directory(parent)
        self._remember(path)

    def forget(self, path: str) -> None:
        """Say that a directory was removed."""
        with self._lock:
            self._durable.pop(path, None)

    def distrust(self, path: str) -> None:
        """Say that a directory is not there any more, by another hand: who knows about those above it."""
        while path != self._root:
            self.forget(path)
            path = os.path.dirname(path)

    def _known(self, path: str) -> bool:
        with self._lock:
            if path not in self._durable:
                return False
            self._durable.move_to_end(path)
            return True

    def _remember(self, path: str) -> None:
        with self._lock:
            self._durable[path] = None
            if len(self._durable) > _REMEMBERED:
                self._durable.popitem(last=False)


def keep(directories: Directories, path: str) -> None:
    """Make a directory durably, again if it was removed since, by whatever hand."""
    if not os.path.isdir(path):
        directories.distrust(path)
    directories.make(path)


def make_directories(path: str) -> None:
    """Make a directory and those above it, not durably: for what a power cut may cost."""
    os.makedirs(path, exist_ok=True)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append(descriptor: int, batch: Sequence[Bytes]) -> None:
    """Write all parts at the file's position, however short the kernel's writes are."""
    parts = [memoryview(part) for part in batch if len(part)]
    while parts:
        written = os.writev(descriptor, parts[:_WRITEV_MOST])
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if written:
            parts[0] = parts[0][written:]


def truncate(descriptor: int, size: int) -> None:
    """Cut a file and go on writing at its new end."""
    os.ftruncate(descriptor, size)
    os.lseek(descriptor, size, os.SEEK_SET)


def sync(descriptor: int) -> None:
    """Make a file's bytes durable."""
    os.fsync(descriptor)


def write_new(path: str, data: bytes) -> None:
    """Make a file, not durably: its directory is private to an upload session, which a power cut may cost."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        append(descriptor, [data])
    finally:
        os.close(descriptor)


def replace(path: str, data: bytes, temporary: str) -> None:
    """Replace a file atomically, but not durably: after a power cut it is old, new, or empty.

    Raises:
        FileNotFoundError: its directory is gone.
    """
    part = f"{temporary}/{uuid.uuid4()}"
    descriptor = _create_temporary(part)
    try:
        append(descriptor, [data])
        os.rename(part, path)
    except OSError:
        remove_quietly(part)
        raise
    finally:
        os.close(descriptor)


def write_atomically(directories: Directories, path: str, data: bytes, temporary: str) -> None:
    """Replace a small file atomically and durably.

    Args:
        directories: of the same root.
        path: the file.
        data: all of its new content.
        temporary: a directory of the same filesystem for the file while it is written.
    """
    part = f"{temporary}/{uuid.uuid4()}"
    descriptor = _create_temporary(part)
    try:
        append(descriptor, [data])
        os.fsync(descriptor)
    except OSError:
        remove_quietly(part)
        raise
    finally:
        os.close(descriptor)
    try:
        publish(directories, part, path)
    except OSError:
        remove_quietly(part)
        raise


def write_once(directories: Directories, path: str, data: bytes, temporary: str) -> None:
    """Make a small file that its owner alone may read, durably, unless there is one: of several that try, one does.

    Args:
        directories: of the same root.
        path: the file.
        data: its content.
        temporary: a directory of the same filesystem, which is there.
    """
    part = f"{temporary}/{uuid.uuid4()}"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        append(descriptor, [data])
        os.fsync(descriptor)
        directories.make(os.path.dirname(path))
        with suppress(FileExistsError):
            _link(part, path)
        sync_directory(os.path.dirname(path))
    finally:
        os.close(descriptor)
        remove_quietly(part)


def create(path: str) -> int:
    """Make a file that is not there yet, and open it for reading and writing; not durably."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _create_temporary(path: str) -> int:
    try:
        return create(path)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        return create(path)


def publish(directories: Directories, source: str, path: str) -> None:
    """Rename a durable file to its visible name, and make that name durable.

    Others may remove empty directories on the way to `path` at any time (registry:2 does, when a tag is deleted while
    it is pushed), so a lost directory is made again, a bounded number of times.

    Raises:
        FileNotFoundError: `source` itself is gone.
    """
    parent = os.path.dirname(path)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            directories.make(parent)
            os.rename(source, path)
        except FileNotFoundError:
            if attempt == _ATTEMPTS or not os.path.exists(source):
                raise
            directories.distrust(parent)
        else:
            with suppress(FileNotFoundError):  # removed after us already, with its directory
                sync_directory(parent)
            return


def promise(path: str) -> os.stat_result:
    """Renew a lease: touch, then look. Missing at either step is missing (see `Blobs.promise`).

    A medium that we may not write to collects no garbage of ours either: there, looking is enough.

    Raises:
        FileNotFoundError: it is not there.
    """
    try:
        os.utime(path)
    except OSError as error:
        if error.errno not in _NOT_OURS_TO_WRITE:
            raise
    return os.stat(path)


def condemn(directories: Directories, path: str, trash: str, cutoff: float) -> os.stat_result | None:
    """Remove a file that was last touched before `cutoff`, unless it is promised or replaced meanwhile.

    `promise` touches and then looks; this looks, takes the file away and looks again. So of a promise and a removal at
    the same time one notices the other: either the touch is seen here and the file goes back, or the promise does not
    find it any more. Nothing is synced: after a power cut the file is at its place, in the trash, or gone, and nothing
    needs it.

    Args:
        directories: of the same root.
        path: the file.
        trash: its place in the trash, on the same filesystem. It gets a name of its own there each time: who puts
            back what he found must not, later, remove what another one has put there.
        cutoff: seconds since the epoch.

    Returns:
        What it was; None where it stays, or is not there.
    """
    try:
        if os.stat(path).st_mtime >= cutoff:
            return None
        trash = f"{trash}.{uuid.uuid4().hex}"
        _move(directories, path, trash)
        found = os.stat(trash)
    except (FileNotFoundError, NotADirectoryError):  # gone, or put back by a process that started
        return None
    if found.st_mtime >= cutoff:
        put_back(directories, trash, path)
        return None
    remove_quietly(trash)
    directories.forget(os.path.dirname(path))
    with suppress(OSError):  # something else is in it that is not ours to judge
        os.rmdir(os.path.dirname(path))
    return found


def _move(directories: Directories, source: str, target: str) -> None:
    """Rename into a directory that is durable: without it, a power cut might take the file from both places."""
    parent = os.path.dirname(target)
    directories.make(parent)
    try:
        os.rename(source, target)
    except FileNotFoundError:  # also where a process that starts has tidied the trash
        directories.distrust(parent)
        directories.make(parent)
        os.rename(source, target)


def put_back(directories: Directories, trash: str, path: str) -> None:
    """Give a condemned file its name again, durably, unless a newer file has it.

    The name in the trash goes last: a power cut may leave both, but never none.
    """
    parent = os.path.dirname(path)
    for _ in range(_ATTEMPTS):
        keep(directories, parent)
        try:
            _link(trash, path)
        except FileExistsError:
            break
        except FileNotFoundError:
            if not os.path.exists(trash):  # another process was quicker
                return
            continue  # the directory was removed meanwhile, as an empty one
        with suppress(FileNotFoundError):
            sync_directory(parent)
        break
    else:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), parent)
    remove_quietly(trash)


def _link(source: str, target: str) -> None:
    """Give a file a second name. Raises FileExistsError where there is one."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # No second names on this filesystem. A newer file that comes right now has the same content.
        if os.path.exists(target):
            raise FileExistsError(target) from None
        os.rename(source, target)


def put_back_all(directories: Directories, trash: str, place: str) -> None:
    """Put back what a killed collection had in its hands, whatever its age: the next one judges it again.

    By then its age may have passed the grace, or a power cut may have taken back the touch of a promise; both say
    nothing about whether it is needed. Beside a running collection this costs nothing but a file that stays until the
    next.
    """
    for directory, below, files in os.walk(trash, topdown=False):
        for name in files:
            stem = name.rpartition(".")[0].replace(",", "/")  # see `layout.condemned`
            put_back(directories, f"{directory}/{name}", f"{place}/{os.path.relpath(directory, trash)}/{stem}")
        for name in below:
            with suppress(OSError):
                os.rmdir(f"{directory}/{name}")


def touch(descriptor: int) -> None:
    """Begin the lease of a file that is about to be published."""
    os.utime(descriptor)


def remove(path: str) -> None:
    """Remove a name, durably. Raises FileNotFoundError."""
    os.unlink(path)
    with suppress(FileNotFoundError):  # its directory went with it, by another hand
        sync_directory(os.path.dirname(path))


def remove_quietly(path: str) -> None:
    """Remove a file that nothing names, if it is there."""
    with suppress(OSError):
        os.unlink(path)


def remove_older(directory: str, age: float) -> None:
    """Remove the files of a directory that were last written more than `age` seconds ago: leftovers of a crash."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # renamed into place by its writer
                if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime > age:
                    remove_quietly(entry.path)


def remove_tree(directories: Directories, path: str) -> None:
    """Remove a directory with all below it, as far as others do not write there meanwhile; not durably.

    Never fails on a name that is gone already, nor on a directory that is filled again.
    """
    try:
        entries = list(os.scandir(path))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(directories, entry.path)
        else:
            with suppress(FileNotFoundError):
                os.unlink(entry.path)
    directories.forget(path)
    with suppress(OSError):
        os.rmdir(path)
