"""Which manifests refer to which: read off the manifests of a repository, and remembered.

There is no index to keep in step, so none can be out of step: registry:2 may write and collect manifests between two
runs of ours. Each manifest is read once in its life; a note of it on disk (`layout.seen`) spares the next start from
reading it again. What is listed is checked against the revision link each time.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

from registry.oci.digest import ALGORITHMS, Digest
from registry.oci.errors import DigestInvalid, ManifestInvalid
from registry.oci.manifest import MOST_BYTES, Manifest
from registry.storage import layout
from registry.storage.base import Missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.oci.names import RepositoryName
    from registry.storage.base import Blobs, Records

_REMEMBERED = 500_000  # manifests of all repositories in memory, at about 200 bytes
_NOTED_AFTER = 64  # manifests read since the last note on disk


class Referrers:
    """The referrers of every repository."""

    def __init__(self, blobs: Blobs, records: Records) -> None:
        self._blobs = blobs
        self._records = records
        self._repositories: OrderedDict[RepositoryName, _Repository] = OrderedDict()
        self._lock = Lock()

    def of(self, repository: RepositoryName, subject: Digest) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject is `subject`, in the order of their digests. Blocks."""
        with self._lock:
            known = self._repositories.setdefault(repository, _Repository(self._blobs, self._records, repository))
            self._repositories.move_to_end(repository)
        with known.lock:
            known.refresh()
            found = known.referrers(subject)
        self._forget()
        return found

    def _forget(self) -> None:
        with self._lock:
            total = sum(len(known.seen) for known in self._repositories.values())
            while total > _REMEMBERED and len(self._repositories) > 1:
                _, oldest = self._repositories.popitem(last=False)
                total -= len(oldest.seen)


class _Repository:
    """What is known of one repository's manifests."""

    def __init__(self, blobs: Blobs, records: Records, name: RepositoryName) -> None:
        self.lock = Lock()
        self.seen: dict[Digest, Digest | None] = {}
        """Every manifest that was read, and its subject."""
        self._blobs = blobs
        self._records = records
        self._name = name
        self._by_subject: dict[Digest, set[Digest]] = {}
        self._entries: dict[Digest, dict[str, Any]] = {}
        self._versions: tuple[object, ...] = ()
        self._unread: set[Digest] = set()
        self._load()

    def refresh(self) -> None:
        """Read the manifests that came since the last time, and forget those that went."""
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

    def referrers(self, subject: Digest) -> list[dict[str, Any]]:
        found = (self._entry(digest) for digest in sorted(self._by_subject.get(subject, ())))
        return [entry for entry in found if entry is not None]

    def _revisions(self) -> Iterator[Digest]:
        for algorithm in ALGORITHMS:
            for name in self._records.list(layout.revisions(self._name, algorithm)):
                try:
                    yield Digest(f"{algorithm}:{name}")
                except DigestInvalid:
                    continue

    def _see(self, digest: Digest) -> bool:
        """Read a manifest; False if it is not there (deleted by registry:2, which leaves its directory)."""
        manifest = self._manifest(digest)
        if manifest is None:
            return False
        subject = manifest.subject.address if manifest.subject else None
        self._note(digest, subject)
        if subject:
            self._entries[digest] = manifest.referrer(digest)
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
        if not self._is_linked(digest):
            return None
        if digest not in self._entries:
            manifest = self._manifest(digest)
            if manifest is None:
                return None
            self._entries[digest] = manifest.referrer(digest)
        return self._entries[digest]

    def _is_linked(self, digest: Digest) -> bool:
        try:
            return bool(self._records.read(layout.revision_link(self._name, digest)).strip())
        except Missing:
            return False

    def _manifest(self, digest: Digest) -> Manifest | None:
        if not self._is_linked(digest):
            return None
        try:
            return Manifest.parse(self._blobs.read(digest, MOST_BYTES))
        except (Missing, ManifestInvalid):
            return None

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
        self._records.write(layout.seen(self._name), "\n".join(lines).encode())
