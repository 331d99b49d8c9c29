"""Clients that are told to trust a certificate of `registry certificate`, the way docker's `certs.d` has it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import Tool
from https import Https, Pair, client, pair
from images import image, write_layout

pytestmark = pytest.mark.client


@pytest.fixture
def made(tmp_path: Path) -> Pair:
    command = [sys.executable, "-m", "registry", "certificate", "127.0.0.1", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return Pair(tmp_path / "registry.crt", tmp_path / "registry.key")


@pytest.fixture
def authority(tmp_path: Path) -> Pair:
    """Of a client, for itself."""
    return pair(tmp_path, "client")


@pytest.fixture
def server(tmp_path: Path, made: Pair, authority: Pair) -> Iterator[Https]:
    """It lets in clients with a certificate alone."""
    settings = made.settings | {"REGISTRY_HTTP_TLS_CLIENTCAS": str(authority.certificate)}
    with Https(tmp_path / "data", environment=settings) as running:
        yield running
    print(running.log())


@pytest.fixture
def trust(tmp_path: Path, made: Pair, authority: Pair) -> Path:
    """A directory as `/etc/docker/certs.d/HOST:PORT` is one."""
    directory = tmp_path / "certs.d"
    directory.mkdir()
    shutil.copy(made.certificate, directory / "ca.crt")
    shutil.copy(authority.certificate, directory / "client.cert")
    shutil.copy(authority.key, directory / "client.key")
    return directory


def test_skopeo_copies_to_and_fro(skopeo: Tool, server: Https, trust: Path, tmp_path: Path, repository: str) -> None:
    pushed = image(repository)
    write_layout(tmp_path / "in", pushed)
    name = f"docker://{server.address}/{repository}:v1"
    skopeo("copy", "--dest-cert-dir", trust, f"oci:{tmp_path}/in:latest", name)
    skopeo("copy", "--src-cert-dir", trust, name, f"dir:{tmp_path}/out")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == pushed.manifest.data
    assert "x509" in skopeo.fails("inspect", name)
    (trust / "client.cert").unlink()
    (trust / "client.key").unlink()
    assert "certificate required" in skopeo.fails("inspect", "--cert-dir", trust, name)


def test_podman_pulls(
    podman: Tool, server: Https, made: Pair, authority: Pair, trust: Path, tmp_path: Path, repository: str
) -> None:
    pushed = image(repository)
    with client(server, made, authority) as http:
        for blob in pushed.blobs:
            uploads = f"/v2/{repository}/blobs/uploads/"
            assert http.post(uploads, params={"digest": blob.digest}, content=blob.data).status_code == 201
        headers = {"Content-Type": pushed.manifest.media_type}
        path = f"/v2/{repository}/manifests/v1"
        assert http.put(path, content=pushed.manifest.data, headers=headers).status_code == 201
    name = f"{server.address}/{repository}:v1"
    podman("pull", "--cert-dir", trust, name)
    assert name in podman("images", "--format", "{{.Repository}}:{{.Tag}}")
