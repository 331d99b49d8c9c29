"""Garbage collection of a store: what counts, what goes, and what makes it stop before anything goes."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from making import (
    CONFIG,
    LAYER,
    OTHER,
    REPOSITORY,
    V1,
    Backend,
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
from registry.oci.errors import BlobUnknown, ManifestUnknown
from registry.oci.manifest import Manifest
from registry.oci.names import RepositoryName
from registry.storage import layout
from registry.storage.base import Busy, Key
from registry.storage.filesystem import FilesystemBlobs
from registry.storage.memory import MemoryBlobs, MemoryRecords
from registry.store import gc, links
from registry.store.gc import Aborted, Collector, Options, Report
from registry.store.retention import Verdict
from registry.store.survey import Survey

pytestmark = pytest.mark.anyio

GRACE = 3600.0
LONG_AGO = time.time() - 100 * GRACE


@dataclass
class Notes:
    """What a run told."""

    manifests: list[tuple[str, str]] = field(default_factory=list)
    blobs: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    counted: tuple[int, int, int] | None = None
    judgements: list[tuple[str, Verdict]] = field(default_factory=list)

    def judged(self, repository: RepositoryName, verdict: Verdict) -> None:
        self.judgements.append((repository, verdict))

    def begin(self, task: str, steps: int) -> None:
        self.tasks.append(task)

    def advance(self) -> None:
        pass

    def surveyed(self, survey: Survey, needed: set[Digest]) -> None:
        pass

    def manifest_goes(self, repository: RepositoryName, digest: Digest) -> None:
        self.manifests.append((repository, digest))

    def blob_goes(self, digest: Digest) -> None:
        self.blobs.append(digest)

    def marked(self, blobs: int, eligible: int, manifests: int) -> None:
        self.counted = (blobs, eligible, manifests)


@dataclass
class Collecting:
    """A store, and collections on it after everything has become old."""

    stored: Backend
    notes: Notes = field(default_factory=Notes)

    def age(self, *only: Digest) -> None:
        """Let all leases be over, or those of some blobs; and all links be old."""
        for blob in self.stored.blobs.walk():
            if not only or blob.digest in only:
                self._renew(blob.digest, LONG_AGO)
        if self.stored.root is None:
            assert isinstance(self.stored.records, MemoryRecords)
            self.stored.records._written = dict.fromkeys(self.stored.records._written, LONG_AGO)
            return
        for path in (self.stored.root / layout.REPOSITORIES).rglob("link"):
            os.utime(path, (LONG_AGO, LONG_AGO))

    def _renew(self, digest: Digest, when: float) -> None:
        if isinstance(self.stored.blobs, MemoryBlobs):
            self.stored.blobs._renewed[digest] = when
        else:
            assert self.stored.root is not None
            os.utime(self.stored.root / layout.blob(digest), (when, when))

    def damage(self, digest: Digest, data: bytes) -> None:
        if isinstance(self.stored.blobs, MemoryBlobs):
            self.stored.blobs._blobs[digest] = data
        else:
            assert self.stored.root is not None
            (self.stored.root / layout.blob(digest)).write_bytes(data)

    def collector(self, **options: bool) -> Collector:
        self.notes = Notes()
        return Collector(self.stored.blobs, self.stored.records, Options(GRACE, **options), self.notes)

    def collect(self, **options: bool) -> Report:
        return self.collector(**options).collect()

    def collect_when_old(self, **options: bool) -> Report:
        self.age()
        return self.collect(**options)

    def blobs(self) -> set[Digest]:
        return {blob.digest for blob in self.stored.blobs.walk()}

    async def has(self, manifest: Manifest, repository: RepositoryName = REPOSITORY) -> bool:
        try:
            found = await self.stored.store.manifest(repository, digest_of(manifest))
        except ManifestUnknown:
            return False
        assert found.data == manifest.data
        return True

    async def is_whole(self, manifest: Manifest, repository: RepositoryName = REPOSITORY) -> bool:
        if not await self.has(manifest, repository):
            return False
        for blob in manifest.blobs:
            try:
                await self.stored.store.blob_size(repository, blob.address)
            except BlobUnknown:
                return False
        return all([await self.is_whole(Manifest.parse(await self._child(c.address))) for c in manifest.children])

    async def _child(self, digest: Digest) -> bytes:
        return (await self.stored.store.manifest(REPOSITORY, digest)).data


@pytest.fixture
def collecting(stored: Backend) -> Iterator[Collecting]:
    yield Collecting(stored)


@pytest.fixture
def files(on_disk: Backend) -> Collecting:
    """On a filesystem: what only a disk, or another hand, can do."""
    return Collecting(on_disk)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# What goes


async def test_what_no_manifest_needs_goes_and_the_rest_stays_whole(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store, CONFIG, LAYER, b"lonely")
    await put(store, image(), "v1")
    report = collecting.collect_when_old()
    assert collecting.notes.blobs == [Digest.of(b"lonely")]
    assert await collecting.is_whole(image())
    assert (report.blobs_removed, report.bytes_freed) == (1, len(b"lonely"))
    assert (report.repositories, report.manifests_read, report.blobs_kept) == (1, 1, 3)
    assert report.bytes_kept == len(CONFIG) + len(LAYER) + len(image().data)
    assert collecting.notes.counted == (3, 1, 0)
    assert report.problems == []


async def test_a_deleted_image_goes_with_what_only_it_needed(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store, CONFIG, b"shared", b"its own")
    await put(store, image("gone", b"shared", b"its own"), "gone")
    await put(store, image("kept", b"shared"), "kept")
    await store.delete_manifest(REPOSITORY, digest_of(image("gone", b"shared", b"its own")))
    collecting.collect_when_old()
    assert set(collecting.notes.blobs) == {
        Digest.of(b"its own"),
        digest_of(image("gone", b"shared", b"its own")),
    }
    assert await collecting.is_whole(image("kept", b"shared"))


async def test_a_blob_that_another_repository_needs_stays(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store)
    await push_blobs(store, repository=OTHER)
    await put(store, image(), "v1", repository=OTHER)
    assert collecting.collect_when_old().blobs_removed == 0
    assert await collecting.is_whole(image(), OTHER)


async def test_what_is_younger_than_the_grace_stays(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store, b"young", b"old")
    collecting.age(Digest.of(b"old"))
    report = collecting.collect()
    assert collecting.blobs() == {Digest.of(b"young")}
    assert (report.blobs_young, report.bytes_young) == (1, 5)


async def test_what_was_asked_for_or_mounted_just_now_stays(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store, b"asked for", b"mounted", b"neither")
    collecting.age()
    await store.blob_size(REPOSITORY, Digest.of(b"asked for"))
    assert await store.mount_blob(OTHER, Digest.of(b"mounted"), REPOSITORY)
    collecting.collect()
    assert collecting.blobs() == {Digest.of(b"asked for"), Digest.of(b"mounted")}


async def test_a_second_run_finds_nothing_more(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store, CONFIG, LAYER, b"lonely")
    await put(store, image(), "v1")
    collecting.collect_when_old(delete_untagged=True)
    again = collecting.collect_when_old(delete_untagged=True)
    assert (again.blobs_removed, again.manifests_removed, again.links_removed) == (0, 0, 0)


async def test_uploads_under_way_are_not_touched(collecting: Collecting) -> None:
    store = collecting.stored.store
    async with await store.begin_upload(REPOSITORY) as upload:
        pass
    collecting.collect_when_old(delete_untagged=True)
    assert await store.upload_offset(REPOSITORY, upload.id) == 0


async def test_an_empty_storage_has_nothing_to_collect(collecting: Collecting) -> None:
    assert collecting.collect(delete_untagged=True).repositories == 0


# The links of what is gone


async def test_the_layer_link_of_a_swept_blob_goes_with_it(collecting: Collecting) -> None:
    store, records = collecting.stored.store, collecting.stored.records
    await push_blobs(store, CONFIG, LAYER, b"lonely")
    await push_blobs(store, b"lonely", repository=OTHER)
    await put(store, image(), "v1")
    assert collecting.collect_when_old().links_removed == 2
    assert set(links.layers(records, REPOSITORY)) == {Digest.of(CONFIG), Digest.of(LAYER)}
    assert set(links.layers(records, OTHER)) == set()
    await push_blobs(store, b"lonely")
    assert await store.blob_size(REPOSITORY, Digest.of(b"lonely")) == 6


async def test_links_that_an_earlier_run_or_registry_2_left_go_too(files: Collecting) -> None:
    store, root = files.stored.store, files.stored.root
    assert root is not None
    await push_blobs(store, CONFIG, LAYER, b"swept")
    await put(store, image(), "v1")
    (root / layout.blob(Digest.of(b"swept"))).unlink()
    assert files.collect_when_old().links_removed == 1
    assert set(links.layers(files.stored.records, REPOSITORY)) == {Digest.of(CONFIG), Digest.of(LAYER)}


async def test_a_link_that_was_just_written_stays(collecting: Collecting) -> None:
    """Its blob may be on its way."""
    records = collecting.stored.records
    records.write(layout.layer_link(REPOSITORY, Digest.of(b"coming")), Digest.of(b"coming").encode())
    assert collecting.collect().links_removed == 0
    assert list(links.layers(records, REPOSITORY)) == [Digest.of(b"coming")]


async def test_a_blob_that_is_pushed_again_after_the_sweep_keeps_its_link(
    collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, blobs = collecting.stored.store, collecting.stored.blobs
    await push_blobs(store, b"again")
    collecting.age()
    collector, real = collecting.collector(), Collector._sweep

    def and_pushed_again(self: Collector, *arguments: dict[Digest, int]) -> None:
        real(self, *arguments)
        assert collecting.blobs() == set()
        blobs.put(Digest.of(b"again"), b"again")

    monkeypatch.setattr(Collector, "_sweep", and_pushed_again)
    assert collector.collect().links_removed == 0
    assert await store.blob_size(REPOSITORY, Digest.of(b"again")) == 5


# What counts without --delete-untagged


async def test_without_the_option_every_manifest_counts(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store)
    children = [image(number) for number in range(3)]
    for child in children:
        await put(store, child)
    await put(store, index(*children[:2]))
    await put(store, referring(children[0]))
    report = collecting.collect_when_old()
    assert (report.blobs_removed, report.manifests_removed, report.manifests_read) == (0, 0, 5)


async def test_manifests_that_distribution_2_1_linked_among_the_layers_count(collecting: Collecting) -> None:
    store, blobs, records = collecting.stored.store, collecting.stored.blobs, collecting.stored.records
    await push_blobs(store, CONFIG, LAYER, b"its layer", b"lonely")
    old = image("old", b"its layer")
    blobs.put(digest_of(old), old.data)
    links.write(records, layout.layer_link(REPOSITORY, digest_of(old)), digest_of(old))
    collecting.collect_when_old()
    assert await collecting.is_whole(old)
    assert Digest.of(b"lonely") not in collecting.blobs()

    links.write(records, layout.tag_link(REPOSITORY, V1), digest_of(old))
    collecting.collect_when_old(delete_untagged=True)
    assert await collecting.is_whole(old)


async def test_a_child_that_is_linked_among_the_layers_counts_with_what_it_needs(collecting: Collecting) -> None:
    store, blobs, records = collecting.stored.store, collecting.stored.blobs, collecting.stored.records
    await push_blobs(store, CONFIG, b"deep")
    child = image("child", b"deep")
    blobs.put(digest_of(child), child.data)
    links.write(records, layout.layer_link(REPOSITORY, digest_of(child)), digest_of(child))
    await put(store, index(child), "v1")
    collecting.collect_when_old(delete_untagged=True)
    assert await collecting.is_whole(index(child))


async def test_the_blobs_of_a_build_cache_index_count(collecting: Collecting) -> None:
    """BuildKit's older caches list layers as if they were manifests."""
    store = collecting.stored.store
    await push_blobs(store, b"cached", b'{"a config": true}')
    cache = index(descriptor(b"cached"), descriptor(b'{"a config": true}'))
    await put(store, cache, "cache")
    collecting.collect_when_old(delete_untagged=True)
    assert collecting.blobs() == {Digest.of(b"cached"), Digest.of(b'{"a config": true}'), digest_of(cache)}


