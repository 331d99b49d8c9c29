"""Quota: what is refused and what is not, and that the count of what is stored comes right again."""

import asyncio
import inspect
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest
from making import (
    CONFIG,
    LAYER,
    OTHER,
    REPOSITORY,
    V1,
    Backend,
    body,
    descriptor,
    digest_of,
    image,
    push_blob,
    push_blobs,
    put,
    referring,
)

from registry.oci.digest import Digest
from registry.oci.errors import Denied, Unsupported
from registry.oci.names import RepositoryName
from registry.oci.patterns import RepositoryPattern
from registry.storage import layout
from registry.store import census
from registry.store.accounts import Accounts, Count, Limit
from registry.store.base import Store, Upload
from registry.store.census import Census
from registry.store.gc import Collector, Options
from registry.store.quota import Quota
from registry.store.threads import Threads

MIB = 1024**2
TEAM_A, TEAM_B, STRANGER = RepositoryName("team/a"), RepositoryName("team/b"), RepositoryName("stranger")


def total(most: int) -> Limit:
    return Limit("quota.total", most)


def team(most: int) -> Limit:
    return Limit("quota.limits.0", most, (RepositoryPattern("team/**"),))


class Guarded:
    """A store under limits, and what a test wants to know of it.

    Its `process` is one of those that share the accounts.
    """

    def __init__(self, stored: Backend, *limits: Limit, accounts: Accounts | None = None, process: int = 0) -> None:
        self.threads = Threads(8)
        self.accounts = accounts or Accounts(limits, 2)
        self.census = Census(stored.blobs, stored.records, self.accounts, self.threads)
        self.accounts.join(process)
        self.store = cast("Store", Quota(stored.store, self.census))

    def used(self, number: int = 0) -> int:
        return self.accounts.used(number)

    def takes(self, seconds: float) -> None:
        """Let the last count have taken so long, and the storage not be counted again for ten times as long."""
        self.accounts._head[1] = round(seconds * 1000)

    def claimed(self) -> int:
        return self.accounts.claimed(0)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


async def denied(call: Any) -> dict[str, Any]:
    """The figures of a refusal, which must be one."""
    with pytest.raises(Denied, match="quota exceeded") as raised:
        await call
    assert isinstance(raised.value.detail, dict)
    return raised.value.detail


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def collect(stored: Backend) -> None:
    """Remove all that no manifest needs, however young, and say that a collection ended."""
    for blob in list(stored.blobs.walk()):
        if stored.root is not None:
            os.utime(stored.root / layout.blob(blob.digest), (1, 1))
        else:
            stored.blobs._renewed[blob.digest] = 1  # type: ignore[attr-defined]
    watch = cast("Any", type("Silent", (), {"__getattr__": lambda *_: lambda *_: None})())
    Collector(stored.blobs, stored.records, Options(3600), watch).collect()


# What passes


def test_what_fits_is_stored_and_what_would_not_fit_is_told_the_figures(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(3 * MIB))
        await push_blob(guarded.store, bytes(2 * MIB))
        assert guarded.used() == 2 * MIB
        detail = await denied(push_blob(guarded.store, b"x" * (MIB + 1)))
        assert (detail["quota"], detail["used"], detail["limit"]) == ("quota.total", 2 * MIB, 3 * MIB)
        assert detail["wanted"] > MIB
        assert guarded.used() == 2 * MIB
        assert guarded.claimed() == 0
        await push_blob(guarded.store, b"x" * MIB)

    run(scenario)


def test_a_length_that_is_told_is_refused_before_a_byte_is_taken(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(MIB))
        async with await guarded.store.begin_upload(REPOSITORY) as upload:
            detail = await denied(upload.expect(MIB + 1))
            assert detail["wanted"] == MIB + 1
            await upload.expect(MIB)

    run(scenario)


