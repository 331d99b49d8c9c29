"""skopeo: copies of all kinds, raw manifests, tag lists, deletion."""

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
    artifact,
    digest_of,
    files_of_layers,
    image,
    index,
    multi_platform,
    write_layout,
)
from remote import Remote
from serving import Process
from wire import Wire

pytestmark = pytest.mark.client

TO = "--dest-tls-verify=false"
FROM = "--src-tls-verify=false"
LAYER = 400_000


def test_a_copied_image_comes_back_to_the_byte(
    skopeo: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """The digest skopeo writes, the digest inspect shows, and the bytes it brings back are the image's own."""
    pushed = image(repository, layers=3)
    write_layout(tmp_path / "in", pushed)
    name = f"docker://{server.address}/{repository}:v1"
    digest_file = tmp_path / "digest"
    skopeo("copy", TO, "--digestfile", digest_file, f"oci:{tmp_path}/in:latest", name)
    assert digest_file.read_text() == pushed.digest
    remote.holds(repository, pushed, "v1")

    shown = json.loads(skopeo("inspect", "--tls-verify=false", name))
    assert shown["Digest"] == pushed.digest
    assert shown["Layers"] == [layer.digest for layer in pushed.layers]
    assert skopeo("inspect", "--tls-verify=false", "--raw", name).encode() == pushed.manifest.data

    skopeo("copy", FROM, name, f"dir:{tmp_path}/out")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == pushed.manifest.data
    for blob in pushed.blobs:
        assert (tmp_path / "out" / blob.hex).read_bytes() == blob.data


def test_a_copy_by_digest_brings_the_image_that_lost_its_tag(
    skopeo: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    old, new = image((repository, "old")), image((repository, "new"))
    remote.push(repository, old, "v1")
    remote.push(repository, new, "v1")
    skopeo("copy", FROM, f"docker://{server.address}/{repository}@{old.digest}", f"dir:{tmp_path}/out")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == old.manifest.data


@pytest.mark.parametrize(
    ("flavour", "media_type"), [("oci", OCI_INDEX), ("docker", DOCKER_LIST)], ids=["oci", "docker"]
)
def test_an_index_is_copied_with_every_child(
    skopeo: Tool,
    server: Process,
    remote: Remote,
    repository: str,
    tmp_path: Path,
    flavour: Any,
    media_type: str,
) -> None:
    """`--all` up and down again; without it only this platform's image."""
    pushed = multi_platform(repository, flavour=flavour)
    first, second = f"{repository}/first", f"{repository}/second"
    remote.push(first, pushed, "latest")
    source = f"docker://{server.address}/{first}:latest"
    digest_file = tmp_path / "digest"
    skopeo("copy", FROM, "--all", source, f"dir:{tmp_path}/all")
    skopeo(
        *("copy", TO, "--all", "--preserve-digests", "--digestfile", digest_file),
        *(f"dir:{tmp_path}/all", f"docker://{server.address}/{second}:latest"),
    )
    assert digest_file.read_text() == pushed.digest
    assert remote.manifest(second, "latest").media_type == media_type
    remote.holds(second, pushed, "latest")

    skopeo("--override-arch", "arm64", "copy", FROM, source, f"dir:{tmp_path}/one")
    assert (tmp_path / "one" / "manifest.json").read_bytes() == pushed.children[1].manifest.data


@pytest.mark.parametrize(
    ("wanted", "media_type"), [("v2s2", DOCKER_MANIFEST), ("oci", OCI_MANIFEST)], ids=["docker", "oci"]
)
def test_a_copy_in_another_format_holds_the_same_files(
    skopeo: Tool,
    server: Process,
    remote: Remote,
    repository: str,
    tmp_path: Path,
    wanted: str,
    media_type: str,
) -> None:
    pushed = image(repository, flavour="oci" if wanted == "v2s2" else "docker")
    first, second = f"{repository}/first", f"{repository}/second"
    remote.push(first, pushed, "latest")
    skopeo(
        *("copy", FROM, TO, "--format", wanted),
        *(f"docker://{server.address}/{first}:latest", f"docker://{server.address}/{second}:latest"),
    )
    manifest = remote.manifest(second, "latest")
    assert manifest.media_type == media_type
    layers = [remote.blob(second, layer["digest"]) for layer in manifest.json["layers"]]
    assert files_of_layers(layers) == pushed.files


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_an_image_recompressed_on_its_way_up_holds_the_same_diff_ids(
    skopeo: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path, compression: str
) -> None:
    """A layer whose digest is not known before it is sent goes up by PATCH of unknown length."""
    pushed = image(repository)
    write_layout(tmp_path / "in", pushed)
    skopeo(
        *("copy", TO, "--format", "oci", "--dest-compress-format", compression, "--dest-compress"),
        *(f"oci:{tmp_path}/in:latest", f"docker://{server.address}/{repository}:v1"),
    )
    name = f"docker://{server.address}/{repository}:v1"
    skopeo("copy", FROM, "--dest-decompress", name, f"dir:{tmp_path}/out")
    diff_ids = pushed.config.json["rootfs"]["diff_ids"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert [layer["digest"] for layer in manifest["layers"]] == diff_ids
    for diff_id in diff_ids:
        data = (tmp_path / "out" / diff_id.partition(":")[2]).read_bytes()
        assert digest_of(data) == diff_id


def test_a_copy_within_the_registry_mounts_what_it_has_seen(
    skopeo: Tool, wire: Wire, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """skopeo remembers where it put a layer, and asks for a mount: no layer goes up again."""
    pushed = image(repository, size=LAYER)
    write_layout(tmp_path / "in", pushed)
    first, second = f"{repository}/first", f"{repository}/second"
    source = f"oci:{tmp_path}/in:latest"
    skopeo("copy", TO, source, f"docker://{wire.address}/{first}:v1")
    before = wire.up.total
    assert before > 2 * LAYER

    skopeo("copy", TO, source, f"docker://{wire.address}/{second}:v1")
    assert wire.up.total - before < LAYER / 4
    remote.holds(second, pushed, "v1")


def test_an_image_copied_again_sends_no_layer(
    skopeo: Tool, wire: Wire, remote: Remote, repository: str, tmp_path: Path
) -> None:
    pushed = image(repository, size=LAYER)
    write_layout(tmp_path / "in", pushed)
    remote.push(repository, pushed, "v1")
    skopeo("copy", TO, f"oci:{tmp_path}/in:latest", f"docker://{wire.address}/{repository}:v2")
    assert wire.up.total < LAYER / 4
    assert remote.tags(repository) == ["v1", "v2"]


def test_all_tags_are_listed(skopeo: Tool, server: Process, remote: Remote, repository: str) -> None:
    pushed = image(repository, layers=1, size=10)
    tags = sorted(f"v{number}" for number in range(120))
    remote.push(repository, pushed, *tags)
    shown = json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{server.address}/{repository}"))
    assert sorted(shown["Tags"]) == tags
    inspected = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{server.address}/{repository}:v7"))
    assert sorted(inspected["RepoTags"]) == tags


def test_delete_removes_the_image_and_leaves_the_others(
    skopeo: Tool, server: Process, remote: Remote, repository: str
) -> None:
    """skopeo deletes by digest: every tag of that image goes with it."""
    gone, kept = image((repository, "gone")), image((repository, "kept"))
    remote.push(repository, gone, "v1", "also-v1")
    remote.push(repository, kept, "v2")
    name = f"docker://{server.address}/{repository}"
    skopeo("delete", "--tls-verify=false", f"{name}:v1")
    assert remote.tags(repository) == ["v2"]
    remote.holds(repository, kept, "v2")
    for reference in (":v1", ":also-v1", f"@{gone.digest}"):
        assert "manifest unknown" in skopeo.fails("inspect", "--tls-verify=false", name + reference)


def test_a_deleted_index_leaves_its_children(skopeo: Tool, server: Process, remote: Remote, repository: str) -> None:
    pushed = multi_platform(repository)
    remote.push(repository, pushed, "latest")
    skopeo("delete", "--tls-verify=false", f"docker://{server.address}/{repository}:latest")
    assert not remote.has_manifest(repository, pushed.digest)
    for child in pushed.children:
        remote.holds(repository, child)


def test_sync_mirrors_a_repository_with_all_its_tags(
    skopeo: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    images = {f"v{number}": image((repository, number), layers=1, size=1000) for number in range(3)}
    for tag, each in images.items():
        remote.push(repository, each, tag)
    skopeo(
        *("sync", FROM, "--src", "docker", "--dest", "dir", "--all"),
        *(f"{server.address}/{repository}", tmp_path / "mirror"),
    )
    shutil.copytree(tmp_path / "mirror", tmp_path / "again")
    skopeo(
        *("sync", TO, "--src", "dir", "--dest", "docker", "--all"),
        *(tmp_path / "again", f"{server.address}/synced/{repository.partition('/')[0]}"),
    )
    (synced,) = [name for name in remote.catalog() if name.startswith("synced/")]
    for tag, each in images.items():
        remote.holds(synced, each, tag)


def test_an_unsigned_image_is_pulled_where_signatures_are_looked_for(
    skopeo: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """containers/image takes a missing signature tag as missing only if it is told MANIFEST_UNKNOWN."""
    signatures = tmp_path / "registries.d"
    signatures.mkdir()
    (signatures / "default.yaml").write_text("default-docker:\n  use-sigstore-attachments: true\n")
    pushed = image(repository)
    remote.push(repository, pushed, "v1")
    name = f"docker://{server.address}/{repository}"
    skopeo("--registries.d", signatures, "copy", FROM, TO, f"{name}:v1", f"{name}/elsewhere:v1")
    remote.holds(f"{repository}/elsewhere", pushed, "v1")


def test_an_artifact_with_a_subject_is_copied_and_refers_to_it(
    skopeo: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    """A client that knows nothing of referrers copies a signature; the registry lists it all the same."""
    subject = image(repository)
    signature = artifact(repository, "application/vnd.example.signature", subject=subject.manifest)
    write_layout(tmp_path / "in", signature)
    remote.push(repository, subject, "v1")
    skopeo("copy", TO, f"oci:{tmp_path}/in:latest", f"docker://{server.address}/{repository}:signature")
    assert [entry["digest"] for entry in remote.referrers(repository, subject.digest)] == [signature.digest]


def test_a_nested_index_is_shown_raw(skopeo: Tool, server: Process, remote: Remote, repository: str) -> None:
    outer = index(multi_platform(repository))
    remote.push(repository, outer, "nested")
    name = f"docker://{server.address}/{repository}:nested"
    assert skopeo("inspect", "--tls-verify=false", "--raw", name).encode() == outer.manifest.data
