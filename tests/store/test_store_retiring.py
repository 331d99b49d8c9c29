"""Retention in a garbage collection: which tags and manifests go, and what does not."""

import os
import threading

import pytest
from making import OTHER, REPOSITORY, Backend, digest_of, image, index, push_blobs, put, referring
from test_store_collection import GRACE, LONG_AGO, Collecting

from registry.oci.names import Tag
from registry.oci.patterns import RepositoryPattern
from registry.storage import layout
from registry.store import links, retiring
from registry.store.gc import Collector, Options, Report
from registry.store.retention import Policy, Retention, Rule

pytestmark = pytest.mark.anyio

DAY = 86_400.0
LAST = Retention([Policy("p", (RepositoryPattern("**"),), (Rule("p.keep.0", last=1),), untagged=1.0)])


class Retiring(Collecting):
    """Collections with retention."""

    def run(self, retention: Retention, **options: bool) -> Report:
        self.notes.__init__()  # type: ignore[misc]
        wanted = Options(GRACE, retention=retention, **options)
        return Collector(self.stored.blobs, self.stored.records, wanted, self.notes).collect()

    def tags(self) -> set[str]:
        return {
            tag
            for tag in links.tags(self.stored.records, REPOSITORY)
            if links.is_there(self.stored.records, layout.tag_link(REPOSITORY, tag))
        }

    def pushed(self, tag: str, when: float) -> None:
        key = layout.tag_link(REPOSITORY, Tag(tag))
        if self.stored.root is None:
            self.stored.records._written[key] = when  # type: ignore[attr-defined]
        else:
            os.utime(self.stored.root / key, (when, when))


@pytest.fixture
def storage(stored: Backend) -> Retiring:
    return Retiring(stored)


async def two_images(storage: Retiring) -> tuple:
    store = storage.stored.store
    first, second = image("first"), image("second")
    await push_blobs(store)
    await put(store, first, "first")
    await put(store, second, "second")
    storage.age()
    storage.pushed("second", LONG_AGO + 1)
    return first, second


async def test_tags_go_and_their_manifests_with_them(storage: Retiring) -> None:
    first, second = await two_images(storage)
    report = storage.run(LAST)
    assert (report.tags_removed, report.manifests_removed) == (1, 1)
    assert storage.tags() == {"second"}
    assert not await storage.has(first)
    assert await storage.is_whole(second)
    assert digest_of(first) not in storage.blobs()
    assert storage.run(LAST).tags_removed == 0


async def test_a_dry_run_tells_of_every_tag_and_changes_nothing(storage: Retiring) -> None:
    first, _ = await two_images(storage)
    report = storage.run(LAST, dry_run=True)
    assert (report.tags_removed, report.manifests_removed) == (1, 1)
    assert storage.tags() == {"first", "second"}
    assert await storage.is_whole(first)
    told = {verdict.tag.name: (verdict.stays, verdict.reason) for _, verdict in storage.notes.judgements}
    assert told == {"second": (True, "p.keep.0.last: 1"), "first": (False, "no rule of p.keep keeps it")}


async def test_a_run_tells_of_the_tags_that_go(storage: Retiring) -> None:
    await two_images(storage)
    storage.run(LAST)
    assert [(name, verdict.tag.name) for name, verdict in storage.notes.judgements] == [(REPOSITORY, "first")]


async def test_without_untagged_the_manifests_stay(storage: Retiring) -> None:
    first, _ = await two_images(storage)
    report = storage.run(Retention([Policy("p", (RepositoryPattern("**"),), (Rule("r", last=1),))]))
    assert (report.tags_removed, report.manifests_removed, report.blobs_removed) == (1, 0, 0)
    assert await storage.is_whole(first)


