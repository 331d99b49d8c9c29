"""A power cut after every single system call: what was acknowledged is there, and nothing half-made is visible.

The log of a story (see `story`) is replayed up to each of its changes, and for each the disk's possible states are
built (see `powercut`) and a registry opened on them. Tests at the end take an fsync away and see that it is missed.
"""

import asyncio
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from powercut import Disk, Tree, read_in, write_out
from recording import Acknowledged, Change, Made, Recorder, Renamed, Synced, Written
from story import COPY, FIRST, Story, Violation, check, opened, record

from registry.commands.reports import Silent
from registry.oci.digest import Digest
from registry.oci.names import SessionId
from registry.storage import durable
from registry.storage.durable import Directories
from registry.store.gc import Collector, Options
from registry.store.local import LocalStore

pytestmark = pytest.mark.crash

SEED = 20260801
LONELY = Digest.of(b"", "sha512")
GONE = frozenset([LONELY, Digest.of(FIRST.data)])  # the history of a tag names a deleted manifest for ever
States = Callable[[Disk, random.Random], Iterator[Tree]]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in memory, where there is one: thousands of small trees are made in it."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path_factory.mktemp("states")
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def recorded(memory: Path) -> tuple[list[Change], dict[SessionId, bytes]]:
    root = memory / "recorded"
    root.mkdir()
    return record(root)


def strict(disk: Disk, _: random.Random) -> Iterator[Tree]:
    yield disk.only_what_was_synced()


def everything(disk: Disk, _: random.Random) -> Iterator[Tree]:
    yield disk.everything()


def some(disk: Disk, chance: random.Random) -> Iterator[Tree]:
    for _ in range(3):
        yield disk.some(chance)


def replay(
    log: list[Change],
    sessions: dict[SessionId, bytes],
    directory: Path,
    states: States,
    *,
    since: int = 0,
    gone: frozenset[Digest] = frozenset(),
) -> int:
    """Check the states after every change of a log since one, each different one once; how many there were."""
    disk, chance, seen = Disk(), random.Random(SEED), set[bytes]()
    for number, change in enumerate(log, 1):
        disk.feed(change)
        for tree in states(disk, chance) if number >= since else ():
            key = hashlib.sha256(repr((sorted(tree.items()), sorted(map(repr, disk.allowed.items())))).encode())
            if key.digest() in seen:
                continue
            seen.add(key.digest())
            with tempfile.TemporaryDirectory(dir=directory) as fresh:
                root = Path(fresh) / "root"
                write_out(tree, root)
                try:
                    check(root, disk.allowed, sessions, gone)
                except Exception as error:
                    error.add_note(f"with the power cut after change {number} of {len(log)}: {change!r:.300}")
                    raise
    return len(seen)


def test_the_log_has_everything_that_happened(
    recorded: tuple[list[Change], dict[SessionId, bytes]], memory: Path
) -> None:
    """Played back whole it gives the very tree that the registry left, so the recorder missed no change."""
    log, _ = recorded
    disk = Disk()
    for change in log:
        disk.feed(change)
    assert dict(sorted(disk.everything().items())) == dict(sorted(read_in(memory / "recorded").items()))
    for kind in (Made, Renamed, Written, Synced, Acknowledged):
        assert sum(isinstance(change, kind) for change in log) > 10


def test_what_was_synced_alone_keeps_every_promise(
    recorded: tuple[list[Change], dict[SessionId, bytes]], memory: Path
) -> None:
    assert replay(*recorded, memory, strict) > 50


def test_a_kill_that_loses_nothing_keeps_every_promise(
    recorded: tuple[list[Change], dict[SessionId, bytes]], memory: Path
) -> None:
    assert replay(*recorded, memory, everything) > 100


@pytest.mark.timeout(300)
def test_whatever_else_the_disk_had_got_to_every_promise_is_kept(
    recorded: tuple[list[Change], dict[SessionId, bytes]], memory: Path
) -> None:
    assert replay(*recorded, memory, some) > 300


@pytest.mark.parametrize("forgotten", ["make", "publish", "remove", "sync", "write_atomically"])
def test_each_fsync_is_missed_when_it_is_taken_away(memory: Path, tmp_path: Path, forgotten: str) -> None:
    """Of directories in make, publish and remove; of files in sync and write_atomically."""
    root = memory / f"without-{forgotten}"
    root.mkdir()
    log, sessions = record(root, deaf_to=frozenset([forgotten]))
    with pytest.raises(Violation):
        replay(log, sessions, memory, strict)


