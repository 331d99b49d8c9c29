"""docker, pushing another image to a tag that must not move."""

import time
from pathlib import Path

import pytest
from engines import Docker
from images import noise, tar
from remote import Remote
from serving import Server

pytestmark = pytest.mark.client


def import_(docker: Docker, directory: Path, name: str, seed: str) -> None:
    archive = directory / "import.tar"
    archive.write_bytes(tar({"file": noise(seed, 1000)}))
    docker("import", archive, name)


def test_docker_prints_why_an_immutable_tag_does_not_move_and_does_not_try_again(
    docker: Docker, tmp_path: Path
) -> None:
    policies = "[{repositories: 'team/**', immutable: 'v[0-9.]+'}]"
    root = tmp_path / "data"
    with Server(root, environment={"REGISTRY_RETENTION_POLICIES": policies}) as server, Remote(server.url) as remote:
        name = f"{server.address}/team/app:v1"
        import_(docker, tmp_path, name, "first")
        docker("push", name)
        docker("push", name)  # the same again
        first = remote.manifest("team/app", "v1").digest
        import_(docker, tmp_path, name, "second")
        begun = time.monotonic()
        printed = docker.fails("push", name)
        assert time.monotonic() - begun < 10
        assert "the tag v1 is immutable" in printed
        assert "retention.policies.0.immutable" in printed
        assert remote.manifest("team/app", "v1").digest == first
        docker("rmi", "--force", name)
