"""Manifests in memory, by what their bytes are: those never change, whoever may still see them."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from registry.oci.manifest import MOST_BYTES, media_type

if TYPE_CHECKING:
    from registry.oci.digest import Digest
    from registry.storage.base import Blobs

_REMEMBERED = 16 * 1024 * 1024  # bytes of all
_LARGE = 256 * 1024  # bytes of one that is read each time


class Manifests:
    """The bytes and the media type of manifests, read once while they are asked for."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: OrderedDict[Digest, tuple[bytes, str]] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def read(self, content: Digest) -> tuple[bytes, str]:
        """A manifest's exact bytes, and its media type. Blocks. Raises Missing, ManifestInvalid."""
        with self._lock:
            if content in self._known:
                self._known.move_to_end(content)
                return self._known[content]
        data = self._blobs.read(content, MOST_BYTES)
        found = data, media_type(data)
        if len(data) <= _LARGE:
            self._remember(content, found)
        return found

    def _remember(self, content: Digest, found: tuple[bytes, str]) -> None:
        with self._lock:
            if content not in self._known:
                self._known[content] = found
                self._size += len(found[0])
            while self._size > _REMEMBERED:
                _, (data, _) = self._known.popitem(last=False)
                self._size -= len(data)
