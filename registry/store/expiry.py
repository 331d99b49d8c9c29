"""Uploads that nobody goes on with: found, and removed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry.oci.errors import RegistryError
from registry.oci.names import RepositoryName, SessionId
from registry.storage import layout
from registry.store import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage.base import Blobs, Records

_UPLOADING = frozenset({layout.UPLOADS})


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An upload session that went, or would go; `size` in bytes."""

    repository: RepositoryName
    session: SessionId
    size: int


@dataclass(slots=True)
class Report:
    """What was found, and done; in a dry run, what would have been done."""

    dry_run: bool
    uploads: int = 0
    removed: list[Abandoned] = field(default_factory=list)

    @property
    def bytes_freed(self) -> int:
        return sum(one.size for one in self.removed)


def expire(blobs: Blobs, records: Records, cutoff: float, *, dry_run: bool = False) -> Report:
    """Remove upload sessions that were last written before `cutoff`, in seconds since the epoch.

    One that a client is writing to right now stays, however old it is. A client that comes back to one that went
    is told 404 BLOB_UPLOAD_UNKNOWN, and begins anew.
    """
    report = Report(dry_run)
    for name, session in sessions(records):
        report.uploads += 1
        size = blobs.expire(layout.upload(name, session), cutoff, dry_run=dry_run)
        if size is not None:
            report.removed.append(Abandoned(name, session, size))
    return report


def sessions(records: Records) -> Iterator[tuple[RepositoryName, SessionId]]:
    """The upload sessions of a storage: all that can be told apart from what somebody put there by hand."""
    for path in catalog.every(records, _UPLOADING):
        for session in records.list(layout.uploads(path)):
            try:
                yield RepositoryName(path), SessionId(session)
            except RegistryError:
                continue
