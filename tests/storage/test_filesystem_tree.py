"""The tree on disk is registry:2's, to the letter: paths, bytes and modes, at rest and while it is written."""

import asyncio
import json
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.oci.digest import Digest
from registry.oci.manifest import OCI_MANIFEST, Manifest
from registry.oci.names import RepositoryName, Tag
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.root import Filesystem
from registry.store.local import LocalStore
from registry.store.rules import Rules
from registry.store.threads import Threads

NAME = RepositoryName("library/app")
CONFIG, LAYER = b"{}", b"a layer" * 1000
REPOSITORY = "docker/registry/v2/repositories/library/app"


def manifest(**more: str) -> Manifest:
    def descriptor(data: bytes, media_type: str) -> dict[str, object]:
        return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}

    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(LAYER, "application/vnd.oci.image.layer.v1.tar")],
        "annotations": more,
    }
    return Manifest.parse(json.dumps(document).encode())


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def push_blob(store: LocalStore, data: bytes, algorithm: str = "sha256") -> None:
    async with await store.begin_upload(NAME, algorithm) as upload:
        await upload.append(body(data[:100]))
        await upload.checkpoint()
    async with await store.resume_upload(NAME, upload.id) as upload:
        await upload.append(body(data[100:]))
        await upload.commit(Digest.of(data, algorithm))


@pytest.fixture
def store(blobs: FilesystemBlobs, records: FilesystemRecords) -> Iterator[LocalStore]:
    threads = Threads(4)
    yield LocalStore(blobs, records, threads, Rules())
    threads.close()


def push(store: LocalStore, *manifests: Manifest, tag: str = "v1") -> None:
    async def all_of_it() -> None:
        await push_blob(store, CONFIG)
        await push_blob(store, LAYER)
        for one in manifests:
            await store.put_manifest(NAME, Digest.of(one.data), one, [Tag(tag)])

    asyncio.run(all_of_it())


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def test_a_push_leaves_registry_2_s_files_and_nothing_else(store: LocalStore, root: Path) -> None:
    image = manifest()
    push(store, image)
    digest, config, layer = Digest.of(image.data), Digest.of(CONFIG), Digest.of(LAYER)

    def blob(of: Digest) -> str:
        return f"docker/registry/v2/blobs/sha256/{of.hex[:2]}/{of.hex}/data"

    found = {name: data for name, data in files_below(root).items() if not name.startswith("swarm-registry/locks/")}
    assert found == {
        blob(config): CONFIG,
        blob(layer): LAYER,
        blob(digest): image.data,
        f"{REPOSITORY}/_layers/sha256/{config.hex}/link": config.encode(),
        f"{REPOSITORY}/_layers/sha256/{layer.hex}/link": layer.encode(),
        f"{REPOSITORY}/_manifests/revisions/sha256/{digest.hex}/link": digest.encode(),
        f"{REPOSITORY}/_manifests/tags/v1/current/link": digest.encode(),
        f"{REPOSITORY}/_manifests/tags/v1/index/sha256/{digest.hex}/link": digest.encode(),
    }
    assert list((root / REPOSITORY / "_uploads").iterdir()) == []


def test_a_moved_tag_keeps_everything_that_it_named_in_its_index(store: LocalStore, root: Path) -> None:
    first, second = manifest(), manifest(second="one")
    push(store, first, second)
    tag = root / REPOSITORY / "_manifests/tags/v1"
    assert (tag / "current/link").read_bytes() == Digest.of(second.data).encode()
    assert files_below(tag / "index") == {
        f"sha256/{Digest.of(one.data).hex}/link": Digest.of(one.data).encode() for one in (first, second)
    }


def test_a_sha512_blob_has_its_own_directories(store: LocalStore, root: Path) -> None:
    asyncio.run(push_blob(store, LAYER, "sha512"))
    digest = Digest.of(LAYER, "sha512")
    assert (root / "docker/registry/v2/blobs/sha512" / digest.hex[:2] / digest.hex / "data").read_bytes() == LAYER
    assert (root / REPOSITORY / "_layers/sha512" / digest.hex / "link").read_bytes() == digest.encode()
    assert not (root / "docker/registry/v2/blobs/sha256").exists()


def test_a_repository_with_a_manifest_has_layers_too(store: LocalStore, root: Path) -> None:
    """registry:2's garbage collection looks for repositories by `_layers`, and sweeps what the others need."""
    index = Manifest.parse(
        b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}'
    )
    asyncio.run(store.put_manifest(NAME, Digest.of(index.data), index, [Tag("v1")]))
    assert (root / REPOSITORY / "_layers").is_dir()
    assert (root / REPOSITORY / "_manifests").is_dir()


def test_a_deleted_tag_leaves_the_revision_alone(store: LocalStore, root: Path) -> None:
    image = manifest()
    push(store, image)
    asyncio.run(store.delete_manifest(NAME, Tag("v1")))
    assert not (root / REPOSITORY / "_manifests/tags/v1").exists()
    assert (root / REPOSITORY / "_manifests/revisions/sha256" / Digest.of(image.data).hex / "link").exists()


