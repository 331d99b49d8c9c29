"""podman: containers/image with a store of its own, in both of its manifest formats."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from engines import Tool
from images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
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


def build(podman: Tool, directory: Path, name: str) -> dict[str, bytes]:
    """`podman build` an image of two files without a base; returns the files."""
    context = directory / "context"
    context.mkdir(exist_ok=True)
    files = {f"file-{number}": noise((name, number), LAYER) for number in range(2)}
    for file, data in files.items():
        (context / file).write_bytes(data)
    (context / "Containerfile").write_text("FROM scratch\nCOPY file-0 /\nCOPY file-1 /\n")
    podman("build", "--layers", "--tag", name, context)
    return files


def inspect(podman: Tool, name: str) -> dict[str, Any]:
    found = json.loads(podman("image", "inspect", name))
    assert isinstance(found[0], dict)
    return found[0]


def content(podman: Tool, directory: Path, name: str) -> dict[str, bytes]:
    """All files of a local image, read back through `podman save`."""
    layout = directory / "saved"
    shutil.rmtree(layout, ignore_errors=True)
    podman("save", "--format", "oci-dir", "--uncompressed", "--output", layout, name)
    return files_of_layout(layout)


@pytest.mark.parametrize(
    ("chosen", "media_type"), [("oci", OCI_MANIFEST), ("v2s2", DOCKER_MANIFEST)], ids=["oci", "docker"]
)
def test_a_pushed_image_comes_back_the_same(
    podman: Tool,
    server: Process,
    remote: Remote,
    repository: str,
    tmp_path: Path,
    chosen: str,
    media_type: str,
) -> None:
    """The digest push writes is the one that HEAD names and the pulled image bears; so is the content."""
    name = f"{server.address}/{repository}:v1"
    files = build(podman, tmp_path, name)
    digest_file = tmp_path / "digest"
    podman("push", PLAIN, "--format", chosen, "--digestfile", digest_file, name)
    digest = digest_file.read_text()
    manifest = remote.manifest(repository, "v1")
    assert manifest.digest == digest
    assert manifest.media_type == media_type

    podman("rmi", "--all", "--force")
    podman("pull", PLAIN, name)
    pulled = inspect(podman, name)
    assert f"sha256:{pulled['Id']}" == manifest.json["config"]["digest"]
    assert f"{server.address}/{repository}@{digest}" in pulled["RepoDigests"]
    assert content(podman, tmp_path, name) == files


def test_layers_compressed_with_zstd_come_back_the_same(
    podman: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    name = f"{server.address}/{repository}:v1"
    files = build(podman, tmp_path, name)
    podman("push", PLAIN, "--format", "oci", "--compression-format", "zstd:chunked", name)
    layers = remote.manifest(repository, "v1").json["layers"]
    assert {layer["mediaType"] for layer in layers} == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    podman("rmi", "--all", "--force")
    podman("pull", PLAIN, name)
    assert content(podman, tmp_path, name) == files


def test_pull_by_digest(podman: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path) -> None:
    old, new = image((repository, "old")), image((repository, "new"))
    remote.push(repository, old, "v1")
    remote.push(repository, new, "v1")
    name = f"{server.address}/{repository}@{old.digest}"
    podman("pull", PLAIN, name)
    assert content(podman, tmp_path, name) == old.files


def test_an_image_pushed_again_sends_no_layer(podman: Tool, wire: Wire, repository: str, tmp_path: Path) -> None:
    """To another tag by reuse, to another repository by mount."""
    name = f"{wire.address}/{repository}/first:v1"
    build(podman, tmp_path, name)
    podman("push", PLAIN, name)
    assert wire.up.total > 2 * LAYER

    for other in (f"{repository}/first:v2", f"{repository}/second:v1"):
        before = wire.up.total
        podman("push", PLAIN, name, f"{wire.address}/{other}")
        assert wire.up.total - before < LAYER / 4, other


def test_a_mounted_image_is_whole_without_the_one_it_came_from(
    podman: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    first, second = f"{repository}/first", f"{repository}/second"
    name = f"{server.address}/{first}:v1"
    files = build(podman, tmp_path, name)
    podman("push", PLAIN, name)
    podman("push", PLAIN, name, f"{server.address}/{second}:v1")
    manifest = remote.manifest(first, "v1")
    remote.delete_manifest(first, manifest.digest)
    for layer in manifest.json["layers"]:
        remote.delete_blob(first, layer["digest"])

    podman("rmi", "--all", "--force")
    podman("pull", PLAIN, f"{server.address}/{second}:v1")
    assert content(podman, tmp_path, f"{server.address}/{second}:v1") == files


@pytest.mark.parametrize(("chosen", "media_type"), [("oci", OCI_INDEX), ("v2s2", DOCKER_LIST)], ids=["oci", "docker"])
def test_a_manifest_list_is_made_pushed_and_pulled_for_each_platform(
    podman: Tool,
    server: Process,
    remote: Remote,
    repository: str,
    tmp_path: Path,
    chosen: str,
    media_type: str,
) -> None:
    made = multi_platform(repository)
    for child, architecture in zip(made.children, ("amd64", "arm64"), strict=True):
        remote.push(f"{repository}/{architecture}", child, "latest")
    podman("manifest", "create", "list")
    for architecture in ("amd64", "arm64"):
        source = f"docker://{server.address}/{repository}/{architecture}:latest"
        podman("manifest", "add", PLAIN, "list", source)
    name = f"{server.address}/{repository}:all"
    digest_file = tmp_path / "digest"
    podman(
        *("manifest", "push", PLAIN, "--all", "--format", chosen, "--digestfile", digest_file),
        *("list", f"docker://{name}"),
    )
    manifest = remote.manifest(repository, "all")
    assert manifest.digest == digest_file.read_text()
    assert manifest.media_type == media_type

    for child, architecture in zip(made.children, ("amd64", "arm64"), strict=True):
        podman("pull", PLAIN, "--arch", architecture, name)
        assert inspect(podman, name)["Architecture"] == architecture
        assert content(podman, tmp_path, name) == child.files


def test_search_lists_the_catalog_and_the_tags(podman: Tool, server: Process, remote: Remote, repository: str) -> None:
    small = image(repository, layers=1, size=10)
    remote.push(f"{repository}/one", small, "v1", "v2")
    remote.push(f"{repository}/two", small, "v3")
    found = podman("search", PLAIN, "--format", "{{.Name}}", f"{server.address}/").split()
    assert found == [f"{server.address}/{repository}/{name}" for name in ("one", "two")]

    name = f"{server.address}/{repository}/one"
    shown = json.loads(podman("search", PLAIN, "--list-tags", "--format", "json", name))
    assert shown == [{"Name": name, "Tags": ["v1", "v2"]}]


def test_a_deleted_image_is_named_as_missing(podman: Tool, server: Process, remote: Remote, repository: str) -> None:
    pushed = image(repository)
    remote.push(repository, pushed, "v1", "v2")
    remote.delete_manifest(repository, pushed.digest)
    for reference in (":v1", ":v2", f"@{pushed.digest}"):
        name = f"{server.address}/{repository}{reference}"
        assert "manifest unknown" in podman.fails("pull", PLAIN, name)


def test_a_deleted_tag_leaves_the_image_under_its_other_tag(
    podman: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    pushed = image(repository)
    remote.push(repository, pushed, "v1", "v2")
    remote.delete_manifest(repository, "v1")
    assert "manifest unknown" in podman.fails("pull", PLAIN, f"{server.address}/{repository}:v1")
    podman("pull", PLAIN, f"{server.address}/{repository}:v2")
    assert content(podman, tmp_path, f"{server.address}/{repository}:v2") == pushed.files
