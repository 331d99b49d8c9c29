"""Manifests made by hand, and a store to push them to."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.oci.digest import Digest
from registry.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest
from registry.oci.names import RepositoryName, Tag
from registry.storage.base import Blobs, Records
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.memory import MemoryBlobs, MemoryRecords
from registry.storage.root import Filesystem
from registry.store.base import Store
from registry.store.local import LocalStore
from registry.store.rules import Rules
from registry.store.threads import Threads

REPOSITORY = RepositoryName("library/app")
OTHER = RepositoryName("library/other")
V1 = Tag("v1")
CONFIG = b"{}"
LAYER = b"a layer" * 100


@dataclass
class Backend:
    """A storage and the store on it.

    Attributes:
        blobs: its content, to look at and to tamper with as registry:2 would.
        records: its links.
        store: on both.
        open: another store on the same storage, as another process has it; or with other rules.
        root: where it is on disk, if it is.
    """

    blobs: Blobs
    records: Records
    store: LocalStore
    open: Callable[..., LocalStore]
    root: Path | None


@contextmanager
def backend(root: Path | None) -> Iterator[Backend]:
    threads = Threads(16)
    blobs, records = MemoryBlobs(), MemoryRecords()

    def opened(rules: Rules | None = None) -> LocalStore:
        if root is None:
            return LocalStore(blobs, records, threads, rules or Rules())
        files = Filesystem(root)
        files.require_writable()
        return LocalStore(FilesystemBlobs(files), FilesystemRecords(files), threads, rules or Rules())

    store = opened()
    yield Backend(store._blobs, store._records, store, opened, root)
    threads.close()


def descriptor(data: bytes, media_type: str = "application/vnd.oci.image.layer.v1.tar", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **more}


def image(seed: object = "", *layers: bytes, **more: Any) -> Manifest:
    """An image of `layers`; two seeds make two images of the same blobs."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(data) for data in layers or (LAYER,)],
        "annotations": {"seed": repr(seed)},
        **more,
    }
    return Manifest.parse(json.dumps(document).encode())


def index(*children: Manifest | dict[str, Any], **more: Any) -> Manifest:
    entries = [
        child if isinstance(child, dict) else descriptor(child.data, child.media_type, **more.pop("each", {}))
        for child in children
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **more}
    return Manifest.parse(json.dumps(document).encode())


def referring(subject: Manifest | Digest, seed: object = "", **more: Any) -> Manifest:
    """A manifest that refers to another, which need not be there."""
    if isinstance(subject, Digest):
        target: dict[str, Any] = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 1}
    else:
        target = descriptor(subject.data, subject.media_type)
    return image(seed, subject=target, **more)


def digest_of(manifest: Manifest) -> Digest:
    return Digest.of(manifest.data)


async def body(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def push_blob(
    store: Store, data: bytes, repository: RepositoryName = REPOSITORY, algorithm: str = "sha256"
) -> Digest:
    digest = Digest.of(data, algorithm)
    async with await store.begin_upload(repository, algorithm) as upload:
        await upload.append(body(data))
        await upload.commit(digest)
    return digest


async def push_blobs(store: Store, *data: bytes, repository: RepositoryName = REPOSITORY) -> None:
    for one in data or (CONFIG, LAYER):
        await push_blob(store, one, repository)


async def put(
    store: Store, manifest: Manifest, *tags: str, repository: RepositoryName = REPOSITORY, **more: Any
) -> Digest:
    digest = digest_of(manifest)
    await store.put_manifest(repository, digest, manifest, [Tag(tag) for tag in tags], **more)
    return digest
