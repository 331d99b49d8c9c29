"""What a repository holds at one moment: its manifests, what they reference, and what keeps them.

For garbage collection, so every doubt is decided in favour of keeping: a torn link still tells by its place what it
named, and that stays for a repair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid
from registry.oci.manifest import MOST_BYTES
from registry.oci.references import References, references
from registry.storage import layout
from registry.storage.base import Missing, first_bytes
from registry.store import links

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from registry.oci.names import RepositoryName, Tag
    from registry.storage.base import Blobs, Records


class Unreadable(Exception):
    """The data of a manifest is there, but it is not what was pushed, or no manifest at all."""


@dataclass(slots=True)
class Survey:
    """A repository as its links and manifests say.

    Attributes:
        name: the repository.
        revisions: its manifests by digest, and where the content of each is.
        roots: what its tags name, and what torn links named.
        tags: how many it has.
        manifests: what was read: the revisions, the roots, and older manifests that are linked among the layers.
        problems: links that name nothing or lead nowhere, for the report.
        unreadable: manifests that may reference anything, so that nothing can be removed safely.
    """

    name: RepositoryName
    revisions: dict[Digest, Digest] = field(default_factory=dict)
    roots: set[Digest] = field(default_factory=set)
    tags: int = 0
    manifests: dict[Digest, References] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def reachable(self, others: Iterable[Digest] = ()) -> set[Digest]:
        """All that the tags, and `others`, keep: what they reference, and what refers to that, and so on."""
        referrers: dict[Digest, list[Digest]] = {}
        for digest, found in self.manifests.items():
            if found.subject is not None:
                referrers.setdefault(found.subject, []).append(digest)
        kept: set[Digest] = set()
        pending = [*self.roots, *others]
        while pending:
            digest = pending.pop()
            if digest in kept:
                continue
            kept.add(digest)
            pending += referrers.get(digest, ())
            if digest in self.manifests:
                pending += self.manifests[digest].all
        return kept

    def parents_first(self, digests: Iterable[Digest]) -> list[Digest]:
        """In the order to delete them in: a crash in between must not leave an index without its children."""
        chosen = dict.fromkeys(digests)
        below_last: dict[Digest, None] = {}
        pending = [(digest, False) for digest in chosen]
        while pending:
            digest, is_done = pending.pop()
            if is_done:
                below_last[digest] = None
            elif chosen.pop(digest, digest) is None:  # not yet seen
                pending.append((digest, True))
                children = self.manifests[digest].all if digest in self.manifests else ()
                pending += ((child, False) for child in children if child in chosen)
        return list(reversed(below_last))


class Surveyor:
    """Looks at repositories. Reads each manifest once, however many repositories have it."""

    def __init__(self, blobs: Blobs, records: Records) -> None:
        self._blobs = blobs
        self._records = records
        self._read: dict[Digest, References] = {}
        self._same: dict[Digest, Digest] = {}

    @property
    def manifests_read(self) -> int:
        return len(self._read)

    def survey(self, name: RepositoryName, without: Container[Tag] = ()) -> Survey:
        """Look at one repository, as it will be without some of its tags."""
        found = Survey(name)
        torn = set(self._links(found))
        self._tags(found, without)
        found.roots |= torn
        self._follow(found, [*found.revisions, *found.roots], torn)
        return found

    def needed(self, survey: Survey, kept: Iterable[Digest]) -> Iterator[Digest]:
        """The blobs, manifests among them, that some manifests of a repository need."""
        for manifest in kept:
            yield from self._addresses(survey.name, manifest)
            read = survey.manifests.get(manifest)
            if read is None:
                continue
            for digest in read.all:
                yield from self._addresses(survey.name, digest)
            if read.is_schema_1:
                yield from links.signatures(self._records, survey.name, manifest)

    def _addresses(self, name: RepositoryName, digest: Digest) -> Iterator[Digest]:
        """Where the content of a digest may be: registry:2 links a sha512 to the sha256 of the same bytes."""
        yield digest
        if digest.algorithm == "sha256":
            return
        for link in layout.layer_link(name, digest), layout.revision_link(name, digest):
            try:
                yield links.target(self._records, link)
            except Missing:
                continue

    def follow(self, name: RepositoryName, digests: Iterable[Digest]) -> Survey:
        """Read manifests that no revision link names, and those among the layers that they list."""
        found = Survey(name)
        self._follow(found, list(digests), set())
        return found

    def is_manifest_among_layers(self, name: RepositoryName, digest: Digest) -> bool:
        """Whether a blob of the repository is a manifest, as distribution up to 2.1 linked them."""
        try:
            target = links.target(self._records, layout.layer_link(name, digest))
            if self._blobs.size(target) > MOST_BYTES or first_bytes(self._blobs.open(target), 1) != b"{":
                return False
            return references(self._blobs.read(target, MOST_BYTES)).declared
        except (Missing, ManifestInvalid):
            return False

    def _links(self, found: Survey) -> Iterator[Digest]:
        """Notes the revisions; gives those whose link is torn."""
        for digest in links.revisions(self._records, found.name):
            try:
                target = links.target(self._records, layout.revision_link(found.name, digest))
            except links.Torn:
                found.problems.append(f"{found.name}: the link of the manifest {digest} is torn; its content is kept")
                yield digest
            except Missing:  # registry:2 leaves the directory of what it deletes
                continue
            else:
                found.revisions[digest] = target

    def _tags(self, found: Survey, without: Container[Tag]) -> None:
        for tag in links.tags(self._records, found.name):
            if tag in without:
                continue
            try:
                found.roots.add(links.target(self._records, layout.tag_link(found.name, tag)))
            except links.Torn:
                found.problems.append(f"{found.name}: the tag {tag} is torn; all that it ever named is kept")
                found.roots.update(links.history(self._records, found.name, tag))
            except Missing:
                continue
            else:
                found.tags += 1

    def _follow(self, found: Survey, pending: list[Digest], torn: set[Digest]) -> None:
        seen: set[Digest] = set()
        while pending:
            digest = pending.pop()
            if digest in seen:
                continue
            seen.add(digest)
            try:
                found.manifests[digest] = read = self._manifest(found, digest)
            except Missing:
                found.problems.append(f"{found.name}: the manifest {digest} is named, but its content is missing")
            except Unreadable as error:
                line = f"{found.name}: the manifest {digest} {error}"
                (found.problems if digest in torn else found.unreadable).append(line)
            else:
                pending += (
                    child
                    for child in read.children
                    if child not in found.revisions and self.is_manifest_among_layers(found.name, child)
                )

    def _manifest(self, found: Survey, digest: Digest) -> References:
        """Raises Missing, Unreadable."""
        target = found.revisions.get(digest) or self._content(found.name, digest)
        if target in self._read:
            return self._read[target]
        if self._blobs.size(target) > MOST_BYTES:
            raise Unreadable(f"has more than {MOST_BYTES} bytes")
        data = self._blobs.read(target, MOST_BYTES)
        if Digest.of(data, target.algorithm) != target:
            raise Unreadable("is damaged: its data has another digest")
        try:
            read = references(data)
        except ManifestInvalid:
            raise Unreadable("is no JSON object") from None
        self._read[target] = read = self._shared(read)
        return read

    def _content(self, name: RepositoryName, digest: Digest) -> Digest:
        """Where a manifest is; where its link is lost, its own digest tells."""
        for link in layout.revision_link(name, digest), layout.layer_link(name, digest):
            try:
                return links.target(self._records, link)
            except Missing:
                continue
        return digest

    def _shared(self, read: References) -> References:
        """With one object for each digest: most stand in many manifests."""
        same = self._same.setdefault
        blobs = tuple(same(digest, digest) for digest in read.blobs)
        children = tuple(same(digest, digest) for digest in read.children)
        return References(blobs, children, read.subject, read.declared, read.is_schema_1)
