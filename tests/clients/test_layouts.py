"""Layouts that clients read, and layouts that clients write: docker, podman, skopeo, buildah, containerd."""

import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from copying import copy, succeed
from engines import Docker, Tool
from images import artifact, files_of_layers, image, multi_platform
from remote import Remote
from serving import Process

pytestmark = pytest.mark.client

TO = "--dest-tls-verify=false"
FROM = "--src-tls-verify=false"
OCI = image("oci", size=50_000)
DOCKER = image("docker", flavour="docker", size=50_000)
MULTI = multi_platform("multi", size=20_000)


@pytest.fixture
def root(server: Process, remote: Remote) -> Path:
    """The storage of a registry with images of two repositories, one of them signed."""
    remote.push("team/app", OCI, "v1")
    remote.push("team/app", DOCKER, "v2")
    remote.push("team/app", artifact("signature", "application/vnd.example.signature", subject=OCI.manifest))
    remote.push("multi", MULTI, "latest")
    return server.root


def test_docker_before_25_loads_a_tar_of_plain_images(docker: Docker, root: Path, tmp_path: Path) -> None:
    succeed(root, "export", tmp_path / "all.tar")
    told = docker("load", "--input", tmp_path / "all.tar")
    assert "Loaded image: team/app:v1" in told
    assert "Loaded image: team/app:v2" in told
    for tag, each in (("v1", OCI), ("v2", DOCKER)):
        assert docker("image", "inspect", "--format", "{{.Id}}", f"team/app:{tag}").strip() == each.config.digest
        docker("save", "--output", tmp_path / f"{tag}.tar", f"team/app:{tag}")
        assert _files_of_docker(tmp_path / f"{tag}.tar") == each.files


