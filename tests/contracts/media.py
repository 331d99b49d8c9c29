"""The media that the contracts of `registry/storage/base.py` are held against."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from registry.oci.digest import Digest
from registry.storage import layout
from registry.storage.base import Blobs, Key, Records
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.memory import MemoryBlobs, MemoryRecords
from registry.storage.root import Filesystem


@dataclass(frozen=True)
class Medium:
    """One implementation, empty.

    Attributes:
        blobs: content.
        records: names.
        other_blobs: the same content as another process has it; in memory there is no other.
        other_records: the same.
        damage: put other bytes in place of a blob's, as a broken disk would.
        renew: set the time of a blob's lease.
        date: set the time when a record was written.
    """

    blobs: Blobs
    records: Records
    other_blobs: Callable[[], Blobs]
    other_records: Callable[[], Records]
    damage: Callable[[Digest, bytes], None]
    renew: Callable[[Digest, float], None]
    date: Callable[[Key, float], None]


def filesystem(root: Path) -> Medium:
    def opened() -> Filesystem:
        files = Filesystem(root)
        files.require_writable()
        return files

    def damage(digest: Digest, data: bytes) -> None:
        (root / layout.blob(digest)).write_bytes(data)

    return Medium(
        FilesystemBlobs(opened()),
        FilesystemRecords(opened()),
        lambda: FilesystemBlobs(opened()),
        lambda: FilesystemRecords(opened()),
        damage,
        lambda digest, when: os.utime(root / layout.blob(digest), (when, when)),
        lambda key, when: os.utime(root / key, (when, when)),
    )


def memory() -> Medium:
    blobs, records = MemoryBlobs(), MemoryRecords()
    return Medium(
        blobs,
        records,
        lambda: blobs,
        lambda: records,
        blobs._blobs.__setitem__,
        blobs._renewed.__setitem__,
        records._written.__setitem__,
    )
