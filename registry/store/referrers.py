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

_MANIFESTS_REMEMBERED = 500_000  # in memory, of all repositories, at about 200 bytes
_REPOSITORIES_REMEMBERED = 1000
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
        known = self._known(repository)
        with known.lock:
            known.refresh()
            return known.referrers(subject)

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
        self._loaded = False

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
        try:
            manifest = self._manifest(digest)
        except Missing:
            return False
        except ManifestInvalid:
            self._note(digest, None)
            return True
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
        try:
            if digest not in self._entries:
                self._entries[digest] = self._manifest(digest).referrer(digest)
            else:
                self._require_link(digest)
        except (Missing, ManifestInvalid):
            return None
        return self._entries[digest]

    def _require_link(self, digest: Digest) -> None:
        """Raises Missing where the repository has the manifest no more."""
        link = layout.revision_link(self._name, digest)
        if not self._records.read(link).strip():
            raise Missing(link)

    def _manifest(self, digest: Digest) -> Manifest:
        """Raises Missing, ManifestInvalid."""
        self._require_link(digest)
        return Manifest.parse(self._blobs.read(digest, MOST_BYTES))

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
