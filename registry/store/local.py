"""The one class that knows links: a registry over `Blobs` and `Records`.

What it keeps, whatever happens: a link is made after what it names is durable; a tag's `current` link is made last and
removed first; a link that is empty or garbled is no link.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from registry.oci.digest import Digest
from registry.oci.errors import (
    BlobUnknown,
    Denied,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    PreconditionFailed,
    UploadBusy,
    UploadUnknown,
)
from registry.oci.names import Reference, RepositoryName, SessionId, Tag
from registry.storage import layout
from registry.storage.base import Busy, Cold, Missing
from registry.store import links
from registry.store.base import ALWAYS, Page, ReferrersPage, StoredManifest
from registry.store.catalog import Catalog
from registry.store.immutable import ANY_MOVES
from registry.store.manifests import Manifests
from registry.store.names import Names, Tags
from registry.store.referrers import Referrers
from registry.store.upload import LocalUpload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from registry.oci.headers import Condition
    from registry.oci.manifest import Manifest
    from registry.oci.names import Reference, RepositoryName
    from registry.storage.base import Blobs, BlobSource, Draft, Key, Records
    from registry.store.immutable import ImmutableTags
    from registry.store.rules import Rules
    from registry.store.threads import Threads

LEASE = 30 * 60
"""Seconds for which a lease that a HEAD finds is good enough; garbage collection's grace is at least twice as long."""

_WAIT_FOR_WRITER = 10.0  # seconds; a client that lost its connection comes back before the server knows
_POLL = 0.05
_TURNS = 4  # operations of one repository that may wait for a lock in a thread


