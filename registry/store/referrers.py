"""Which manifests refer to which: read off the manifests of a repository, and remembered.

There is no index to keep in step, so none can be out of step: registry:2 may write and collect manifests between two
runs of ours. Each manifest is read once in its life; a note of it on disk (`layout.seen`) spares the next start from
reading it again. What is listed is checked against the revision link each time.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from registry.oci.digest import ALGORITHMS, Digest
from registry.oci.errors import DigestInvalid, ManifestInvalid
from registry.oci.manifest import MOST_BYTES, Manifest
from registry.storage import layout
from registry.storage.base import Missing
from registry.store.base import ReferrersPage
from registry.store.links import Links

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.oci.names import RepositoryName
    from registry.storage.base import Blobs, Records

_MANIFESTS_REMEMBERED = 500_000  # in memory, of all repositories, at about 200 bytes; more for referrers
_REPOSITORIES_REMEMBERED = 1000
_NOTED_AFTER = 64  # manifests read since the last note on disk
_SMALL = 8 * 1024  # bytes of a manifest whose descriptor, which has its annotations, is kept in memory
_FRAME = 200  # bytes of an index around its descriptors


class Referrers:
    """The referrers of every repository."""

    def __init__(self, blobs: Blobs, records: Records) -> None:
        self._blobs = blobs
        self._records = records
        self._repositories: OrderedDict[RepositoryName, _Repository] = OrderedDict()
        self._lock = Lock()

    def of(
        self, repository: RepositoryName, subject: Digest, kinds: frozenset[str], last: str, limit: int | None
    ) -> ReferrersPage:
        """As `store.base.Store.referrers`. Blocks."""
        known = self._known(repository)
        with known.lock:
            known.refresh()
            return _page(known.referrers(subject, last), kinds, limit)

    def _known(self, name: RepositoryName) -> _Repository:
        with self._lock:
            known = self._repositories.get(name)
            if known is None:
                known = self._repositories[name] = _Repository(self._blobs, self._records, name)
                self._forget()
            self._repositories.move_to_end(name)
            return known

    def _forget(self) -> None:
        """Let go of the repositories that were not asked for the longest."""
        total = sum(len(known.seen) for known in self._repositories.values())
        while len(self._repositories) > 1 and (
            total > _MANIFESTS_REMEMBERED or len(self._repositories) > _REPOSITORIES_REMEMBERED
        ):
            _, oldest = self._repositories.popitem(last=False)
            total -= len(oldest.seen)


def _page(entries: Iterator[dict[str, Any]], kinds: frozenset[str], limit: int | None) -> ReferrersPage:
    """As many as fit into one manifest, and into `limit`; but at least one where there is any."""
    found: list[dict[str, Any]] = []
    room = MOST_BYTES - _FRAME
    for entry in entries:
        if kinds and entry.get("artifactType") not in kinds:
            continue
        room -= len(json.dumps(entry, ensure_ascii=False).encode()) + 1
        if len(found) == limit or (room < 0 and found):
            return ReferrersPage(tuple(found), more=True)
        found.append(entry)
    return ReferrersPage(tuple(found))


class _Repository:
    """What is known of one repository's manifests."""

    def __init__(self, blobs: Blobs, records: Records, name: RepositoryName) -> None:
        self.lock = Lock()
        self.seen: dict[Digest, Digest | None] = {}
        """Every manifest that was read, and its subject."""
        self._blobs = blobs
        self._records = records
        self._links = Links(records.read)
        self._name = name
        self._by_subject: dict[Digest, set[Digest]] = {}
        self._entries: dict[Digest, dict[str, Any]] = {}
        self._versions: tuple[object, ...] = ()
        self._unread: set[Digest] = set()
        self._loaded = False

    def refresh(self) -> None:
        """Read the manifests that came since the last time, and forget those that went."""
        if not self._loaded:
            self._load()
            self._loaded = True
        versions = tuple(self._records.version(layout.revisions(self._name, algorithm)) for algorithm in ALGORITHMS)
        if versions != self._versions or not all(versions):
            present = set(self._revisions())
            for gone in self.seen.keys() - present:
                self._drop(gone)
            self._unread = present - self.seen.keys()
            self._versions = versions
        read = [digest for digest in self._unread if self._see(digest)]
        self._unread.difference_update(read)
        if len(read) >= _NOTED_AFTER:
            self._save()

    def referrers(self, subject: Digest, last: str) -> Iterator[dict[str, Any]]:
        """Descriptors of what refers to `subject`, after `last`, by digest; each is read when it is asked for."""
        for digest in sorted(self._by_subject.get(subject, ())):
            if digest > last and (entry := self._entry(digest)) is not None:
                yield entry

    def _revisions(self) -> Iterator[Digest]:
        for algorithm in ALGORITHMS:
            for name in self._records.list(layout.revisions(self._name, algorithm)):
                try:
                    yield Digest(f"{algorithm}:{name}")
                except DigestInvalid:
                    continue

    def _see(self, digest: Digest) -> bool:
        """Read a manifest; False if it is not there whole.

        registry:2 leaves the directory of one that it deleted, and a power cut may have left some of its bytes: either
        may be pushed again.
        """
        try:
            self._links.target(layout.revision_link(self._name, digest))
            data = self._blobs.read(digest, MOST_BYTES)
        except Missing:
            return False
        if Digest.of(data, digest.algorithm) != digest:
            return False
        try:
            manifest = Manifest.parse(data)
        except ManifestInvalid:  # of a kind that registry:2 took and that refers to nothing, such as schema 1
            self._note(digest, None)
            return True
        self._note(digest, manifest.subject.address if manifest.subject else None)
        if manifest.subject:
            self._descriptor(digest, manifest)
        return True

    def _note(self, digest: Digest, subject: Digest | None) -> None:
        self.seen[digest] = subject
        if subject:
            self._by_subject.setdefault(subject, set()).add(digest)

    def _drop(self, digest: Digest) -> None:
        subject = self.seen.pop(digest)
        self._entries.pop(digest, None)
        if subject:
            self._by_subject[subject].discard(digest)

    def _entry(self, digest: Digest) -> dict[str, Any] | None:
        """The descriptor of a manifest; None where the repository has it no more."""
        try:
            self._links.target(layout.revision_link(self._name, digest))
            if digest in self._entries:
                return self._entries[digest]
            manifest = Manifest.parse(self._blobs.read(digest, MOST_BYTES))
        except (Missing, ManifestInvalid):
            return None
        return self._descriptor(digest, manifest)

    def _descriptor(self, digest: Digest, manifest: Manifest) -> dict[str, Any]:
        entry = manifest.referrer(digest)
        if len(manifest.data) <= _SMALL:
            self._entries[digest] = entry
        return entry

    def _load(self) -> None:
        try:
            lines = self._records.read(layout.seen(self._name)).decode("ascii").splitlines()
            for line in lines:
                digest, _, subject = line.partition(" ")
                self._note(Digest(digest), Digest(subject) if subject else None)
        except (Missing, UnicodeDecodeError, DigestInvalid):
            return

    def _save(self) -> None:
        lines = [f"{digest} {subject}" if subject else digest for digest, subject in self.seen.items()]
        with suppress(OSError):  # a full or read-only disk costs the next start some reading, and this answer nothing
            self._records.write(layout.seen(self._name), "\n".join(lines).encode())
