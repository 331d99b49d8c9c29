"""The storage contracts in dictionaries: their executable specification, and quick tests. Gone with the process."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock, RLock
from typing import TYPE_CHECKING

from registry.oci.digest import Digest, hasher
from registry.oci.errors import DigestInvalid
from registry.storage.base import Busy, Key, Missing, StoredBlob, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from registry.oci.digest import Bytes


class MemoryBlobs:
    """`storage.base.Blobs` in a dictionary."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}
        self._renewed: dict[Digest, float] = {}
        self._drafts: dict[Key, _Session] = {}
        self._lock = Lock()

    def size(self, digest: Digest) -> int:
        return len(self._get(digest))

    def open(self, digest: Digest) -> Stream:
        data = self._get(digest)
        return Stream(len(data), lambda offset, length: data[offset : offset + length])

    def open_warm(self, digest: Digest) -> Stream:
        return self.open(digest)

    def read(self, digest: Digest, limit: int) -> bytes:
        data = self._get(digest)
        if len(data) > limit:
            raise Missing(digest)
        return data

    def put(self, digest: Digest, data: bytes) -> None:
        if Digest.of(data, digest.algorithm) != digest:
            raise DigestInvalid
        self._publish(digest, data)

    def promise(self, digest: Digest, *, lease: float = 0) -> int:
        with self._lock:
            size = self.size(digest)
            if self.renewed(digest) <= time.time() - lease:
                self._renewed[digest] = time.time()
            return size

    def renewed(self, digest: Digest) -> float:
        self._get(digest)
        return self._renewed.get(digest, 0)

    def condemn(self, digest: Digest, cutoff: float) -> int | None:
        with self._lock:
            if digest not in self._blobs or self.renewed(digest) >= cutoff:
                return None
            return len(self._blobs.pop(digest))

    def restore(self) -> None:
        pass  # nothing outlives a killed process

    def walk(self) -> Iterator[StoredBlob]:
        for digest, data in list(self._blobs.items()):
            yield StoredBlob(digest, len(data), self._renewed.get(digest, 0))

    def begin(self, key: Key, algorithm: str) -> MemoryDraft:
        session = self._drafts[key] = _Session(hasher(algorithm).name)
        session.lock.acquire()
        return MemoryDraft(self._publish, self._drafts, key, session)

    def resume(self, key: Key) -> MemoryDraft:
        session = self._session(key)
        if not session.lock.acquire(blocking=False):
            raise Busy(key)
        if self._drafts.get(key) is not session:
            session.lock.release()
            raise Missing(key)
        return MemoryDraft(self._publish, self._drafts, key, session)

    def offset(self, key: Key) -> int:
        return len(self._session(key).data)

    def draft_size(self, key: Key) -> int:
        return self.offset(key)

    def expire(self, key: Key, cutoff: float, *, dry_run: bool = False) -> int | None:
        session = self._drafts.get(key)
        if session is None or session.changed >= cutoff or not session.lock.acquire(blocking=False):
            return None
        if not dry_run:
            self.discard(key)
        session.lock.release()
        return len(session.data)

    def discard(self, key: Key) -> None:
        self._drafts.pop(key, None)

    def _publish(self, digest: Digest, data: bytes) -> None:
        with self._lock:
            self._blobs[digest] = data
            self._renewed[digest] = time.time()

    def _get(self, digest: Digest) -> bytes:
        try:
            return self._blobs[digest]
        except KeyError:
            raise Missing(digest) from None

    def _session(self, key: Key) -> _Session:
        try:
            return self._drafts[key]
        except KeyError:
            raise Missing(key) from None


class _Session:
    """What is checkpointed of a draft."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.data = b""
        self.changed = time.time()
        self.lock = Lock()


class MemoryDraft:
    """`storage.base.Draft` in a byte array."""

    def __init__(
        self, publish: Callable[[Digest, bytes], None], drafts: dict[Key, _Session], key: Key, session: _Session
    ) -> None:
        self._publish = publish
        self._drafts = drafts
        self._key = key
        self._session = session
        self._data = bytearray(session.data)
        self._open = True

    @property
    def offset(self) -> int:
        return len(self._data)

    def expect(self, length: int) -> None:
        pass

    def write(self, batch: Sequence[Bytes]) -> None:
        for part in batch:
            self._data += part

    def checkpoint(self) -> None:
        self._require()
        self._session.data = bytes(self._data)
        self._session.changed = time.time()

    def commit(self, digest: Digest) -> int:
        found = Digest.from_hasher(hasher(digest.algorithm, self._data))
        if found != digest:
            raise DigestInvalid(detail={"digest": str(digest), "content": str(found)})
        self._require()
        self._publish(digest, bytes(self._data))
        del self._drafts[self._key]
        return len(self._data)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._session.lock.release()

    def _require(self) -> None:
        if self._drafts.get(self._key) is not self._session:
            raise Missing(self._key)


class MemoryRecords:
    """`storage.base.Records` in one dictionary; collections are prefixes of keys."""

    def __init__(self) -> None:
        self._values: dict[str, bytes | None] = {}
        self._written: dict[str, float] = {}
        self._held: set[Key] = set()
        self._lock = RLock()

    def read(self, key: Key) -> bytes:
        value = self._values.get(key)
        if value is None:
            raise Missing(key)
        return value

    def read_warm(self, key: Key) -> bytes:
        return self.read(key)

    def written(self, key: Key) -> float:
        self.read(key)
        return self._written[key]

    def write(self, key: Key, value: bytes) -> None:
        with self._lock:
            self._values[key] = value
            self._written[key] = time.time()
            above = key.rpartition("/")[0]
            while above:  # collections stay when they are empty, as directories do
                self._values.setdefault(f"{above}/", None)
                above = above.rpartition("/")[0]

    def keep(self, key: Key) -> None:
        with self._lock:
            self._values.setdefault(f"{key}/", None)

    def delete(self, key: Key) -> None:
        with self._lock:
            if self._values.pop(key, None) is None:
                raise Missing(key)

    def condemn(self, key: Key, cutoff: float) -> bool:
        with self._lock:
            if self._values.get(key) is None or self._written[key] >= cutoff:
                return False
            del self._values[key]
            above = key.rpartition("/")[0]
            if not self.list(Key(above)):
                self._values.pop(f"{above}/", None)
            return True

    def restore(self) -> None:
        pass

    def clear(self, key: Key) -> None:
        with self._lock:
            for known in [known for known in self._values if known.startswith(f"{key}/")]:
                del self._values[known]

    def list(self, key: Key) -> list[str]:
        prefix = f"{key}/"
        with self._lock:
            below = [known[len(prefix) :] for known in self._values if known.startswith(prefix)]
        return list({name.partition("/")[0] for name in below if name})

    def version(self, key: Key) -> object:  # noqa: ARG002 - it costs nothing to look
        return None

    @contextmanager
    def shared(self, key: Key) -> Iterator[None]:  # one lock for all keys is enough for tests
        with self.exclusive(key):
            yield

    @contextmanager
    def exclusive(self, key: Key) -> Iterator[None]:  # noqa: ARG002
        with self._lock:
            yield

    @contextmanager
    def exclusive_at_once(self, key: Key) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise Busy(key)
        if key in self._held:
            self._lock.release()
            raise Busy(key)
        self._held.add(key)
        try:
            yield
        finally:
            self._held.discard(key)
            self._lock.release()
