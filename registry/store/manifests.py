"""Manifests in memory. Their bytes never change; who may see them, the links say."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from registry.oci.manifest import MOST_BYTES, media_type
from registry.storage.base import Cold
from registry.store.base import StoredManifest

if TYPE_CHECKING:
    from registry.oci.digest import Digest
    from registry.oci.names import RepositoryName
    from registry.storage.base import Blobs

_REMEMBERED = 16 * 1024 * 1024  # bytes of all
_LARGE = 256 * 1024  # bytes of one that is read each time
_OVERHEAD = 1024  # bytes that one takes beside its own


class Manifests:
    """Manifests of repositories, read once while they are asked for."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: OrderedDict[tuple[RepositoryName, Digest], tuple[Digest, StoredManifest]] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def known(self, repository: RepositoryName, digest: Digest, content: Digest | None = None) -> StoredManifest:
        """One that was read before.

        Args:
            repository: where it was found.
            digest: what it is asked for by.
            content: the digest of its bytes, where its link was looked at just now.

        Raises:
            Cold: it has to be read.
        """
        key = repository, digest
        with self._lock:
            found = self._known.get(key)
            if found is None or content not in (None, found[0]):
                raise Cold(digest)
            self._known.move_to_end(key)
            return found[1]

    def read(self, repository: RepositoryName, digest: Digest, content: Digest) -> StoredManifest:
        """As `known`, but reads it. Blocks. Raises Missing, ManifestInvalid."""
        with suppress(Cold):
            return self.known(repository, digest, content)
        data = self._blobs.read(content, MOST_BYTES)
        found = StoredManifest(digest, media_type(data), data)
        if len(data) <= _LARGE:
            self._remember((repository, digest), content, found)
        return found

    def _remember(self, key: tuple[RepositoryName, Digest], content: Digest, found: StoredManifest) -> None:
        with self._lock:
            if (before := self._known.pop(key, None)) is not None:
                self._size -= len(before[1].data) + _OVERHEAD
            self._known[key] = (content, found)
            self._size += len(found.data) + _OVERHEAD
            while self._size > _REMEMBERED:
                _, (_, oldest) = self._known.popitem(last=False)
                self._size -= len(oldest.data) + _OVERHEAD
