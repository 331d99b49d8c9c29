"""What links say, and how they are written and removed.

One that a power cut emptied, or that holds anything but a digest, is no link.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from registry.oci.digest import ALGORITHMS, Digest
from registry.oci.errors import DigestInvalid, TagInvalid
from registry.oci.names import Tag
from registry.storage import layout
from registry.storage.base import Missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.oci.names import RepositoryName
    from registry.storage.base import Key, Records


class Torn(Missing):
    """There is a link, but it names nothing."""


class Reads(Protocol):
    """What links are read from. What it raises goes through."""

    def read(self, key: Key, /) -> bytes: ...


class AtHand:
    """Links that are in memory: reading another one raises Cold, and does not wait."""

    def __init__(self, records: Records) -> None:
        self.read = records.read_warm


def target(records: Reads, link: Key) -> Digest:
    """The digest that a link names; blanks around it do not matter. Raises Missing; Torn where it is garbled."""
    try:
        return _digest(records.read(link))
    except DigestInvalid:
        raise Torn(link) from None


@lru_cache(maxsize=4096)
def _digest(text: bytes) -> Digest:
    return Digest(text.decode("ascii", "replace").strip())


def layer(records: Reads, repository: RepositoryName, digest: Digest) -> Digest:
    """The content of a blob of the repository: registry:2 links a sha512 to the sha256 of the same bytes."""
    return target(records, layout.layer_link(repository, digest))


def revision(records: Reads, repository: RepositoryName, digest: Digest) -> Digest:
    """The content of a manifest of the repository: distribution up to 2.1 linked it among the layers."""
    try:
        return target(records, layout.revision_link(repository, digest))
    except Missing:
        return layer(records, repository, digest)


def tagged(records: Reads, repository: RepositoryName, tag: Tag) -> Digest:
    """What a tag names."""
    return target(records, layout.tag_link(repository, tag))


def is_there(records: Reads, link: Key) -> bool:
    """Whether a link names something."""
    try:
        target(records, link)
    except Missing:
        return False
    return True


def write(records: Records, link: Key, digest: Digest) -> None:
    """Make a link name a digest: exactly its text, without a line end, as registry:2 wants it."""
    records.write(link, digest.encode("ascii"))


def remove_revision(records: Records, repository: RepositoryName, digest: Digest) -> None:
    """Take a manifest that no tag names out of a repository. The caller holds the repository's lock alone."""
    for link in layout.revision_link(repository, digest), layout.layer_link(repository, digest):
        with suppress(Missing):
            records.delete(link)
    records.clear(layout.revision(repository, digest))


def remove_tag(records: Records, repository: RepositoryName, tag: Tag) -> None:
    """Take a tag away, and all that it ever named with it; manifests stay. Raises Missing where it names nothing.

    The caller holds the repository's lock alone.
    """
    tagged(records, repository, tag)
    records.delete(layout.tag_link(repository, tag))
    records.clear(layout.tag(repository, tag))


def tags(records: Records, repository: RepositoryName) -> Iterator[Tag]:
    """What may be a tag; it is one if its `current` link names something."""
    return valid_tags(records.list(layout.tags(repository)))


def valid_tags(names: list[str]) -> Iterator[Tag]:
    """Those of the names that a tag can have."""
    for name in names:
        try:
            yield Tag(name)
        except TagInvalid:
            continue


def revisions(records: Records, repository: RepositoryName) -> Iterator[Digest]:
    """What may be a manifest; it is one if its link names something."""
    return _digests(records, lambda algorithm: layout.revisions(repository, algorithm))


def layers(records: Records, repository: RepositoryName) -> Iterator[Digest]:
    """What may be a blob of the repository; it is one if its link names something that is there."""
    return _digests(records, lambda algorithm: layout.layers_named_by(repository, algorithm))


def history(records: Records, repository: RepositoryName, tag: Tag) -> Iterator[Digest]:
    """Everything that a tag ever named."""
    return _digests(records, lambda algorithm: layout.tag_index(repository, tag, algorithm))


def signatures(records: Records, repository: RepositoryName, digest: Digest) -> Iterator[Digest]:
    """The signatures of a manifest of schema 1, where distribution up to 2.4 kept them beside it."""
    return _digests(records, lambda algorithm: layout.signatures(repository, digest, algorithm))


def _digests(records: Records, collection: Callable[[str], Key]) -> Iterator[Digest]:
    for algorithm in ALGORITHMS:
        yield from valid_digests(algorithm, records.list(collection(algorithm)))


def valid_digests(algorithm: str, names: list[str]) -> Iterator[Digest]:
    """Those of the names that the directory of a digest can have."""
    for name in names:
        try:
            yield Digest(f"{algorithm}:{name}")
        except DigestInvalid:
            continue