def _files_of_docker(path: Path) -> dict[str, bytes]:
    """The files of the one image in what `docker save` wrote."""
    with tarfile.open(path) as archive:

        def read(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        (listed,) = json.loads(read("manifest.json"))
        return files_of_layers([read(layer) for layer in listed["Layers"]])


def test_docker_loads_from_a_pipe(docker: Docker, root: Path) -> None:
    exported = copy(root, "export", "--repository", "team/app", "--tag", "v1", "-")
    ended = subprocess.run(
        [*docker.command, "load"], input=exported.stdout, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert b"team/app:v1" in ended.stdout


def test_containerd_imports_a_tar_under_docker_s_full_names(
    docker: Docker, ctr: Tool, root: Path, tmp_path: Path
) -> None:
    succeed(root, "export", tmp_path / "all.tar")
    ctr("images", "import", tmp_path / "all.tar")
    listed = ctr("images", "ls", "--quiet").split()
    assert {"docker.io/team/app:v1", "docker.io/team/app:v2", "docker.io/library/multi:latest"} <= set(listed)


def test_podman_loads_a_tar_of_one_image_and_of_several(podman: Tool, root: Path, tmp_path: Path) -> None:
    succeed(root, "export", "-r", "team/app", "-t", "v2", tmp_path / "one.tar")
    assert "Loaded image: docker.io/team/app:v2" in podman("load", "--input", tmp_path / "one.tar")
    succeed(root, "export", tmp_path / "all.tar")
    told = podman("load", "--input", tmp_path / "all.tar")
    assert "team/app:v1" in told
    assert "team/app:v2" in told


def test_skopeo_finds_images_by_tag_and_by_repository_and_tag(
    skopeo: Tool, root: Path, server: Process, remote: Remote, tmp_path: Path
) -> None:
    succeed(root, "export", "-r", "team/app", tmp_path / "one")
    succeed(root, "export", tmp_path / "several")
    succeed(root, "export", tmp_path / "several.tar")
    copies = f"docker://{server.address}/copies"
    assert json.loads(skopeo("inspect", f"oci:{tmp_path}/one:v1"))["Digest"] == OCI.digest
    skopeo("copy", TO, f"oci:{tmp_path}/one:v1", f"{copies}:a")
    skopeo("copy", TO, f"oci:{tmp_path}/several:team/app:v1", f"{copies}:b")
    skopeo("copy", TO, "--all", f"oci-archive:{tmp_path}/several.tar:multi:latest", f"{copies}:c")
    for tag, each in (("a", OCI), ("b", OCI), ("c", MULTI)):
        remote.holds("copies", each, tag)
    # Its reader of layouts passes over docker's own kind of manifest; docker's list has the image.
    assert "no descriptor found" in skopeo.fails("inspect", f"oci:{tmp_path}/one:v2")
    skopeo("copy", TO, f"docker-archive:{tmp_path}/several.tar:team/app:v2", f"{copies}:d")
    assert remote.manifest("copies", "d").json["config"]["digest"] == DOCKER.config.digest


def test_buildah_pulls_from_a_layout(buildah: Tool, root: Path, tmp_path: Path) -> None:
    succeed(root, "export", "-r", "multi", tmp_path / "layout")
    pulled = buildah("pull", "--quiet", f"oci:{tmp_path}/layout:latest").strip()
    assert f"sha256:{pulled}" == MULTI.children[0].config.digest


def test_what_skopeo_wrote_is_imported(
    skopeo: Tool, root: Path, server: Process, remote: Remote, tmp_path: Path
) -> None:
    source = f"docker://{server.address}"
    skopeo("copy", FROM, f"{source}/team/app:v1", f"oci:{tmp_path}/layout:v1")
    skopeo("copy", FROM, "--all", f"{source}/multi:latest", f"oci:{tmp_path}/layout:multi")
    skopeo("copy", FROM, f"{source}/team/app:v1", f"oci-archive:{tmp_path}/one.tar:example.com:5000/other/app:v9")
    succeed(root, "import", "-r", "imported", tmp_path / "layout")
    succeed(root, "import", tmp_path / "one.tar")
    remote.holds("imported", OCI, "v1")
    remote.holds("imported", MULTI, "multi")
    remote.holds("other/app", OCI, "v9")


def test_what_podman_saved_is_imported(podman: Tool, root: Path, remote: Remote, tmp_path: Path) -> None:
    succeed(root, "export", "-r", "team/app", "-t", "v2", tmp_path / "one.tar")
    podman("load", "--input", tmp_path / "one.tar")
    podman("save", "--format", "oci-archive", "--output", tmp_path / "saved.tar", "team/app:v2")
    succeed(root, "import", "--prefix", "from-podman", tmp_path / "saved.tar")
    saved = remote.manifest("from-podman/team/app", "v2").json
    layers = [remote.blob("from-podman/team/app", layer["digest"]) for layer in saved["layers"]]
    assert files_of_layers(layers) == DOCKER.files


def test_what_buildah_built_is_imported(buildah: Tool, root: Path, remote: Remote, tmp_path: Path) -> None:
    container = buildah("from", "scratch").strip()
    (tmp_path / "hello").write_bytes(b"hello")
    buildah("copy", "--quiet", container, tmp_path / "hello", "/hello")
    buildah("commit", "--quiet", container, f"oci:{tmp_path}/layout:v1")
    succeed(root, "import", "-r", "built", tmp_path / "layout")
    layers = [remote.blob("built", layer["digest"]) for layer in remote.manifest("built", "v1").json["layers"]]
    assert files_of_layers(layers) == {"hello": b"hello"}


def test_what_docker_before_25_saved_is_refused_with_the_way_to_convert_it(
    docker: Docker, skopeo: Tool, root: Path, remote: Remote, tmp_path: Path
) -> None:
    docker("load", "--input", _exported(root, tmp_path))
    docker("save", "--output", tmp_path / "saved.tar", "team/app:v1")
    ended = copy(root, "import", tmp_path / "saved.tar")
    assert ended.returncode == 1
    assert b"skopeo copy docker-archive:FILE oci-archive:OTHER:REPOSITORY:TAG" in ended.stderr
    converted = tmp_path / "converted.tar"
    skopeo("copy", f"docker-archive:{tmp_path}/saved.tar", f"oci-archive:{converted}:converted:v1")
    succeed(root, "import", converted)
    layers = [remote.blob("converted", layer["digest"]) for layer in remote.manifest("converted", "v1").json["layers"]]
    assert files_of_layers(layers) == OCI.files


def _exported(root: Path, directory: Path) -> Path:
    succeed(root, "export", "-t", "v1", directory / "export.tar")
    return directory / "export.tar"


def test_docker_pulls_from_the_registry_that_took_an_import(
    docker: Docker, root: Path, server: Process, tmp_path: Path
) -> None:
    succeed(root, "export", tmp_path / "layout")
    succeed(root, "import", "--prefix", "restored", tmp_path / "layout")
    told = docker("pull", f"{server.address}/restored/team/app:v1")
    assert OCI.digest in told
