"""Passwords as people use them: log in, push, pull, log out; a wrong one says so. With docker, podman and skopeo."""

import json
from collections.abc import Iterator
from pathlib import Path

import engines
import httpx
import passwords
import pytest
from engines import Docker, Tool
from images import image, noise, tar, write_layout
from passwords import Guarded
from remote import Remote

pytestmark = pytest.mark.client

PLAIN = "--tls-verify=false"
LAYER = 400_000


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    with Guarded(tmp_path / "data") as server:
        yield server
    assert "Traceback" not in server.log(), server.log()
    assert "secret" not in server.log()


@pytest.fixture
def alice(guarded: Guarded) -> Iterator[Remote]:
    """The registry without a client between."""
    with Remote(guarded.url) as client:
        client.http.auth = ("alice", "secret")
        yield client


def imported(docker: Docker, directory: Path, name: str) -> None:
    archive = directory / "layer.tar"
    archive.write_bytes(tar({"file": noise(name, LAYER)}))
    docker("import", archive, name)


def test_docker_logs_in_pushes_pulls_and_logs_out(
    docker: Docker, guarded: Guarded, alice: Remote, repository: str, tmp_path: Path
) -> None:
    name = f"{guarded.address}/{repository}:v1"
    imported(docker, tmp_path, name)
    assert "no basic auth credentials" in docker.fails("push", name)

    assert "401 Unauthorized" in docker.fails("login", "--username", "alice", "--password", "wrong", guarded.address)
    assert "Login Succeeded" in docker("login", "--username", "alice", "--password", "secret", guarded.address)
    digest = engines.printed_digest(docker("push", name))
    assert alice.manifest(repository, "v1").digest == digest
    docker("rmi", "--force", name)
    assert engines.printed_digest(docker("pull", name)) == digest

    docker("logout", guarded.address)
    docker("rmi", "--force", name)
    assert "no basic auth credentials" in docker.fails("pull", name)


def test_docker_s_login_is_out_when_the_password_changes(
    docker: Docker, guarded: Guarded, repository: str, tmp_path: Path
) -> None:
    name = f"{guarded.address}/{repository}:v1"
    docker("login", "--username", "alice", "--password", "secret", guarded.address)
    imported(docker, tmp_path, name)
    docker("push", name)
    passwords.write(guarded.users, alice="new")
    guarded.restart()
    assert "unauthorized" in docker.fails("pull", name)  # a push tries again for a minute first, on 20.10
    docker("login", "--username", "alice", "--password", "new", guarded.address)
    docker("push", name)
    docker("logout", guarded.address)
    docker("rmi", "--force", name)


def test_podman_logs_in_pushes_pulls_and_logs_out(
    podman: Tool, guarded: Guarded, alice: Remote, repository: str, tmp_path: Path
) -> None:
    name = f"{guarded.address}/{repository}:v1"
    (tmp_path / "auth.json").write_text("{}")
    podman.environment["REGISTRY_AUTH_FILE"] = str(tmp_path / "auth.json")
    archive = tmp_path / "layer.tar"
    archive.write_bytes(tar({"file": noise(name, LAYER)}))
    podman("import", archive, name)
    assert "unauthorized" in podman.fails("push", PLAIN, name)

    login = ("login", PLAIN, "--username", "alice", "--password")
    assert "invalid username/password" in podman.fails(*login, "wrong", guarded.address)
    assert "Login Succeeded" in podman(*login, "secret", guarded.address)
    podman("push", PLAIN, name)
    assert alice.tags(repository) == ["v1"]
    podman("rmi", "--force", name)
    podman("pull", PLAIN, name)

    podman("logout", guarded.address)
    podman("rmi", "--force", name)
    assert "unauthorized" in podman.fails("pull", PLAIN, name)


def test_skopeo_copies_with_credentials_and_not_without(
    skopeo: Tool, guarded: Guarded, alice: Remote, repository: str, tmp_path: Path
) -> None:
    pushed = image(repository)
    write_layout(tmp_path / "in", pushed)
    source, name = f"oci:{tmp_path}/in:latest", f"docker://{guarded.address}/{repository}:v1"
    to = ("copy", "--dest-tls-verify=false")
    assert "authentication required" in skopeo.fails(*to, source, name)
    assert "authentication required" in skopeo.fails(*to, "--dest-creds", "alice:wrong", source, name)
    skopeo(*to, "--dest-creds", "alice:secret", source, name)
    alice.holds(repository, pushed, "v1")
    shown = json.loads(skopeo("inspect", PLAIN, "--creds", "alice:secret", name))
    assert shown["Digest"] == pushed.digest
    skopeo("delete", PLAIN, "--creds", "alice:secret", name)


def test_a_client_that_guesses_is_told_to_slow_down(docker: Docker, guarded: Guarded) -> None:
    for number in range(10):
        assert httpx.get(guarded.url + "/v2/", auth=("alice", f"guess {number}")).status_code == 401
    login = ("login", "--username", "alice", "--password", "another", guarded.address)
    assert "429 Too Many Requests" in docker.fails(*login)