async def test_untagged_manifests_go_when_they_are_old_enough(storage: Retiring) -> None:
    store = storage.stored.store
    old, parted, tagged = image("old"), image("part"), image("tagged")
    await push_blobs(store)
    for each in (old, parted):
        await put(store, each)
    await put(store, tagged, "tagged")
    await put(store, index(parted), "index")
    referrer = referring(tagged)
    await put(store, referrer)
    storage.age()
    patterns = (RepositoryPattern("**"),)
    assert storage.run(Retention([Policy("p", patterns, untagged=1000 * DAY)])).manifests_removed == 0
    assert storage.run(Retention([Policy("p", patterns, untagged=1.0)])).manifests_removed == 1
    assert not await storage.has(old)
    for each in (parted, tagged, referrer):
        assert await storage.is_whole(each)


async def test_a_manifest_that_is_younger_than_the_grace_stays_whatever_untagged_says(storage: Retiring) -> None:
    store = storage.stored.store
    await push_blobs(store)
    young = image("young")
    await put(store, young)
    assert storage.run(LAST).manifests_removed == 0
    assert await storage.is_whole(young)


async def test_other_repositories_keep_their_untagged_manifests_and_what_these_need(storage: Retiring) -> None:
    store = storage.stored.store
    here, there = image("here"), image("there")
    for repository, each in ((REPOSITORY, here), (OTHER, there)):
        await push_blobs(store, repository=repository)
        await put(store, each, repository=repository)
    storage.age()
    retention = Retention([Policy("p", (RepositoryPattern(REPOSITORY),), untagged=1.0)])
    assert storage.run(retention).manifests_removed == 1
    assert not await storage.has(here)
    assert await storage.is_whole(there, OTHER)


async def test_a_policy_decides_about_its_repositories_and_delete_untagged_about_the_rest(storage: Retiring) -> None:
    store = storage.stored.store
    here, there = image("here"), image("there")
    for repository, each in ((REPOSITORY, here), (OTHER, there)):
        await push_blobs(store, repository=repository)
        await put(store, each, repository=repository)
    storage.age()
    retention = Retention([Policy("p", (RepositoryPattern(REPOSITORY),), untagged=10_000 * DAY)])
    assert storage.run(retention, delete_untagged=True).manifests_removed == 1
    assert await storage.is_whole(here)
    assert not await storage.has(there, OTHER)


async def test_a_torn_tag_is_left_for_a_repair(storage: Retiring) -> None:
    first, _ = await two_images(storage)
    storage.stored.records.write(layout.tag_link(REPOSITORY, Tag("first")), b"")
    report = storage.run(LAST)
    assert report.tags_removed == 0
    assert len(report.problems) == 1
    assert await storage.is_whole(first)


async def test_a_push_again_makes_a_tag_the_newest(storage: Retiring) -> None:
    first, _ = await two_images(storage)
    await put(storage.stored.store, first, "first")
    storage.run(LAST)
    assert storage.tags() == {"first"}


async def test_what_is_pushed_while_it_waits_for_the_lock_counts(on_disk: Backend) -> None:
    """A tag that was to go, and is pushed again before it does, stays, and the one that was to stay may go."""
    storage = Retiring(on_disk)
    first, second = await two_images(storage)
    records = storage.stored.records
    with records.shared(layout.lock(REPOSITORY)):
        run = threading.Thread(target=storage.run, args=(LAST,))
        run.start()
        run.join(0.5)
        assert run.is_alive()
        links.write(records, layout.tag_link(REPOSITORY, Tag("first")), digest_of(first))
    run.join(30)
    assert storage.tags() == {"first"}
    assert await storage.is_whole(first)
    assert not await storage.has(second)


async def test_many_tags_go_in_turns_with_pushes(storage: Retiring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retiring, "_HOLD", 0.0)
    store = storage.stored.store
    await push_blobs(store)
    for number in range(7):
        await put(store, image(number), f"t{number}")
    storage.age()
    assert storage.run(LAST).tags_removed == 6
    assert storage.tags() == {"t6"}
