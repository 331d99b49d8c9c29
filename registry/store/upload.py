"""The asynchronous upload over a synchronous draft: network on the event loop, hashing and disk in a thread.

While one batch is written, the next is collected: the body in memory is two batches at most, whatever the blob's size.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from registry.oci.errors import UploadUnknown
from registry.storage.base import Missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Future
    from types import TracebackType

    from registry.oci.digest import Bytes, Digest
    from registry.oci.names import SessionId
    from registry.storage.base import Draft
    from registry.store.threads import Threads

BATCH = 1024 * 1024
"""Bytes collected while a thread writes, before the sender has to wait for it."""

MOST_PARTS = 512
"""Pieces collected, however small: each costs more than its bytes."""

P = ParamSpec("P")
T = TypeVar("T")


class LocalUpload:
    """`store.base.Upload`.

    Args:
        session: its UUID.
        draft: open, and closed by this.
        publish: verifies the draft as the blob of a digest, and links it into the repository; blocking.
        threads: where the draft's calls run, one at a time.
    """

    def __init__(
        self, session: SessionId, draft: Draft, publish: Callable[[Draft, Digest], int], threads: Threads
    ) -> None:
        self.id = session
        self._draft = draft
        self._publish = publish
        self._threads = threads
        self._call: Future[Any] | None = None

    @property
    def offset(self) -> int:
        return self._draft.offset

    async def expect(self, length: int) -> None:
        await self._run(self._draft.expect, length)

    async def append(self, body: AsyncIterator[Bytes]) -> None:
        batch: list[Bytes] = []
        size = 0
        try:
            async for part in body:
                batch.append(part)
                size += len(part)
                if size >= BATCH or len(batch) >= MOST_PARTS or self._is_idle:
                    await self._settled()
                    self._call = self._threads.start(self._draft.write, batch)
                    batch, size = [], 0
        except asyncio.CancelledError:
            raise
        except Exception:
            # The client left, most likely. What it sent may still count: the API decides.
            await self._run(self._draft.write, batch)
            raise
        await self._run(self._draft.write, batch)

    async def checkpoint(self) -> None:
        try:
            await self._run(self._draft.checkpoint)
        except Missing:
            raise UploadUnknown from None

    async def commit(self, digest: Digest) -> int:
        try:
            return await self._run(self._publish, self._draft, digest)
        except Missing:
            raise UploadUnknown from None

    async def __aenter__(self) -> LocalUpload:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A cancelled request still closes its draft, after its last call: also one that waits for a thread.
        await asyncio.shield(asyncio.wrap_future(self._threads.start(self._close)))

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the draft, after the call before."""
        await self._settled()
        self._call = call = self._threads.start(function, *args, **kwargs)
        return await self._end_of(call)

    @property
    def _is_idle(self) -> bool:
        """Whether nothing is being written: then what there is goes at once, and a slow sender holds no memory."""
        return self._call is None or self._call.done()

    async def _settled(self) -> None:
        if self._call is not None:
            await self._end_of(self._call)

    async def _end_of(self, call: Future[T]) -> T:
        """What it gives or raises. It runs to its end, and is remembered till then, if the request is cancelled."""
        try:
            return await asyncio.shield(asyncio.wrap_future(call))
        finally:
            if call.done():
                self._call = None

    def _close(self) -> None:
        """A draft takes one call at a time: closed beside a commit, it would publish what it gives back."""
        if self._call is not None:
            wait([self._call])
        self._draft.close()
