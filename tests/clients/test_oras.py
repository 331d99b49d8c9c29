"""oras, the Python client: artifacts that are no images. It comes with the development dependencies."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from images import OCI_MANIFEST, digest_of, image, multi_platform, noise, write_layout
from oras.layout import NewLayout, NewLayoutFromRegistry
from oras.oci import Subject
from oras.provider import Registry
from remote import Remote
from serving import Process
from wire import Wire

pytestmark = pytest.mark.client

PATCH = 100_000
"""Bytes of a chunk."""


@pytest.fixture
def oras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-credentials"))
    client = Registry(insecure=True)
    client.session.trust_env = False
    yield client
    client.session.close()


def write(directory: Path, files: dict[str, bytes]) -> list[str]:
    """Write the files; returns how a push names them, with media types of our own."""
    directory.mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return [f"{directory / name}:application/vnd.example.{number}" for number, name in enumerate(files)]


@pytest.mark.parametrize("way", ["one PUT", "chunks"])
def test_pushed_files_come_back_the_same(
    oras: Registry, server: Process, remote: Remote, repository: str, tmp_path: Path, way: str
) -> None:
    """By one PUT with a body, and by PATCHes with Content-Range; the answer's digest is the one HEAD names."""
    files = {"small": b"x", "big": noise(repository, 3 * PATCH + 17)}
    name = f"{server.address}/{repository}:v1"
    answer = oras.push(
        target=name,
        files=write(tmp_path / "in", files),
        disable_path_validation=True,
        manifest_annotations={"org.example": "yes"},
        do_chunked=way == "chunks",
        chunk_size=PATCH,
    )
    assert answer.status_code == 201
    digest = answer.headers["Docker-Content-Digest"]
    manifest = remote.manifest(repository, "v1")
    assert manifest.digest == digest
    assert manifest.media_type == OCI_MANIFEST
    assert manifest.json["annotations"] == {"org.example": "yes"}
    assert [layer["digest"] for layer in manifest.json["layers"]] == [digest_of(data) for data in files.values()]

    for reference in (name, f"{server.address}/{repository}@{digest}"):
        pulled = oras.pull(target=reference, outdir=str(tmp_path / "out"))
        assert {Path(path).name: Path(path).read_bytes() for path in pulled} == files


def test_a_pushed_directory_comes_back_the_same(
    oras: Registry, server: Process, repository: str, tmp_path: Path
) -> None:
    files = {"one": b"1", "two": noise(repository, 5000)}
    write(tmp_path / "directory", files)
    name = f"{server.address}/{repository}:v1"
    oras.push(target=name, files=[str(tmp_path / "directory")], disable_path_validation=True)
    oras.pull(target=name, outdir=str(tmp_path / "out"))
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == files


def test_files_pushed_again_are_not_sent_again(oras: Registry, wire: Wire, repository: str, tmp_path: Path) -> None:
    size = 400_000
    files = write(tmp_path / "in", {"file": noise(repository, size)})
    oras.push(target=f"{wire.address}/{repository}:v1", files=files, disable_path_validation=True)
    before = wire.up.total
    assert before > size
    oras.push(target=f"{wire.address}/{repository}:v2", files=files, disable_path_validation=True)
    assert wire.up.total - before < size / 4


def test_an_attached_artifact_is_listed_as_a_referrer(
    oras: Registry, server: Process, remote: Remote, repository: str, tmp_path: Path
) -> None:
    subject = image(repository)
    remote.push(repository, subject, "v1")
    answer = oras.push(
        target=f"{server.address}/{repository}:signature",
        files=write(tmp_path / "in", {"signature": b"signed"}),
        disable_path_validation=True,
        subject=Subject(subject.manifest.media_type, subject.digest, len(subject.manifest.data)),
    )
    assert answer.headers["OCI-Subject"] == subject.digest
    (entry,) = remote.referrers(repository, subject.digest)
    assert entry["digest"] == answer.headers["Docker-Content-Digest"]


def test_tags_are_listed_in_pages_and_deleted(oras: Registry, server: Process, remote: Remote, repository: str) -> None:
    """oras deletes a tag by the digest it names."""
    name = f"{server.address}/{repository}"
    for number in range(5):
        remote.push(repository, image((repository, number), layers=1, size=10), f"v{number}")
    assert oras.get_tags(name) == ["v0", "v1", "v2", "v3", "v4"]
    assert oras.get_tags(name, N=2) == ["v0", "v1"]

    assert oras.delete_tags(name, ["v0", "v3"]) == ["v0", "v3"]
    assert not oras.delete_tag(name, "v0")
    assert oras.get_tags(name) == remote.tags(repository) == ["v1", "v2", "v4"]
    with pytest.raises(ValueError, match="Not Found"):
        oras.pull(target=f"{name}:v3")


@pytest.mark.parametrize("way", ["one PUT", "chunks"])
def test_a_layout_with_an_index_goes_up_and_comes_back(
    oras: Registry, server: Process, remote: Remote, repository: str, tmp_path: Path, way: str
) -> None:
    pushed = multi_platform(repository, size=2 * PATCH)
    layout = NewLayout(str(write_layout(tmp_path / "in", pushed)))
    name = f"{server.address}/{repository}:v1"
    layout.push_to_registry(oras, name, do_chunked=way == "chunks", chunk_size=PATCH)
    remote.holds(repository, pushed, "v1")

    NewLayoutFromRegistry(str(tmp_path / "out"), oras, name)
    for path in (tmp_path / "in" / "blobs" / "sha256").iterdir():
        assert (tmp_path / "out" / "blobs" / "sha256" / path.name).read_bytes() == path.read_bytes()


def test_a_manifest_and_a_single_blob_are_read(
    oras: Registry, server: Process, remote: Remote, repository: str
) -> None:
    pushed = image(repository)
    remote.push(repository, pushed, "v1")
    name = f"{server.address}/{repository}:v1"
    assert oras.get_manifest(name) == pushed.manifest.json
    with oras.get_blob(name, pushed.config.digest) as answer:
        assert answer.content == pushed.config.data
    with oras.get_blob(name, pushed.config.digest, head=True) as answer:
        assert answer.headers["Content-Length"] == str(len(pushed.config.data))
