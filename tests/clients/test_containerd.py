"""containerd by its `ctr`: the client below newer dockers, Kubernetes and nerdctl.

Unlike dockerd's own code it sends a layer as the body of one PUT, and asks for mounts by what it pulled before.
"""

import tarfile
from pathlib import Path
from typing import Any

import pytest
from engines import Tool
from images import Content, Image, artifact, image, multi_platform, write_layout
from remote import Remote
from serving import Process
from wire import Wire

pytestmark = pytest.mark.client

PLAIN = "--plain-http"
LAYER = 400_000


def load(ctr: Tool, directory: Path, base: str, made: Image) -> str:
    """Import an image with all its platforms; returns its name."""
    layout = write_layout(directory / "layout", made, tag="v1")
    with tarfile.open(directory / "image.tar", "w") as archive:
        archive.add(layout, ".")
    ctr("images", "import", "--no-unpack", "--all-platforms", "--base-name", base, directory / "image.tar")
    return f"{base}:v1"


def forget(ctr: Tool, *names: str) -> None:
    """Remove images and, at once, the content that only they had."""
    ctr("images", "rm", "--sync", *names)


def holds(ctr: Tool, directory: Path, name: str, wanted: Image) -> None:
    """Fail unless containerd has every byte of the image."""
    target = directory / "exported.tar"
    target.unlink(missing_ok=True)
    ctr("images", "export", "--all-platforms", target, name)
    with tarfile.open(target) as exported:

        def read(content: Content) -> bytes:
            member = exported.extractfile(f"blobs/sha256/{content.hex}")
            assert member is not None
            return member.read()

        for element in wanted.walk():
            for content in (element.manifest, *element.blobs):
                assert read(content) == content.data


@pytest.mark.parametrize("flavour", ["oci", "docker"])
def test_a_pushed_image_comes_back_to_the_byte(
    ctr: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path, flavour: Any
) -> None:
    pushed = image(repository, flavour=flavour)
    name = load(ctr, tmp_path, f"{server.address}/{repository}", pushed)
    ctr("images", "push", PLAIN, name)
    remote.holds(repository, pushed, "v1")

    forget(ctr, name)
    ctr("images", "pull", PLAIN, name)
    assert pushed.digest in ctr("images", "ls", f"name=={name}")
    holds(ctr, tmp_path, name, pushed)
    forget(ctr, name)


def test_pull_by_digest(ctr: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path) -> None:
    pushed = image(repository)
    remote.push(repository, pushed)
    name = f"{server.address}/{repository}@{pushed.digest}"
    ctr("images", "pull", PLAIN, name)
    holds(ctr, tmp_path, name, pushed)
    forget(ctr, name)


@pytest.mark.parametrize("flavour", ["oci", "docker"])
def test_an_index_goes_up_and_comes_back_with_every_child(
    ctr: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path, flavour: Any
) -> None:
    pushed = multi_platform(repository, flavour=flavour)
    name = load(ctr, tmp_path, f"{server.address}/{repository}", pushed)
    ctr("images", "push", PLAIN, name)
    remote.holds(repository, pushed, "v1")

    forget(ctr, name)
    ctr("images", "pull", PLAIN, "--all-platforms", name)
    holds(ctr, tmp_path, name, pushed)
    forget(ctr, name)


def test_an_image_pushed_again_sends_no_layer(
    ctr: Tool, wire: Wire, remote: Remote, repository: str, tmp_path: Path
) -> None:
    pushed = image(repository, size=LAYER)
    name = load(ctr, tmp_path, f"{wire.address}/{repository}", pushed)
    ctr("images", "push", PLAIN, name)
    before = wire.up.total
    assert before > 2 * LAYER
    again = f"{wire.address}/{repository}:v2"
    ctr("images", "tag", name, again)
    ctr("images", "push", PLAIN, again)
    assert wire.up.total - before < LAYER / 4
    remote.holds(repository, pushed, "v2")
    forget(ctr, name, again)


def test_a_pulled_image_is_mounted_into_a_second_repository(
    ctr: Tool, wire: Wire, remote: Remote, repository: str
) -> None:
    """No byte of a layer goes up, and the second repository is whole without the first."""
    pushed = image(repository, size=LAYER)
    first, second = f"{repository}/first", f"{repository}/second"
    remote.push(first, pushed, "v1")
    name, other = f"{wire.address}/{first}:v1", f"{wire.address}/{second}:v1"
    ctr("images", "pull", PLAIN, name)
    ctr("images", "tag", name, other)
    ctr("images", "push", PLAIN, other)
    assert wire.up.total < LAYER / 4

    remote.delete_manifest(first, pushed.digest)
    for blob in pushed.blobs:
        remote.delete_blob(first, blob.digest)
    remote.holds(second, pushed, "v1")
    forget(ctr, name, other)


def test_an_artifact_with_a_subject_is_pushed_and_refers_to_it(
    ctr: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    subject = image(repository)
    remote.push(repository, subject, "v1")
    signature = artifact(repository, "application/vnd.example.signature", subject=subject.manifest)
    name = load(ctr, tmp_path, f"{server.address}/{repository}/signed", signature)
    target = f"{server.address}/{repository}:signature"
    ctr("images", "tag", name, target)
    ctr("images", "push", PLAIN, target)
    (entry,) = remote.referrers(repository, subject.digest)
    assert entry["digest"] == signature.digest
    assert entry["artifactType"] == "application/vnd.example.signature"
    forget(ctr, name, target)


def test_a_deleted_image_is_named_as_missing_and_another_stays(
    ctr: Tool, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    gone, kept = image((repository, "gone")), image((repository, "kept"))
    remote.push(repository, gone, "gone")
    remote.push(repository, kept, "kept")
    remote.delete_manifest(repository, gone.digest)
    base = f"{server.address}/{repository}"
    for reference in (":gone", f"@{gone.digest}"):
        assert "not found" in ctr.fails("images", "pull", PLAIN, base + reference)
    ctr("images", "pull", PLAIN, f"{base}:kept")
    holds(ctr, tmp_path, f"{base}:kept", kept)
    forget(ctr, f"{base}:kept")
