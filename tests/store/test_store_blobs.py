"""Blobs of a repository: links, mounts, deletes and upload sessions."""

import asyncio
import errno
import os
import threading
import uuid
from collections.abc import AsyncIterator

import pytest
from making import CONFIG, LAYER, OTHER, REPOSITORY, Backend, body, push_blob

from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, DigestInvalid, StorageFull, UploadBusy, UploadUnknown
from registry.oci.names import RepositoryName, SessionId
from registry.storage import layout
from registry.storage.base import BlobSource, Draft, Key, LocalFile
from registry.store import local
from registry.store.local import LocalStore
from registry.store.threads import Threads
from registry.store.upload import BATCH, LocalUpload

NOBODY = SessionId(str(uuid.uuid4()))
DIGEST = Digest.of(LAYER)


def content(source: BlobSource) -> bytes:
    try:
        return source.file.read() if isinstance(source, LocalFile) else source.read(0, source.size)
    finally:
        source.close()


async def has(store: LocalStore, digest: Digest, repository: RepositoryName = REPOSITORY) -> bool:
    """Whether a repository has a blob: all three ways to ask agree."""
    try:
        size = await store.blob_size(repository, digest)
    except BlobUnknown:
        with pytest.raises(BlobUnknown):
            await store.blob(repository, digest)
        return False
    source = await store.blob(repository, digest)
    data = content(source)
    assert source.size == size == len(data)
    assert Digest.of(data, digest.algorithm) == digest or digest.algorithm == "sha512"
    return True


# Visible or not


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", LAYER])
def test_a_pushed_blob_is_in_its_repository_and_in_no_other(store: LocalStore, data: bytes, algorithm: str) -> None:
    async def scenario() -> None:
        digest = await push_blob(store, data, algorithm=algorithm)
        assert content(await store.blob(REPOSITORY, digest)) == data
        assert await has(store, digest)
        assert not await has(store, digest, OTHER)

    asyncio.run(scenario())


def test_another_process_has_it_at_once(stored: Backend) -> None:
    async def scenario() -> None:
        digest = await push_blob(stored.store, LAYER)
        assert await has(stored.open(), digest)

    asyncio.run(scenario())


def test_a_blob_that_is_pushed_twice_is_one_blob(store: LocalStore) -> None:
    async def scenario() -> None:
        for _ in range(2):
            await push_blob(store, LAYER)
        assert await has(store, DIGEST)
        await store.delete_blob(REPOSITORY, DIGEST)
        assert not await has(store, DIGEST)

    asyncio.run(scenario())


def test_an_unknown_blob_is_named_in_the_error(store: LocalStore) -> None:
    async def scenario() -> None:
        for ask in (store.blob, store.blob_size, store.delete_blob):
            with pytest.raises(BlobUnknown) as unknown:
                await ask(REPOSITORY, DIGEST)
            assert unknown.value.detail == {"digest": DIGEST}

    asyncio.run(scenario())


@pytest.mark.parametrize("garbled", [b"", b"\0" * 71, b"sha256:abc", b"latest", b"\xff\xfe", DIGEST.encode() + b"0"])
def test_a_garbled_layer_link_is_none(stored: Backend, garbled: bytes) -> None:
    async def scenario() -> None:
        await push_blob(stored.store, LAYER)
        stored.records.write(layout.layer_link(REPOSITORY, DIGEST), garbled)
        assert not await has(stored.store, DIGEST)
        assert not await stored.store.mount_blob(OTHER, DIGEST, REPOSITORY)
        await push_blob(stored.store, LAYER)
        assert await has(stored.store, DIGEST)

    asyncio.run(scenario())


def test_a_link_with_a_newline_is_taken_as_an_administrator_may_write_it(stored: Backend) -> None:
    async def scenario() -> None:
        await push_blob(stored.store, LAYER)
        stored.records.write(layout.layer_link(REPOSITORY, DIGEST), DIGEST.encode() + b"\n")
        assert await has(stored.store, DIGEST)

    asyncio.run(scenario())


def test_a_link_to_a_blob_that_is_gone_is_none(stored: Backend) -> None:
    async def scenario() -> None:
        stored.records.write(layout.layer_link(REPOSITORY, DIGEST), DIGEST.encode())
        assert not await has(stored.store, DIGEST)

    asyncio.run(scenario())


