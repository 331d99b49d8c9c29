"""What a link says. One that a power cut emptied, or that holds anything but a digest, is no link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid
from registry.storage.base import Missing

if TYPE_CHECKING:
    from registry.storage.base import Key, Records


def target(records: Records, link: Key) -> Digest:
    """The digest that a link names; blanks around it do not matter. Raises Missing."""
    try:
        return Digest(records.read(link).decode("ascii", "replace").strip())
    except DigestInvalid:
        raise Missing(link) from None


def write(records: Records, link: Key, digest: Digest) -> None:
    """Make a link name a digest: exactly its text, without a line end, as registry:2 wants it."""
    records.write(link, digest.encode("ascii"))
