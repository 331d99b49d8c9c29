"""Referrers: read off the manifests of a repository, whoever wrote them, and never out of step."""

import asyncio
import os
import random
import time
from typing import Any

import pytest
from making import (
    OTHER,
    REPOSITORY,
    Backend,
    digest_of,
    image,
    index,
    push_blobs,
    put,
    referring,
)

from registry.oci.digest import ALGORITHMS, Digest
from registry.oci.manifest import Manifest
from registry.oci.names import RepositoryName
from registry.storage import layout
from registry.storage.base import Key, Missing
from registry.store import referrers as module
from registry.store.base import Store

SUBJECT = image("subject")


async def listed(store: Store, subject: Manifest | Digest = SUBJECT) -> list[str]:
    digest = subject if isinstance(subject, Digest) else digest_of(subject)
    return [entry["digest"] for entry in (await store.referrers(REPOSITORY, digest)).entries]


def names(*manifests: Manifest) -> list[str]:
    return sorted(digest_of(one) for one in manifests)


def write_as_registry_2(stored: Backend, manifest: Manifest, *, linked: bool = True) -> Digest:
    """A revision as registry:2 makes it: the blob, then the link; none of our code is told."""
    digest = digest_of(manifest)
    stored.blobs.put(digest, manifest.data)
    if linked:
        stored.records.write(layout.revision_link(REPOSITORY, digest), digest.encode())
    else:
        stored.records.keep(layout.revision(REPOSITORY, digest))
    return digest