def test_the_sha512_link_of_registry_2_leads_to_the_sha256_content(stored: Backend) -> None:
    """registry:2 stores a sha512 blob by its sha256, with a link from one to the other."""

    async def scenario() -> None:
        alias = Digest.of(LAYER, "sha512")
        stored.blobs.put(DIGEST, LAYER)
        stored.records.write(layout.layer_link(REPOSITORY, DIGEST), DIGEST.encode())
        stored.records.write(layout.layer_link(REPOSITORY, alias), DIGEST.encode())
        assert content(await stored.store.blob(REPOSITORY, alias)) == LAYER
        assert await stored.store.blob_size(REPOSITORY, alias) == len(LAYER)
        assert await stored.store.mount_blob(OTHER, alias, REPOSITORY)
        assert content(await stored.store.blob(OTHER, alias)) == LAYER
        await stored.store.delete_blob(REPOSITORY, alias)
        assert not await has(stored.store, alias)
        assert await has(stored.store, DIGEST)

    asyncio.run(scenario())


# Mounts and deletes


def test_a_blob_is_mounted_from_the_repository_that_has_it(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blob(store, LAYER)
        assert await store.mount_blob(OTHER, DIGEST, REPOSITORY)
        assert await has(store, DIGEST, OTHER)
        await store.delete_blob(REPOSITORY, DIGEST)
        assert await has(store, DIGEST, OTHER)

    asyncio.run(scenario())


def test_a_blob_is_mounted_from_anywhere_where_no_repository_is_named(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blob(store, LAYER)
        assert await store.mount_blob(OTHER, DIGEST, None)
        assert await has(store, DIGEST, OTHER)

    asyncio.run(scenario())


def test_what_is_not_there_is_not_mounted(store: LocalStore) -> None:
    async def scenario() -> None:
        assert not await store.mount_blob(OTHER, DIGEST, REPOSITORY)
        assert not await store.mount_blob(OTHER, DIGEST, None)
        await push_blob(store, LAYER)
        await store.delete_blob(REPOSITORY, DIGEST)
        assert not await store.mount_blob(OTHER, DIGEST, REPOSITORY)
        assert not await has(store, DIGEST, OTHER)

    asyncio.run(scenario())


def test_a_deleted_blob_is_unknown_and_can_be_pushed_again(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blob(store, LAYER)
        await store.delete_blob(REPOSITORY, DIGEST)
        with pytest.raises(BlobUnknown):
            await store.delete_blob(REPOSITORY, DIGEST)
        await push_blob(store, LAYER)
        assert await has(store, DIGEST)

    asyncio.run(scenario())


# Sessions


def test_a_session_goes_on_in_another_process(stored: Backend) -> None:
    async def scenario() -> None:
        async with await stored.store.begin_upload(REPOSITORY) as upload:
            await upload.expect(100)
            await upload.append(body(LAYER[:100]))
            assert upload.offset == 100
            await upload.checkpoint()
        assert await stored.open().upload_offset(REPOSITORY, upload.id) == 100
        async with await stored.open().resume_upload(REPOSITORY, upload.id) as again:
            assert (again.id, again.offset) == (upload.id, 100)
            await again.append(body(LAYER[100:]))
            assert await again.commit(DIGEST) == len(LAYER)
        assert await has(stored.store, DIGEST)

    asyncio.run(scenario())


def test_bytes_without_a_checkpoint_do_not_count(store: LocalStore) -> None:
    async def scenario() -> None:
        async with await store.begin_upload(REPOSITORY) as upload:
            await upload.append(body(b"first"))
            await upload.checkpoint()
            await upload.append(body(b"lost"))
        assert await store.upload_offset(REPOSITORY, upload.id) == 5

    asyncio.run(scenario())


def test_a_session_belongs_to_its_repository(store: LocalStore) -> None:
    async def scenario() -> None:
        async with await store.begin_upload(REPOSITORY) as upload:
            await upload.checkpoint()
        for ask in (store.upload_offset, store.resume_upload, store.cancel_upload):
            with pytest.raises(UploadUnknown):
                await ask(OTHER, upload.id)

    asyncio.run(scenario())


def test_an_unknown_session_is_named_in_the_error(store: LocalStore) -> None:
    async def scenario() -> None:
        for ask in (store.upload_offset, store.resume_upload, store.cancel_upload):
            with pytest.raises(UploadUnknown) as unknown:
                await ask(REPOSITORY, NOBODY)
            assert unknown.value.detail == {"upload": NOBODY}

    asyncio.run(scenario())


def test_a_committed_session_is_over(store: LocalStore) -> None:
    async def scenario() -> None:
        async with await store.begin_upload(REPOSITORY) as upload:
            await upload.append(body(LAYER))
            await upload.commit(DIGEST)
        with pytest.raises(UploadUnknown):
            await store.upload_offset(REPOSITORY, upload.id)
        with pytest.raises(UploadUnknown):
            await store.resume_upload(REPOSITORY, upload.id)

    asyncio.run(scenario())


def test_a_session_that_is_committed_as_something_else_stays_at_its_checkpoint(store: LocalStore) -> None:
    async def scenario() -> None:
        async with await store.begin_upload(REPOSITORY) as upload:
            await upload.append(body(LAYER[:100]))
            await upload.checkpoint()
            await upload.append(body(b"!"))
            with pytest.raises(DigestInvalid):
                await upload.commit(DIGEST)
        assert not await has(store, DIGEST)
        assert await store.upload_offset(REPOSITORY, upload.id) == 100

    asyncio.run(scenario())


def test_a_cancelled_session_is_unknown_also_to_the_writer_that_has_it_open(stored: Backend) -> None:
    async def scenario() -> None:
        store = stored.store
        for end in ("checkpoint", "commit"):
            async with await store.begin_upload(REPOSITORY) as upload:
                await upload.append(body(LAYER))
                await stored.open().cancel_upload(REPOSITORY, upload.id)
                with pytest.raises(UploadUnknown):
                    await (upload.checkpoint() if end == "checkpoint" else upload.commit(DIGEST))
            with pytest.raises(UploadUnknown):
                await store.cancel_upload(REPOSITORY, upload.id)
        assert not await has(store, DIGEST)

    asyncio.run(scenario())


def test_an_unknown_algorithm_is_refused_at_the_beginning(store: LocalStore) -> None:
    async def scenario() -> None:
        with pytest.raises(DigestInvalid):
            await store.begin_upload(REPOSITORY, "md5")

    asyncio.run(scenario())


def test_a_second_writer_waits_for_the_first(stored: Backend) -> None:
    """A client that lost its connection comes back before the server knows."""

    async def scenario() -> None:
        first = await stored.store.begin_upload(REPOSITORY)
        await first.append(body(LAYER))
        await first.checkpoint()
        waiting = asyncio.create_task(stored.open().resume_upload(REPOSITORY, first.id))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await first.__aexit__(None, None, None)
        async with await asyncio.wait_for(waiting, 10) as second:
            assert second.offset == len(LAYER)

    asyncio.run(scenario())


def test_a_second_writer_is_told_when_it_waited_in_vain(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with await store.begin_upload(REPOSITORY) as upload:
            with pytest.raises(UploadBusy):
                await store.resume_upload(REPOSITORY, upload.id)

    monkeypatch.setattr(local, "_WAIT_FOR_WRITER", 0.2)
    asyncio.run(scenario())


# Bodies


@pytest.mark.parametrize("sizes", [[0], [1], [BATCH], [BATCH - 1, 2], [1] * 1000, [3 * BATCH + 5], [0, BATCH, 0, 7]])
def test_a_body_of_any_cut_is_written_whole(store: LocalStore, sizes: list[int]) -> None:
    parts = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    whole = b"".join(parts)

    async def scenario() -> None:
        async with await store.begin_upload(REPOSITORY) as upload:
            await upload.append(body(*parts))
            assert upload.offset == len(whole)
            await upload.commit(Digest.of(whole))
        assert content(await store.blob(REPOSITORY, Digest.of(whole))) == whole

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [10, BATCH + 10, 3 * BATCH + 10])
def test_what_came_before_the_body_broke_off_is_written(store: LocalStore, size: int) -> None:
    class Broken(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        for start in range(0, size, BATCH // 2):
            yield b"x" * min(BATCH // 2, size - start)
        raise Broken

    async def scenario() -> None:
        async with await store.begin_upload(REPOSITORY) as upload:
            with pytest.raises(Broken):
                await upload.append(broken())
            assert upload.offset == size
            await upload.checkpoint()
        assert await store.upload_offset(REPOSITORY, upload.id) == size

    asyncio.run(scenario())


def test_a_full_disk_is_an_error_of_its_own_and_the_session_goes_on_later(
    on_disk: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def scenario() -> None:
        store = on_disk.store
        async with await store.begin_upload(REPOSITORY) as upload:
            await upload.append(body(LAYER[:100]))
            await upload.checkpoint()
            with monkeypatch.context() as fault:
                fault.setattr(os, "writev", full)
                with pytest.raises(StorageFull):
                    await upload.append(body(b"x" * 3 * BATCH, b"y" * 3 * BATCH))
        assert await store.upload_offset(REPOSITORY, upload.id) == 100
        async with await store.resume_upload(REPOSITORY, upload.id) as upload:
            await upload.append(body(LAYER[100:]))
            await upload.commit(DIGEST)

    asyncio.run(scenario())


@pytest.mark.parametrize("reason", [errno.EIO, errno.EACCES])
def test_another_fault_of_the_disk_is_not_called_a_full_one(
    on_disk: Backend, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def broken(*_: object) -> int:
        raise OSError(reason, os.strerror(reason))

    async def scenario() -> None:
        async with await on_disk.store.begin_upload(REPOSITORY) as upload:
            with monkeypatch.context() as fault:
                fault.setattr(os, "writev", broken)
                with pytest.raises(OSError, match=os.strerror(reason)):
                    await upload.append(body(b"x"))

    asyncio.run(scenario())


# Cancelled requests


def test_a_request_that_is_cancelled_in_the_middle_of_its_body_lets_the_next_writer_in(stored: Backend) -> None:
    async def scenario() -> None:
        begun = asyncio.get_running_loop().create_future()

        async def request() -> None:
            async with await stored.store.begin_upload(REPOSITORY) as upload:
                await upload.append(body(LAYER))
                await upload.checkpoint()
                begun.set_result(upload.id)
                await upload.append(endless())

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * BATCH
                await asyncio.sleep(0)

        task = asyncio.create_task(request())
        session = await asyncio.wait_for(begun, 10)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with await stored.open().resume_upload(REPOSITORY, session) as upload:
            assert upload.offset == len(LAYER)

    asyncio.run(scenario())


def test_a_request_that_is_cancelled_while_every_thread_is_busy_still_closes_its_draft(
    stored: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_WAIT_FOR_WRITER", 2)

    async def scenario() -> None:
        threads = Threads(1)
        release = threading.Event()
        draft = stored.blobs.begin(layout.upload(REPOSITORY, NOBODY), "sha256")
        upload = LocalUpload(NOBODY, draft, lambda draft, digest: draft.commit(digest), threads)

        async def request() -> None:
            async with upload:
                busy = threads.start(release.wait, 10)
                assert not busy.done()

        task = asyncio.create_task(request())
        await asyncio.sleep(0.1)  # it waits to be closed, behind what keeps the thread
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        threads.close()
        async with await stored.store.resume_upload(REPOSITORY, NOBODY) as again:
            assert again.offset == 0

    asyncio.run(scenario())


def test_a_request_that_is_cancelled_while_it_opens_a_session_leaves_it_to_the_next(
    stored: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with await stored.store.begin_upload(REPOSITORY) as upload:
            await upload.append(body(LAYER))
            await upload.checkpoint()
        real = stored.blobs.resume
        opening, opened = threading.Event(), threading.Event()

        def slowly(key: Key) -> Draft:
            draft = real(key)
            opening.set()
            opened.wait(10)
            return draft

        with monkeypatch.context() as fault:
            fault.setattr(stored.blobs, "resume", slowly)
            task = asyncio.create_task(stored.store.resume_upload(REPOSITORY, upload.id))
            assert await asyncio.to_thread(opening.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            opened.set()
        async with await stored.open().resume_upload(REPOSITORY, upload.id) as again:
            assert again.offset == len(LAYER)

    monkeypatch.setattr(local, "_WAIT_FOR_WRITER", 2)
    asyncio.run(scenario())


def test_many_blobs_at_once_are_all_there(store: LocalStore) -> None:
    async def scenario() -> None:
        data = [b"%d" % number * 1000 for number in range(20)] + [CONFIG] * 10
        digests = await asyncio.gather(*(push_blob(store, one) for one in data))
        assert all([await has(store, digest) for digest in digests])

    asyncio.run(scenario())
