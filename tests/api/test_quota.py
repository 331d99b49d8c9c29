"""Quota over HTTP: every door, several processes, restarts, collections."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from answers import error
from collecting import age, collect, environment
from images import Image, digest_of, image, noise
from rawhttp import Connection
from remote import Remote
from serving import PeerRegistry, Server, wait_until

MIB = 1024**2
Connect = Callable[[Server], Remote]
Serve = Callable[..., Server]


@pytest.fixture
def limited(serve: Serve, connect: Connect) -> Callable[..., Remote]:
    """A registry of two processes whose storage may have so much."""

    def start(total: str = "3MiB", **settings: str) -> Remote:
        return connect(serve(REGISTRY_QUOTA_TOTAL=total, REGISTRY_HTTP_WORKERS="2", **settings))

    return start


def refused(answer: httpx.Response) -> dict[str, Any]:
    """The figures of a refusal, which the message must have, too."""
    told = error(answer, 403, "DENIED")
    assert told["message"].startswith("quota exceeded: ")
    detail = told["detail"]
    assert detail["quota"] in told["message"]
    assert detail["used"] + detail["pending"] + detail["wanted"] > detail["limit"] or detail["wanted"] > detail["limit"]
    return dict(detail)


def stored_by(*images: Image) -> int:
    return sum(len(blob.data) for one in images for blob in (one.manifest, *one.blobs))


def at_once(remote: Remote, data: bytes, repository: str = "some/name") -> httpx.Response:
    return remote.http.post(f"/v2/{repository}/blobs/uploads/", params={"digest": digest_of(data)}, content=data)


def test_every_door_is_closed_to_what_does_not_fit_and_pulls_go_on(limited: Callable[..., Remote]) -> None:
    remote = limited()
    kept = image("kept", size=MIB, layers=2)
    remote.push("some/name", kept, "v1")
    session = remote.begin("some/name")
    large = noise("large", 2 * MIB)
    for answer in (
        at_once(remote, large),
        remote.http.patch(session, content=large),
        remote.http.patch(session, content=iter([large[:MIB], large[MIB:]])),
        remote.http.put(session, params={"digest": digest_of(large)}, content=large),
    ):
        assert refused(answer)["quota"] == "quota.total"
    assert remote.http.get(session).headers["Range"] == "0-0"  # nothing of it counts
    remote.holds("some/name", kept, "v1")
    remote.push("some/name", image("small", size=1000), "small")
    remote.delete_manifest("some/name", "small")


def test_a_registry_that_is_full_says_so_at_the_first_request(limited: Callable[..., Remote]) -> None:
    remote = limited("3MiB")
    kept = image("kept", size=MIB, layers=2)
    remote.push("some/name", kept, "v1")
    remote.push_blob("some/name", noise("rest", 3 * MIB - stored_by(kept)))
    refused(remote.http.post("/v2/some/name/blobs/uploads/"))
    unknown = image("other", size=10, layers=1)
    manifest = unknown.manifest
    refused(
        remote.http.put(
            "/v2/some/name/manifests/v2", content=manifest.data, headers={"Content-Type": manifest.media_type}
        )
    )
    remote.push_manifest("some/name", kept.manifest, "v2")  # one more tag takes no room
    assert remote.mount("other/name", kept.layers[0].digest, "some/name") == 201


def test_a_manifest_whose_parts_are_more_than_the_limit(limited: Callable[..., Remote]) -> None:
    remote = limited()
    kept = image("kept", size=1000)
    remote.push("some/name", kept, "v1")
    document = kept.manifest.json
    document["layers"][0]["size"] = 4 * MIB
    answer = remote.http.put(
        "/v2/some/name/manifests/v2",
        content=json.dumps(document).encode(),
        headers={"Content-Type": kept.manifest.media_type},
    )
    assert refused(answer)["wanted"] > 4 * MIB


def test_repositories_that_fit_a_pattern_share_a_limit(serve: Serve, connect: Connect) -> None:
    limits = '[{repositories: "team/**", together: 2MiB}]'
    remote = connect(serve(REGISTRY_QUOTA_LIMITS=limits))
    first, second = noise("first", MIB), noise("second", 3 * MIB // 2)
    remote.push_blob("team/a", first)
    remote.push_blob("free", second)
    detail = refused(at_once(remote, second, "team/b"))
    assert (detail["quota"], detail["used"]) == ("quota.limits.0", MIB)
    assert remote.mount("team/b", digest_of(first), "team/a") == 201
    answer = remote.http.post("/v2/team/b/blobs/uploads/", params={"mount": digest_of(second), "from": "free"})
    assert "team/** together may store 2.0 MiB" in error(answer, 403, "DENIED")["message"]
    remote.push_blob("free", noise("more", 2 * MIB))


def test_a_push_without_an_end_is_cut_where_it_passes_the_limit(serve: Serve, connect: Connect) -> None:
    """What came is not kept, and the answer gets through though the client was sending."""
    server = serve(REGISTRY_QUOTA_TOTAL="3MiB")
    remote = connect(server)
    session = httpx.URL(remote.begin("some/name"))
    with Connection(server) as connection:
        connection.request("PATCH", session.raw_path, Transfer_Encoding="chunked")
        for _ in range(4):
            connection.chunk(bytes(MIB))
        answer = connection.answer()
        connection.chunk(b"")
        assert connection.request("GET", "/v2/").answer().status_code == 200
    assert "quota.total" in error(answer, 403, "DENIED")["message"]
    assert remote.http.get(str(session)).headers["Range"] == "0-0"


# Several processes


def connections(url: str, number: int) -> Iterator[httpx.Client]:
    """Clients with connections of their own, which the kernel shares out over the processes."""
    for _ in range(number):
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client


def test_what_one_process_took_the_other_one_knows(limited: Callable[..., Remote]) -> None:
    remote = limited()
    remote.push_blob("some/name", noise("first", 2 * MIB))
    for client in connections(remote.url, 20):
        detail = refused(client.post("/v2/x/blobs/uploads/", params={"digest": digest_of(b"")}, content=bytes(2 * MIB)))
        assert detail["used"] == 2 * MIB


def test_pushes_at_the_same_time_never_pass_the_limit(limited: Callable[..., Remote]) -> None:
    remote = limited("20MiB")
    statuses: list[int] = []

    def push(number: int) -> None:
        data = noise(("at once", number), MIB)
        with httpx.Client(base_url=remote.url, timeout=60) as client:
            location = client.post("/v2/some/name/blobs/uploads/")
            if location.status_code == 403:
                statuses.append(403)
                return
            halves = iter([data[: MIB // 2], data[MIB // 2 :]])
            answer = client.put(location.headers["Location"], params={"digest": digest_of(data)}, content=halves)
            statuses.append(answer.status_code)

    threads = [threading.Thread(target=push, args=[number]) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {201, 403}
    assert 15 <= statuses.count(201) <= 20


def test_a_killed_process_leaves_nothing_claimed(serve: Serve, connect: Connect) -> None:
    server = serve(REGISTRY_QUOTA_TOTAL="3MiB", REGISTRY_HTTP_WORKERS="2")
    remote = connect(server)
    remote.push_blob("some/name", noise("first", MIB))
    session = httpx.URL(remote.begin("some/name"))
    with Connection(server) as connection:
        connection.begin("PATCH", session.raw_path, 2 * MIB, b"some")
        wait_until(lambda: at_once(remote, noise("second", 2 * MIB)).status_code == 403, 10, "the claim is seen")
        for worker in server.processes()[1:]:
            os.kill(worker, signal.SIGKILL)
        wait_until(server.is_ready, 20, "workers are back")
    with Remote(server.url) as again:
        assert at_once(again, noise("second", 2 * MIB)).status_code == 201
        refused(at_once(again, b"one more"))


# Restarts and collections


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_is_stored_counts_after_a_restart(serve: Serve, connect: Connect, end: str) -> None:
    server = serve(REGISTRY_QUOTA_TOTAL="3MiB")
    remote = connect(server)
    remote.push_blob("some/name", noise("first", 2 * MIB))
    getattr(server, end)()
    server.start()
    assert refused(at_once(remote, noise("second", 2 * MIB)))["used"] == 2 * MIB


def test_what_registry_2_wrote_meanwhile_counts(tmp_path: Path, serve: Serve, connect: Connect) -> None:
    with PeerRegistry(tmp_path / "data") as peer, Remote(peer.url) as remote:
        remote.push_blob("some/name", noise("first", 2 * MIB))
    remote = connect(serve(REGISTRY_QUOTA_TOTAL="3MiB"))
    assert refused(at_once(remote, noise("second", 2 * MIB)))["used"] == 2 * MIB


def test_after_a_delete_and_a_collection_pushes_work_again(limited: Callable[..., Remote], tmp_path: Path) -> None:
    remote = limited(REGISTRY_QUOTA_LIMITS='[{repositories: "**", together: 3MiB}]')
    old, new = image("old", size=2 * MIB, layers=1), image("new", size=2 * MIB, layers=1)
    remote.push("some/name", old, "v1")
    refused(at_once(remote, new.layers[0].data))
    remote.delete_manifest("some/name", old.digest)
    refused(at_once(remote, new.layers[0].data))  # a delete alone frees nothing
    age(tmp_path / "data")
    assert collect(tmp_path / "data").returncode == 0
    remote.push("some/name", new, "v2")
    remote.holds("some/name", new, "v2")


def test_usage_tells_how_much_of_a_quota_is_used(limited: Callable[..., Remote], tmp_path: Path) -> None:
    limits = {"REGISTRY_QUOTA_LIMITS": '[{repositories: "team/**", together: 1MiB}]', "REGISTRY_QUOTA_TOTAL": "3MiB"}
    remote = limited()
    kept = image("kept", size=1000)
    for repository in "team/a", "team/b", "other":
        remote.push(repository, kept, "v1")
    remote.push_blob("other", b"more")
    ended = subprocess.run(
        [sys.executable, "-m", "registry", "usage", "--json"],
        env=environment(tmp_path / "data", **limits),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(ended.stdout)["quotas"] == [
        {"quota": "quota.total", "used": stored_by(kept) + 4, "limit": 3 * MIB},
        {"quota": "quota.limits.0", "used": stored_by(kept), "limit": MIB},
    ]


def test_a_refusal_in_the_middle_of_a_body_reaches_a_client_that_goes_on_sending(serve: Serve) -> None:
    """docker, which wants its connection closed, takes a reset for a fault of the network, and sends it all again."""
    server = serve(REGISTRY_QUOTA_TOTAL="1MiB")
    data = noise("large", 64 * 1024)
    for number in range(5):
        with Remote(server.url) as remote, Connection(server) as connection:
            session = remote.begin(f"some/name{number}")
            connection.request("PATCH", session, Transfer_Encoding="chunked", Connection="close")
            for _ in range(100):
                connection.chunk(data)
            answer = connection.answer()
            assert answer.status_code == 403
            assert answer.json()["errors"][0]["code"] == "DENIED"
            connection.half_close()
            assert connection.is_closed_by_server()