async def test_a_child_that_is_missing_is_no_matter(collecting: Collecting) -> None:
    store, blobs, records = collecting.stored.store, collecting.stored.blobs, collecting.stored.records
    await push_blobs(store)
    sparse = index(image(), image("elsewhere"))
    await put(store, image())
    blobs.put(digest_of(sparse), sparse.data)
    links.write(records, layout.revision_link(REPOSITORY, digest_of(sparse)), digest_of(sparse))
    links.write(records, layout.tag_link(REPOSITORY, V1), digest_of(sparse))
    report = collecting.collect_when_old(delete_untagged=True)
    assert (report.problems, report.blobs_removed) == ([], 0)
    assert await collecting.is_whole(image())


async def test_content_that_registry_2_named_by_sha512_counts(collecting: Collecting) -> None:
    """It stores it under its sha256, with a link from one to the other."""
    store, records = collecting.stored.store, collecting.stored.records
    await push_blobs(store, CONFIG, b"strong")
    long = Digest.of(b"strong", "sha512")
    links.write(records, layout.layer_link(REPOSITORY, long), Digest.of(b"strong"))
    strong = image(layers=[{**descriptor(b"strong"), "digest": str(long)}])
    await put(store, strong, "v1")
    report = collecting.collect_when_old()
    assert (report.blobs_removed, report.links_removed) == (0, 0)
    assert await collecting.is_whole(strong)


