"""A request that is cancelled (its server stops) leaves nothing half done behind, whatever it was doing."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from making import REPOSITORY, Backend

from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown
from registry.storage import durable

FIRST, SECOND = b"first" * 100_000, b"second" * 100_000
DIGEST = Digest.of(FIRST + SECOND)


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def push(stored: Backend) -> None:
    async with await stored.store.begin_upload(REPOSITORY) as upload:
        session = upload.id
        await upload.append(body(FIRST))
        await upload.checkpoint()
    async with await stored.store.resume_upload(REPOSITORY, session) as upload:
        await upload.append(body(SECOND))
        await upload.commit(DIGEST)


@pytest.mark.parametrize("step", ["sync", "publish", "append", "truncate"])
def test_a_push_cancelled_in_any_step_leaves_the_blob_whole_or_as_it_was(on_disk, monkeypatch, step):
    """The step is held up in its thread while the request is cancelled; then it goes on, as threads do."""
    held, release = threading.Event(), threading.Event()
    real = getattr(durable, step)
    calls = 0

    def slow(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 1:  # the second request's
            held.set()
            release.wait(10)
        return real(*args)

    async def scenario() -> None:
        await push(on_disk)
        monkeypatch.setattr(durable, step, slow)
        pushing = asyncio.create_task(push(on_disk))
        assert await asyncio.to_thread(held.wait, 10)
        pushing.cancel()
        await asyncio.sleep(0.05)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await pushing
        source = await on_disk.store.blob(REPOSITORY, DIGEST)
        assert Digest.of(source.file.read()) == DIGEST
        source.close()

    asyncio.run(scenario())


def test_a_first_push_cancelled_while_it_is_published_makes_a_whole_blob_or_none(on_disk, monkeypatch):
    held, release = threading.Event(), threading.Event()
    real = durable.publish

    def slow(*args: object) -> None:
        held.set()
        release.wait(10)
        real(*args)

    async def scenario() -> None:
        monkeypatch.setattr(durable, "publish", slow)
        pushing = asyncio.create_task(push(on_disk))
        assert await asyncio.to_thread(held.wait, 10)
        pushing.cancel()
        await asyncio.sleep(0.05)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await pushing
        try:
            source = await on_disk.store.blob(REPOSITORY, DIGEST)
        except BlobUnknown:
            return
        assert Digest.of(source.file.read()) == DIGEST
        source.close()

    asyncio.run(scenario())
