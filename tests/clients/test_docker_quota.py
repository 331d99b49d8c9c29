"""What docker prints when a push is over a quota, and that it pushes again once there is room."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from collecting import age, collect
from engines import Docker, Tool, printed_digest
from images import image, noise, tar, write_layout
from remote import Remote
from serving import Server

pytestmark = pytest.mark.client

MIB = 1024**2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A registry that may store 3 MiB, and a team in it 2 MiB."""
    settings = {"REGISTRY_QUOTA_TOTAL": "3MiB", "REGISTRY_QUOTA_LIMITS": '[{repositories: "team/**", together: 2MiB}]'}
    with Server(tmp_path / "data", environment=settings) as running:
        yield running
    print(running.log())


def make(docker: Docker, directory: Path, name: str, size: int) -> None:
    archive = directory / "layer.tar"
    archive.write_bytes(tar({"file": noise(name, size)}))
    docker("import", archive, name)


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("app", "the registry may store 3.0 MiB (quota.total)"),
        ("team/app", "team/** together may store 2.0 MiB (quota.limits.0)"),
    ],
)
def test_docker_prints_the_figures_and_gives_up_at_once(
    docker: Docker, server: Server, tmp_path: Path, repository: str, words: str
) -> None:
    name = f"{server.address}/{repository}:v1"
    make(docker, tmp_path, name, 8 * MIB)
    begun = time.monotonic()
    told = docker.fails("push", name)
    assert time.monotonic() - begun < 5  # it tries again for what is no answer, with pauses of five seconds and more
    assert words in told
    assert "denied: quota exceeded" in told
    assert "Retrying" not in told
    docker("rmi", "--force", name)


def test_after_a_delete_and_a_collection_docker_pushes_again(
    docker: Docker, server: Server, remote: Remote, tmp_path: Path
) -> None:
    first, second = f"{server.address}/app:first", f"{server.address}/app:second"
    for name in first, second:
        make(docker, tmp_path, name, 2 * MIB)
    digest = printed_digest(docker("push", first))
    assert "quota.total" in docker.fails("push", second)
    remote.delete_manifest("app", digest)
    age(server.root)
    assert collect(server.root).returncode == 0
    assert printed_digest(docker("push", second)) == remote.digest("app", "second")
    docker("rmi", "--force", first, second)


def test_skopeo_prints_them_too(skopeo: Tool, server: Server, tmp_path: Path) -> None:
    write_layout(tmp_path / "in", image("large", size=8 * MIB, layers=1))
    name = f"docker://{server.address}/app:v1"
    told = skopeo.fails("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/in:latest", name)
    assert "quota exceeded: the registry may store 3.0 MiB" in told
