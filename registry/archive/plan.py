"""What an export takes: images, each with all the content that it needs, as a repository has them at one moment.

An image is what a tag names, with everything below it. What refers to one, such as a signature, is one without a tag.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid
from registry.oci.imagelayout import descriptor, for_docker
from registry.oci.manifest import MOST_BYTES, Manifest
from registry.storage import layout
from registry.storage.base import Missing
from registry.store import links

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from registry.oci.manifest import Descriptor
    from registry.oci.names import RepositoryName, Tag
    from registry.oci.patterns import RepositoryPattern
    from registry.storage.base import Blobs, Records


@dataclass(frozen=True, slots=True)
class Choice:
    """What to export.

    Attributes:
        repositories: those that match one of these; none = all.
        tags: those that match one of these, with `*` and `?` as in a shell; none = all.
        untagged: also manifests that nothing keeps.
    """

    repositories: Sequence[RepositoryPattern] = ()
    tags: Sequence[str] = ()
    untagged: bool = False

    def has_repository(self, name: str) -> bool:
        return not self.repositories or any(pattern.matches(name) for pattern in self.repositories)

    def has_tag(self, tag: str) -> bool:
        return not self.tags or any(fnmatchcase(tag, pattern) for pattern in self.tags)


@dataclass(slots=True)
class Image:
    """Something to export.

    Attributes:
        repository: where it is.
        digest: of its manifest.
        tags: what names it; none for what is there because of others.
        contents: of everything that it needs, its manifest too: digest, and what holds the bytes.
        descriptor: of its manifest, as an index has it.
        docker: what docker's list says of it; None where docker before 25 could not load it.
        obstacle: why it cannot be exported; "" where it can.
    """

    repository: RepositoryName
    digest: Digest
    tags: tuple[Tag, ...] = ()
    contents: dict[Digest, Digest] = field(default_factory=dict)
    descriptor: dict[str, Any] = field(default_factory=dict)
    docker: dict[str, Any] | None = None
    obstacle: str = ""


class Reader:
    """Reads the manifests of one repository, each once.

    Args:
        blobs: content.
        records: links.
        name: the repository.
    """

    def __init__(self, blobs: Blobs, records: Records, name: RepositoryName) -> None:
        self.name = name
        self._blobs = blobs
        self._records = records
        self._read: dict[Digest, _Part] = {}

    def tags(self) -> Iterator[tuple[Tag, Digest]]:
        """The tags, and what each names."""
        for tag in sorted(links.tags(self._records, self.name)):
            try:
                yield tag, links.tagged(self._records, self.name, tag)
            except Missing:
                continue

    def image(self, digest: Digest, tags: Sequence[Tag] = ()) -> Image:
        """A manifest and all below it."""
        found = Image(self.name, digest, tuple(tags))
        pending = [digest]
        try:
            top = self._part(digest)
            found.descriptor, found.docker = top.descriptor, self._for_docker(top)
            while pending:
                each = pending.pop()
                if each not in found.contents:
                    part = self._part(each)
                    found.contents[each] = part.content
                    found.contents.update(part.blobs)
                    pending += part.children
        except (Missing, ManifestInvalid) as error:
            found.obstacle = str(error)
        return found

    def _for_docker(self, part: _Part) -> dict[str, Any] | None:
        """An image, or the one that an index has beside its attestations, as BuildKit makes them."""
        loadable = [each for child in part.children if (each := self._part(child).docker) is not None]
        return loadable[0] if len(loadable) == 1 else part.docker

    def untagged(self, images: Iterable[Image], *, everything: bool) -> Iterator[Image]:
        """What refers to these images, and to that, and so on; or every other manifest, indexes before their parts."""
        kept = {digest for image in images for digest in image.contents}
        others = [digest for digest in self._revisions() if digest not in kept]
        before = -1
        while before != len(kept):
            before = len(kept)
            for digest in others:
                if digest not in kept and self._subject(digest) in kept:
                    yield (image := self.image(digest))
                    kept |= {digest, *image.contents}
        if everything:
            yield from self._rest([digest for digest in others if digest not in kept])

    def _rest(self, others: list[Digest]) -> Iterator[Image]:
        images = [self.image(digest) for digest in others]
        parts = {digest for image in images for digest in image.contents if digest != image.digest}
        yield from (image for image in images if image.digest not in parts)

    def _revisions(self) -> list[Digest]:
        return sorted(
            digest
            for digest in links.revisions(self._records, self.name)
            if links.is_there(self._records, layout.revision_link(self.name, digest))
        )

    def _subject(self, digest: Digest) -> Digest | None:
        try:
            return self._part(digest).subject
        except (Missing, ManifestInvalid):
            return None

    def _part(self, digest: Digest) -> _Part:
        """Raises Missing, ManifestInvalid; their texts say what is wrong."""
        if digest not in self._read:
            self._read[digest] = self._look(digest)
        return self._read[digest]

    def _look(self, digest: Digest) -> _Part:
        content, manifest = self._manifest(digest)
        blobs, children = {}, []
        for each in manifest.blobs:
            if (found := self._blob(each)) is not None:
                blobs[each.address] = found
        for child in manifest.children:
            if self._is_manifest(child):
                children.append(child.address)
            elif (found := self._child_blob(child)) is not None:
                blobs[child.address] = found
        subject = manifest.subject.address if manifest.subject else None
        return _Part(content, blobs, children, subject, descriptor(manifest, digest), for_docker(manifest))

    def _manifest(self, digest: Digest) -> tuple[Digest, Manifest]:
        """A manifest, and what holds its bytes. Raises Missing, ManifestInvalid; their texts say what is wrong."""
        try:
            content = links.revision(self._records, self.name, digest)
            data = self._blobs.read(content, MOST_BYTES)
        except Missing:
            raise Missing(f"the manifest {digest} is missing") from None
        if Digest.of(data, digest.algorithm) != digest:
            raise ManifestInvalid(f"the manifest {digest} is damaged: its content has another digest")
        try:
            return content, Manifest.parse(data)
        except ManifestInvalid as error:
            raise ManifestInvalid(f"the manifest {digest} cannot be exported: {error.message}") from None

    def _blob(self, blob: Descriptor) -> Digest | None:
        """What holds its bytes; None where they may be elsewhere."""
        try:
            return links.layer(self._records, self.name, blob.address)
        except Missing:
            if blob.is_foreign:
                return None
            raise Missing(f"the blob {blob.address} is missing") from None

    def _is_manifest(self, child: Descriptor) -> bool:
        if links.is_there(self._records, layout.revision_link(self.name, child.address)):
            return True
        try:
            self._manifest(child.address)
        except (Missing, ManifestInvalid):
            return False
        return True

    def _child_blob(self, child: Descriptor) -> Digest | None:
        """The index of BuildKit's older caches has blobs for children; and an index may lack some of them."""
        try:
            return links.layer(self._records, self.name, child.address)
        except Missing:
            return None


@dataclass(frozen=True, slots=True)
class _Part:
    """A manifest that was read: what holds its bytes and those of its blobs; and the rest as in `Image`."""

    content: Digest
    blobs: dict[Digest, Digest]
    children: list[Digest]
    subject: Digest | None
    descriptor: dict[str, Any]
    docker: dict[str, Any] | None
