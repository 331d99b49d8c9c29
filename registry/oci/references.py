"""What a stored manifest references, whatever its kind: for who must rather see too much than too little.

`manifest.Manifest` is strict, for what is pushed here. But a volume of registry:2 also holds manifests that nobody
would take today: schema 1, unknown kinds, members in another case, as Go reads them. In all of them, what is referenced
is the value of a member `digest`, or `blobSum` in schema 1; so every such member counts, wherever it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid, ManifestInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = frozenset({"digest", "blobsum"})


@dataclass(frozen=True, slots=True)
class References:
    """The digests in a manifest.

    Attributes:
        blobs: config, layers, and whatever else it names; not its subject.
        children: what an index lists.
        subject: the manifest that it refers to, or None.
        declared: whether it says that it is a manifest, by a `schemaVersion`.
        is_schema_1: whether it is a manifest of docker's schema 1.
    """

    blobs: tuple[Digest, ...]
    children: tuple[Digest, ...]
    subject: Digest | None
    declared: bool
    is_schema_1: bool

    @property
    def all(self) -> tuple[Digest, ...]:
        """Everything that has to be there for the manifest to be whole."""
        return self.blobs + self.children


def references(data: bytes) -> References:
    """Find what a manifest references.

    Raises:
        ManifestInvalid: it is no JSON object.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ManifestInvalid("manifest invalid: it is no JSON") from None
    if not isinstance(document, dict):
        raise ManifestInvalid("manifest invalid: it is no JSON object")
    blobs: list[Digest] = []
    children: list[Digest] = []
    subject: Digest | None = None
    version: Any = None
    for name, value in document.items():
        match name.lower():
            case "manifests":
                children += _digests(value)
            case "subject":
                subject = next(_digests(value), None)
            case "schemaversion":
                version = value
            case "annotations":
                pass
            case _:
                blobs += _digests({name: value})
    return References(tuple(blobs), tuple(children), subject, version is not None, version == 1)


def _digests(value: Any) -> Iterator[Digest]:
    """The digests of all descriptors in a value. Annotations are for people, and name content of others, too."""
    pending = [value]
    while pending:
        here = pending.pop()
        if isinstance(here, list):
            pending += here
        elif isinstance(here, dict):
            for name, inner in here.items():
                if name.lower() in _NAMES and isinstance(inner, str):
                    yield from _digest(inner)
                elif name.lower() != "annotations":
                    pending.append(inner)


def _digest(text: str) -> Iterator[Digest]:
    try:
        yield Digest(text)
    except DigestInvalid:
        return  # by an algorithm that no blob here is named by
