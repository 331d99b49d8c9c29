"""docker and dockerd: what people run, and what Swarm's nodes run for them."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from engines import Docker, printed_digest
from images import DOCKER_LIST, DOCKER_MANIFEST, files_of_layers, image, multi_platform, noise, tar
from remote import Remote
from serving import Process
from wire import Wire

pytestmark = pytest.mark.client

LAYER = 400_000
"""Bytes of a layer, incompressible: a transfer that must not happen is well below, one that happens above."""


def build(docker: Docker, directory: Path, name: str, layers: int = 2) -> dict[str, bytes]:
    """`docker build` an image of files without a base; returns the files."""
    context = directory / "context"
    context.mkdir(exist_ok=True)
    files = {f"file-{number}": noise((name, number), LAYER) for number in range(layers)}
    for file, data in files.items():
        (context / file).write_bytes(data)
    lines = ["FROM scratch", f'LABEL made-for="{name}"', *(f"COPY {file} /" for file in files)]
    (context / "Dockerfile").write_text("\n".join(lines))
    docker("build", "--tag", name, context)
    return files


def import_(docker: Docker, directory: Path, name: str) -> dict[str, bytes]:
    """`docker import` one layer as an image; returns its files."""
    files = {"file": noise(name, LAYER), "empty": b""}
    archive = directory / "import.tar"
    archive.write_bytes(tar(files))
    docker("import", archive, name)
    return files


def inspect(docker: Docker, name: str) -> dict[str, Any]:
    found = json.loads(docker("image", "inspect", name))
    assert isinstance(found[0], dict)
    return found[0]


def content(docker: Docker, directory: Path, name: str) -> dict[str, bytes]:
    """All files of a local image, read back through `docker save`."""
    archive = directory / "saved.tar"
    docker("save", "--output", archive, name)
    with tarfile.open(archive) as saved:

        def read(member: str) -> bytes:
            data = saved.extractfile(member)
            assert data is not None
            return data.read()

        return files_of_layers([read(layer) for layer in json.loads(read("manifest.json"))[0]["Layers"]])


def forget(docker: Docker, *names: str) -> None:
    docker("rmi", "--force", *names)


@pytest.mark.parametrize("make", [build, import_])
def test_a_pushed_image_comes_back_the_same(
    docker: Docker, server: Process, remote: Remote, repository: str, tmp_path: Path, make: Any
) -> None:
    """The digest that push prints is the one that HEAD names, pull prints and inspect shows; so is the content."""
    name = f"{server.address}/{repository}:v1"
    files = make(docker, tmp_path, name)
    pushed = inspect(docker, name)["Id"]

    digest = printed_digest(docker("push", name))
    manifest = remote.manifest(repository, "v1")
    assert manifest.digest == digest
    assert manifest.media_type == DOCKER_MANIFEST
    assert manifest.json["config"]["digest"] == pushed

    forget(docker, name)
    assert printed_digest(docker("pull", name)) == digest
    pulled = inspect(docker, name)
    assert pulled["Id"] == pushed
    assert f"{server.address}/{repository}@{digest}" in pulled["RepoDigests"]
    assert content(docker, tmp_path, name) == files
    forget(docker, name)


def test_an_image_without_layers_is_pushed_and_pulled(
    docker: Docker, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    name = f"{server.address}/{repository}:empty"
    build(docker, tmp_path, name, layers=0)
    digest = printed_digest(docker("push", name))
    assert remote.manifest(repository, "empty").json["layers"] == []
    forget(docker, name)
    assert printed_digest(docker("pull", name)) == digest
    forget(docker, name)


def test_pull_by_digest_finds_an_image_whose_tag_moved_on(
    docker: Docker, server: Process, repository: str, tmp_path: Path
) -> None:
    name = f"{server.address}/{repository}:latest"
    old_files = build(docker, tmp_path, name)
    old = printed_digest(docker("push", name))
    import_(docker, tmp_path, name)
    new = printed_digest(docker("push", name))
    assert new != old
    forget(docker, name)

    by_digest = f"{server.address}/{repository}@{old}"
    assert printed_digest(docker("pull", by_digest)) == old
    assert content(docker, tmp_path, by_digest) == old_files
    assert printed_digest(docker("pull", name)) == new
    forget(docker, name, by_digest)


def test_an_image_pushed_again_sends_no_layer(docker: Docker, wire: Wire, repository: str, tmp_path: Path) -> None:
    name = f"{wire.address}/{repository}:v1"
    build(docker, tmp_path, name)
    docker("push", name)
    assert wire.up.total > 2 * LAYER

    again = f"{wire.address}/{repository}:v2"
    docker("tag", name, again)
    before = wire.up.total
    output = docker("push", again)
    assert output.count("Layer already exists") == 2
    assert wire.up.total - before < LAYER / 4
    forget(docker, name, again)


def test_layers_are_mounted_into_a_second_repository(
    docker: Docker, wire: Wire, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """No byte of a layer goes up again, and the second repository is whole without the first."""
    first, second = f"{repository}/first", f"{repository}/second"
    name = f"{wire.address}/{first}:v1"
    files = build(docker, tmp_path, name)
    docker("push", name)

    other = f"{wire.address}/{second}:v1"
    docker("tag", name, other)
    before = wire.up.total
    digest = printed_digest(output := docker("push", other))
    assert output.count(f"Mounted from {first}") == 2
    assert wire.up.total - before < LAYER / 4

    remote.delete_manifest(first, digest)
    forget(docker, name, other)
    assert printed_digest(docker("pull", other)) == digest
    assert content(docker, tmp_path, other) == files
    forget(docker, other)


def test_a_mount_from_a_repository_that_lost_the_layer_uploads_it(
    docker: Docker, wire: Wire, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """dockerd remembers where it pushed a layer; what it remembers may be gone."""
    first, second = f"{repository}/first", f"{repository}/second"
    name = f"{wire.address}/{first}:v1"
    build(docker, tmp_path, name)
    docker("push", name)
    for layer in remote.manifest(first, "v1").json["layers"]:
        remote.delete_blob(first, layer["digest"])

    other = f"{wire.address}/{second}:v1"
    docker("tag", name, other)
    output = docker("push", other)
    assert "Mounted" not in output
    for layer in remote.manifest(second, "v1").json["layers"]:
        remote.blob(second, layer["digest"])
    forget(docker, name, other)


def test_all_tags_are_pushed_listed_and_pulled(
    docker: Docker, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """`--all-tags` asks the registry for its list."""
    name = f"{server.address}/{repository}"
    tags = ["1.0", "1.0.1-rc_2", "Latest", "_x"]
    for tag in tags:
        import_(docker, tmp_path, f"{name}:{tag}")
    docker("push", "--all-tags", name)
    assert remote.tags(repository) == sorted(tags)
    assert remote.catalog() == [repository]

    forget(docker, *(f"{name}:{tag}" for tag in tags))
    docker("pull", "--all-tags", name)
    assert docker("images", "--format", "{{.Tag}}", name).split() != []
    assert sorted(docker("images", "--format", "{{.Tag}}", name).split()) == sorted(tags)
    forget(docker, *(f"{name}:{tag}" for tag in tags))


def test_a_manifest_list_is_made_pushed_and_pulled_for_this_platform(
    docker: Docker, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """`docker manifest` puts children by digest and the list under its tag."""
    name = f"{server.address}/{repository}"
    here = docker("version", "--format", "{{.Server.Arch}}").strip()
    there = {"amd64": "arm64"}.get(here, "amd64")
    children = {}
    for architecture in (here, there):
        files = import_(docker, tmp_path, f"{name}:{architecture}")
        children[architecture] = printed_digest(docker("push", f"{name}:{architecture}")), files
    names = [f"{name}:{architecture}" for architecture in children]
    docker("manifest", "create", "--insecure", f"{name}:all", *names)
    docker("manifest", "annotate", "--arch", there, "--os", "linux", f"{name}:all", f"{name}:{there}")
    digest = docker("manifest", "push", "--insecure", "--purge", f"{name}:all").split()[-1]

    manifest = remote.manifest(repository, "all")
    assert manifest.digest == digest
    assert manifest.media_type == DOCKER_LIST
    listed = {entry["platform"]["architecture"]: entry["digest"] for entry in manifest.json["manifests"]}
    assert listed == {architecture: child[0] for architecture, child in children.items()}

    forget(docker, *names)
    assert printed_digest(docker("pull", f"{name}:all")) == digest
    assert content(docker, tmp_path, f"{name}:all") == children[here][1]
    forget(docker, f"{name}:all")
    docker("pull", "--platform", f"linux/{there}", f"{name}:all")
    assert content(docker, tmp_path, f"{name}:all") == children[there][1]
    forget(docker, f"{name}:all")


@pytest.mark.parametrize("flavour", ["oci", "docker"])
def test_an_index_made_by_others_is_pulled_for_the_wanted_platform(
    docker: Docker, server: Process, remote: Remote, repository: str, tmp_path: Path, flavour: Any
) -> None:
    pushed = multi_platform(repository, flavour=flavour)
    remote.push(repository, pushed, "latest")
    name = f"{server.address}/{repository}:latest"
    for child, architecture in zip(pushed.children, ["amd64", "arm64"], strict=True):
        digest = printed_digest(docker("pull", "--platform", f"linux/{architecture}", name))
        assert digest == pushed.digest
        assert inspect(docker, name)["Id"] == child.config.digest
        assert content(docker, tmp_path, name) == child.files
        forget(docker, name)


def test_an_oci_image_is_pulled(
    docker: Docker, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    pushed = image(repository)
    remote.push(repository, pushed, "oci")
    name = f"{server.address}/{repository}:oci"
    assert printed_digest(docker("pull", name)) == pushed.digest
    assert content(docker, tmp_path, name) == pushed.files
    forget(docker, name)


def test_a_deleted_image_is_named_as_missing_and_another_tag_stays(
    docker: Docker, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    name = f"{server.address}/{repository}"
    import_(docker, tmp_path, f"{name}:old")
    docker("push", f"{name}:old")
    files = build(docker, tmp_path, f"{name}:new")
    docker("push", f"{name}:new")
    forget(docker, f"{name}:old", f"{name}:new")

    remote.delete_manifest(repository, remote.digest(repository, "old"))
    assert f"manifest for {name}:old not found: manifest unknown" in docker.fails("pull", f"{name}:old")
    docker("pull", f"{name}:new")
    assert content(docker, tmp_path, f"{name}:new") == files
    forget(docker, f"{name}:new")


def test_a_deleted_tag_leaves_the_image_under_its_other_tag(
    docker: Docker, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    name = f"{server.address}/{repository}"
    import_(docker, tmp_path, f"{name}:one")
    docker("tag", f"{name}:one", f"{name}:two")
    docker("push", "--all-tags", name)
    forget(docker, f"{name}:one", f"{name}:two")

    remote.delete_manifest(repository, "one")
    assert remote.tags(repository) == ["two"]
    assert "manifest unknown" in docker.fails("pull", f"{name}:one")
    docker("pull", f"{name}:two")
    forget(docker, f"{name}:two")


def test_a_repository_that_never_was_is_named_as_missing(docker: Docker, server: Process, repository: str) -> None:
    name = f"{server.address}/{repository}:latest"
    assert "manifest unknown" in docker.fails("pull", name)


def test_an_image_pushed_again_after_its_deletion_is_whole(
    docker: Docker, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """dockerd's memory of what it pushed must not leave a hole, even when the blobs are gone too."""
    name = f"{server.address}/{repository}:v1"
    files = build(docker, tmp_path, name)
    digest = printed_digest(docker("push", name))
    manifest = remote.manifest(repository, "v1").json
    remote.delete_manifest(repository, digest)
    for descriptor in (manifest["config"], *manifest["layers"]):
        remote.delete_blob(repository, descriptor["digest"])

    assert printed_digest(docker("push", name)) == digest
    forget(docker, name)
    docker("pull", name)
    assert content(docker, tmp_path, name) == files
    forget(docker, name)


def test_two_pushes_at_once_to_one_tag_leave_one_whole_image(
    docker: Docker, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    name = f"{server.address}/{repository}:v1"
    wanted = {}
    clients = []
    for number in range(2):
        local = f"local/{repository}:{number}"
        files = build(docker, tmp_path, local)
        wanted[inspect(docker, local)["Id"]] = files
        docker("tag", local, name)
        clients.append(docker.begin("push", name))
    for client in clients:
        output, _ = client.communicate(timeout=90)
        assert client.returncode == 0, output
    forget(docker, name)
    docker("pull", name)
    assert content(docker, tmp_path, name) == wanted[inspect(docker, name)["Id"]]
    forget(docker, name, f"local/{repository}:0", f"local/{repository}:1")
    assert remote.tags(repository) == ["v1"]
