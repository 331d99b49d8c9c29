"""buildah: images made step by step, and its own way to make indexes."""

from pathlib import Path

import pytest
from engines import Tool
from images import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    files_of_layers,
    files_of_layout,
    image,
    multi_platform,
    noise,
)
from remote import Remote
from serving import Process
from wire import Wire

pytestmark = pytest.mark.client

PLAIN = "--tls-verify=false"
LAYER = 400_000


def make(buildah: Tool, directory: Path, name: str, chosen: str = "oci") -> dict[str, bytes]:
    """From scratch, two files added and committed; returns the files."""
    files = {f"file-{number}": noise((name, number), LAYER) for number in range(2)}
    container = buildah("from", "scratch").strip()
    for file, data in files.items():
        (directory / file).write_bytes(data)
        buildah("add", container, directory / file, f"/{file}")
    buildah("commit", "--rm", "--format", chosen, container, name)
    return files


def pulled_files(buildah: Tool, directory: Path, name: str) -> dict[str, bytes]:
    """All files of a local image, read back through an OCI layout."""
    layout = directory / "saved"
    buildah("push", name, f"oci:{layout}:saved")
    return files_of_layout(layout)


@pytest.mark.parametrize(
    ("chosen", "media_type"), [("oci", OCI_MANIFEST), ("docker", DOCKER_MANIFEST)], ids=["oci", "docker"]
)
def test_a_pushed_image_comes_back_the_same(
    buildah: Tool,
    server: Process,
    remote: Remote,
    repository: str,
    tmp_path: Path,
    chosen: str,
    media_type: str,
) -> None:
    """The digest push writes is the one that HEAD names and that pulls the same files again."""
    name = f"{server.address}/{repository}:v1"
    files = make(buildah, tmp_path, name, chosen)
    digest_file = tmp_path / "digest"
    buildah("push", PLAIN, "--digestfile", digest_file, name)
    digest = digest_file.read_text()
    manifest = remote.manifest(repository, "v1")
    assert manifest.digest == digest
    assert manifest.media_type == media_type

    buildah("rmi", "--all", "--force")
    by_digest = f"{server.address}/{repository}@{digest}"
    identity = buildah("pull", PLAIN, by_digest).split()[-1]
    assert f"sha256:{identity}" == manifest.json["config"]["digest"]
    assert pulled_files(buildah, tmp_path, by_digest) == files


def test_an_image_pushed_again_sends_no_layer(
    buildah: Tool, wire: Wire, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """To another tag by reuse, to another repository by mount."""
    name = f"{wire.address}/{repository}/first:v1"
    make(buildah, tmp_path, name)
    buildah("push", PLAIN, name)
    assert wire.up.total > 2 * LAYER

    for repo, tag in ((f"{repository}/first", "v2"), (f"{repository}/second", "v1")):
        before = wire.up.total
        buildah("push", PLAIN, name, f"docker://{wire.address}/{repo}:{tag}")
        assert wire.up.total - before < LAYER / 4, repo
        for layer in remote.manifest(repo, tag).json["layers"]:
            remote.blob(repo, layer["digest"])


def test_a_build_goes_on_from_a_pushed_image(
    buildah: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """`FROM` the registry, one layer more, back to the registry."""
    base = image(repository, layers=1)
    remote.push(repository, base, "base")
    (tmp_path / "more").write_bytes(b"one more file")
    (tmp_path / "Containerfile").write_text(f"FROM {server.address}/{repository}:base\nCOPY more /more\n")
    name = f"{server.address}/{repository}:built"
    buildah("build", PLAIN, "--layers", "--tag", name, tmp_path)
    buildah("push", PLAIN, name)
    manifest = remote.manifest(repository, "built")
    layers = [remote.blob(repository, layer["digest"]) for layer in manifest.json["layers"]]
    assert files_of_layers(layers) == base.files | {"more": b"one more file"}


def test_an_index_is_made_pushed_and_pulled_for_each_platform(
    buildah: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    made = multi_platform(repository)
    for child, architecture in zip(made.children, ("amd64", "arm64"), strict=True):
        remote.push(f"{repository}/{architecture}", child, "latest")
    buildah("manifest", "create", "list")
    for architecture in ("amd64", "arm64"):
        source = f"docker://{server.address}/{repository}/{architecture}:latest"
        buildah("manifest", "add", PLAIN, "list", source)
    name = f"{server.address}/{repository}:all"
    digest_file = tmp_path / "digest"
    buildah("manifest", "push", PLAIN, "--all", "--digestfile", digest_file, "list", f"docker://{name}")
    manifest = remote.manifest(repository, "all")
    assert manifest.digest == digest_file.read_text()
    assert manifest.media_type == OCI_INDEX
    assert [entry["digest"] for entry in manifest.json["manifests"]] == [child.digest for child in made.children]

    for child, architecture in zip(made.children, ("amd64", "arm64"), strict=True):
        buildah("pull", PLAIN, "--arch", architecture, name)
        (tmp_path / architecture).mkdir()
        assert pulled_files(buildah, tmp_path / architecture, name) == child.files


def test_a_deleted_image_is_named_as_missing_and_another_stays(
    buildah: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    gone, kept = image((repository, "gone")), image((repository, "kept"))
    remote.push(repository, gone, "gone")
    remote.push(repository, kept, "kept")
    remote.delete_manifest(repository, gone.digest)
    name = f"{server.address}/{repository}"
    assert "manifest unknown" in buildah.fails("pull", PLAIN, f"{name}:gone")
    buildah("pull", PLAIN, f"{name}:kept")
    assert pulled_files(buildah, tmp_path, f"{name}:kept") == kept.files
