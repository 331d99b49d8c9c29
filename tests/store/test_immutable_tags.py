"""A tag that a policy makes immutable names one manifest for ever; whatever would change that is refused whole."""

import asyncio
import re

import pytest
from making import CONFIG, LAYER, OTHER, REPOSITORY, Backend, digest_of, image, index, push_blobs, put

from registry.oci.errors import Denied, ManifestUnknown
from registry.oci.headers import Condition
from registry.oci.names import Tag
from registry.oci.patterns import RepositoryPattern
from registry.store.immutable import ImmutableTags, Protection
from registry.store.local import LocalStore
from registry.store.rules import Rules

pytestmark = pytest.mark.anyio

RELEASES = Protection("retention.policies.0.immutable", (RepositoryPattern("library/app"),), (re.compile(r"v[0-9]+"),))


@pytest.fixture
def store(stored: Backend) -> LocalStore:
    protecting = ImmutableTags((RELEASES,))
    return LocalStore(stored.blobs, stored.records, stored.store._threads, Rules(), protecting)


async def test_moving_an_immutable_tag_is_denied_with_the_tag_and_the_rule(store: LocalStore) -> None:
    await push_blobs(store)
    first = await put(store, image("first"), "v1")
    with pytest.raises(Denied, match=r"the tag v1 is immutable \('v\[0-9\]\+' of retention\.policies\.0\.immutable\)"):
        await put(store, image("second"), "v1")
    assert (await store.manifest(REPOSITORY, Tag("v1"))).digest == first


async def test_a_denied_push_leaves_nothing(store: LocalStore) -> None:
    await push_blobs(store)
    await put(store, image("first"), "v1")
    second = image("second")
    with pytest.raises(Denied):
        await put(store, second, "latest", "v1")
    with pytest.raises(ManifestUnknown):
        await store.manifest(REPOSITORY, digest_of(second))
    assert (await store.tags(REPOSITORY)).names == ("v1",)
    assert digest_of(second) not in {blob.digest for blob in store._blobs.walk()}


async def test_pushing_the_same_manifest_again_is_taken(store: LocalStore) -> None:
    await push_blobs(store)
    assert await put(store, image("first"), "v1") == await put(store, image("first"), "v1")


async def test_the_pattern_must_fit_the_whole_tag(store: LocalStore) -> None:
    await push_blobs(store)
    await put(store, image("first"), "v1-rc")
    second = await put(store, image("second"), "v1-rc")
    assert (await store.manifest(REPOSITORY, Tag("v1-rc"))).digest == second


async def test_tags_of_other_repositories_move(store: LocalStore) -> None:
    await push_blobs(store, CONFIG, LAYER, repository=OTHER)
    await put(store, image("first"), "v1", repository=OTHER)
    second = await put(store, image("second"), "v1", repository=OTHER)
    assert (await store.manifest(OTHER, Tag("v1"))).digest == second


async def test_an_immutable_tag_cannot_be_deleted(store: LocalStore) -> None:
    await push_blobs(store)
    first = await put(store, image("first"), "v1", "latest")
    with pytest.raises(Denied, match="the tag v1 is immutable"):
        await store.delete_manifest(REPOSITORY, Tag("v1"))
    await store.delete_manifest(REPOSITORY, Tag("latest"))
    assert (await store.manifest(REPOSITORY, Tag("v1"))).digest == first


async def test_deleting_a_manifest_that_an_immutable_tag_names_is_denied_and_keeps_its_other_tags(
    store: LocalStore,
) -> None:
    await push_blobs(store)
    first = await put(store, image("first"), "latest", "v1")
    with pytest.raises(Denied, match="the tag v1 is immutable"):
        await store.delete_manifest(REPOSITORY, first)
    assert (await store.tags(REPOSITORY)).names == ("latest", "v1")


async def test_an_immutable_tag_that_is_not_there_is_unknown(store: LocalStore) -> None:
    with pytest.raises(ManifestUnknown):
        await store.delete_manifest(REPOSITORY, Tag("v1"))


async def test_a_condition_that_holds_does_not_move_an_immutable_tag(store: LocalStore) -> None:
    await push_blobs(store)
    first = await put(store, image("first"), "v1")
    condition = Condition.parse({"if-match": f'"{first}"'})
    with pytest.raises(Denied, match="immutable"):
        await put(store, image("second"), "v1", condition=condition)


async def test_an_index_does_not_take_the_tag_of_an_image(store: LocalStore) -> None:
    await push_blobs(store)
    child = image("first")
    await put(store, child, "v1")
    with pytest.raises(Denied):
        await put(store, index(child), "v1")


async def test_of_pushes_that_race_for_an_immutable_tag_one_wins(store: LocalStore) -> None:
    await push_blobs(store)
    for turn in range(20):
        pushes = [put(store, image((turn, seed)), f"v{turn}") for seed in range(4)]
        ends = await asyncio.gather(*pushes, return_exceptions=True)
        won = [end for end in ends if not isinstance(end, BaseException)]
        assert len(won) == 1
        assert [type(end) for end in ends].count(Denied) == 3
        assert (await store.manifest(REPOSITORY, Tag(f"v{turn}"))).digest == won[0]


def test_the_first_policy_that_fits_a_repository_decides() -> None:
    everything = Protection("second", (RepositoryPattern("**"),), (re.compile(".*"),))
    tags = ImmutableTags((RELEASES, everything))
    assert tags.rule(REPOSITORY, Tag("latest")) is None
    assert tags.rule(OTHER, Tag("latest")) == "'.*' of second"