async def test_content_named_by_sha512_counts(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store, CONFIG)
    await push_blob(store, b"strong", algorithm="sha512")
    await push_blob(store, b"lonely", algorithm="sha512")
    strong = image(layers=[{**descriptor(b"strong"), "digest": str(Digest.of(b"strong", "sha512"))}])
    await put(store, strong, "v1")
    collecting.collect_when_old()
    assert collecting.notes.blobs == [Digest.of(b"lonely", "sha512")]
    assert await collecting.is_whole(strong)


# --delete-untagged


async def test_an_untagged_manifest_goes_and_its_blobs_with_it(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store, CONFIG, b"old", b"new")
    await put(store, image("old", b"old"), "latest")
    await put(store, image("new", b"new"), "latest")
    report = collecting.collect_when_old(delete_untagged=True)
    assert collecting.notes.manifests == [(REPOSITORY, digest_of(image("old", b"old")))]
    assert (report.manifests_removed, report.blobs_removed, report.links_removed) == (1, 2, 1)
    assert not await collecting.has(image("old", b"old"))
    assert await collecting.is_whole(image("new", b"new"))


async def test_what_a_tagged_index_lists_stays_however_deep(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store)
    inner = index(image(1), image(2))
    outer = index(inner, image(3))
    for manifest in (image(1), image(2), image(3), inner):
        await put(store, manifest)
    await put(store, outer, "v1")
    assert collecting.collect_when_old(delete_untagged=True).manifests_removed == 0
    assert await collecting.is_whole(outer)


