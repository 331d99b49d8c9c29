"""Quota: pushes over a limit are refused, with the figures, before their bytes are taken where these are known."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from typing import TYPE_CHECKING

from registry.oci.errors import Denied
from registry.store.accounts import now
from registry.store.base import ALWAYS, READS, Refuse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType

    from registry.oci.digest import Bytes, Digest
    from registry.oci.headers import Condition
    from registry.oci.manifest import Manifest
    from registry.oci.names import RepositoryName, SessionId, Tag
    from registry.store.base import Store, Upload
    from registry.store.census import Census

log = logging.getLogger("registry.quota")

_QUIET = 60.0  # seconds from a line of the log on a repository to the next
_REMEMBERED = 1000  # repositories


class Quota(Refuse):
    """Lets pushes pass that fit under the limits. Pulls, lists and deletes are those of the store behind it.

    Args:
        store: the store behind it.
        census: the limits, and what is stored under them.
    """

    allowed = READS | {"delete_blob", "delete_manifest", "upload_offset", "cancel_upload"}

    def __init__(self, store: Store, census: Census) -> None:
        super().__init__(store, "it is not known whether this fits under the quota")
        self._limits = census.accounts.limits
        self._census = census
        self._lines = _Lines()

    async def mount_blob(self, repository: RepositoryName, digest: Digest, source: RepositoryName | None) -> bool:
        numbers = [number for number in self._numbers(repository) if not self._has(number, source)]
        if not numbers:
            return await self._store.mount_blob(repository, digest, source)
        with self._claim(repository, numbers) as claim:
            await claim.take_for(digest, await self._census.size(source, digest))
            mounted = await self._store.mount_blob(repository, digest, source)
            if mounted:
                claim.spend()
        return mounted

    async def begin_upload(self, repository: RepositoryName, algorithm: str = "sha256") -> Upload:
        """Refused where there is no room for a single byte."""
        with self._claim(repository) as claim:
            await claim.take(1)
            upload = await self._store.begin_upload(repository, algorithm)
        return self._metered(upload, repository)

    async def resume_upload(self, repository: RepositoryName, session: SessionId) -> Upload:
        return self._metered(await self._store.resume_upload(repository, session), repository)

    async def put_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        manifest: Manifest,
        tags: Sequence[Tag] = (),
        condition: Condition = ALWAYS,
    ) -> None:
        """Refused also where it names more than a limit allows, so that all of it could never be there."""
        with self._claim(repository) as claim:
            await claim.take_for(digest, len(manifest.data), at_least=_weight(manifest))
            await self._store.put_manifest(repository, digest, manifest, tags, condition)
            claim.spend()

    def _numbers(self, repository: RepositoryName) -> list[int]:
        """The limits that a push to a repository is under."""
        return [number for number, limit in enumerate(self._limits) if limit.covers(repository)]

    def _has(self, number: int, source: RepositoryName | None) -> bool:
        """Whether what is mounted is stored under a limit already."""
        limit = self._limits[number]
        return limit.repositories is None or (source is not None and limit.covers(source))

    def _claim(self, repository: RepositoryName, numbers: Sequence[int] | None = None) -> Claim:
        return Claim(self._census, self._lines, repository, self._numbers(repository) if numbers is None else numbers)

    def _metered(self, upload: Upload, repository: RepositoryName) -> Upload:
        claim = self._claim(repository)
        return MeteredUpload(upload, claim) if claim.is_limited else upload


def _weight(manifest: Manifest) -> int:
    """Bytes of a manifest and of the blobs that have to be here with it, each once."""
    blobs = {blob.digest: blob.size for blob in manifest.blobs if not blob.is_foreign}
    return len(manifest.data) + sum(blobs.values())


class Claim:
    """The room that one push asks for, under each limit that it is under. Gone at the end of a `with`."""

    def __init__(self, census: Census, lines: _Lines, repository: RepositoryName, numbers: Sequence[int]) -> None:
        self._accounts = census.accounts
        self._census = census
        self._lines = lines
        self._repository = repository
        self._held = dict.fromkeys(numbers, 0)
        self.size = 0

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return bool(self._held)

    async def take(self, size: int) -> None:
        """Claim so much room; what was claimed before is part of it. Raises Denied, and holds what it held before."""
        if size > self.size:
            await self._take(dict.fromkeys(self._held, size), size)

    async def take_for(self, digest: Digest, size: int, at_least: int = 0) -> None:
        """Claim room for content that is known by now: under those limits alone where it is not stored already.

        Args:
            digest: of the content.
            size: of the content, in bytes.
            at_least: bytes that will be stored with it, at some time.
        """
        if not self.is_limited:
            return
        numbers = list(self._held)
        news = await self._census.is_new(self._repository, digest, numbers)
        for number, is_new in zip(numbers, news, strict=True):
            if is_new and at_least > self._accounts.limits[number].most:
                raise self._refusal(number, at_least)
        await self._take({number: size * is_new for number, is_new in zip(numbers, news, strict=True)}, size)

    async def _take(self, wanted: dict[int, int], size: int) -> None:
        before, grows = self._held, [number for number in wanted if wanted[number] > self._held[number]]
        self._hold(wanted)
        if grows and (not self._accounts.is_known or self._over(grows) is not None):
            await self._census.renew()
            number = self._over(grows)
            if number is not None:
                self._hold(before)
                raise self._refusal(number, size)
        self.size = size

    def spend(self) -> None:
        """What was claimed is stored."""
        for number, size in self._held.items():
            self._accounts.add(number, size)
        self.release()

    def release(self) -> None:
        """Claim nothing more."""
        self._hold(dict.fromkeys(self._held, 0))
        self.size = 0

    def _hold(self, sizes: dict[int, int]) -> None:
        for number, size in sizes.items():
            self._accounts.claim(number, size - self._held[number])
        self._held = sizes

    def _over(self, numbers: Sequence[int]) -> int | None:
        return next((number for number in numbers if self._accounts.is_over(number)), None)

    def _refusal(self, number: int, wanted: int) -> Denied:
        limit = self._accounts.limits[number]
        used, pending = self._accounts.used(number), self._accounts.claimed(number) - self._held[number]
        figures = {"used": used, "pending": pending, "limit": limit.most, "wanted": wanted}
        self._lines.note(self._repository, limit.setting, figures)
        whose = "the registry" if limit.repositories is None else f"{', '.join(limit.repositories)} together"
        beside = f", {_shown(pending)} are being pushed" if pending else ""
        asked = f"{_shown(wanted)} are asked for" if wanted > 1 else "more is asked for"
        return Denied(
            f"quota exceeded: {whose} may store {_shown(limit.most)} ({limit.setting}); {_shown(used)} are "
            f"stored{beside}, and {asked}. Delete images and collect garbage, then push again",
            detail={"quota": limit.setting, **figures},
        )

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class MeteredUpload:
    """`store.base.Upload` that claims room for each byte before it is taken.

    Args:
        upload: the one behind it.
        claim: nothing is claimed yet.
    """

    def __init__(self, upload: Upload, claim: Claim) -> None:
        self.id = upload.id
        self._upload = upload
        self._claim = claim

    @property
    def offset(self) -> int:
        return self._upload.offset

    async def expect(self, length: int) -> None:
        await self._claim.take(self.offset + length)
        await self._upload.expect(length)

    async def append(self, body: AsyncIterator[Bytes]) -> None:
        await self._upload.append(self._metered(body))

    async def _metered(self, body: AsyncIterator[Bytes]) -> AsyncIterator[Bytes]:
        size = self.offset
        async for part in body:
            size += len(part)
            if size > self._claim.size:
                await self._claim.take(size)
            yield part

    async def checkpoint(self) -> None:
        await self._upload.checkpoint()

    async def commit(self, digest: Digest) -> int:
        await self._claim.take_for(digest, self.offset)
        size = await self._upload.commit(digest)
        self._claim.spend()
        return size

    async def __aenter__(self) -> MeteredUpload:
        await self._upload.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._upload.__aexit__(kind, error, trace)
        finally:
            self._claim.release()


class _Lines:
    """Lines of the log on pushes that were refused: one for a repository and a minute."""

    def __init__(self) -> None:
        self._last: OrderedDict[RepositoryName, float] = OrderedDict()

    def note(self, repository: RepositoryName, setting: str, figures: dict[str, int]) -> None:
        if now() - self._last.get(repository, -math.inf) < _QUIET:
            return
        self._last[repository] = now()
        self._last.move_to_end(repository)
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        log.warning(
            "push refused: over quota", extra={"fields": {"repository": repository, "quota": setting, **figures}}
        )


def _shown(size: int) -> str:
    return f"{size / 1024**3:,.1f} GiB" if size >= 1024**3 else f"{size / 1024**2:.1f} MiB"
