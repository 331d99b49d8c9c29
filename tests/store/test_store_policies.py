"""Policies: what they let through, and that they refuse everything else, whatever a store learns later."""

import asyncio
import inspect
from typing import Any, cast

import pytest
from making import LAYER, REPOSITORY, V1, Backend, digest_of, image, push_blob, push_blobs, put

from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, Unsupported
from registry.storage.base import Cold, Key
from registry.store.base import KeepEverything, ReadOnly, Refuse, Store
from registry.store.readonly import Mark, Switch, Switched
from registry.store.threads import Threads

READS = {"blob", "blob_size", "manifest", "tags", "referrers", "repositories"}
WRITES = {
    "mount_blob",
    "begin_upload",
    "resume_upload",
    "upload_offset",
    "cancel_upload",
    "put_manifest",
}
DELETES = {"delete_blob", "delete_manifest"}

METHODS = sorted(
    name for name, member in vars(Store).items() if inspect.iscoroutinefunction(member) and not name.startswith("_")
)


class Everything:
    """A store whose every method says that it was reached, and with what."""

    def __getattr__(self, name: str) -> Any:
        async def reached(*arguments: object, **more: object) -> object:
            return name, arguments, more

        return reached


def test_every_method_of_a_store_is_a_read_a_write_or_a_delete() -> None:
    """Whoever adds one decides here what each policy makes of it; until then it is refused."""
    assert set(METHODS) == READS | WRITES | DELETES
    assert len(METHODS) == len(READS) + len(WRITES) + len(DELETES)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("policy", "allowed"), [(ReadOnly, READS), (KeepEverything, READS | WRITES)])
def test_a_policy_lets_through_what_it_allows_and_refuses_the_rest_with_its_reason(
    policy: type[Refuse], allowed: set[str], name: str
) -> None:
    guarded = policy(cast("Store", Everything()), "the reason")
    call = getattr(guarded, name)("first", second=2)
    if name in allowed:
        assert asyncio.run(call) == (name, ("first",), {"second": 2})
    else:
        with pytest.raises(Unsupported, match="the reason"):
            asyncio.run(call)


def test_a_policy_allows_nothing_that_a_store_has_not() -> None:
    for policy in (ReadOnly, KeepEverything):
        assert policy.allowed <= set(METHODS)


def test_a_method_that_a_store_learns_later_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def purge(self: Store) -> None:
        """Something new."""

    monkeypatch.setattr(Store, "purge", purge, raising=False)
    for policy in (ReadOnly, KeepEverything):
        with pytest.raises(Unsupported):
            asyncio.run(policy(cast("Store", Everything()), "no").purge())


@pytest.mark.parametrize("name", ["_records", "unknown", "_blob", "__getstate__x"])
def test_a_policy_has_no_other_attributes(name: str) -> None:
    """Not even those of the store behind it: what is no method of `Store` is no way around the policy."""
    for policy in (ReadOnly, KeepEverything):
        with pytest.raises(AttributeError):
            getattr(policy(cast("Store", Everything()), "no"), name)


def test_a_policy_that_says_nothing_refuses_everything() -> None:
    guarded = Refuse(cast("Store", Everything()), "closed")
    for name in METHODS:
        with pytest.raises(Unsupported):
            asyncio.run(getattr(guarded, name)())


def test_policies_stand_one_over_another() -> None:
    both = ReadOnly(cast("Store", KeepEverything(cast("Store", Everything()), "no deletes")), "read-only")
    assert asyncio.run(both.tags("x"))[0] == "tags"
    with pytest.raises(Unsupported, match="read-only"):
        asyncio.run(both.delete_blob())
    with pytest.raises(Unsupported, match="read-only"):
        asyncio.run(both.put_manifest())


def test_a_read_only_registry_serves_what_it_has(stored: Backend) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        digest = await put(stored.store, image(), "v1")
        guarded = cast("Store", ReadOnly(stored.store, "read-only"))
        assert (await guarded.manifest(REPOSITORY, V1)).digest == digest
        assert (await guarded.tags(REPOSITORY)).names == ("v1",)
        with pytest.raises(Unsupported):
            await put(guarded, image(2), "v2")
        with pytest.raises(Unsupported):
            await push_blob(guarded, b"new")
        with pytest.raises(Unsupported):
            await guarded.delete_manifest(REPOSITORY, V1)
        assert (await stored.store.tags(REPOSITORY)).names == ("v1",)
        with pytest.raises(BlobUnknown):
            await stored.store.blob(REPOSITORY, Digest.of(b"new"))

    asyncio.run(scenario())