async def test_what_refers_to_something_that_stays_stays_and_so_on(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store, CONFIG, LAYER, b"signature", b"of the signature", b"of the child", b"in a list")
    child, tagged = image("child"), index(image("child"))
    signature = referring(tagged, "s", layers=[descriptor(b"signature")])
    countersigned = referring(signature, "ss", layers=[descriptor(b"of the signature")])
    of_child = referring(child, "c", layers=[descriptor(b"of the child")])
    listed = image("listed", b"in a list")
    referring_list = index(listed, subject=descriptor(tagged.data, tagged.media_type))
    await put(store, child)
    await put(store, tagged, "v1")
    others = [signature, countersigned, of_child, listed, referring_list]
    for manifest in others:
        await put(store, manifest)
    assert collecting.collect_when_old(delete_untagged=True).manifests_removed == 0
    for manifest in others:
        assert await collecting.is_whole(manifest)

    await store.delete_manifest(REPOSITORY, digest_of(tagged))
    report = collecting.collect_when_old(delete_untagged=True)
    assert report.manifests_removed == 6
    assert collecting.blobs() == set()


async def test_what_a_fallback_tag_of_older_clients_lists_stays(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store)
    gone, signature = image("gone"), image("signature")
    await put(store, signature)
    await put(store, index(signature), str(digest_of(gone)).replace(":", "-"))
    assert collecting.collect_when_old(delete_untagged=True).manifests_removed == 0
    assert await collecting.is_whole(signature)


