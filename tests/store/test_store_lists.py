"""Lists: repositories in the order of their bytes, and tags, page by page."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import OTHER, REPOSITORY, Backend, backend, digest_of, image, push_blobs, put

from registry.oci.digest import Digest
from registry.oci.errors import NameInvalid, NameUnknown
from registry.oci.names import RepositoryName, Tag
from registry.storage import layout
from registry.storage.base import Key, Records
from registry.store.base import Page
from registry.store.local import LocalStore

SOME = Digest.of(b"some manifest")


def hold_a_manifest(records: Records, *names: str, digest: Digest = SOME) -> None:
    """Repositories as the catalog sees them: a revision link is enough, as it never reads what it names."""
    for name in names:
        records.write(layout.revision_link(name, digest), digest.encode())


def catalog(store: LocalStore, last: str = "", limit: int | None = None) -> Page:
    return asyncio.run(store.repositories(last, limit))


# Repositories


def test_a_dash_comes_before_a_slash(stored: Backend) -> None:
    """A walk by directories would have them the other way round, and pages would skip or repeat."""
    hold_a_manifest(stored.records, "a/b", "a-b", "a", "a.b", "a0", "a/b/c", "b", "a-b/c")
    assert catalog(stored.store).names == ("a", "a-b", "a-b/c", "a.b", "a/b", "a/b/c", "a0", "b")


def test_an_empty_registry_has_no_repositories(store: LocalStore) -> None:
    for last in ("", "a", "zzz"):
        assert catalog(store, last) == Page(())
        assert catalog(store, last, 5) == Page(())


def test_a_repository_is_listed_once_a_manifest_is_in_it(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        assert (await store.repositories()).names == ()
        digest = await put(store, image())
        assert (await store.repositories()).names == (REPOSITORY,)
        await store.delete_manifest(REPOSITORY, digest)
        assert (await store.repositories()).names == ()

    asyncio.run(scenario())


@pytest.mark.parametrize("garbled", [b"", b"  \n"])
def test_a_repository_with_nothing_but_empty_links_holds_no_manifest(stored: Backend, garbled: bytes) -> None:
    stored.records.write(layout.revision_link("a", SOME), garbled)
    stored.records.write(Key(f"{layout.revisions('b', 'sha256')}/not-a-digest/link"), SOME.encode())
    stored.records.keep(layout.layers(RepositoryName("c")))
    assert catalog(stored.store).names == ()
    hold_a_manifest(stored.records, "a", digest=Digest.of(b"another"))
    assert catalog(stored.store).names == ("a",)


def test_a_repository_of_sha512_manifests_is_listed(stored: Backend) -> None:
    hold_a_manifest(stored.records, "a", digest=Digest.of(b"x", "sha512"))
    assert catalog(stored.store).names == ("a",)


def test_directories_that_are_no_repositories_are_passed_by_and_what_is_below_them_is_found(stored: Backend) -> None:
    hold_a_manifest(stored.records, "not/a/repository/but/this", "UPPER", "lost+found/x", "ok")
    stored.records.write(Key("docker/registry/v2/repositories/stray-file"), b"x")
    assert catalog(stored.store).names == ("not/a/repository/but/this", "ok")


def test_a_page_says_whether_more_follow(stored: Backend) -> None:
    hold_a_manifest(stored.records, "a", "b", "c")
    assert catalog(stored.store, "", 2) == Page(("a", "b"), more=True)
    assert catalog(stored.store, "b", 2) == Page(("c",))
    assert catalog(stored.store, "", 3) == Page(("a", "b", "c"))
    assert catalog(stored.store, "c", 1) == Page(())
    assert catalog(stored.store, "", 0) == Page((), more=True)


def test_a_page_reads_no_further_than_it_has_to(on_disk: Backend) -> None:
    hold_a_manifest(on_disk.records, *(f"a{number:03}/b" for number in range(50)))
    listed: list[str] = []
    real = on_disk.records.list

    def count(key: Key) -> list[str]:
        listed.append(key)
        return real(key)

    on_disk.records.list = count  # type: ignore[method-assign]
    assert catalog(on_disk.store, "a020", 2).names == ("a020/b", "a021/b")
    assert len(listed) < 30, "directories before `last` or after the page were read"


NAMES = st.from_regex(r"[ab0]{1,2}([._-][ab]){0,1}(/[ab0]{1,2}([-.]b)?){0,3}", fullmatch=True)


def is_a_name(text: str) -> bool:
    try:
        RepositoryName(text)
    except NameInvalid:
        return False
    return True


@settings(deadline=None, max_examples=150)
@given(
    names=st.sets(NAMES.filter(is_a_name), max_size=12),
    last=st.one_of(st.just(""), NAMES, st.text(alphabet="ab0-./_~", max_size=6), st.text(max_size=3)),
    limit=st.none() | st.integers(0, 14),
)
def test_the_catalog_is_the_sorted_list_of_names_after_the_last(names: set[str], last: str, limit: int | None) -> None:
    with backend(None) as stored:
        hold_a_manifest(stored.records, *names)
        expected = sorted(name for name in names if name > last)
        shown = expected if limit is None else expected[:limit]
        assert catalog(stored.store, last, limit) == Page(tuple(shown), more=len(shown) < len(expected))


@settings(deadline=None, max_examples=50)
@given(names=st.sets(NAMES.filter(is_a_name), max_size=12), limit=st.integers(1, 5))
def test_pages_one_after_another_are_the_whole_list(names: set[str], limit: int) -> None:
    with backend(None) as stored:
        hold_a_manifest(stored.records, *names)
        found: list[str] = []
        more = True
        while more:
            page = catalog(stored.store, found[-1] if found else "", limit)
            found += page.names
            more = page.more
        assert found == sorted(names)


# Tags


def test_tags_are_listed_in_ascii_order(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        await put(store, image(), "b", "a", "B", "_", "1", "10", "2", "a-b", "a.b")
        assert (await store.tags(REPOSITORY)).names == ("1", "10", "2", "B", "_", "a", "a-b", "a.b", "b")

    asyncio.run(scenario())


def test_tags_come_in_pages(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        await put(store, image(), "a", "b", "c")
        assert await store.tags(REPOSITORY, "", 2) == Page(("a", "b"), more=True)
        assert await store.tags(REPOSITORY, "b", 2) == Page(("c",))
        assert await store.tags(REPOSITORY, "aa", 9) == Page(("b", "c"))
        assert await store.tags(REPOSITORY, "c") == Page(())
        assert await store.tags(REPOSITORY, "", 0) == Page((), more=True)

    asyncio.run(scenario())


@settings(deadline=None, max_examples=40)
@given(
    tags=st.sets(st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,3}", fullmatch=True), min_size=1, max_size=10),
    last=st.text(max_size=3),
    limit=st.none() | st.integers(0, 10),
)
def test_a_tag_list_is_the_sorted_list_after_the_last(tags: set[str], last: str, limit: int | None) -> None:
    with backend(None) as stored:
        for tag in tags:
            stored.records.write(layout.tag_link(REPOSITORY, Tag(tag)), SOME.encode())
        expected = sorted(tag for tag in tags if tag > last)
        shown = expected if limit is None else expected[:limit]
        page = asyncio.run(stored.store.tags(REPOSITORY, last, limit))
        assert page == Page(tuple(shown), more=len(shown) < len(expected))


def test_garbled_tags_are_hidden_and_do_not_count_as_more(stored: Backend) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        digest = await put(stored.store, image(), "a", "b", "c")
        for tag, garbled in {"b": b"", "c": b"sha256:abc"}.items():
            stored.records.write(layout.tag_link(REPOSITORY, Tag(tag)), garbled)
        stored.records.write(layout.tag_index_link(REPOSITORY, Tag("d"), digest), digest.encode())
        stored.records.write(Key(f"{layout.tags(REPOSITORY)}/-not-a-tag/current/link"), digest.encode())
        assert await stored.store.tags(REPOSITORY) == Page(("a",))
        assert await stored.store.tags(REPOSITORY, "", 1) == Page(("a",))

    asyncio.run(scenario())


def test_a_repository_that_has_no_manifests_is_unknown(store: LocalStore) -> None:
    async def scenario() -> None:
        with pytest.raises(NameUnknown) as unknown:
            await store.tags(OTHER)
        assert unknown.value.detail == {"name": OTHER}
        await push_blobs(store, repository=OTHER)
        with pytest.raises(NameUnknown):
            await store.tags(OTHER)

    asyncio.run(scenario())


def test_a_repository_whose_only_manifest_has_no_tag_has_an_empty_list(store: LocalStore) -> None:
    async def scenario() -> None:
        await push_blobs(store)
        await put(store, image(), "v1")
        await store.delete_manifest(REPOSITORY, Tag("v1"))
        assert await store.tags(REPOSITORY) == Page(())

    asyncio.run(scenario())


def test_a_repository_that_leads_to_others_has_no_tags_of_theirs(store: LocalStore) -> None:
    async def scenario() -> None:
        inner = RepositoryName(f"{REPOSITORY}/inner")
        await push_blobs(store, repository=inner)
        await put(store, image(), "v1", repository=inner)
        with pytest.raises(NameUnknown):
            await store.tags(REPOSITORY)
        assert (await store.repositories()).names == (inner,)
        await push_blobs(store)
        digest = await put(store, image(), "v2")
        await store.delete_manifest(REPOSITORY, digest_of(image()))
        assert (await store.tags(inner)).names == ("v1",)
        assert digest == digest_of(image())

    asyncio.run(scenario())
