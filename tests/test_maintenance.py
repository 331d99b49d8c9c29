"""Garbage collections on a schedule, beside a registry that serves."""

import asyncio
import contextlib
import time

import pytest
from collecting import age
from images import digest_of, image, noise
from remote import Remote
from serving import Server, wait_until

from registry.maintenance import Chore

DONE = "registry.maintenance: garbage collection: done"
PURGED = "registry.maintenance: purge of abandoned uploads: done"


@pytest.fixture
def server(tmp_path):
    """One that has an image, and a blob that nothing needs, both old."""
    with Server(tmp_path / "data") as server, Remote(server.url) as remote:
        remote.push("some/name", image("kept", size=1000), "v1")
        remote.push_blob("some/name", noise("garbage", 5000))
    age(server.root)
    server.environment = {"REGISTRY_GC_INTERVAL": "1s"}
    yield server
    if server.process is not None:
        server.kill()
    print(server.log())


def blob(server: Server, data: bytes) -> bool:
    digest = digest_of(data).partition(":")[2]
    return (server.root / f"docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data").exists()


def test_garbage_goes_while_the_registry_serves_and_the_log_tells(server):
    with server, Remote(server.url) as remote:
        wait_until(lambda: DONE in server.log(), 20, "a collection")
        assert not blob(server, noise("garbage", 5000))
        assert remote.holds("some/name", image("kept", size=1000), "v1") is None
        (line, *_) = (line for line in server.log().splitlines() if DONE in line)
        assert "blobs_removed=1 " in line
        wait_until(lambda: server.log().count(DONE) > 1, 20, "another collection")
        assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_without_an_interval_nothing_goes(server):
    server.environment = {}
    with server:
        time.sleep(2)
        assert blob(server, noise("garbage", 5000))
        assert "collect" not in server.log()


@pytest.mark.parametrize("by_another", [False, True])
def test_what_another_replica_did_of_late_is_not_done_again(tmp_path, by_another):
    """The storage says when a collection ended, whoever ran it."""
    ran = tmp_path / "ran"
    ended = iter([0.0])

    def last() -> float:
        return next(ended, time.time() if by_another else 0.0)

    chore = Chore("something", ["touch", str(ran)], 0.5, (), last)

    async def for_a_while() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(chore.run(), 1.5)

    asyncio.run(for_a_while())
    assert ran.exists() is not by_another


def test_two_registries_on_a_storage_get_along(server, tmp_path):
    other = Server(server.root, environment=server.environment)
    other.log_path = tmp_path / "other.log"
    with server, other:
        wait_until(lambda: (server.log() + other.log()).count(DONE) >= 3, 40, "three collections")
    assert "failed" not in server.log() + other.log()


def test_one_that_fails_is_a_line_of_the_log_and_the_next_one_comes(server):
    """Something in the tree that nobody can read: a collection removes nothing then."""
    odd = server.root / "docker/registry/v2/repositories/Some Name/_manifests"
    (odd.parent / "_layers").mkdir(parents=True)
    odd.mkdir()
    with server:
        wait_until(lambda: "garbage collection failed: " in server.log(), 20, "a collection that fails")
        assert "looks like a repository" in server.log()
        assert blob(server, noise("garbage", 5000))
        (odd.parent / "_layers").rmdir()
        odd.rmdir()
        odd.parent.rmdir()
        wait_until(lambda: DONE in server.log(), 20, "one that does not")
        assert not blob(server, noise("garbage", 5000))


def test_uploads_that_nobody_goes_on_with_go_by_themselves(server):
    server.environment = {
        "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_INTERVAL": "1s",
        "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE": "2s",
    }
    with server, Remote(server.url) as remote:
        session = remote.begin("some/name")
        assert remote.http.get(session).status_code == 204
        wait_until(lambda: "uploads_removed=1 " in server.log(), 20, "a purge that finds it")
        assert remote.http.get(session).status_code == 404
        assert PURGED in server.log()


def test_a_registry_that_stops_ends_its_collection(server):
    """Whatever it is at: between two, or in one."""
    for pause in (0.3, 1.0, 1.2):
        with server:
            time.sleep(pause)
            begun = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun < 10
    assert "Traceback" not in server.log()