async def test_an_untagged_manifest_younger_than_the_grace_stays_with_its_old_children(collecting: Collecting) -> None:
    """Its tag may be on its way."""
    store = collecting.stored.store
    await push_blobs(store)
    young = index(image("child"))
    await put(store, image("child"))
    await put(store, young)
    await put(store, image("old"))
    await put(store, image("tagged"), "v1")
    collecting.age(digest_of(image("old")), digest_of(image("child")))
    report = collecting.collect(delete_untagged=True)
    assert collecting.notes.manifests == [(REPOSITORY, digest_of(image("old")))]
    assert report.manifests_young == 2
    assert await collecting.is_whole(young)


async def test_a_manifest_that_another_repository_tags_goes_here_and_stays_there(collecting: Collecting) -> None:
    store = collecting.stored.store
    for repository in (REPOSITORY, OTHER):
        await push_blobs(store, repository=repository)
        await put(store, image(), *(["v1"] if repository == OTHER else []), repository=repository)
    report = collecting.collect_when_old(delete_untagged=True)
    assert (report.manifests_removed, report.blobs_removed) == (1, 0)
    assert not await collecting.has(image())
    assert await collecting.is_whole(image(), OTHER)


async def test_a_manifest_that_is_tagged_after_the_first_look_stays(
    collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision is taken again under the repository's lock."""
    store, records = collecting.stored.store, collecting.stored.records
    await push_blobs(store)
    for seed in ("one", "two", "three"):
        await put(store, image(seed))
    collecting.age()
    collector, real, looks = collecting.collector(delete_untagged=True), Collector._judge, []

    def and_tagged(self: Collector, survey: gc.Survey) -> tuple[set[Digest], list[Digest]]:
        looks.append(survey)
        judged = real(self, survey)
        if len(looks) == 1:
            links.write(records, layout.tag_link(REPOSITORY, V1), digest_of(image("two")))
        return judged

    monkeypatch.setattr(Collector, "_judge", and_tagged)
    assert collector.collect().manifests_removed == 2
    assert await collecting.is_whole(image("two"))


async def test_parents_are_deleted_before_their_children(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store)
    inner = index(image(1), image(2))
    outer = index(inner, image(3), image(1))
    for manifest in (image(1), image(2), image(3), inner, outer):
        await put(store, manifest)
    collecting.collect_when_old(delete_untagged=True)
    order = [digest for _, digest in collecting.notes.manifests]
    assert len(order) == 5
    assert order[0] == digest_of(outer)
    assert order.index(digest_of(inner)) < min(order.index(digest_of(image(n))) for n in (1, 2))


async def test_pushes_get_their_turn_while_many_manifests_are_deleted(
    collecting: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = collecting.stored.store
    await push_blobs(store)
    for number in range(5):
        await put(store, image(number))
    monkeypatch.setattr(gc, "_HOLD", 0)
    monkeypatch.setattr(gc, "_PAUSE", 0)
    assert collecting.collect_when_old(delete_untagged=True).manifests_removed == 5
    assert collecting.blobs() == set()


# Damage


async def test_a_torn_link_is_reported_and_what_it_named_is_kept_for_a_repair(collecting: Collecting) -> None:
    store, records = collecting.stored.store, collecting.stored.records
    await push_blobs(store, CONFIG, b"one", b"two", b"three")
    await put(store, image("revision", b"one"))
    await put(store, image("tag", b"two"), "torn")
    await put(store, image("before", b"three"), "other")
    records.write(layout.revision_link(REPOSITORY, digest_of(image("revision", b"one"))), b"")
    records.write(layout.tag_link(REPOSITORY, links.Tag("torn")), b"\0" * 71)
    report = collecting.collect_when_old(delete_untagged=True)
    assert (report.blobs_removed, report.manifests_removed) == (0, 0)
    assert len(report.problems) == 2
    assert any("torn" in problem and digest_of(image("revision", b"one")) in problem for problem in report.problems)
    assert any("the tag torn is torn" in problem for problem in report.problems)
    assert await collecting.is_whole(image("tag", b"two"))


async def test_a_manifest_whose_content_is_missing_is_only_reported(files: Collecting) -> None:
    store, root = files.stored.store, files.stored.root
    assert root is not None
    await push_blobs(store, CONFIG, LAYER, b"lonely")
    for seed in ("missing", "torn", "there"):
        await put(store, image(seed), seed)
    (root / layout.blob(digest_of(image("missing")))).unlink()
    (root / layout.blob(digest_of(image("torn")))).write_bytes(b"")
    report = files.collect_when_old(delete_untagged=True)
    assert len(report.problems) == 2
    assert all("content is missing" in problem for problem in report.problems)
    assert files.notes.blobs == [Digest.of(b"lonely")]
    assert await files.is_whole(image("there"))


GARBLED = {
    "half of it": lambda data: data[: len(data) // 2],
    "one bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "another manifest": lambda data: image("another").data,
    "more than any manifest has": lambda data: data + b" " * (5 * 1024 * 1024),
}


@pytest.mark.parametrize("options", [{}, {"delete_untagged": True}, {"dry_run": True}], ids=str)
@pytest.mark.parametrize("damage", GARBLED.values(), ids=GARBLED)
async def test_a_damaged_manifest_ends_the_run_before_anything_goes(
    collecting: Collecting, damage: object, options: dict[str, bool]
) -> None:
    assert callable(damage)
    store = collecting.stored.store
    await push_blobs(store, CONFIG, LAYER, b"lonely")
    await push_blobs(store, repository=OTHER)
    await put(store, image("untagged"))
    await put(store, image(), "v1", repository=OTHER)
    collecting.damage(digest_of(image()), damage(image().data))
    before = collecting.blobs()
    with pytest.raises(Aborted) as aborted:
        collecting.collect_when_old(**options)
    assert OTHER in str(aborted.value)
    assert digest_of(image()) in str(aborted.value)
    assert collecting.blobs() == before
    assert await collecting.has(image("untagged"))

    await put(store, image(), "v1", repository=OTHER)  # pushed again, it is healed
    assert collecting.collect(delete_untagged=True).problems == []


def stored_by_another_hand(collecting: Collecting, data: bytes) -> Digest:
    digest = Digest.of(data)
    collecting.stored.blobs.put(digest, data)
    links.write(collecting.stored.records, layout.revision_link(REPOSITORY, digest), digest)
    return digest


@pytest.mark.parametrize("data", [b"not json", b"[]", b'"text"', b"[" * 100_000, b"\xff\xfe"], ids=repr)
async def test_a_revision_that_is_no_manifest_at_all_ends_the_run(collecting: Collecting, data: bytes) -> None:
    await push_blobs(collecting.stored.store, b"lonely")
    digest = stored_by_another_hand(collecting, data)
    with pytest.raises(Aborted, match=digest):
        collecting.collect_when_old()
    assert Digest.of(b"lonely") in collecting.blobs()


async def test_many_unreadable_manifests_are_not_all_named(collecting: Collecting) -> None:
    for number in range(50):
        stored_by_another_hand(collecting, b"no manifest %d" % number)
    with pytest.raises(Aborted, match="and 30 more"):
        collecting.collect_when_old()


@pytest.mark.parametrize(
    "document",
    [
        {"schemaVersion": 1, "fsLayers": [{"blobSum": str(Digest.of(LAYER))}], "history": [{"v1Compatibility": "{}"}]},
        {"schemaVersion": 2, "mediaType": "application/x-unknown", "things": [{"inner": [descriptor(LAYER)]}]},
        {"schemaVersion": 2, "Config": descriptor(CONFIG), "Layers": [descriptor(LAYER)]},  # Go reads these
        {"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": [descriptor(LAYER)]},
    ],
    ids=["schema 1", "unknown kind", "other case", "older artifact"],
)
async def test_the_blobs_of_manifests_that_are_not_taken_any_more_count(
    collecting: Collecting, document: dict[str, object]
) -> None:
    await push_blobs(collecting.stored.store, LAYER, b"lonely")
    digest = stored_by_another_hand(collecting, json.dumps(document).encode())
    collecting.collect_when_old()
    assert {digest, Digest.of(LAYER)} <= collecting.blobs()
    assert Digest.of(b"lonely") not in collecting.blobs()


async def test_signatures_beside_a_manifest_of_schema_1_count(files: Collecting) -> None:
    await push_blobs(files.stored.store, b"signature")
    digest = stored_by_another_hand(files, b'{"schemaVersion": 1, "fsLayers": []}')
    place = f"{layout.signatures(REPOSITORY, digest, 'sha256')}/{Digest.of(b'signature').hex}/link"
    files.stored.records.write(Key(place), Digest.of(b"signature").encode())
    files.collect_when_old()
    assert Digest.of(b"signature") in files.blobs()


async def test_annotations_and_subjects_keep_nothing(collecting: Collecting) -> None:
    store = collecting.stored.store
    await push_blobs(store, CONFIG, LAYER, b"base")
    named = {"org.opencontainers.image.base.digest": str(Digest.of(b"base")), "digest": str(Digest.of(b"base"))}
    await put(store, image(annotations=named), "v1")
    await put(store, referring(Digest.of(b"base")), "v2")
    collecting.collect_when_old(delete_untagged=True)
    assert collecting.notes.blobs == [Digest.of(b"base")]


async def test_a_directory_that_looks_like_a_repository_under_no_name_ends_the_run(files: Collecting) -> None:
    await push_blobs(files.stored.store, b"lonely")
    assert files.stored.root is not None
    moved = files.stored.root / layout.REPOSITORIES / "Backup"
    (files.stored.root / layout.REPOSITORIES / REPOSITORY).rename(moved)
    with pytest.raises(Aborted, match="repositories/Backup looks like a repository"):
        files.collect_when_old()
    assert files.blobs() == {Digest.of(b"lonely")}


async def test_blobs_without_any_repository_are_not_taken_for_garbage(files: Collecting) -> None:
    """As after half of a restore."""
    await push_blobs(files.stored.store, b"lonely")
    assert files.stored.root is not None
    (files.stored.root / layout.REPOSITORIES).rename(files.stored.root / "elsewhere")
    with pytest.raises(Aborted, match="no repositories"):
        files.collector().collect()
    assert files.blobs() == {Digest.of(b"lonely")}


# Running


@pytest.mark.parametrize("options", [{}, {"delete_untagged": True}], ids=["all", "untagged"])
async def test_a_dry_run_tells_what_a_run_would_do_and_changes_nothing(
    files: Collecting, options: dict[str, bool]
) -> None:
    store, root = files.stored.store, files.stored.root
    assert root is not None
    await push_blobs(store, CONFIG, LAYER, b"lonely", b"old")
    await put(store, image("old", b"old"))
    await put(store, image(), "v1")
    files.age()
    before = tree(root)
    told = files.collect(dry_run=True, **options)
    said = files.notes
    assert tree(root) == before
    done = files.collect(**options)
    assert (files.notes.blobs, files.notes.manifests) == (said.blobs, said.manifests)
    assert (told.blobs_removed, told.bytes_freed) == (done.blobs_removed, done.bytes_freed)
    assert told.manifests_removed == done.manifests_removed == len(options)
    assert told.blobs_kept == done.blobs_kept


async def test_of_two_collectors_one_is_busy(collecting: Collecting) -> None:
    await push_blobs(collecting.stored.store, b"lonely")
    collecting.age()
    with collecting.stored.records.exclusive_at_once(layout.COLLECTOR), pytest.raises(Busy):
        collecting.collect()
    assert collecting.blobs() == {Digest.of(b"lonely")}
    assert collecting.collect().blobs_removed == 1


async def test_it_waits_for_pushes_that_began_before_it(files: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago they promised: here a push stands still between its promise and its link."""
    store, blobs, records = files.stored.store, files.stored.blobs, files.stored.records
    await push_blobs(store)
    collector = files.collector()
    files.age()
    blobs.put(digest_of(image()), image().data)
    files.age()
    waited: list[Key] = []

    def the_push_goes_on(key: Key) -> object:
        waited.append(key)
        links.write(records, layout.revision_link(REPOSITORY, digest_of(image())), digest_of(image()))
        return real(key)

    with records.shared(layout.lock(REPOSITORY)):
        pass
    real = records.exclusive
    monkeypatch.setattr(records, "exclusive", the_push_goes_on)
    assert collector.collect().blobs_removed == 0
    assert layout.lock(REPOSITORY) in waited
    assert await files.is_whole(image())


async def test_a_clock_that_goes_back_ends_the_run(collecting: Collecting) -> None:
    """A promise of that moment would look like one of before the run."""
    await push_blobs(collecting.stored.store, b"lonely")
    collecting.age()
    times = iter([time.time(), time.time() - 60])
    collector = Collector(
        collecting.stored.blobs, collecting.stored.records, Options(GRACE), Notes(), lambda: next(times)
    )
    with pytest.raises(Aborted, match="clock"):
        collector.collect()
    assert collecting.blobs() == {Digest.of(b"lonely")}


async def test_what_a_killed_run_had_in_its_hands_is_judged_again(files: Collecting) -> None:
    """Also if its lease is long over: nothing but the manifests says whether it is needed."""
    store, root = files.stored.store, files.stored.root
    assert root is not None
    assert isinstance(files.stored.blobs, FilesystemBlobs)
    await push_blobs(store, CONFIG, LAYER, b"lonely")
    await put(store, image(), "v1")
    files.age()
    for digest in (Digest.of(LAYER), Digest.of(b"lonely"), digest_of(image())):
        key = layout.blob(digest)
        trashed = root / f"{layout.condemned(key)}.0123"
        trashed.parent.mkdir(parents=True, exist_ok=True)
        (root / key).rename(trashed)
    report = files.collect()
    assert await files.is_whole(image())
    assert (files.notes.blobs, report.problems) == ([Digest.of(b"lonely")], [])
