"""What takes the room: for each repository what its manifests need, what nobody else needs, and what would go.

The figures come from a garbage collection that removes nothing. So they agree with what one does, and no manifest is
read twice. What is held in memory is some numbers for each blob and each repository.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from registry.storage.base import Missing
from registry.storage.layout import upload
from registry.store import census, expiry, links
from registry.store.gc import Aborted, Collector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.oci.digest import Digest
    from registry.oci.names import RepositoryName
    from registry.storage.base import Blobs, Records
    from registry.store.accounts import Limit
    from registry.store.gc import Options, Watch
    from registry.store.retention import Verdict
    from registry.store.survey import Survey


@dataclass(slots=True)
class Holding:
    """What one repository has. Bytes are those of blobs, manifests among them.

    Attributes:
        repository: its name.
        tags: how many.
        manifests: how many, tagged or not.
        bytes_logical: of what its manifests need, each blob once.
        bytes_unique: of that, what no other repository's manifests need.
        bytes_freeable: what a collection would remove of the blobs that it links; None = not known.
        uploads: sessions that are not closed yet.
        bytes_uploading: what these take.
    """

    repository: RepositoryName
    tags: int = 0
    manifests: int = 0
    bytes_logical: int = 0
    bytes_unique: int = 0
    bytes_freeable: int | None = 0
    uploads: int = 0
    bytes_uploading: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether it is only what is left of one."""
        return not (self.manifests or self.bytes_freeable or self.uploads)


@dataclass(frozen=True, slots=True)
class Quota:
    """How much is stored under a limit (`store.accounts.Limit`), in bytes."""

    quota: str
    used: int
    limit: int


@dataclass(slots=True)
class Usage:
    """What a storage has.

    Attributes:
        holdings: of the repositories, in the order of their names.
        blobs: how many.
        bytes_stored: of the blobs, each once.
        bytes_needed: of those that some manifest needs, each once.
        bytes_young: of those that none needs, and that a collection would leave, as they are too young.
        bytes_freeable: of those that a collection would remove; None = not known, as it would be aborted.
        quotas: what is stored under the limits.
        problems: what is wrong with links and manifests.
    """

    holdings: list[Holding] = field(default_factory=list)
    blobs: int = 0
    bytes_stored: int = 0
    bytes_needed: int = 0
    bytes_young: int = 0
    bytes_freeable: int | None = None
    quotas: list[Quota] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def bytes_logical(self) -> int:
        return sum(one.bytes_logical for one in self.holdings)

    @property
    def bytes_shared(self) -> int:
        """What would be stored in addition, if repositories shared no blobs."""
        return self.bytes_logical - self.bytes_needed

    @property
    def bytes_uploading(self) -> int:
        return sum(one.bytes_uploading for one in self.holdings)


def take(blobs: Blobs, records: Records, options: Options, limits: Sequence[Limit], watch: Watch) -> Usage:
    """Look at a whole storage, and change nothing.

    Args:
        blobs: content.
        records: links.
        options: of the collection that says what would go; nothing goes.
        limits: those in effect.
        watch: is told how far it is.
    """
    inventory = _Inventory(blobs, watch)
    found = _collect(Collector(blobs, records, replace(options, dry_run=True), inventory))
    _look_at_uploads(blobs, records, inventory.holdings)
    for one in inventory.holdings.values():
        one.bytes_freeable = None if found.bytes_freeable is None else inventory.freeable(records, one.repository)
    holdings = [one for one in inventory.holdings.values() if not one.is_empty]
    found.holdings = sorted(holdings, key=lambda one: one.repository)
    found.blobs, found.bytes_stored = len(inventory.sizes), sum(inventory.sizes.values())
    found.bytes_needed = inventory.bytes_needed
    stored = census.count(blobs, records, limits)
    found.quotas = [Quota(limit.setting, size, limit.most) for limit, size in zip(limits, stored, strict=True)]
    return found


def _collect(collector: Collector) -> Usage:
    """What a collection that removes nothing tells of the whole storage."""
    try:
        report = collector.collect()
    except Aborted as reason:
        return Usage(problems=[*collector.report.problems, *str(reason).splitlines()])
    return Usage(bytes_young=report.bytes_young, bytes_freeable=report.bytes_freed, problems=report.problems)


class _Inventory:
    """`store.gc.Watch` that adds up.

    Attributes:
        sizes: of all blobs, in bytes.
        holdings: of the repositories.
    """

    def __init__(self, blobs: Blobs, watch: Watch) -> None:
        self._watch = watch
        self.sizes = {blob.digest: blob.size for blob in blobs.walk()}
        self.holdings: dict[RepositoryName, Holding] = {}
        self._only: dict[Digest, Holding | None] = {}  # what is needed, and the one that needs it; None = several do
        self._going: set[Digest] = set()

    @property
    def bytes_needed(self) -> int:
        return sum(self.sizes[digest] for digest in self._only)

    def surveyed(self, survey: Survey, needed: set[Digest]) -> None:
        one = self.holdings[survey.name] = Holding(survey.name, survey.tags, len(survey.manifests))
        for digest in needed & self.sizes.keys():
            size = self.sizes[digest]
            one.bytes_logical += size
            if digest not in self._only:
                self._only[digest] = one
                one.bytes_unique += size
            elif (other := self._only[digest]) is not None:
                self._only[digest] = None
                other.bytes_unique -= size

    def freeable(self, records: Records, repository: RepositoryName) -> int:
        """What a collection would remove of the blobs that a repository links."""
        if not self._going:
            return 0
        linked = {*links.layers(records, repository), *links.revisions(records, repository)}
        return sum(self.sizes[digest] for digest in linked & self._going)

    def blob_goes(self, digest: Digest) -> None:
        if digest in self.sizes:  # else it came meanwhile
            self._going.add(digest)

    def judged(self, repository: RepositoryName, verdict: Verdict) -> None:
        pass

    def begin(self, task: str, steps: int) -> None:
        self._watch.begin(task, steps)

    def advance(self) -> None:
        self._watch.advance()

    def manifest_goes(self, repository: RepositoryName, digest: Digest) -> None:
        pass

    def marked(self, blobs: int, eligible: int, manifests: int) -> None:
        pass


def _look_at_uploads(blobs: Blobs, records: Records, holdings: dict[RepositoryName, Holding]) -> None:
    for name, session in expiry.sessions(records):
        try:
            size = blobs.draft_size(upload(name, session))
        except Missing:
            continue
        one = holdings.setdefault(name, Holding(name))
        one.uploads += 1
        one.bytes_uploading += size