# A collection of garbage


@pytest.fixture(scope="module")
def collected(memory: Path) -> tuple[list[Change], dict[SessionId, bytes], int]:
    """The story, then a collection long after it, which has to put one blob back; and where that begins in the log."""
    root = memory / "collected"
    root.mkdir()
    recorder = Recorder(str(root))
    with recorder.installed(), opened(root) as store:
        story = Story(store, recorder.log)
        asyncio.run(story.tell())
        asyncio.run(push_lonely(store))
        recorder.log.append(Acknowledged({("blob", COPY, Digest.of(b"")): Digest.of(b"")}))
        begun, later, move = len(recorder.log), time.time() + 10_000, durable._move

        def promised_meanwhile(directories: Directories, source: str, target: str) -> None:
            if Digest.of(b"").hex in source:
                os.utime(source, (later, later))
            move(directories, source, target)

        with patch.object(durable, "_move", promised_meanwhile):
            collector = Collector(store._blobs, store._records, Options(grace=1), Silent(), lambda: later)
            report = collector.collect()
    assert (report.blobs_removed, report.blobs_young, report.links_removed) == (2, 1, 1)
    return recorder.log, story.sessions, begun


async def push_lonely(store: LocalStore) -> None:
    """Two blobs that no manifest needs."""
    async with await store.begin_upload(COPY) as upload:
        await upload.commit(Digest.of(b""))
    async with await store.begin_upload(COPY, "sha512") as upload:
        await upload.commit(LONELY)


@pytest.mark.parametrize("states", [strict, everything, some])
def test_a_power_cut_in_a_collection_costs_nothing_that_is_needed(
    collected: tuple[list[Change], dict[SessionId, bytes], int], memory: Path, states: States
) -> None:
    log, sessions, begun = collected
    assert len(log) > begun + 10
    replay(log, sessions, memory, states, since=begun, gone=GONE)


# Two processes


def push_twice(root: Path, when: int) -> tuple[list[Change], dict[SessionId, bytes], int]:
    """A push of an image; when it has made its directory number `when`, another process pushes the same, to its end.

    Returns:
        The log up to that end, the sessions, and how many directories the first push makes.
    """
    root.mkdir()
    recorder = Recorder(str(root))
    made = 0
    until: list[Change] = []
    sessions: dict[SessionId, bytes] = {}

    def interrupt(_: Made) -> None:
        nonlocal made
        made += 1
        if made == when:
            with opened(root) as other:
                story = Story(other, recorder.log)
                asyncio.run(story.push_image())
            sessions.update(story.sessions)
            until.extend(recorder.log)

    with recorder.installed(), opened(root) as store:
        recorder.when_made = interrupt
        story = Story(store, recorder.log)
        asyncio.run(story.push_image())
    sessions.update(story.sessions)
    return until, sessions, made


def interrupted_pushes(memory: Path, name: str) -> Iterator[tuple[list[Change], dict[SessionId, bytes]]]:
    when, most = 1, 1
    while when <= most:
        log, sessions, made = push_twice(memory / f"{name}-{when}", when)
        most = max(most, made if when == 1 else most)
        if not log:
            return
        yield log, sessions
        when += 1


def cut_at_the_end(log: list[Change], sessions: dict[SessionId, bytes], memory: Path) -> None:
    disk = Disk()
    for change in log:
        disk.feed(change)
    with tempfile.TemporaryDirectory(dir=memory) as fresh:
        root = Path(fresh) / "root"
        write_out(disk.only_what_was_synced(), root)
        check(root, disk.allowed, sessions)


def test_what_one_process_acknowledges_does_not_hang_on_what_another_has_not_synced(memory: Path) -> None:
    """A directory that is found was perhaps made by another a moment ago, who has not synced its name yet."""
    count = 0
    for log, sessions in interrupted_pushes(memory, "two"):
        cut_at_the_end(log, sessions, memory)
        count += 1
    assert count > 10


def test_trust_in_a_directory_that_is_found_is_missed_too(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    careful = Directories.make

    def trusting(self: Directories, path: str) -> None:
        if not os.path.isdir(path):  # noqa: PTH112
            careful(self, path)

    monkeypatch.setattr(Directories, "make", trusting)
    with pytest.raises(Violation):
        for log, sessions in interrupted_pushes(memory, "trusting"):
            cut_at_the_end(log, sessions, memory)
