"""Manifests of a repository: what a push needs, tags, conditions, deletes, and all of it at the same time."""

import asyncio
import random
import re
from pathlib import Path
from typing import Any

import pytest
from making import (
    CONFIG,
    LAYER,
    OTHER,
    REPOSITORY,
    V1,
    Backend,
    backend,
    descriptor,
    digest_of,
    image,
    index,
    push_blob,
    push_blobs,
    put,
    referring,
)

from registry.oci.digest import Digest
from registry.oci.errors import (
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    PreconditionFailed,
)
from registry.oci.headers import Condition
from registry.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Manifest, Platform
from registry.oci.names import Reference, Tag
from registry.storage import layout
from registry.store.base import Store
from registry.store.local import LocalStore
from registry.store.rules import Rules

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


async def tagged(store: Store, tag: Tag = V1) -> Digest | None:
    try:
        return (await store.manifest(REPOSITORY, tag)).digest
    except ManifestUnknown:
        return None


async def has(store: Store, reference: Reference) -> bool:
    try:
        found = await store.manifest(REPOSITORY, reference)
    except ManifestUnknown:
        return False
    assert Digest.of(found.data, found.digest.algorithm) == found.digest
    return True


def condition(**headers: str) -> Condition:
    return Condition.parse({name.replace("_", "-"): value for name, value in headers.items()})


# Pushed and pulled


def test_a_pushed_manifest_is_pulled_by_tag_and_by_digest_with_its_bytes_and_type(stored: Backend) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        for media_type in (OCI_MANIFEST, DOCKER_MANIFEST):
            manifest = image(mediaType=media_type)
            digest = await put(stored.store, manifest, "v1", "v2")
            for store in (stored.store, stored.open()):
                for reference in (digest, Tag("v1"), Tag("v2")):
                    found = await store.manifest(REPOSITORY, reference)
                    assert (found.digest, found.media_type, found.data) == (digest, media_type, manifest.data)

    asyncio.run(scenario())


