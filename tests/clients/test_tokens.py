"""Tokens as people meet them: docker, podman and skopeo fetch them by themselves, and keep no password."""

import json
from collections.abc import Iterator
from pathlib import Path

import engines
import issuing
import passwords
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from engines import Docker, Tool
from images import image, noise, tar, write_layout
from issuing import KEYS, TokenServer, certificate, pem
from passwords import Guarded
from serving import Server
from test_logins import PLAIN, imported

from registry.auth.jws import fingerprint

pytestmark = pytest.mark.client

LOGIN = ("login", "--username", "alice", "--password", "secret")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    with Guarded(tmp_path / "data", environment={"REGISTRY_AUTH_TOKENS_ENABLED": "true"}) as server:
        yield server
    assert "Traceback" not in server.log(), server.log()
    assert "secret" not in server.log()


def kept(docker: Docker, address: str) -> dict[str, str]:
    """What the client keeps of a login."""
    found: dict[str, str] = json.loads((docker.directory / "config/config.json").read_text())["auths"][address]
    return found


def test_docker_logs_in_with_a_password_and_keeps_a_token(
    docker: Docker, guarded: Guarded, repository: str, tmp_path: Path
) -> None:
    name = f"{guarded.address}/{repository}:v1"
    imported(docker, tmp_path, name)
    assert "requested access to the resource is denied" in docker.fails("push", name)
    assert "unauthorized" in docker.fails("login", "--username", "alice", "--password", "wrong", guarded.address)
    assert "Login Succeeded" in docker(*LOGIN, guarded.address)
    assert kept(docker, guarded.address)["identitytoken"]
    digest = engines.printed_digest(docker("push", name))
    docker("rmi", "--force", name)
    assert engines.printed_digest(docker("pull", name)) == digest
    docker("logout", guarded.address)
    docker("rmi", "--force", name)
    assert "may require 'docker login'" in docker.fails("pull", name)


def test_docker_s_login_ends_when_the_password_changes(
    docker: Docker, guarded: Guarded, repository: str, tmp_path: Path
) -> None:
    name = f"{guarded.address}/{repository}:v1"
    docker(*LOGIN, guarded.address)
    imported(docker, tmp_path, name)
    docker("push", name)
    passwords.write(guarded.users, alice="new")
    guarded.restart()
    assert "this login has ended" in docker.fails("pull", name)
    docker("login", "--username", "alice", "--password", "new", guarded.address)
    docker("pull", name)
    docker("logout", guarded.address)
    docker("rmi", "--force", name)


def test_podman_logs_in_pushes_and_pulls(podman: Tool, guarded: Guarded, repository: str, tmp_path: Path) -> None:
    name = f"{guarded.address}/{repository}:v1"
    (tmp_path / "auth.json").write_text("{}")
    podman.environment["REGISTRY_AUTH_FILE"] = str(tmp_path / "auth.json")
    (tmp_path / "layer.tar").write_bytes(tar({"file": noise(name, 100_000)}))
    podman("import", tmp_path / "layer.tar", name)
    podman.fails("push", PLAIN, name)
    assert "Login Succeeded" in podman(LOGIN[0], PLAIN, *LOGIN[1:], guarded.address)
    podman("push", PLAIN, name)
    podman("rmi", "--force", name)
    podman("pull", PLAIN, name)
    podman("logout", guarded.address)
    podman("rmi", "--force", name)
    podman.fails("pull", PLAIN, name)


def test_skopeo_copies_and_deletes_with_credentials(
    skopeo: Tool, guarded: Guarded, repository: str, tmp_path: Path
) -> None:
    pushed = image(repository)
    write_layout(tmp_path / "in", pushed)
    source, name = f"oci:{tmp_path}/in:latest", f"docker://{guarded.address}/{repository}:v1"
    to = ("copy", "--dest-tls-verify=false")
    skopeo.fails(*to, source, name)
    skopeo.fails(*to, "--dest-creds", "alice:wrong", source, name)
    skopeo(*to, "--dest-creds", "alice:secret", source, name)
    assert json.loads(skopeo("inspect", PLAIN, "--creds", "alice:secret", name))["Digest"] == pushed.digest
    skopeo("delete", PLAIN, "--creds", "alice:secret", name)


# A token server of somebody else's

SIGNERS = {"RS256": KEYS["RS256"], "ES256": KEYS["ES256"]}


@pytest.fixture(params=["RS256 kid", "ES256 kid", "ES256 x5c", "RS256 jwks"])
def issued(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, TokenServer]]:
    """A registry that believes a token server; anybody may pull `open/...`, and alice may push."""
    algorithm, _, way = request.param.partition(" ")
    key, authority = SIGNERS[algorithm], rsa.generate_private_key(65537, 2048)
    root = certificate(authority, "root", authority=True)
    header, files = {
        "kid": ({"kid": fingerprint(key.public_key())}, {"rootcertbundle": pem(certificate(key))}),
        "x5c": (
            {"x5c": issuing.chain(certificate(key, "leaf", by=authority, issuer="root"))},
            {"rootcertbundle": pem(root)},
        ),
        "jwks": ({"kid": "1"}, {"jwks": json.dumps({"keys": [issuing.jwk(algorithm, "1")]}).encode()}),
    }[way]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    allowed = {"alice": {"*": {"pull", "push"}}, "": {"*": {"pull"}}}
    with TokenServer(allowed, {"alice": "secret"}, algorithm, header) as issuer:
        settings = issuing.variables(issuer, **{name: tmp_path / name for name in files})
        with Server(tmp_path / "data", environment=settings) as server:
            yield server, issuer
    assert "Traceback" not in server.log(), server.log()


def test_docker_pulls_without_a_login_and_pushes_with_one(
    docker: Docker, issued: tuple[Server, TokenServer], repository: str, tmp_path: Path
) -> None:
    server, issuer = issued
    name = f"{server.address}/{repository}:v1"
    imported(docker, tmp_path, name)
    assert "denied" in docker.fails("push", name)
    docker(*LOGIN, server.address)
    digest = engines.printed_digest(docker("push", name))
    docker("logout", server.address)
    docker("rmi", "--force", name)
    assert engines.printed_digest(docker("pull", name)) == digest
    assert any(asked.get("account") == ["alice"] for asked in issuer.asked)
    docker("rmi", "--force", name)


def test_docker_mounts_a_layer_of_another_repository(
    docker: Docker, issued: tuple[Server, TokenServer], repository: str, tmp_path: Path
) -> None:
    """It asks for both repositories in one token."""
    server, issuer = issued
    first, second = f"{server.address}/{repository}:v1", f"{server.address}/another/{repository}:v1"
    imported(docker, tmp_path, first)
    docker(*LOGIN, server.address)
    docker("push", first)
    docker("tag", first, second)
    assert "Mounted from" in docker("push", second)
    assert any(len(asked.get("scope", [])) == 2 for asked in issuer.asked)
    docker("logout", server.address)
    docker("rmi", "--force", first, second)
