"""A full disk refuses what does not fit, says why, loses nothing, and recovers when space is freed."""

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from collecting import age, collect
from images import Image, image
from remote import Remote
from serving import Server

MIB = 1 << 20

pytestmark = pytest.mark.crash


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 32 MiB. Mounting one needs root."""
    if os.geteuid() != 0:
        reason = "mounting a small disk needs root"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)], check=True, timeout=10)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True, timeout=10)


def serve(disk: Path, floor: str) -> Server:
    return Server(disk / "data", environment={"REGISTRY_STORAGE_FILESYSTEM_MINFREESPACE": floor})


def free(disk: Path) -> int:
    room = os.statvfs(disk)
    return room.f_bavail * room.f_frsize


def fill(disk: Path, leave: int) -> Path:
    """Put somebody else's file on the disk, so that `leave` bytes are free."""
    other = disk / "other"
    with other.open("wb") as file:
        while (missing := free(disk) - leave) > 0:
            file.write(bytes(min(missing, MIB)))
            file.flush()
    return other


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    (error,) = answer.json()["errors"]
    assert error["code"] == code
    return error


def test_below_the_floor_an_upload_is_refused_early_with_the_figures_and_what_is_there_is_served(small_disk):
    with serve(small_disk, "8MiB") as server, Remote(server.url) as remote:
        there: Image = image("there")
        remote.push("team/app", there, "v1")
        other = fill(small_disk, leave=6 * MIB)

        error = refused(remote.http.post("/v2/team/app/blobs/uploads/"), 403, "DENIED")

        assert "minfreespace" in error["message"]
        assert error["detail"]["free"] <= 6 * MIB
        assert error["detail"]["floor"] == 8 * MIB
        remote.holds("team/app", there, "v1")
        other.unlink()
        remote.push("team/app", image("after"), "v2")


def test_a_body_that_would_not_fit_is_refused_before_it_is_read(small_disk):
    """The length is told; 403 comes although not one byte of the body was sent."""
    with serve(small_disk, "4MiB") as server, Remote(server.url) as remote:
        location = remote.begin("team/app")
        before = free(small_disk)

        for method in ("PATCH", "PUT"):
            connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
            connection.putrequest(method, f"{httpx.URL(location).raw_path.decode()}?digest=sha256:{'a' * 64}")
            connection.putheader("Content-Length", str(30 * MIB))
            connection.endheaders()
            answer = connection.getresponse()
            (error,) = json.loads(answer.read())["errors"]
            connection.close()
            assert (answer.status, error["code"], error["detail"]["wanted"]) == (403, "DENIED", 30 * MIB)

        assert free(small_disk) >= before - MIB


def test_the_floor_holds_in_the_middle_of_a_body_of_unknown_length(small_disk):
    with serve(small_disk, "8MiB") as server, Remote(server.url) as remote:
        location = remote.begin("team/app")
        before = free(small_disk)

        answer = remote.http.patch(location, content=(bytes(MIB) for _ in range(40)))

        refused(answer, 403, "DENIED")
        assert free(small_disk) >= before - MIB, "what did not count is given back"


def test_a_write_that_the_disk_refuses_is_a_5xx_the_server_lives_and_the_next_push_works(small_disk):
    with serve(small_disk, "0") as server, Remote(server.url) as remote:
        there = image("there")
        remote.push("team/app", there, "v1")
        before = free(small_disk)

        answer = remote.http.patch(remote.begin("team/app"), content=(bytes(MIB) for _ in range(40)))

        refused(answer, 507, "UNAVAILABLE")
        assert free(small_disk) >= before - MIB, "what did not count is given back"
        remote.holds("team/app", there, "v1")
        remote.push("team/app", image("after"), "v2")
        assert "Traceback" not in server.log()


def test_a_manifest_that_does_not_fit_changes_nothing(small_disk):
    """The blobs are there, then the disk is filled to the last page: the tag stays what it was."""
    with serve(small_disk, "0") as server, Remote(server.url) as remote:
        old, new = image("old"), image("new")
        remote.push("team/app", old, "latest")
        for blob in new.blobs:
            remote.push_blob("team/app", blob.data)
        other = fill(small_disk, leave=0)

        answer = remote.http.put(
            "/v2/team/app/manifests/latest",
            content=new.manifest.data,
            headers={"Content-Type": new.manifest.media_type},
        )

        refused(answer, 507, "UNAVAILABLE")
        remote.holds("team/app", old, "latest")
        other.unlink()
        remote.push("team/app", new, "latest")
        remote.holds("team/app", new, "latest")


def test_a_disk_without_a_free_byte_is_collected(small_disk):
    """That is when it is needed most: a collection writes no byte."""
    with serve(small_disk, "0") as server, Remote(server.url) as remote:
        kept = image("kept", size=1000)
        remote.push("team/app", kept, "v1")
        remote.push("team/app", image("untagged", size=8 * MIB))
        age(server.root)
        other = fill(small_disk, leave=0)
        assert free(small_disk) == 0

        ended = collect(server.root, "-m")

        assert ended.returncode == 0, ended.stderr
        assert free(small_disk) > 15 * MIB
        remote.holds("team/app", kept, "v1")
        remote.push("team/app", image("after"), "v2")
        other.unlink()
