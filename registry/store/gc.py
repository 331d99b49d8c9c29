"""Garbage collection beside pushes: retire tags -> prune -> mark -> sweep, then the links of what is gone.

Why no acknowledged image loses anything, whoever pushes meanwhile:

- The run's beginning is a moment S; what was promised after S - grace is never removed (`Blobs.condemn`).
- A push of a manifest holds its repository's lock from its first promise to its last link. After S the collector
  takes and lets go every such lock once. So a push that promised before S has written its links by then, and they are
  read; any later push promises after S. The grace is for pushes whose manifest is still to come.
- Manifests are only deleted under the repository's lock held alone, after another look under it.
- Everything is read before anything is removed: a manifest that cannot be read may need any blob, so it ends the run.

Links of layers go after their blob, against the rule "a name goes before what it names". The other way round, a blob
could be promised to a client (HEAD) between the two and stay, without the link that makes it visible. A link to nothing
is harmless: every reader looks at the blob too. Whether it is still a link to nothing is decided under the
repository's lock, so that no push of a manifest relies on it meanwhile; and a blob that is pushed again right then
writes its link anew, which `Records.condemn` sees.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from registry.oci.errors import NameInvalid
from registry.oci.manifest import MOST_BYTES
from registry.oci.names import RepositoryName
from registry.storage import layout
from registry.storage.base import Missing
from registry.store import catalog, links, retiring
from registry.store.retention import KEEP_EVERYTHING
from registry.store.survey import Survey, Surveyor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from registry.oci.digest import Digest
    from registry.oci.names import Tag
    from registry.storage.base import Blobs, Key, Records
    from registry.store.retention import Retention, Verdict

Step = TypeVar("Step")

_HOLD = 0.5  # seconds for which pushes to a repository wait at a time
_PAUSE = 0.02  # seconds in which they get their turn
_NAMED = 20  # unreadable manifests that an aborted run names


class Aborted(Exception):
    """Nothing can be removed safely, or nothing more."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to collect.

    Attributes:
        grace: seconds for which a promise holds; at least twice `local.LEASE`, or that of the running servers.
        delete_untagged: also manifests that no tag keeps, not even as a part or a referrer of something.
        dry_run: only tell.
        retention: which tags stay, and for how long manifests without one; where it says nothing about these,
            `delete_untagged` counts.
    """

    grace: float
    delete_untagged: bool = False
    dry_run: bool = False
    retention: Retention = KEEP_EVERYTHING


@dataclass(slots=True)
class Report:
    """What a run found and did; in a dry run, what it would have done."""

    dry_run: bool
    repositories: int = 0
    tags_removed: int = 0
    manifests_read: int = 0
    manifests_removed: int = 0
    manifests_young: int = 0
    blobs_kept: int = 0
    bytes_kept: int = 0
    blobs_young: int = 0
    bytes_young: int = 0
    blobs_removed: int = 0
    bytes_freed: int = 0
    links_removed: int = 0
    seconds: float = 0
    problems: list[str] = field(default_factory=list)


class Watch(Protocol):
    """Who wants to see a run."""

    def begin(self, task: str, steps: int) -> None:
        """A task of so many steps begins."""

    def advance(self) -> None:
        """A step is done."""

    def judged(self, repository: RepositoryName, verdict: Verdict) -> None:
        """A tag goes; in a dry run, also: it stays, where a policy might have removed it."""

    def surveyed(self, survey: Survey, needed: set[Digest]) -> None:
        """A repository was read; its manifests, all of them, need these blobs, the manifests themselves among them."""

    def manifest_goes(self, repository: RepositoryName, digest: Digest) -> None: ...

    def blob_goes(self, digest: Digest) -> None: ...

    def marked(self, blobs: int, eligible: int, manifests: int) -> None:
        """So many blobs are needed, and so many blobs and manifests are not."""


def last_collection(records: Records) -> float:
    """When a collection of a storage ended, in seconds since the epoch; 0 = none did, as far as it is known."""
    try:
        return float(records.read(layout.LAST_COLLECTION))
    except (Missing, ValueError):
        return 0.0


class Collector:
    """One run over a storage.

    Args:
        blobs: content.
        records: links.
        options: what to collect.
        watch: is told what happens.
        clock: the time of the storage, in seconds since the epoch.
    """

    def __init__(
        self, blobs: Blobs, records: Records, options: Options, watch: Watch, clock: Callable[[], float] = time.time
    ) -> None:
        self._blobs = blobs
        self._records = records
        self._options = options
        self._watch = watch
        self._clock = clock
        self._started = clock()
        self._cutoff = self._started - options.grace
        self._surveyor = Surveyor(blobs, records)
        self._marked: set[Digest] = set()
        self._retired: dict[RepositoryName, set[Tag]] = {}  # in a dry run
        self.report = Report(options.dry_run)

    def collect(self) -> Report:
        """Do it.

        Raises:
            Aborted: it would not be safe; the report tells how far it got.
            Busy: another collector is at work on the storage.
        """
        if self._options.dry_run:
            return self._run()
        with self._records.exclusive_at_once(layout.COLLECTOR):
            self._blobs.restore()
            self._records.restore()
            self._wait_for_pushes()
            report = self._run()
            self._records.write(layout.LAST_COLLECTION, f"{self._clock():.0f}".encode("ascii"))
            return report

    def _run(self) -> Report:
        begun = time.monotonic()
        names = self._repositories()
        self._retire([name for name in names if self._options.retention.removes_tags(name)])
        self._read(names)
        pruned = [name for name in names if self._untagged_before(name) is not None]
        if pruned:
            for name in self._steps("untagged manifests", pruned):
                self._prune(name)
        present, candidates = self._sort(names)
        self._sweep(present, candidates)
        if not self._options.dry_run:
            self._remove_links(names, present)
        self.report.manifests_read = self._surveyor.manifests_read
        self.report.seconds = round(time.monotonic() - begun, 3)
        return self.report

    def _wait_for_pushes(self) -> None:
        """Until every push of a manifest that promised before the run began has written its links."""
        for name in self._records.list(layout.LOCKS):
            key = layout.lock_called(name)
            if key != layout.COLLECTOR:
                with self._records.exclusive(key):
                    pass

    # Retire

    def _retire(self, names: list[RepositoryName]) -> None:
        """Remove the tags that retention lets go."""
        if not names:
            return
        for name in self._steps("tags", names):
            tell = partial(self._watch.judged, name)
            if self._options.dry_run:
                gone = self._would_retire(name, tell)
            else:
                gone = retiring.retire(self._records, self._options.retention, name, self._started, tell)
            self.report.tags_removed += gone

    def _would_retire(self, name: RepositoryName, tell: Callable[[Verdict], None]) -> int:
        gone = self._retired[name] = set()
        for verdict in retiring.verdicts(self._records, self._options.retention, name, self._started):
            tell(verdict)
            if not verdict.stays:
                gone.add(verdict.tag.name)
        return len(gone)

    def _survey(self, name: RepositoryName) -> Survey:
        return self._surveyor.survey(name, without=self._retired.get(name, ()))

    # Mark

    def _repositories(self) -> list[RepositoryName]:
        names = []
        for path in catalog.every(self._records):
            try:
                names.append(RepositoryName(path))
            except NameInvalid:
                raise Aborted(
                    f"{layout.repository(path)} looks like a repository, but no repository can have this name, so "
                    "nobody knows what it keeps. Rename it, or move it out of the tree."
                ) from None
        self.report.repositories = len(names)
        return names

    def _read(self, names: list[RepositoryName]) -> None:
        """Read every manifest. Without pruning, all of them count."""
        unreadable: list[str] = []
        for name in self._steps("manifests", names):
            survey = self._surveyor.survey(name)
            unreadable += survey.unreadable
            self.report.problems += survey.problems
            needed = set(self._surveyor.needed(survey, {*survey.manifests, *survey.roots, *survey.revisions}))
            self._watch.surveyed(survey, needed)
            if self._untagged_before(name) is None:
                self._marked |= needed
        self.report.manifests_read = self._surveyor.manifests_read
        _require_readable(unreadable)

    def _mark(self, survey: Survey, manifests: Iterable[Digest]) -> None:
        self._marked.update(self._surveyor.needed(survey, manifests))

    # Prune

    def _untagged_before(self, name: RepositoryName) -> float | None:
        """Manifests that no tag keeps go if they are older, in seconds since the epoch; None: they stay."""
        age = self._options.retention.untagged(name)
        if age is not None:
            return min(self._cutoff, self._started - age)
        return self._cutoff if self._options.delete_untagged else None

    def _prune(self, name: RepositoryName) -> None:
        """Delete the manifests that nothing keeps, and mark the others."""
        survey = self._survey(name)
        kept, doomed = self._judge(survey)
        if self._options.dry_run:
            self._delete(name, doomed, lambda _: None)
        while doomed and not self._options.dry_run:
            with self._records.exclusive(layout.lock(name)):
                survey = self._survey(name)
                _require_readable(survey.unreadable)
                kept, doomed = self._judge(survey)
                doomed = self._delete(name, doomed, lambda each: links.remove_revision(self._records, name, each))
            time.sleep(_PAUSE if doomed else 0)
        self.report.manifests_young += len((kept & survey.revisions.keys()) - survey.reachable())
        self._mark(survey, kept)

    def _judge(self, survey: Survey) -> tuple[set[Digest], list[Digest]]:
        """What stays, and what goes, in the order in which to delete it."""
        cutoff = self._untagged_before(survey.name)
        young = [digest for digest, content in survey.revisions.items() if self._is_young(content, cutoff)]
        kept = survey.reachable(young)
        return kept, survey.parents_first(survey.revisions.keys() - kept)

    def _is_young(self, manifest: Digest, cutoff: float | None) -> bool:
        try:
            return cutoff is None or self._blobs.renewed(manifest) >= cutoff
        except Missing:
            return False

    def _delete(self, name: RepositoryName, doomed: list[Digest], remove: Callable[[Digest], None]) -> list[Digest]:
        """As many as there is time for; the rest is returned."""
        deadline = time.monotonic() + _HOLD
        for number, digest in enumerate(doomed, 1):
            self._watch.manifest_goes(name, digest)
            remove(digest)
            self.report.manifests_removed += 1
            if time.monotonic() > deadline and not self._options.dry_run:
                return doomed[number:]
        return []

    # Sweep

    def _sort(self, names: list[RepositoryName]) -> tuple[set[Digest], dict[Digest, int]]:
        """All blobs that there are, and the sizes of those that may go."""
        present: set[Digest] = set()
        candidates: dict[Digest, int] = {}
        for blob in self._blobs.walk():
            present.add(blob.digest)
            if blob.digest in self._marked:
                self.report.blobs_kept += 1
                self.report.bytes_kept += blob.size
            elif blob.renewed >= self._cutoff:
                self.report.blobs_young += 1
                self.report.bytes_young += blob.size
            else:
                candidates[blob.digest] = blob.size
        if present and not names:
            raise Aborted("there are blobs, but no repositories: this is a part of a tree, not a whole one")
        whole = [name for name in names if self._untagged_before(name) is None]
        if whole:
            self._spare_older_manifests(whole, candidates)
        return present, candidates

    def _spare_older_manifests(self, names: list[RepositoryName], candidates: dict[Digest, int]) -> None:
        """Keep the manifests that distribution up to 2.1 linked among the layers: they are served, so they count."""
        small = {digest for digest, size in candidates.items() if size <= MOST_BYTES}
        for name in names:
            layers = [digest for digest in links.layers(self._records, name) if digest in small]
            older = [digest for digest in layers if self._surveyor.is_manifest_among_layers(name, digest)]
            survey = self._surveyor.follow(name, older)
            _require_readable(survey.unreadable)
            self._mark(survey, survey.manifests)
        for digest in candidates.keys() & self._marked:
            self.report.blobs_kept += 1
            self.report.bytes_kept += candidates.pop(digest)

    def _sweep(self, present: set[Digest], candidates: dict[Digest, int]) -> None:
        self._watch.marked(self.report.blobs_kept, len(candidates), self.report.manifests_removed)
        for digest in self._steps("blobs", list(candidates)):
            freed: int | None = candidates[digest]
            if not self._options.dry_run:
                self._require_time_goes_on()
                freed = self._blobs.condemn(digest, self._cutoff)
            if freed is None:  # promised, or pushed again
                self.report.blobs_young += 1
                self.report.bytes_young += candidates[digest]
                continue
            present.discard(digest)
            self._watch.blob_goes(digest)
            self.report.blobs_removed += 1
            self.report.bytes_freed += freed

    def _require_time_goes_on(self) -> None:
        """A clock that was set back would make a promise of right now look like one of before the run."""
        if self._clock() < self._started:
            raise Aborted("the clock was set back while the collection ran; run it again")

    # The links of what is gone

    def _remove_links(self, names: list[RepositoryName], present: set[Digest]) -> None:
        """Also those that an earlier run did not get to, or that registry:2's collection left."""
        for name in self._steps("links", names):
            pending = [digest for digest in links.layers(self._records, name) if digest not in present]
            while pending:
                self._require_time_goes_on()
                deadline = time.monotonic() + _HOLD
                with self._records.exclusive(layout.lock(name)):
                    while pending:
                        link = layout.layer_link(name, pending.pop())
                        if self._leads_nowhere(link) and self._records.condemn(link, self._cutoff):
                            self.report.links_removed += 1
                        if time.monotonic() > deadline:
                            break
                time.sleep(_PAUSE if pending else 0)

    def _leads_nowhere(self, link: Key) -> bool:
        try:
            self._blobs.size(links.target(self._records, link))
        except Missing:
            return True
        return False

    def _steps(self, task: str, steps: list[Step]) -> Iterator[Step]:
        self._watch.begin(task, len(steps))
        for step in steps:
            yield step
            self._watch.advance()


def _require_readable(unreadable: list[str]) -> None:
    if not unreadable:
        return
    more = len(unreadable) - _NAMED
    raise Aborted(
        "\n".join(
            [
                "no blob was removed, because it is not known which ones these need:",
                *unreadable[:_NAMED],
                *([f"and {more} more"] if more > 0 else []),
                "Push the image again, which heals it, or delete the manifest; then collect again.",
            ]
        )
    )
