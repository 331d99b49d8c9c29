"""`registry purge-uploads`: what nobody goes on with goes, and nothing else."""

import json
import os
import subprocess
import time

import pytest
from remote import Remote
from serving import Server

from registry.storage import layout


def purge(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = server.variables()
    command = [*server.command()[:-1], "purge-uploads", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "data") as server:
        yield server


@pytest.fixture
def remote(server):
    with Remote(server.url) as remote:
        yield remote


def begin(server: Server, remote: Remote, name: str, *, days: float) -> str:
    """An upload of 1,000 bytes, to which nobody wrote for so many days. Returns where it goes on."""
    session = remote.http.patch(remote.begin(name), content=bytes(1000)).headers["location"]
    directory = server.root / layout.uploads(name) / session.rpartition("/")[2].partition("?")[0]
    then = time.time() - days * 86400
    for path in (*directory.iterdir(), directory):
        os.utime(path, (then, then))
    return session


def test_what_is_older_goes_and_what_is_younger_stays(server, remote):
    old, young = begin(server, remote, "some/name", days=8), begin(server, remote, "another", days=6)
    told = purge(server)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines()[-1] == "1 of 2 uploads were idle for 168h or more and removed, 1000 bytes"
    gone = remote.http.get(old)
    assert (gone.status_code, gone.json()["errors"][0]["code"]) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert remote.http.get(young).headers["range"] == "0-999"
    document = json.loads(purge(server, "--older-than", "100h", "--json").stdout)
    assert (document["uploads"], document["uploads_removed"], document["bytes_freed"]) == (1, 1, 1000)
    assert document["removed"][0]["repository"] == "another"


def test_a_dry_run_removes_nothing(server, remote):
    session = begin(server, remote, "some/name", days=8)
    assert "would be removed: some/name " in purge(server, "--dry-run").stdout
    assert remote.http.get(session).status_code == 204


def test_what_is_left_of_an_upload_goes_and_what_is_none_stays(server, remote):
    remote.push_blob("some/name", b"a blob")
    uploads = server.root / layout.uploads("some/name")
    (uploads / "00000000-0000-4000-8000-000000000000").mkdir(parents=True)
    (uploads / "notes").mkdir()
    (uploads / "00000000-0000-4000-8000-000000000001").write_text("a file")
    time.sleep(0.01)
    document = json.loads(purge(server, "--older-than", "1ms", "--json").stdout)
    assert document["uploads_removed"] == 1
    assert {path.name for path in uploads.iterdir()} == {"notes", "00000000-0000-4000-8000-000000000001"}


def test_a_client_that_goes_on_is_left_in_peace(server, remote):
    session = begin(server, remote, "some/name", days=100)
    session = remote.http.patch(session, content=b"more").headers["location"]
    assert json.loads(purge(server, "--json").stdout)["uploads_removed"] == 0
    assert remote.http.get(session).headers["range"] == "0-1003"


@pytest.mark.parametrize("age", ["soon", "-1h", "0s"])
def test_an_age_that_is_none_is_told(server, age):
    told = purge(server, "--older-than", age)
    assert told.returncode == 2
    assert told.stderr.startswith("registry: --older-than: expected a ")


def test_a_storage_without_a_registry_is_told(tmp_path):
    told = purge(Server(tmp_path / "nothing"))
    assert told.returncode == 1
    assert "no registry was served from" in told.stderr