class LocalStore:
    """`store.base.Store` over a storage medium.

    Args:
        blobs: content.
        records: links.
        threads: where storage calls run.
        rules: what manifests may reference.
        immutable: which tags stay what they are.
        lease: see `LEASE`; in all processes on one storage the same, or less.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        blobs: Blobs,
        records: Records,
        threads: Threads,
        rules: Rules,
        immutable: ImmutableTags = ANY_MOVES,
        *,
        lease: float = LEASE,
    ) -> None:
        self._blobs = blobs
        self._records = records
        self._threads = threads
        self._rules = rules
        self._immutable = immutable
        self._lease = lease
        self._at_hand = links.AtHand(records)
        self._manifests = Manifests(blobs)
        self._referrers = Referrers(blobs, records)
        self._tags = Names(records, Tags)
        self._catalog = Catalog(records)
        self._turns: WeakValueDictionary[RepositoryName, asyncio.Semaphore] = WeakValueDictionary()

    # Blobs

    async def blob(self, repository: RepositoryName, digest: Digest) -> BlobSource:
        try:
            return self._blob(repository, digest, self._at_hand, self._blobs.open_warm)
        except Cold:
            return await self._threads.open(self._blob, repository, digest, self._records, self._blobs.open)

    def _blob(
        self, repository: RepositoryName, digest: Digest, records: links.Reads, opened: Callable[[Digest], BlobSource]
    ) -> BlobSource:
        try:
            return opened(links.layer(records, repository, digest))
        except Missing:
            raise BlobUnknown(detail={"digest": digest}) from None

    async def blob_size(self, repository: RepositoryName, digest: Digest) -> int:
        return await self._threads.look(self._blob_size, repository, digest)

    def _blob_size(self, repository: RepositoryName, digest: Digest) -> int:
        try:
            return self._blobs.promise(links.layer(self._records, repository, digest), lease=self._lease)
        except Missing:
            raise BlobUnknown(detail={"digest": digest}) from None

    async def mount_blob(self, repository: RepositoryName, digest: Digest, source: RepositoryName | None) -> bool:
        return await self._threads.run(self._mount_blob, repository, digest, source)

    def _mount_blob(self, repository: RepositoryName, digest: Digest, source: RepositoryName | None) -> bool:
        try:
            target = links.layer(self._records, source, digest) if source else digest
            self._blobs.promise(target)
        except Missing:
            return False
        self._link(layout.layer_link(repository, digest), target)
        return True

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        async with self._turn(repository):
            await self._threads.run(self._delete_blob, repository, digest)

    def _delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        with self._records.exclusive(layout.lock(repository)):
            try:
                links.layer(self._records, repository, digest)
                self._records.delete(layout.layer_link(repository, digest))
            except Missing:
                raise BlobUnknown(detail={"digest": digest}) from None

    # Uploads

    async def begin_upload(self, repository: RepositoryName, algorithm: str = "sha256") -> LocalUpload:
        session = SessionId(str(uuid.uuid4()))
        draft = await self._threads.open(self._blobs.begin, layout.upload(repository, session), algorithm)
        return self._upload(repository, session, draft)

    async def resume_upload(self, repository: RepositoryName, session: SessionId) -> LocalUpload:
        deadline = asyncio.get_running_loop().time() + _WAIT_FOR_WRITER
        while True:
            try:
                draft = await self._threads.open(self._blobs.resume, layout.upload(repository, session))
            except Missing:
                raise UploadUnknown(detail={"upload": session}) from None
            except Busy:
                if asyncio.get_running_loop().time() > deadline:
                    raise UploadBusy(detail={"upload": session}, headers={"Retry-After": "5"}) from None
                await asyncio.sleep(_POLL)
            else:
                return self._upload(repository, session, draft)

    async def upload_offset(self, repository: RepositoryName, session: SessionId) -> int:
        try:
            return await self._threads.run(self._blobs.offset, layout.upload(repository, session))
        except Missing:
            raise UploadUnknown(detail={"upload": session}) from None

    async def cancel_upload(self, repository: RepositoryName, session: SessionId) -> None:
        await self._threads.run(self._cancel_upload, repository, session)

    def _cancel_upload(self, repository: RepositoryName, session: SessionId) -> None:
        key = layout.upload(repository, session)
        try:
            self._blobs.offset(key)
        except Missing:
            raise UploadUnknown(detail={"upload": session}) from None
        self._blobs.discard(key)

    def _upload(self, repository: RepositoryName, session: SessionId, draft: Draft) -> LocalUpload:
        def publish(draft: Draft, digest: Digest) -> int:
            size = draft.commit(digest)
            self._link(layout.layer_link(repository, digest), digest)
            self._blobs.discard(layout.upload(repository, session))
            return size

        return LocalUpload(session, draft, publish, self._threads)

    # Manifests

    async def manifest(self, repository: RepositoryName, reference: Reference) -> StoredManifest:
        try:
            return self._known_manifest(repository, reference)
        except Cold:
            return await self._threads.look(self._read_manifest, repository, reference)

    def _known_manifest(self, repository: RepositoryName, reference: Reference) -> StoredManifest:
        """One that was read before, by a look at one link; nothing here waits. Raises Cold, ManifestUnknown.

        A tag's link is made after that of the manifest it names, and removed before it: where the one is, the other is.
        """
        try:
            if isinstance(reference, Digest):
                return self._manifests.known(
                    repository, reference, links.revision(self._at_hand, repository, reference)
                )
            digest = links.tagged(self._at_hand, repository, reference)
            return self._manifests.known(repository, digest)
        except Missing:
            raise ManifestUnknown(detail={"name": repository, "reference": reference}) from None

    def _read_manifest(self, repository: RepositoryName, reference: Reference) -> StoredManifest:
        try:
            digest = reference if isinstance(reference, Digest) else links.tagged(self._records, repository, reference)
            return self._manifests.read(repository, digest, links.revision(self._records, repository, digest))
        except (Missing, ManifestInvalid):
            raise ManifestUnknown(detail={"name": repository, "reference": reference}) from None

    async def put_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        manifest: Manifest,
        tags: Sequence[Tag] = (),
        condition: Condition = ALWAYS,
    ) -> None:
        async with self._turn(repository):
            await self._threads.run(self._put_manifest, repository, digest, manifest, tags, condition)

    def _put_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        manifest: Manifest,
        tags: Sequence[Tag],
        condition: Condition,
    ) -> None:
        self._rules.check(manifest)
        is_alone = condition != ALWAYS or any(self._immutable.rule(repository, tag) for tag in tags)
        lock = self._records.exclusive if is_alone else self._records.shared
        with lock(layout.lock(repository)):
            for tag in tags:
                self._require_may_name(repository, tag, digest)
            if condition != ALWAYS:
                self._require(repository, tags[0] if tags else digest, condition)
            if missing := list(self._missing(repository, manifest)):
                raise ManifestBlobUnknown(missing)
            self._blobs.put(digest, manifest.data)
            self._records.keep(layout.layers(repository))
            self._link(layout.revision_link(repository, digest), digest)
            for tag in tags:
                self._link(layout.tag_index_link(repository, tag, digest), digest)
                self._link(layout.tag_link(repository, tag), digest)

    async def delete_manifest(
        self, repository: RepositoryName, reference: Reference, condition: Condition = ALWAYS
    ) -> None:
        async with self._turn(repository):
            await self._threads.run(self._delete_manifest, repository, reference, condition)

    def _delete_manifest(self, repository: RepositoryName, reference: Reference, condition: Condition) -> None:
        with self._records.exclusive(layout.lock(repository)):
            if condition != ALWAYS:
                self._require(repository, reference, condition)
            try:
                if isinstance(reference, Digest):
                    self._delete_revision(repository, reference)
                else:
                    self._require_may_name(repository, reference, None)
                    links.remove_tag(self._records, repository, reference)
            except Missing:
                raise ManifestUnknown(detail={"name": repository, "reference": reference}) from None

    def _delete_revision(self, repository: RepositoryName, digest: Digest) -> None:
        try:
            links.target(self._records, layout.revision_link(repository, digest))
        except Missing:
            self._read_manifest(repository, digest)  # among the layers only a manifest is one
        tags = [tag for tag in links.tags(self._records, repository) if self._tagged_or_none(repository, tag) == digest]
        for tag in tags:
            self._require_may_name(repository, tag, None)
        for tag in tags:
            links.remove_tag(self._records, repository, tag)
        links.remove_revision(self._records, repository, digest)

    # Lists

    async def tags(self, repository: RepositoryName, last: str = "", limit: int | None = None) -> Page:
        return await self._threads.run(self._list_tags, repository, last, limit)

    def _list_tags(self, repository: RepositoryName, last: str, limit: int | None) -> Page:
        known = self._tags.below(layout.tags(repository))
        if not known and not self._records.list(layout.manifests(repository)):
            raise NameUnknown(detail={"name": repository})
        found = known.after(last, lambda tag: links.is_there(self._records, layout.tag_link(repository, tag)))
        return _page(found, limit)

    async def referrers(
        self,
        repository: RepositoryName,
        digest: Digest,
        kinds: frozenset[str] = frozenset(),
        last: str = "",
        limit: int | None = None,
    ) -> ReferrersPage:
        async with self._turn(repository):
            return await self._threads.run(self._referrers.of, repository, digest, kinds, last, limit)

    async def repositories(
        self, last: str = "", limit: int | None = None, visible: Callable[[RepositoryName], bool] | None = None
    ) -> Page:
        return await self._threads.run(self._repositories, last, limit, visible)

    def _repositories(self, last: str, limit: int | None, visible: Callable[[RepositoryName], bool] | None) -> Page:
        return _page(self._catalog.walk(last, visible), limit)

    @asynccontextmanager
    async def _turn(self, repository: RepositoryName) -> AsyncIterator[None]:
        """For what may wait for a lock: one repository must not take all threads with its waiting."""
        turns = self._turns.get(repository)
        if turns is None:
            turns = self._turns[repository] = asyncio.Semaphore(_TURNS)
        async with turns:
            yield

    # Links

    def _link(self, link: Key, digest: Digest) -> None:
        links.write(self._records, link, digest)

    def _tagged_or_none(self, repository: RepositoryName, tag: Tag) -> Digest | None:
        try:
            return links.tagged(self._records, repository, tag)
        except Missing:
            return None

    def _require_may_name(self, repository: RepositoryName, tag: Tag, digest: Digest | None) -> None:
        """Raises Denied where an immutable tag would name another manifest than it does, or (None) none any more.

        The caller holds the repository's lock alone, where the tag is immutable.
        """
        rule = self._immutable.rule(repository, tag)
        current = self._tagged_or_none(repository, tag) if rule else None
        if current not in (None, digest):
            message = f"the tag {tag} is immutable ({rule}): it names {current}, and stays so"
            raise Denied(message, detail={"tag": tag, "digest": current})

    def _require(self, repository: RepositoryName, reference: Reference, condition: Condition) -> None:
        try:
            current: Digest | None = self._read_manifest(repository, reference).digest
        except ManifestUnknown:
            current = None
        if not condition.holds(current):
            raise PreconditionFailed(detail={"reference": reference, "current": current})

    def _missing(self, repository: RepositoryName, manifest: Manifest) -> Iterator[Digest]:
        """What a manifest needs and the repository has not. All that it has is promised to stay, needed or not."""
        for blob in manifest.blobs:
            if not self._has(layout.layer_link(repository, blob.address)) and not blob.is_foreign:
                yield blob.address
        for child in manifest.children:
            # The index of BuildKit's older caches has blobs for children.
            known_by = (
                layout.revision_link(repository, child.address),
                layout.layer_link(repository, child.address),
            )
            if not any(self._has(link) for link in known_by) and self._rules.needs(child):
                yield child.address

    def _has(self, link: Key) -> bool:
        try:
            self._blobs.promise(links.target(self._records, link))
        except Missing:
            return False
        return True


def _page(names: Iterator[str], limit: int | None) -> Page:
    if limit is None:
        return Page(tuple(names))
    found = tuple(islice(names, limit + 1))
    return Page(found[:limit], more=len(found) > limit)