def test_a_registry_that_keeps_everything_takes_pushes_and_no_deletes(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = cast("Store", KeepEverything(stored.store, "storage.delete.enabled"))
        await push_blobs(guarded)
        await put(guarded, image(), "v1")
        for refused in (
            guarded.delete_manifest(REPOSITORY, V1),
            guarded.delete_manifest(REPOSITORY, digest_of(image())),
            guarded.delete_blob(REPOSITORY, Digest.of(LAYER)),
        ):
            with pytest.raises(Unsupported, match=r"storage\.delete\.enabled"):
                await refused
        assert (await guarded.manifest(REPOSITORY, V1)).digest == digest_of(image())

    asyncio.run(scenario())


# Read-only mode that is switched


class Told:
    """A switch whose answer is set by hand."""

    def __init__(self, reason: str) -> None:
        self.told = reason

    async def reason(self) -> str:
        return self.told


@pytest.mark.parametrize("name", METHODS)
def test_the_switch_decides_on_all_but_reads(name: str) -> None:
    switch = Told("")
    guarded = Switched(cast("Store", Everything()), cast("Switch", switch))
    call = getattr(guarded, name)
    assert asyncio.run(call("first", second=2)) == (name, ("first",), {"second": 2})
    switch.told = "closed"
    if name in READS:
        assert asyncio.run(call("first")) == (name, ("first",), {})
    else:
        with pytest.raises(Unsupported, match="closed"):
            asyncio.run(call())


def test_a_pull_does_not_ask_the_switch() -> None:
    """Not even by a look: it is the method of the store behind it."""
    store = Everything()
    store.manifest = lambda: None  # type: ignore[attr-defined]
    guarded = Switched(cast("Store", store), cast("Switch", None))
    assert guarded.manifest is store.manifest  # type: ignore[attr-defined]


def test_a_method_that_a_store_learns_later_is_for_the_switch_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    async def purge(self: Store) -> None:
        """Something new."""

    monkeypatch.setattr(Store, "purge", purge, raising=False)
    guarded = Switched(cast("Store", Everything()), cast("Switch", Told("closed")))
    with pytest.raises(Unsupported):
        asyncio.run(guarded.purge())
    with pytest.raises(AttributeError):
        guarded.unknown  # noqa: B018 - asked for


def test_a_mark_is_seen_with_the_next_change_and_kept_by_the_storage(stored: Backend) -> None:
    async def scenario() -> None:
        threads = Threads(2)
        mark = Mark(stored.records)
        guarded = cast("Store", Switched(stored.store, Switch(mark, threads, configured=False)))
        await push_blob(guarded, b"before")
        mark.make()
        since = mark.since()
        assert since
        with pytest.raises(Unsupported, match="registry read-only on"):
            await push_blob(guarded, b"while it is on")
        mark.make()
        assert Mark(stored.records).since() == since
        mark.remove()
        mark.remove()
        assert mark.since() is None
        await push_blob(guarded, b"after")
        threads.close()

    asyncio.run(scenario())


def test_the_settings_may_change_while_it_is_served(stored: Backend) -> None:
    async def scenario() -> None:
        threads = Threads(2)
        switch = Switch(Mark(stored.records), threads, configured=True)
        guarded = cast("Store", Switched(stored.store, switch))
        with pytest.raises(Unsupported, match=r"storage\.maintenance\.readonly"):
            await push_blob(guarded, b"no")
        switch.configured = False
        await push_blob(guarded, b"yes")
        threads.close()

    asyncio.run(scenario())


def test_a_mark_that_is_not_in_memory_is_looked_for_in_a_thread(
    stored: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cold(_: Key) -> bytes:
        raise Cold

    async def scenario() -> None:
        threads = Threads(2)
        monkeypatch.setattr(stored.records, "read_warm", cold)
        guarded = cast("Store", Switched(stored.store, Switch(Mark(stored.records), threads, configured=False)))
        await push_blob(guarded, b"before")
        Mark(stored.records).make()
        with pytest.raises(Unsupported, match="registry read-only on"):
            await push_blob(guarded, b"while it is on")
        threads.close()

    asyncio.run(scenario())