def test_a_manifest_without_a_tag_is_there_by_its_digest(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        digest = await put(store, image())
        assert await has(store, digest)
        assert (await store.tags(REPOSITORY)).names == ()

    asyncio.run(scenario())


def test_a_manifest_may_be_named_by_sha512(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        manifest = image()
        digest = Digest.of(manifest.data, "sha512")
        await store.put_manifest(REPOSITORY, digest, manifest, [V1])
        assert (await store.manifest(REPOSITORY, V1)).digest == digest
        assert (await store.manifest(REPOSITORY, digest)).data == manifest.data
        assert not await has(store, Digest.of(manifest.data))
        assert (await store.repositories()).names == (REPOSITORY,)

    asyncio.run(scenario())


def test_an_unknown_manifest_is_named_in_the_error(store: LocalStore) -> None:
    async def scenario() -> None:
        for reference in (V1, Digest.of(b"x")):
            for ask in (store.manifest, store.delete_manifest):
                with pytest.raises(ManifestUnknown) as unknown:
                    await ask(REPOSITORY, reference)
                assert unknown.value.detail == {"name": REPOSITORY, "reference": reference}

    asyncio.run(scenario())


def test_a_manifest_is_in_its_repository_alone(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        digest = await put(store, image(), "v1")
        for reference in (V1, digest):
            with pytest.raises(ManifestUnknown):
                await store.manifest(OTHER, reference)

    asyncio.run(scenario())


def test_a_tag_moves(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        one, two = await put(store, image(1), "v1"), await put(store, image(2), "v1")
        assert await tagged(store) == two
        assert await has(store, one)
        assert await put(store, image(1), "v1") == one
        assert await tagged(store) == one

    asyncio.run(scenario())


# What a manifest needs


def test_everything_that_is_missing_is_listed_in_order(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blob(store, b"two")
        with pytest.raises(ManifestBlobUnknown) as missing:
            await put(store, image("", b"one", b"two", b"three"), "v1")
        assert missing.value.missing == tuple(Digest.of(data) for data in (CONFIG, b"one", b"three"))
        assert await tagged(store) is None
        with pytest.raises(NameUnknown):
            await store.tags(OTHER)

    asyncio.run(scenario())


def test_a_blob_of_another_repository_is_missing(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blob(store, CONFIG)
        await push_blob(store, LAYER, OTHER)
        with pytest.raises(ManifestBlobUnknown) as missing:
            await put(store, image())
        assert missing.value.missing == (Digest.of(LAYER),)

    asyncio.run(scenario())


def test_a_deleted_or_torn_blob_is_missing(on_disk: Backend) -> None:
    async def scenario() -> None:
        store = on_disk.store
        await push_blobs(store)
        await store.delete_blob(REPOSITORY, Digest.of(CONFIG))
        assert on_disk.root is not None
        (on_disk.root / layout.blob(Digest.of(LAYER))).write_bytes(b"")
        with pytest.raises(ManifestBlobUnknown) as missing:
            await put(store, image())
        assert missing.value.missing == (Digest.of(CONFIG), Digest.of(LAYER))

    asyncio.run(scenario())


@pytest.mark.parametrize("layer", [descriptor(b"x", urls=["https://example.org/x"]), descriptor(b"x", FOREIGN)])
def test_a_foreign_layer_may_be_elsewhere(store: LocalStore, layer: dict[str, Any]) -> None:
    async def scenario() -> None:
        await push_blob(store, CONFIG)
        assert await has(store, await put(store, image(layers=[layer])))

    asyncio.run(scenario())


def test_a_subject_need_not_be_there(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        assert await has(store, await put(store, referring(Digest.of(b"not pushed yet"))))

    asyncio.run(scenario())


def test_every_child_of_an_index_has_to_be_there(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        await put(store, image(1))
        with pytest.raises(ManifestBlobUnknown) as missing:
            await put(store, index(image(1), image(2), image(3)))
        assert missing.value.missing == (digest_of(image(2)), digest_of(image(3)))
        for number in (2, 3):
            await put(store, image(number))
        top = await put(store, index(image(1), image(2), image(3)), "v1")
        assert (await store.manifest(REPOSITORY, top)).media_type == OCI_INDEX

    asyncio.run(scenario())


def test_an_index_may_list_indexes_and_blobs(store: LocalStore) -> None:
    """BuildKit's older caches are indexes of blobs."""

    async def scenario() -> None:
        await push_blobs(store)
        await put(store, image())
        inner = index(image())
        await put(store, inner)
        cache = descriptor(CONFIG, "application/vnd.buildkit.cacheconfig.v0")
        assert await has(store, await put(store, index(inner, cache, descriptor(LAYER))))

    asyncio.run(scenario())


ARM = Platform(architecture="arm", os="linux", variant="v7")


@pytest.mark.parametrize(
    ("platforms", "child", "needed"),
    [
        (None, {}, True),
        (None, {"architecture": "arm", "os": "linux"}, True),
        (frozenset(), {}, False),
        (frozenset(), {"architecture": "arm", "os": "linux"}, False),
        (frozenset([ARM]), {"architecture": "arm", "os": "linux", "variant": "v7"}, True),
        (frozenset([ARM]), {"architecture": "arm", "os": "linux", "variant": "v6"}, False),
        (frozenset([ARM]), {"architecture": "arm", "os": "linux"}, False),
        (frozenset([ARM]), {"architecture": "arm", "os": "windows", "variant": "v7"}, False),
        (frozenset([ARM]), None, False),
        (frozenset([Platform(architecture="arm", os="linux")]), {"architecture": "arm", "os": "linux"}, True),
        (
            frozenset([Platform(architecture="arm", os="linux")]),
            {"architecture": "arm", "os": "linux", "variant": "v6"},
            True,
        ),
        (
            frozenset([ARM, Platform(architecture="amd64", os="linux")]),
            {"architecture": "amd64", "os": "linux"},
            True,
        ),
    ],
)
def test_an_index_may_be_sparse_where_the_rules_say_so(
    stored: Backend,
    platforms: frozenset[Platform] | None,
    child: dict[str, str] | None,
    needed: bool,  # noqa: FBT001
) -> None:
    more = {} if child is None else {"platform": child}
    top = index(descriptor(b"not here", OCI_MANIFEST, **more))

    async def scenario() -> None:
        store = stored.open(Rules(platforms=platforms))
        if needed:
            with pytest.raises(ManifestBlobUnknown):
                await put(store, top)
        else:
            assert await has(store, await put(store, top))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("allow", "deny", "urls", "fits"),
    [
        ([], [], ["https://a.example/x"], True),
        ([r"^https://a\.example/"], [], ["https://a.example/x"], True),
        ([r"^https://a\.example/"], [], ["https://b.example/x"], False),
        ([r"^https://a\.example/"], [], ["https://a.example/x", "https://b.example/x"], False),
        ([r"^https://a\.", r"^https://b\."], [], ["https://a.example/x", "https://b.example/x"], True),
        ([], [r"\.evil/"], ["https://a.example/x"], True),
        ([], [r"\.evil/"], ["https://a.evil/x"], False),
        ([r"^https://"], [r"\.evil/"], ["https://a.evil/x"], False),
        ([r"^https://"], [], [], True),
        ([r"^https://"], [], None, True),
    ],
)
def test_addresses_of_layers_keep_the_rules(
    stored: Backend,
    allow: list[str],
    deny: list[str],
    urls: list[str] | None,
    fits: bool,  # noqa: FBT001
) -> None:
    rules = Rules(allow=tuple(map(re.compile, allow)), deny=tuple(map(re.compile, deny)))

    async def scenario() -> None:
        store = stored.open(rules)
        await push_blobs(store)
        await put(store, image("child"))
        for manifest in (
            image(layers=[descriptor(LAYER, urls=urls)]),
            index(descriptor(image("child").data, OCI_MANIFEST, urls=urls)),
        ):
            if fits:
                assert await has(store, await put(store, manifest))
            else:
                with pytest.raises(ManifestInvalid, match=r"validation\.manifests\.urls"):
                    await put(store, manifest)
                assert not await has(store, digest_of(manifest))

    asyncio.run(scenario())


# Conditions


def test_a_push_on_condition_that_nothing_is_there_makes_the_tag_once(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        first = await put(store, image(1), "v1", condition=condition(if_none_match="*"))
        with pytest.raises(PreconditionFailed) as failed:
            await put(store, image(2), "v1", condition=condition(if_none_match="*"))
        assert failed.value.detail == {"reference": V1, "current": first}
        assert await tagged(store) == first
        assert not await has(store, digest_of(image(2)))

    asyncio.run(scenario())


def test_a_push_on_condition_of_what_is_there_moves_the_tag(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        with pytest.raises(PreconditionFailed):
            await put(store, image(1), "v1", condition=condition(if_match="*"))
        first = await put(store, image(1), "v1")
        second = await put(store, image(2), "v1", condition=condition(if_match=f'"{first}"'))
        with pytest.raises(PreconditionFailed):
            await put(store, image(3), "v1", condition=condition(if_match=f'"{first}"'))
        assert await tagged(store) == second

    asyncio.run(scenario())


def test_a_condition_is_on_the_first_tag_or_on_the_digest_without_tags(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        await put(store, image(1), "v2")
        await put(store, image(2), "v1", "v2", condition=condition(if_none_match="*"))
        assert await tagged(store, Tag("v2")) == digest_of(image(2))
        with pytest.raises(PreconditionFailed):
            await put(store, image(2), condition=condition(if_none_match="*"))
        await put(store, image(3), condition=condition(if_none_match="*"))
        assert await has(store, digest_of(image(3)))

    asyncio.run(scenario())


def test_a_condition_is_looked_at_before_what_is_missing(store: LocalStore) -> None:
    async def scenario() -> None:
        with pytest.raises(PreconditionFailed):
            await put(store, image(), "v1", condition=condition(if_match="*"))
        with pytest.raises(ManifestBlobUnknown):
            await put(store, image(), "v1", condition=condition(if_none_match="*"))

    asyncio.run(scenario())


@pytest.mark.parametrize("started_from", ["nothing", "something"])
def test_of_many_pushes_on_one_condition_exactly_one_wins(stored: Backend, started_from: str) -> None:
    async def scenario() -> None:
        stores = [stored.store, stored.open(), stored.open()]
        await push_blobs(stored.store)
        for turn in range(10):
            tag = f"t{turn}"
            wanted = condition(if_none_match="*")
            if started_from == "something":
                wanted = condition(if_match=f'"{await put(stored.store, image("start"), tag)}"')
            contenders = [image((turn, number)) for number in range(8)]
            results = await asyncio.gather(
                *(put(stores[n % 3], one, tag, condition=wanted) for n, one in enumerate(contenders)),
                return_exceptions=True,
            )
            won = [result for result in results if isinstance(result, Digest)]
            lost = [result for result in results if isinstance(result, PreconditionFailed)]
            assert (len(won), len(lost)) == (1, 7), results
            assert await tagged(stored.store, Tag(tag)) == won[0]

    asyncio.run(scenario())


# Deletes


def test_deleting_a_tag_leaves_the_manifest_and_other_tags(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        digest = await put(store, image(), "v1", "v2")
        await store.delete_manifest(REPOSITORY, V1)
        assert await tagged(store) is None
        assert await tagged(store, Tag("v2")) == digest
        assert await has(store, digest)
        with pytest.raises(ManifestUnknown):
            await store.delete_manifest(REPOSITORY, V1)

    asyncio.run(scenario())


def test_deleting_a_manifest_takes_its_tags_and_no_others(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        one = await put(store, image(1), "a", "b", "moved")
        two = await put(store, image(2), "c", "moved")
        await store.delete_manifest(REPOSITORY, one)
        assert not await has(store, one)
        assert (await store.tags(REPOSITORY)).names == ("c", "moved")
        assert await tagged(store, Tag("moved")) == two
        with pytest.raises(ManifestUnknown):
            await store.delete_manifest(REPOSITORY, one)

    asyncio.run(scenario())


def test_a_deleted_manifest_can_be_pushed_again_without_its_blobs(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        digest = await put(store, image(), "v1")
        await store.delete_manifest(REPOSITORY, digest)
        assert await put(store, image(), "v1") == digest
        assert await tagged(store) == digest

    asyncio.run(scenario())


def test_a_tag_of_a_manifest_that_is_lost_can_be_deleted(stored: Backend) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        stored.records.write(layout.tag_link(REPOSITORY, V1), Digest.of(b"lost").encode())
        assert await tagged(stored.store) is None
        await stored.store.delete_manifest(REPOSITORY, V1)
        with pytest.raises(ManifestUnknown):
            await stored.store.delete_manifest(REPOSITORY, V1)

    asyncio.run(scenario())


# What registry:2 left


@pytest.mark.parametrize("garbled", [b"", b"\0" * 71, b"sha256:abc", b"v1", b"\xff"])
def test_a_garbled_tag_or_revision_link_is_none(stored: Backend, garbled: bytes) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        digest = await put(stored.store, image(), "v1")
        stored.records.write(layout.tag_link(REPOSITORY, V1), garbled)
        assert await tagged(stored.store) is None
        assert await has(stored.store, digest)
        stored.records.write(layout.revision_link(REPOSITORY, digest), garbled)
        assert not await has(stored.store, digest)
        await put(stored.store, image(), "v1")
        assert await tagged(stored.store) == digest

    asyncio.run(scenario())


def test_a_tag_with_an_index_and_no_current_link_does_not_exist(stored: Backend) -> None:
    """What a crash of registry:2 leaves between its two writes; registry:2 itself lists such a tag."""

    async def scenario() -> None:
        await push_blobs(stored.store)
        digest = await put(stored.store, image(), "v1")
        stored.records.write(layout.tag_index_link(REPOSITORY, Tag("half"), digest), digest.encode())
        assert (await stored.store.tags(REPOSITORY)).names == ("v1",)
        assert await tagged(stored.store, Tag("half")) is None
        with pytest.raises(ManifestUnknown):
            await stored.store.delete_manifest(REPOSITORY, Tag("half"))

    asyncio.run(scenario())


def test_a_manifest_that_is_linked_only_among_the_layers_is_pulled_and_deleted(stored: Backend) -> None:
    """Distribution up to 2.1 wrote such links."""

    async def scenario() -> None:
        await push_blobs(stored.store)
        manifest = image()
        digest = digest_of(manifest)
        stored.blobs.put(digest, manifest.data)
        stored.records.write(layout.layer_link(REPOSITORY, digest), digest.encode())
        stored.records.write(layout.tag_link(REPOSITORY, V1), digest.encode())
        assert (await stored.store.manifest(REPOSITORY, digest)).data == manifest.data
        assert await tagged(stored.store) == digest
        await stored.store.delete_manifest(REPOSITORY, digest)
        assert not await has(stored.store, digest)
        assert await tagged(stored.store) is None

    asyncio.run(scenario())


def test_a_layer_is_no_manifest(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        assert not await has(store, Digest.of(LAYER))
        assert not await has(store, Digest.of(CONFIG))

    asyncio.run(scenario())


def test_a_revision_that_registry_2_took_is_served_whatever_else_it_holds(stored: Backend) -> None:
    async def scenario() -> None:
        data = b'{"schemaVersion": 2, "mediaType": "%s", "config": {"size": "odd"}}' % OCI_MANIFEST.encode()
        digest = Digest.of(data)
        with pytest.raises(ManifestInvalid):
            Manifest.parse(data)
        stored.blobs.put(digest, data)
        stored.records.write(layout.revision_link(REPOSITORY, digest), digest.encode())
        found = await stored.store.manifest(REPOSITORY, digest)
        assert (found.media_type, found.data) == (OCI_MANIFEST, data)

    asyncio.run(scenario())


def test_a_damaged_manifest_is_unknown_until_it_is_pushed_again(stored: Backend) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        digest = await put(stored.store, image(), "v1")
        if stored.root is None:
            stored.blobs._blobs[digest] = b""  # type: ignore[attr-defined]
        else:
            (stored.root / layout.blob(digest)).write_bytes(b"")
        assert await tagged(stored.store) is None
        await put(stored.store, image(), "v1")
        assert await tagged(stored.store) == digest

    asyncio.run(scenario())


# At the same time


async def every_tag_names_something(store: Store) -> None:
    """While only deletes go on: a tag that went since the list is not in the next one."""
    for tag in (await store.tags(REPOSITORY)).names:
        if not await has(store, Tag(tag)):
            assert tag not in (await store.tags(REPOSITORY)).names, f"the tag {tag} names nothing"


def test_pushes_and_deletes_of_one_manifest_at_once_leave_no_tag_that_names_nothing(stored: Backend) -> None:
    async def scenario() -> None:
        chance = random.Random(1)
        stores = [stored.store, stored.open()]
        await push_blobs(stored.store)
        manifest = image()
        digest = digest_of(manifest)

        async def delete(store: Store, reference: Reference) -> None:
            try:
                await store.delete_manifest(REPOSITORY, reference)
            except ManifestUnknown:
                return

        for turn in range(60):
            work = [put(stores[n % 2], manifest, f"t{n % 3}") for n in range(3)]
            work += [delete(stores[n % 2], digest if n % 2 else Tag(f"t{n % 3}")) for n in range(3)]
            chance.shuffle(work)
            await asyncio.gather(*work)
            await every_tag_names_something(stores[turn % 2])
            await put(stores[turn % 2], manifest, "last")
            for store in stores:
                assert await tagged(store, Tag("last")) == digest

    asyncio.run(scenario())


def test_a_push_that_ends_last_stands_against_deletes_that_began_before_it(stored: Backend) -> None:
    """Deletes run all the time in another process; each acknowledged push is pulled until one of them takes it."""

    async def scenario() -> None:
        other = stored.open()
        await push_blobs(stored.store)
        manifest = image()
        digest = digest_of(manifest)
        done = asyncio.Event()
        deletes = 0

        async def keep_deleting() -> None:
            nonlocal deletes
            while not done.is_set():
                try:
                    await other.delete_manifest(REPOSITORY, digest)
                    deletes += 1
                except ManifestUnknown:
                    await asyncio.sleep(0)

        deleting = asyncio.create_task(keep_deleting())
        for _ in range(60):
            await put(stored.store, manifest, "v1")
            await every_tag_names_something(stored.open())
        done.set()
        await deleting
        assert deletes, "nothing was deleted meanwhile"
        await put(stored.store, manifest, "v1")
        assert await tagged(stored.store) == digest

    asyncio.run(scenario())


def test_a_tag_that_many_move_names_one_of_them(stored: Backend) -> None:
    async def scenario() -> None:
        stores = [stored.store, stored.open()]
        await push_blobs(stored.store)
        for _ in range(5):
            digests = await asyncio.gather(*(put(stores[n % 2], image(n), "v1") for n in range(10)))
            assert await tagged(stored.store) in digests
            assert await tagged(stored.open()) == await tagged(stored.store)

    asyncio.run(scenario())


def test_two_media_answer_alike(directory: Path) -> None:
    """The memory is the executable specification of the disk: the same steps, the same answers."""
    steps: list[tuple[str, Any]] = []
    chance = random.Random(7)
    for _ in range(150):
        number, tag = chance.randrange(4), f"t{chance.randrange(3)}"
        steps.append(
            chance.choice(
                [("put", (number, tag)), ("put", (number, tag)), ("delete tag", tag), ("delete", number), ("get", tag)]
            )
        )

    async def answer(store: Store, step: tuple[str, Any]) -> Any:
        match step:
            case "put", (number, tag):
                return await put(store, image(number), tag)
            case "delete tag", tag:
                return await store.delete_manifest(REPOSITORY, Tag(tag))
            case "delete", number:
                return await store.delete_manifest(REPOSITORY, digest_of(image(number)))
            case _, tag:
                return await tagged(store, Tag(tag))

    async def answers(store: Store) -> list[Any]:
        await push_blobs(store)
        await put(store, image("stays"))
        found = []
        for step in steps:
            try:
                found.append(await answer(store, step))
            except ManifestUnknown as error:
                found.append(error.detail)
            found.append(await store.tags(REPOSITORY))
            found.append(await store.repositories())
        return found

    with backend(None) as memory, backend(directory / "data") as disk:
        assert asyncio.run(answers(memory.store)) == asyncio.run(answers(disk.store))
