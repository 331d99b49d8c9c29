"""Anyone pulls, and who has a password pushes: the rules of docs/examples/stack.public.yml, with real clients."""

from collections.abc import Iterator
from pathlib import Path

import engines
import pytest
import test_containerd
import yaml
from engines import Docker, Tool
from images import image, noise, tar
from passwords import Guarded
from remote import Remote
from test_containerd import PLAIN as HTTP
from test_logins import LAYER, PLAIN, imported

pytestmark = pytest.mark.client

EXAMPLE = Path(__file__).parent.parent.parent / "docs/examples/stack.public.yml"


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Guarded]:
    rules = yaml.safe_load(EXAMPLE.read_text())["services"]["registry"]["environment"]["REGISTRY_AUTH_ACCESS"]
    with Guarded(tmp_path / "data", environment={"REGISTRY_AUTH_ACCESS": rules}) as server:
        yield server
    assert "Traceback" not in server.log(), server.log()


def test_docker_pulls_without_a_login_and_pushes_with_one(
    docker: Docker, public: Guarded, repository: str, tmp_path: Path
) -> None:
    name = f"{public.address}/{repository}:v1"
    imported(docker, tmp_path, name)
    assert "denied" in docker.fails("push", name)
    docker("login", "--username", "alice", "--password", "secret", public.address)
    digest = engines.printed_digest(docker("push", name))
    docker("logout", public.address)
    docker("rmi", "--force", name)
    assert engines.printed_digest(docker("pull", name)) == digest
    docker("rmi", "--force", name)


def test_podman_pulls_without_a_login_and_pushes_with_one(
    podman: Tool, public: Guarded, repository: str, tmp_path: Path
) -> None:
    name = f"{public.address}/{repository}:v1"
    (tmp_path / "auth.json").write_text("{}")
    podman.environment["REGISTRY_AUTH_FILE"] = str(tmp_path / "auth.json")
    archive = tmp_path / "layer.tar"
    archive.write_bytes(tar({"file": noise(name, LAYER)}))
    podman("import", archive, name)
    assert "denied" in podman.fails("push", PLAIN, name)
    podman("login", PLAIN, "--username", "alice", "--password", "secret", public.address)
    podman("push", PLAIN, name)
    podman("logout", public.address)
    podman("rmi", "--force", name)
    podman("pull", PLAIN, name)


def test_containerd_pulls_without_a_login_and_pushes_with_one(
    ctr: Tool, public: Guarded, repository: str, tmp_path: Path
) -> None:
    pushed = image(repository)
    name = test_containerd.load(ctr, tmp_path, f"{public.address}/{repository}", pushed)
    assert "authorization failed" in ctr.fails("images", "push", HTTP, name)
    ctr("images", "push", HTTP, "--user", "alice:secret", name)
    test_containerd.forget(ctr, name)
    ctr("images", "pull", HTTP, name)
    test_containerd.holds(ctr, tmp_path, name, pushed)
    test_containerd.forget(ctr, name)


def test_skopeo_looks_without_a_login(skopeo: Tool, public: Guarded, repository: str) -> None:
    with Remote(public.url) as alice:
        alice.http.auth = ("alice", "secret")
        alice.push(repository, image(repository, size=1000), "v1")
    assert "sha256:" in skopeo("inspect", "--raw", PLAIN, f"docker://{public.address}/{repository}:v1")