def test_a_body_of_unknown_length_is_cut_where_it_passes_the_limit(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(3 * MIB))
        taken = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal taken
            while True:
                taken += MIB // 2
                yield bytes(MIB // 2)

        async with await guarded.store.begin_upload(REPOSITORY) as upload:
            await denied(upload.append(endless()))
            session = upload.id
        assert taken <= 4 * MIB
        assert await guarded.store.upload_offset(REPOSITORY, session) == 0
        assert guarded.claimed() == 0

    run(scenario)


def test_chunks_add_up(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(2 * MIB))
        async with await guarded.store.begin_upload(REPOSITORY) as upload:
            session = upload.id
        for _ in range(2):
            async with await guarded.store.resume_upload(REPOSITORY, session) as upload:
                await upload.append(body(bytes(MIB)))
                await upload.checkpoint()
        async with await guarded.store.resume_upload(REPOSITORY, session) as upload:
            detail = await denied(upload.append(body(b"x")))
            assert detail["wanted"] == 2 * MIB + 1
        async with await guarded.store.resume_upload(REPOSITORY, session) as upload:
            await upload.commit(Digest.of(bytes(2 * MIB)))
        assert guarded.used() == 2 * MIB

    run(scenario)


def test_sessions_that_were_filled_side_by_side_do_not_pass_the_limit_when_they_are_closed(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(3 * MIB))
        sessions = []
        for letter in b"abc":
            async with await guarded.store.begin_upload(REPOSITORY) as upload:
                await upload.append(body(bytes([letter]) * 2 * MIB))
                await upload.checkpoint()
                sessions.append((upload.id, Digest.of(bytes([letter]) * 2 * MIB)))
        first, second, _ = sessions
        async with await guarded.store.resume_upload(REPOSITORY, first[0]) as upload:
            await upload.commit(first[1])
        async with await guarded.store.resume_upload(REPOSITORY, second[0]) as upload:
            await denied(upload.commit(second[1]))

    run(scenario)


def test_what_is_being_pushed_counts_until_it_ends(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(3 * MIB))
        async with await guarded.store.begin_upload(REPOSITORY) as slow:
            await slow.expect(2 * MIB)
            async with await guarded.store.begin_upload(OTHER) as quick:
                detail = await denied(quick.expect(2 * MIB))
                assert (detail["used"], detail["pending"]) == (0, 2 * MIB)
        await push_blob(guarded.store, bytes(2 * MIB), OTHER)

    run(scenario)


def test_a_full_registry_begins_no_upload_but_takes_what_it_has(stored: Backend) -> None:
    async def scenario() -> None:
        await push_blobs(stored.store)
        await put(stored.store, image(), "v1")
        size = sum(blob.size for blob in stored.blobs.walk())
        guarded = Guarded(stored, total(size))
        await denied(guarded.store.begin_upload(REPOSITORY))
        await put(guarded.store, image(), "v2")  # another tag for what is there
        assert await guarded.store.mount_blob(OTHER, Digest.of(LAYER), REPOSITORY)
        await denied(put(guarded.store, image(2), "v3"))
        assert guarded.used() == size
        assert (await guarded.store.manifest(REPOSITORY, V1)).digest == digest_of(image())
        await guarded.store.delete_manifest(REPOSITORY, V1)

    run(scenario)


def test_a_manifest_that_names_more_than_the_limit_is_refused_with_its_weight(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(MIB))
        await push_blobs(guarded.store)
        huge = descriptor(LAYER) | {"size": 2 * MIB}
        detail = await denied(put(guarded.store, image(layers=[huge]), "v1"))
        assert detail["wanted"] > 2 * MIB
        elsewhere = huge | {"urls": ["https://example.com/layer"]}
        await put(guarded.store, image(layers=[elsewhere]), "v1")
        await put(guarded.store, image(layers=[descriptor(LAYER)] * 3), "v2")

    run(scenario)


def test_a_blob_that_is_stored_already_adds_nothing(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(3 * MIB))
        await push_blob(guarded.store, bytes(MIB))
        for repository in REPOSITORY, OTHER:
            await push_blob(guarded.store, bytes(MIB), repository)
        assert guarded.used() == MIB

    run(scenario)


# Limits of repositories


def test_repositories_under_one_limit_share_it_and_others_are_free_of_it(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, team(3 * MIB))
        await push_blob(guarded.store, b"a" * 2 * MIB, TEAM_A)
        detail = await denied(push_blob(guarded.store, b"b" * 2 * MIB, TEAM_B))
        assert detail["quota"] == "quota.limits.0"
        await push_blob(guarded.store, b"b" * 2 * MIB, STRANGER)
        await push_blob(guarded.store, b"c" * MIB, TEAM_B)
        assert guarded.used() == 3 * MIB

    run(scenario)


def test_all_limits_of_a_repository_hold(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(3 * MIB), team(2 * MIB))
        assert (await denied(push_blob(guarded.store, b"a" * 3 * MIB, TEAM_A)))["quota"] == "quota.limits.0"
        await push_blob(guarded.store, b"b" * 2 * MIB, STRANGER)
        assert (await denied(push_blob(guarded.store, b"a" * 2 * MIB, TEAM_A)))["quota"] == "quota.total"
        assert await guarded.store.mount_blob(TEAM_A, Digest.of(b"b" * 2 * MIB), STRANGER)  # new to the team alone
        assert [guarded.used(0), guarded.used(1)] == [2 * MIB, 2 * MIB]

    run(scenario)


def test_a_mount_counts_where_the_limit_has_not_got_the_blob(stored: Backend) -> None:
    async def scenario() -> None:
        one, two = b"1" * 2 * MIB, b"2" * 2 * MIB
        for data in one, two:
            await push_blob(stored.store, data, STRANGER)
        guarded = Guarded(stored, team(3 * MIB))
        assert await guarded.store.mount_blob(TEAM_A, Digest.of(one), STRANGER)
        assert guarded.used() == 2 * MIB
        assert await guarded.store.mount_blob(TEAM_B, Digest.of(one), TEAM_A)  # the team has it
        assert await guarded.store.mount_blob(TEAM_A, Digest.of(one), STRANGER)  # the repository has it
        assert guarded.used() == 2 * MIB
        detail = await denied(guarded.store.mount_blob(TEAM_A, Digest.of(two), STRANGER))
        assert detail["wanted"] == 2 * MIB
        await denied(guarded.store.mount_blob(TEAM_A, Digest.of(two), None))
        assert not await guarded.store.mount_blob(TEAM_A, Digest.of(b"nowhere"), STRANGER)
        assert guarded.claimed() == 0

    run(scenario)


def test_each_blob_of_a_limit_counts_once(stored: Backend) -> None:
    async def scenario() -> None:
        for repository in TEAM_A, TEAM_B, STRANGER:
            await push_blobs(stored.store, repository=repository)
            await put(stored.store, image(), "v1", repository=repository)
            await put(stored.store, referring(image(), repository), repository=repository)
        count = census.count(stored.blobs, stored.records, [total(1), team(1)])
        of_team = len(LAYER) + len(CONFIG) + len(image().data)
        of_team += sum(len(referring(image(), name).data) for name in (TEAM_A, TEAM_B))
        assert count == [of_team + len(referring(image(), STRANGER).data), of_team]

    run(scenario)


# Whoever else changes the storage


def test_a_collection_makes_room_at_once(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(3 * MIB), team(3 * MIB))
        await push_blob(guarded.store, b"a" * 3 * MIB, TEAM_A)
        await denied(push_blob(guarded.store, b"b" * 2 * MIB, TEAM_A))
        guarded.takes(60)
        await asyncio.sleep(1)  # the end of a collection is noted in seconds
        await asyncio.to_thread(collect, stored)
        await push_blob(guarded.store, b"b" * 2 * MIB, TEAM_A)

    run(scenario)


def test_no_push_is_refused_for_what_another_hand_removed(stored: Backend) -> None:
    """registry:2's collection leaves no note."""

    async def scenario() -> None:
        guarded = Guarded(stored, total(3 * MIB))
        digest = await push_blob(guarded.store, b"a" * 3 * MIB)
        await guarded.census.renew()
        stored.blobs.condemn(digest, time.time() + 60)
        await asyncio.sleep(0.3)  # more than ten times what counting three files takes
        await push_blob(guarded.store, b"b" * 3 * MIB)

    run(scenario)


def test_a_count_that_takes_long_is_not_repeated_for_each_refusal(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(3 * MIB))
        digest = await push_blob(guarded.store, b"a" * 3 * MIB)
        await denied(guarded.store.begin_upload(REPOSITORY))
        guarded.takes(60)
        stored.blobs.condemn(digest, time.time() + 60)
        await denied(guarded.store.begin_upload(REPOSITORY))
        guarded.accounts._head[0] -= 601_000  # ten minutes go by
        async with await guarded.store.begin_upload(REPOSITORY):
            assert guarded.used() == 0

    run(scenario)


def test_what_others_push_counts_with_the_next_census(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(3 * MIB))
        await push_blob(guarded.store, b"a")
        await push_blob(stored.store, b"b" * 2 * MIB)  # a replica on another host
        guarded.census.begin(0)
        guarded.accounts._head[0] -= 61_000  # a minute goes by
        await until(lambda: guarded.used() > 2 * MIB)
        guarded.census.end()
        assert guarded.used() == 2 * MIB + 1
        await denied(push_blob(guarded.store, b"c" * 2 * MIB))

    run(scenario)


def test_what_is_pushed_while_a_census_goes_on_is_counted_at_least_once(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(10 * MIB))
        added = guarded.accounts.added()
        found = census.count(stored.blobs, stored.records, guarded.accounts.limits)
        await push_blob(guarded.store, bytes(MIB))  # after the walk, before its result is taken over
        guarded.accounts.set(found, added, Count(time.monotonic(), 0.1, 0))
        assert guarded.used() == MIB

    run(scenario)


# Processes


def test_processes_know_of_each_other_at_once(stored: Backend) -> None:
    async def scenario() -> None:
        one = Guarded(stored, total(3 * MIB))
        two = Guarded(stored, accounts=one.accounts, process=1)
        one.accounts.join(0)
        await push_blob(one.store, b"a" * MIB)
        async with await one.store.begin_upload(REPOSITORY) as upload:
            await upload.expect(MIB)
            held = two.accounts.claimed(0)
            assert (two.used(), held) == (MIB, MIB)
        assert two.claimed() == 0

    run(scenario)


def test_what_a_killed_process_had_claimed_is_free_when_another_one_takes_its_place() -> None:
    accounts = Accounts([total(10), team(5)], 2)
    accounts.join(0)
    accounts.claim(0, 3)
    accounts.join(1)
    accounts.claim(0, 4)
    accounts.claim(1, 2)
    accounts.add(0, 1)
    assert (accounts.claimed(0), accounts.claimed(1), accounts.used(0)) == (7, 2, 1)
    accounts.join(1)
    assert (accounts.claimed(0), accounts.claimed(1), accounts.used(0)) == (3, 0, 1)


def test_many_pushes_at_once_do_not_pass_the_limit(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, total(5 * MIB))

        async def push(number: int) -> int:
            try:
                await push_blob(guarded.store, bytes([number]) * MIB)
            except Denied:
                return 0
            return 1

        pushed = sum(await asyncio.gather(*(push(number) for number in range(20))))
        assert 1 <= pushed <= 5
        assert guarded.used() == pushed * MIB
        assert sum(blob.size for blob in stored.blobs.walk()) == pushed * MIB
        assert guarded.claimed() == 0

    run(scenario)


def test_until_the_storage_can_be_counted_pushes_are_taken(stored: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> list[int]:
        time.sleep(2)
        return [2 * MIB]

    async def scenario() -> None:
        monkeypatch.setattr(census, "_PATIENCE", 0.2)
        monkeypatch.setattr(census, "count", slow)
        guarded = Guarded(stored, total(MIB))
        begun = time.monotonic()
        await push_blob(guarded.store, bytes(2 * MIB))
        assert time.monotonic() - begun < 1.5
        await until(lambda: guarded.accounts.is_known)
        await denied(guarded.store.begin_upload(REPOSITORY))

    run(scenario)


def test_a_storage_that_cannot_be_read_refuses_nothing_for_its_quota(
    stored: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> list[int]:
        raise PermissionError(13, "Permission denied", "/data")

    async def scenario() -> None:
        monkeypatch.setattr(census, "count", broken)
        guarded = Guarded(stored, total(1))
        await push_blob(guarded.store, b"more than one")
        assert "cannot count what is stored" in caplog.text

    run(scenario)


# The policy


METHODS = {
    name for name, member in vars(Store).items() if inspect.iscoroutinefunction(member) and not name.startswith("_")
}
METERED = {"mount_blob", "begin_upload", "resume_upload", "put_manifest"}


def test_every_method_of_a_store_is_metered_or_passes() -> None:
    """Whoever adds one decides here; until then it is refused."""
    assert Quota.allowed | METERED == METHODS
    assert not Quota.allowed & METERED
    assert all(name in vars(Quota) for name in METERED)


def test_pulls_and_deletes_are_those_of_the_store_behind_it_and_a_new_method_is_refused(
    stored: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def purge(self: Store) -> None:
        """Something new."""

    async def scenario() -> None:
        guarded = Guarded(stored, total(1))
        for name in Quota.allowed:
            assert getattr(guarded.store, name) == getattr(stored.store, name)
        monkeypatch.setattr(Store, "purge", purge, raising=False)
        with pytest.raises(Unsupported):
            await cast("Any", guarded.store).purge()

    run(scenario)


def test_an_upload_without_a_limit_is_that_of_the_store_behind_it(stored: Backend) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, team(1))
        async with await guarded.store.begin_upload(STRANGER) as free:
            assert type(free) is type(await stored.store.begin_upload(STRANGER))
            session = free.id
        again: Upload = await guarded.store.resume_upload(STRANGER, session)
        async with again:
            assert type(again) is type(free)

    run(scenario)


def test_refusals_are_a_line_of_the_log_for_each_repository_and_minute(
    stored: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        guarded = Guarded(stored, team(1))
        await push_blob(guarded.store, b"a", TEAM_A)
        for _ in range(3):
            for repository in TEAM_A, TEAM_B:
                await denied(guarded.store.begin_upload(repository))
        lines = [record for record in caplog.records if "push refused" in record.message]
        assert [record.fields["repository"] for record in lines] == [TEAM_A, TEAM_B]  # type: ignore[attr-defined]
        assert lines[0].fields["limit"] == 1  # type: ignore[attr-defined]

    run(scenario)
