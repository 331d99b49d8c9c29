"""Counting what is stored under limits: by a walk, since other replicas, registry:2 and collections change it, too.

A count may be old. But no push is refused by one that is: the storage is counted again before, unless that was done
just now. So whatever an estimate got wrong, or another hand removed, costs nobody a push.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from registry.oci.errors import NameInvalid
from registry.oci.names import RepositoryName
from registry.storage import layout
from registry.storage.base import Missing
from registry.store import catalog, links
from registry.store.accounts import Count, now
from registry.store.gc import last_collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from registry.oci.digest import Digest
    from registry.storage.base import Blobs, Records
    from registry.store.accounts import Accounts, Limit
    from registry.store.threads import Threads

log = logging.getLogger("registry.quota")

_LOOK = 5.0  # seconds between two looks whether a collection has ended
_OLD = 60.0  # seconds after which it is counted again in any case,
_SELDOM = 50  # or this many times what a count takes, if that is longer
_FRESH = 10  # times what a count takes: so long it does for a refusal
_PATIENCE = 5.0  # seconds that a push waits for a count; then it is refused by the one before


class _Stopped(Exception):
    """The server ends, and nobody needs the count."""


def count(
    blobs: Blobs, records: Records, limits: Sequence[Limit], go_on: Callable[[], None] = lambda: None
) -> list[int]:
    """The bytes that are stored under each limit. Blocks.

    Args:
        blobs: content.
        records: links.
        limits: what is wanted.
        go_on: called often; may raise, to end it.
    """
    stored = [0] * len(limits)
    of_storage = [number for number, limit in enumerate(limits) if limit.repositories is None]
    if of_storage:
        size = 0
        for blob in blobs.walk():
            go_on()
            size += blob.size
        for number in of_storage:
            stored[number] = size
    if len(of_storage) < len(limits):
        _count_repositories(blobs, records, limits, stored, go_on)
    return stored


def _count_repositories(
    blobs: Blobs, records: Records, limits: Sequence[Limit], stored: list[int], go_on: Callable[[], None]
) -> None:
    seen: list[set[Digest]] = [set() for _ in limits]
    for name in _repositories(records):
        covering = [
            number for number, limit in enumerate(limits) if limit.repositories is not None and limit.covers(name)
        ]
        if not covering:
            continue
        for digest in {*links.layers(records, name), *links.revisions(records, name)}:
            go_on()
            wanted = [number for number in covering if digest not in seen[number]]
            size = _size(blobs, digest) if wanted else 0
            for number in wanted:
                seen[number].add(digest)
                stored[number] += size


def _repositories(records: Records) -> Iterator[RepositoryName]:
    for path in catalog.every(records):
        with suppress(NameInvalid):
            yield RepositoryName(path)


def _size(blobs: Blobs, digest: Digest) -> int:
    try:
        return blobs.size(digest)
    except Missing:  # its link is what is left of it
        return 0


class Census:
    """Keeps accounts true.

    Args:
        blobs: content.
        records: links.
        accounts: what is found goes there.
        threads: where storage calls run.
    """

    def __init__(self, blobs: Blobs, records: Records, accounts: Accounts, threads: Threads) -> None:
        self.accounts = accounts
        self._blobs = blobs
        self._records = records
        self._threads = threads
        self._turn = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._renewing_since = 0.0
        self._is_over = False

    def begin(self, process: int) -> None:
        """On the event loop, in each process that serves; the first one counts without being asked."""
        self.accounts.join(process)
        if process == 0:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    def end(self) -> None:
        self._is_over = True
        for task in self._watching, self._renewing:
            if task is not None:
                task.cancel()

    async def renew(self) -> None:
        """Have a count that is as fresh as can be, or as can be had within some seconds."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.get_running_loop().create_task(self._count_if_old(_FRESH))
            self._renewing_since = now()
        await asyncio.wait({self._renewing}, timeout=max(0.0, self._renewing_since + _PATIENCE - now()))

    # What a push brings

    async def is_new(self, repository: RepositoryName, digest: Digest, numbers: Sequence[int]) -> list[bool]:
        """For each of some limits, whether a blob or manifest of the repository would add to what is stored under it.

        It may be said of what another repository under the limit has; a count puts that right.
        """
        return await self._threads.run(self._is_new, repository, digest, numbers)

    def _is_new(self, repository: RepositoryName, digest: Digest, numbers: Sequence[int]) -> list[bool]:
        is_stored = self._is_stored(digest)
        by = layout.layer_link(repository, digest), layout.revision_link(repository, digest)
        is_linked = is_stored and any(links.is_there(self._records, link) for link in by)
        of_storage = [self.accounts.limits[number].repositories is None for number in numbers]
        return [not (is_stored if whole else is_linked) for whole in of_storage]

    async def size(self, repository: RepositoryName | None, digest: Digest) -> int:
        """Of a blob of a repository, or of any (None); 0 where there is none."""
        return await self._threads.run(self._size_in, repository, digest)

    def _size_in(self, repository: RepositoryName | None, digest: Digest) -> int:
        try:
            return self._blobs.size(links.layer(self._records, repository, digest) if repository else digest)
        except Missing:
            return 0

    def _is_stored(self, digest: Digest) -> bool:
        try:
            self._blobs.size(digest)
        except Missing:
            return False
        return True

    # Counting

    async def _watch(self) -> None:
        while True:
            await self._count_if_old(_SELDOM, _OLD)
            await asyncio.sleep(_LOOK)

    async def _count_if_old(self, times: float, seconds: float = 0.0) -> None:
        """Unless the count is younger than so many seconds, or than so many times what it took."""
        async with self._turn:
            try:
                await self._threads.run(self._count, times, seconds)
            except _Stopped:
                pass
            except OSError as error:
                log.error("cannot count what is stored: %s", error)  # noqa: TRY400 - what is wrong is the disk

    def _count(self, times: float, seconds: float) -> None:
        last, collection = self.accounts.last(), round(last_collection(self._records))
        if last is not None and last.collection == collection and now() - last.begun < max(seconds, times * last.took):
            return
        begun, added = now(), self.accounts.added()
        stored = count(self._blobs, self._records, self.accounts.limits, self._go_on)
        self.accounts.set(stored, added, Count(begun, now() - begun, collection))
        if last is None:
            fields = {limit.setting: size for limit, size in zip(self.accounts.limits, stored, strict=True)}
            log.info("counted what is stored", extra={"fields": fields | {"seconds": round(now() - begun, 1)}})

    def _go_on(self) -> None:
        if self._is_over:
            raise _Stopped