def counting(stored: Backend, part: str, method: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every call of a method of the storage from now on, of this store alone."""
    calls: list[Any] = []
    target = getattr(stored, part)
    real = getattr(target, method)

    def count(*arguments: Any) -> Any:
        calls.append(arguments[0])
        return real(*arguments)

    monkeypatch.setattr(target, method, count)
    return calls


def age(stored: Backend, seconds: float) -> None:
    """Let the directories of revisions be as quiet as they are some time after a push."""
    assert stored.root is not None
    then = time.time() - seconds
    for algorithm in ALGORITHMS:
        directory = stored.root / layout.revisions(REPOSITORY, algorithm)
        if directory.exists():
            os.utime(directory, (then, then))


# What is listed


def test_referrers_are_listed_in_the_order_of_their_digests_with_their_descriptors(stored: Backend) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        ours = [
            referring(SUBJECT, 1, artifactType="application/x-sbom"),
            referring(SUBJECT, 2),
            referring(SUBJECT, 3),
            index(subject={"mediaType": SUBJECT.media_type, "digest": digest_of(SUBJECT), "size": 1}),
        ]
        for manifest in (SUBJECT, *ours, referring(Digest.of(b"another subject")), image("no subject")):
            await put(stored.store, manifest)
        expected = [one.referrer(digest_of(one)) for one in sorted(ours, key=digest_of)]
        for store in (stored.store, stored.open()):
            assert (await store.referrers(REPOSITORY, digest_of(SUBJECT))).entries == tuple(expected)

    asyncio.run(scenario())


def test_what_nothing_refers_to_has_an_empty_list(stored: Backend) -> None:
    async def scenario() -> None:
        assert await listed(stored.store) == []
        await push_blobs(stored.store)
        await put(stored.store, SUBJECT)
        assert await listed(stored.store) == []

    asyncio.run(scenario())


def test_a_subject_need_not_be_there_yet(stored: Backend) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        await put(stored.store, referring(SUBJECT))
        assert await listed(stored.store) == names(referring(SUBJECT))
        await put(stored.store, SUBJECT)
        await stored.store.delete_manifest(REPOSITORY, digest_of(SUBJECT))
        assert await listed(stored.store) == names(referring(SUBJECT))

    asyncio.run(scenario())


def test_referrers_are_those_of_one_repository(stored: Backend) -> None:
    async def scenario() -> None:
        for repository in (REPOSITORY, OTHER):
            await push_blobs(stored.store, repository=repository)
        await put(stored.store, referring(SUBJECT))
        assert (await stored.store.referrers(OTHER, digest_of(SUBJECT))).entries == ()

    asyncio.run(scenario())


def test_sha512_names_on_both_sides(stored: Backend) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        subject = Digest.of(SUBJECT.data, "sha512")
        manifest = referring(subject)
        digest = Digest.of(manifest.data, "sha512")
        await stored.store.put_manifest(REPOSITORY, digest, manifest)
        await put(stored.store, manifest)
        assert await listed(stored.store, subject) == [digest_of(manifest), digest]

    asyncio.run(scenario())


# What changes


def test_a_push_is_listed_and_a_delete_is_not_from_then_on(stored: Backend) -> None:
    async def scenario() -> None:
        other = stored.open()
        await push_blobs(stored.store)
        for turn in range(3):
            for number in range(3):
                await put(stored.store, referring(SUBJECT, number))
                expected = names(*(referring(SUBJECT, n) for n in range(number + 1)))
                assert await listed(stored.store) == await listed(other) == expected
            for number in range(3):
                await (other if turn % 2 else stored.store).delete_manifest(
                    REPOSITORY, digest_of(referring(SUBJECT, number))
                )
                expected = names(*(referring(SUBJECT, n) for n in range(number + 1, 3)))
                assert await listed(stored.store) == await listed(other) == expected

    asyncio.run(scenario())


def test_what_registry_2_wrote_before_and_while_we_run_is_listed(stored: Backend) -> None:
    async def scenario() -> None:
        write_as_registry_2(stored, referring(SUBJECT, 1))
        assert await listed(stored.open()) == names(referring(SUBJECT, 1))
        assert await listed(stored.store) == names(referring(SUBJECT, 1))
        write_as_registry_2(stored, referring(SUBJECT, 2))
        assert await listed(stored.store) == names(referring(SUBJECT, 1), referring(SUBJECT, 2))

    asyncio.run(scenario())


def test_what_comes_after_a_quiet_time_is_listed(on_disk: Backend) -> None:
    async def scenario() -> None:
        await push_blobs(on_disk.store)
        for number in range(4):
            if number % 2:
                await put(on_disk.store, referring(SUBJECT, number))
            else:
                write_as_registry_2(on_disk, referring(SUBJECT, number))
            for _ in range(2):
                assert await listed(on_disk.store) == names(*(referring(SUBJECT, n) for n in range(number + 1)))
            age(on_disk, 100 - 10 * number)
            assert await listed(on_disk.store) == names(*(referring(SUBJECT, n) for n in range(number + 1)))

    asyncio.run(scenario())


@pytest.mark.parametrize("quiet", [False, True])
def test_a_revision_that_gets_its_link_later_is_listed_then(
    on_disk: Backend,
    quiet: bool,  # noqa: FBT001
) -> None:
    """registry:2 makes the directory, then the link in it; the list of directories tells of the first alone."""

    async def scenario() -> None:
        manifest = referring(SUBJECT)
        digest = write_as_registry_2(on_disk, manifest, linked=False)
        if quiet:
            age(on_disk, 100)
        for _ in range(2):
            assert await listed(on_disk.store) == []
        on_disk.records.write(layout.revision_link(REPOSITORY, digest), digest.encode())
        if quiet:
            age(on_disk, 100)
        assert await listed(on_disk.store) == names(manifest)

    asyncio.run(scenario())


@pytest.mark.parametrize("quiet", [False, True])
def test_a_manifest_that_registry_2_deletes_leaves_the_list_and_comes_back_with_its_link(
    on_disk: Backend,
    quiet: bool,  # noqa: FBT001
) -> None:
    """It removes the link and leaves the directory."""

    async def scenario() -> None:
        digest = write_as_registry_2(on_disk, referring(SUBJECT))
        if quiet:
            age(on_disk, 100)
        for _ in range(2):
            assert await listed(on_disk.store) == [digest]
            on_disk.records.delete(layout.revision_link(REPOSITORY, digest))
            assert await listed(on_disk.store) == []
            on_disk.records.write(layout.revision_link(REPOSITORY, digest), digest.encode())
        on_disk.records.write(layout.revision_link(REPOSITORY, digest), b"")
        assert await listed(on_disk.store) == []

    asyncio.run(scenario())


def test_a_blob_that_arrives_after_its_link_is_listed_then(stored: Backend) -> None:
    async def scenario() -> None:
        manifest = referring(SUBJECT)
        digest = digest_of(manifest)
        stored.records.write(layout.revision_link(REPOSITORY, digest), digest.encode())
        assert await listed(stored.store) == []
        stored.blobs.put(digest, manifest.data)
        assert await listed(stored.store) == [digest]

    asyncio.run(scenario())


def test_revisions_that_are_no_manifests_of_ours_do_no_harm(stored: Backend) -> None:
    async def scenario() -> None:
        for data in (b"", b"no json", b'{"schemaVersion": 1}', b'{"schemaVersion": 2, "subject": {"digest": 5}}'):
            digest = Digest.of(data)
            stored.blobs.put(digest, data)
            stored.records.write(layout.revision_link(REPOSITORY, digest), digest.encode())
        stored.records.write(Key(f"{layout.revisions(REPOSITORY, 'sha256')}/odd/link"), b"x")
        write_as_registry_2(stored, referring(SUBJECT))
        for _ in range(2):
            assert await listed(stored.store) == names(referring(SUBJECT))

    asyncio.run(scenario())


def test_lists_at_the_same_time_as_pushes_and_deletes_have_everything_that_stays(stored: Backend) -> None:
    async def scenario() -> None:
        chance = random.Random(3)
        await push_blobs(stored.store)
        stays = [referring(SUBJECT, ("stays", number)) for number in range(5)]
        comes = [referring(SUBJECT, ("comes", number)) for number in range(10)]
        for manifest in stays:
            await put(stored.store, manifest)

        async def come_and_go() -> None:
            for manifest in comes:
                digest = await put(stored.store, manifest)
                if chance.random() < 0.7:
                    await stored.store.delete_manifest(REPOSITORY, digest)

        async def look() -> None:
            for _ in range(30):
                found = await listed(stored.store)
                assert set(names(*stays)) <= set(found) <= set(names(*stays, *comes))
                assert found == sorted(found)

        await asyncio.gather(come_and_go(), look(), look())
        assert await listed(stored.store) == await listed(stored.open())

    asyncio.run(scenario())


# What it costs


def test_each_manifest_is_read_once(stored: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        reads = counting(stored, "blobs", "read", monkeypatch)
        for number in range(5):
            await put(stored.store, referring(SUBJECT, number))
            for _ in range(3):
                await listed(stored.store)
        assert sorted(reads) == names(*(referring(SUBJECT, number) for number in range(5)))

    asyncio.run(scenario())


def test_a_quiet_repository_is_not_listed_again(on_disk: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        await push_blobs(on_disk.store)
        await put(on_disk.store, referring(SUBJECT))
        age(on_disk, 100)
        assert await listed(on_disk.store) == names(referring(SUBJECT))
        lists = counting(on_disk, "records", "list", monkeypatch)
        assert await listed(on_disk.store) == names(referring(SUBJECT))
        assert lists == []

    asyncio.run(scenario())


def test_the_note_on_disk_spares_the_next_start_from_reading_everything(
    stored: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(module, "_NOTED_AFTER", 5)
        others = [image(number) for number in range(6)]
        for manifest in (*others, referring(SUBJECT, 1), referring(SUBJECT, 2)):
            write_as_registry_2(stored, manifest)
        expected = names(referring(SUBJECT, 1), referring(SUBJECT, 2))
        assert await listed(stored.store) == expected
        assert stored.records.read(layout.seen(REPOSITORY))

        again = stored.open()
        reads = counting(Backend(again._blobs, again._records, again, stored.open, None), "blobs", "read", monkeypatch)
        assert await listed(again) == expected
        assert sorted(reads) == expected, "only what is listed has to be read"
        write_as_registry_2(stored, referring(SUBJECT, 3))
        await stored.store.delete_manifest(REPOSITORY, digest_of(referring(SUBJECT, 1)))
        reads.clear()
        assert await listed(again) == names(referring(SUBJECT, 2), referring(SUBJECT, 3))
        assert reads == names(referring(SUBJECT, 3))

    asyncio.run(scenario())


def test_a_note_of_manifests_that_are_gone_or_changed_since_does_not_mislead(
    stored: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(module, "_NOTED_AFTER", 2)
        manifests = [referring(SUBJECT, number) for number in range(4)]
        for manifest in manifests:
            write_as_registry_2(stored, manifest)
        assert await listed(stored.store) == names(*manifests)
        stored.records.clear(layout.revision(REPOSITORY, digest_of(manifests[0])))
        stored.records.delete(layout.revision_link(REPOSITORY, digest_of(manifests[1])))
        write_as_registry_2(stored, referring(SUBJECT, 9))
        assert await listed(stored.open()) == names(manifests[2], manifests[3], referring(SUBJECT, 9))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "garbled",
    [
        b"",
        b"\0" * 100,
        b"\xff\xfe",
        b"no digest",
        digest_of(referring(SUBJECT, 0)).encode() + b" sha256:ab",
        digest_of(referring(SUBJECT, 0)).encode()[:40],
        Digest.of(b"unknown").encode() + b" " + digest_of(SUBJECT).encode() + b"\n\n\nmore",
    ],
)
def test_a_garbled_note_is_only_a_slower_start(stored: Backend, garbled: bytes) -> None:
    async def scenario() -> None:
        manifests = [referring(SUBJECT, number) for number in range(3)]
        for manifest in manifests:
            write_as_registry_2(stored, manifest)
        stored.records.write(layout.seen(REPOSITORY), garbled)
        assert await listed(stored.open()) == names(*manifests)

    asyncio.run(scenario())


def test_asking_for_repositories_that_are_not_there_writes_nothing_and_is_forgotten(
    stored: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(module, "_REPOSITORIES_REMEMBERED", 10)
        await push_blobs(stored.store)
        await put(stored.store, referring(SUBJECT))
        for number in range(50):
            name = RepositoryName(f"nobody/{number}")
            assert (await stored.store.referrers(name, digest_of(SUBJECT))).entries == ()
        assert len(stored.store._referrers._repositories) <= 10
        assert await listed(stored.store) == names(referring(SUBJECT))
        with pytest.raises(Missing):
            stored.records.read(layout.seen(RepositoryName("nobody/1")))
        assert (await stored.store.repositories()).names == (REPOSITORY,)

    asyncio.run(scenario())