def test_a_deleted_manifest_leaves_its_blobs_for_garbage_collection(store: LocalStore, root: Path) -> None:
    image = manifest()
    push(store, image)
    before = files_below(root / "docker/registry/v2/blobs")
    asyncio.run(store.delete_manifest(NAME, Digest.of(image.data)))
    assert files_below(root / REPOSITORY / "_manifests") == {}
    assert files_below(root / "docker/registry/v2/blobs") == before


# Upload sessions


def test_an_upload_has_its_bytes_its_start_and_its_progress(store: LocalStore, root: Path) -> None:
    async def begin() -> Path:
        async with await store.begin_upload(NAME) as upload:
            await upload.append(body(LAYER))
            await upload.checkpoint()
        return root / REPOSITORY / "_uploads" / upload.id

    before = datetime.now(UTC) - timedelta(seconds=1)
    session = asyncio.run(begin())
    found = files_below(session)
    assert set(found) == {"data", "startedat", "progress"}
    assert found["data"] == LAYER
    assert found["progress"] == f"{Digest.of(LAYER)} {len(LAYER)}\n".encode()
    # registry:2's purge parses it as time.RFC3339; a session without it is never purged.
    text = found["startedat"].decode()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text)
    assert before <= datetime.fromisoformat(text) <= datetime.now(UTC)


def test_a_new_upload_has_its_start_at_once(store: LocalStore, root: Path) -> None:
    async def begin() -> set[str]:
        async with await store.begin_upload(NAME) as upload:
            return {path.name for path in (root / REPOSITORY / "_uploads" / upload.id).iterdir()}

    assert asyncio.run(begin()) == {"data", "startedat", "progress"}


def test_a_cancelled_upload_leaves_nothing(store: LocalStore, root: Path) -> None:
    async def cancel() -> None:
        async with await store.begin_upload(NAME) as upload:
            await upload.append(body(LAYER))
            await upload.checkpoint()
        await store.cancel_upload(NAME, upload.id)

    asyncio.run(cancel())
    assert list((root / REPOSITORY / "_uploads").iterdir()) == []


# Everything that is ever created


def test_every_file_that_is_ever_made_below_docker_has_a_name_of_registry_2_s_or_is_progress(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a moment: a crash makes moments last. Files being written are in `swarm-registry/tmp` alone."""
    made: set[str] = set()
    real_open, real_rename = os.open, os.rename

    def note_open(path: str, flags: int, mode: int = 0o777, **more: int) -> int:
        if flags & os.O_CREAT and str(path).startswith(str(root)):
            made.add(os.path.relpath(path, root))
        return real_open(path, flags, mode, **more)

    def note_rename(source: str, target: str) -> None:
        made.add(os.path.relpath(target, root))
        real_rename(source, target)

    monkeypatch.setattr(os, "open", note_open)
    monkeypatch.setattr(os, "rename", note_rename)
    first, second = manifest(), manifest(second="one")
    push(store, first, second)
    asyncio.run(push_blob(store, LAYER, "sha512"))
    asyncio.run(store.delete_manifest(NAME, Tag("v1")))
    asyncio.run(store.delete_manifest(NAME, Digest.of(first.data)))
    monkeypatch.undo()

    assert made, "nothing was seen"
    hexes = "(?:sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128})"
    allowed = re.compile(
        r"docker/registry/v2/blobs/(?:sha256|sha512)/[0-9a-f]{2}/[0-9a-f]+/data"
        rf"|{REPOSITORY}/_layers/{hexes}/link"
        rf"|{REPOSITORY}/_manifests/revisions/{hexes}/link"
        rf"|{REPOSITORY}/_manifests/tags/v1/(?:current|index/{hexes})/link"
        rf"|{REPOSITORY}/_uploads/[0-9a-f-]{{36}}/(?:data|startedat|progress)"
        r"|swarm-registry/(?:tmp/[^/]+|locks/[0-9a-f]{2}|referrers/.+)"
    )
    assert [name for name in sorted(made) if allowed.fullmatch(name) is None] == []


def test_no_file_below_repositories_begins_with_an_underscore(store: LocalStore, root: Path) -> None:
    """registry:2.8 ends its walk of a directory at such a file, without a word, and sweeps what it has not seen."""
    push(store, manifest())
    asyncio.run(store.referrers(NAME, Digest.of(b"subject")))
    names = [path.name for path in (root / "docker").rglob("*") if path.is_file()]
    assert names
    assert set(names) <= {"data", "link", "startedat", "progress"}


def test_temporary_files_are_gone_after_a_push(store: LocalStore, root: Path) -> None:
    push(store, manifest())
    assert list((root / "swarm-registry/tmp").iterdir()) == []


# Modes


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_modes_follow_the_umask_as_registry_2_s_do(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files = Filesystem(root)
        files.require_writable()
        threads = Threads(2)
        store = LocalStore(FilesystemBlobs(files), FilesystemRecords(files), threads, Rules())
        push(store, manifest())

        async def leave_a_session() -> None:
            async with await store.begin_upload(NAME) as upload:
                await upload.append(body(LAYER))
                await upload.checkpoint()

        asyncio.run(leave_a_session())
        threads.close()
    finally:
        os.umask(before)
    for path in (root / "docker").rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
