"""What links say. One that a power cut emptied, or that holds anything but a digest, is no link."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid
from registry.storage import layout
from registry.storage.base import Missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.oci.names import RepositoryName, Tag
    from registry.storage.base import Key, Records


@lru_cache(maxsize=4096)
def _digest(text: bytes) -> Digest:
    return Digest(text.decode("ascii", "replace").strip())


class Links:
    """The links of all repositories, by one way of reading them.

    Args:
        read: `Records.read`, or `Records.read_warm` where nothing may wait. What it raises goes through.
    """

    def __init__(self, read: Callable[[Key], bytes]) -> None:
        self._read = read

    def target(self, link: Key) -> Digest:
        """The digest that a link names; blanks around it do not matter. Raises Missing."""
        try:
            return _digest(self._read(link))
        except DigestInvalid:
            raise Missing(link) from None

    def layer(self, repository: RepositoryName, digest: Digest) -> Digest:
        """The content of a blob of the repository: registry:2 links a sha512 to the sha256 of the same bytes."""
        return self.target(layout.layer_link(repository, digest))

    def revision(self, repository: RepositoryName, digest: Digest) -> Digest:
        """The content of a manifest of the repository: distribution up to 2.1 linked it among the layers."""
        try:
            return self.target(layout.revision_link(repository, digest))
        except Missing:
            return self.layer(repository, digest)

    def tagged(self, repository: RepositoryName, tag: Tag) -> Digest:
        """What a tag names."""
        return self.target(layout.tag_link(repository, tag))


def write(records: Records, link: Key, digest: Digest) -> None:
    """Make a link name a digest: exactly its text, without a line end, as registry:2 wants it."""
    records.write(link, digest.encode("ascii"))
