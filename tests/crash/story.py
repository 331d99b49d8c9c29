"""What a registry goes through before the power is cut, what it promised by then, and whether it kept it."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recording import Acknowledged, Begun, Recorder

from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, DigestInvalid, ManifestUnknown, NameUnknown, UploadUnknown
from registry.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest
from registry.oci.names import RepositoryName, SessionId, Tag
from registry.storage.base import LocalFile
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.root import Filesystem
from registry.store.local import LocalStore
from registry.store.rules import Rules
from registry.store.threads import Threads

APP, COPY = RepositoryName("team/app"), RepositoryName("team/copy")
V1, OLD, LONG = Tag("v1"), Tag("old"), Tag("sha512")

CONFIG = b'{"architecture": "amd64"}'
LAYER = bytes(range(256)) * 12
LONG_LAYER = b"named by sha512" * 50

Fact = tuple[str, RepositoryName, str]
"""Something a client may rely on: `blob`, `manifest` or `tag`, of a repository, by digest or tag."""


class Violation(AssertionError):
    """A promise was broken."""


@contextmanager
def opened(root: Path) -> Iterator[LocalStore]:
    """A store on a root, as a process has it; with one thread, so that its steps have one order."""
    files = Filesystem(root)
    files.require_writable()
    threads = Threads(1)
    try:
        yield LocalStore(FilesystemBlobs(files), FilesystemRecords(files), threads, Rules())
    finally:
        threads.close()


def _descriptor(data: bytes, media_type: str, algorithm: str = "sha256") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data, algorithm)), "size": len(data)}


def image(seed: str, **more: Any) -> Manifest:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(CONFIG, "application/vnd.oci.image.config.v1+json"),
        "layers": [_descriptor(LAYER, "application/vnd.oci.image.layer.v1.tar")],
        "annotations": {"seed": seed},
        **more,
    }
    return Manifest.parse(json.dumps(document).encode())


FIRST, SECOND = image("first"), image("second")
INDEX = Manifest.parse(
    json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [_descriptor(SECOND.data, OCI_MANIFEST)]}
    ).encode()
)
SIGNATURE = image("signature", subject=_descriptor(SECOND.data, OCI_MANIFEST))
OF_LONG = image("long", layers=[_descriptor(LONG_LAYER, "application/vnd.oci.image.layer.v1.tar", "sha512")])

CONTENTS = {
    digest: data
    for data in (CONFIG, LAYER, LONG_LAYER, *(m.data for m in (FIRST, SECOND, INDEX, SIGNATURE, OF_LONG)))
    for digest in (Digest.of(data), Digest.of(data, "sha512"))
}


@dataclass
class Story:
    """Pushes and deletes, with marks in the log of what was asked for and what was acknowledged."""

    store: LocalStore
    log: list[Any]
    sessions: dict[SessionId, bytes] = field(default_factory=dict)

    async def step(self, facts: Mapping[Fact, object], work: Callable[[], Awaitable[object]]) -> None:
        self.log.append(Begun(facts))
        await work()
        self.log.append(Acknowledged(facts))

    async def push_blob(self, data: bytes, algorithm: str = "sha256") -> None:
        """In two requests, with a checkpoint between them."""
        digest = Digest.of(data, algorithm)

        async def work() -> None:
            async with await self.store.begin_upload(APP, algorithm) as upload:
                self.sessions[upload.id] = data
                await upload.append(_body(data[:700]))
                await upload.checkpoint()
            async with await self.store.resume_upload(APP, upload.id) as upload:
                await upload.append(_body(data[700:]))
                await upload.commit(digest)

        await self.step({("blob", APP, digest): digest}, work)

    async def put(self, manifest: Manifest, *tags: Tag) -> None:
        digest = Digest.of(manifest.data)
        facts: dict[Fact, object] = {("manifest", APP, digest): digest}
        facts |= {("tag", APP, tag): digest for tag in tags}
        await self.step(facts, lambda: self.store.put_manifest(APP, digest, manifest, tags))

    async def push_image(self) -> None:
        await self.push_blob(CONFIG)
        await self.push_blob(LAYER)
        await self.put(FIRST, V1, OLD)

    async def push_everything(self) -> None:
        await self.push_image()
        await self.put(SECOND, V1)
        await self.push_blob(LONG_LAYER, "sha512")
        await self.put(OF_LONG, LONG)
        await self.put(INDEX)
        await self.put(SIGNATURE)
        mounted = Digest.of(LAYER)
        await self.step({("blob", COPY, mounted): mounted}, lambda: self.store.mount_blob(COPY, mounted, APP))

    async def delete(self) -> None:
        config, first = Digest.of(CONFIG), Digest.of(FIRST.data)
        await self.step({("tag", APP, LONG): None}, lambda: self.store.delete_manifest(APP, LONG))
        await self.step(
            {("manifest", APP, first): None, ("tag", APP, OLD): None},
            lambda: self.store.delete_manifest(APP, first),
        )
        await self.step({("blob", APP, config): None}, lambda: self.store.delete_blob(APP, config))

    async def tell(self) -> None:
        """All of it, with an upload that is cancelled and one that is left open."""
        await self.push_everything()
        async with await self.store.begin_upload(APP) as upload:
            self.sessions[upload.id] = LAYER
            await upload.append(_body(LAYER[:700]))
            await upload.checkpoint()
            await upload.append(_body(b"never counted"))
        async with await self.store.begin_upload(APP) as upload:
            await upload.append(_body(LAYER))
        await self.store.cancel_upload(APP, upload.id)
        await self.delete()


async def _body(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 400):
        yield data[start : start + 400]


def record(root: Path, deaf_to: frozenset[str] = frozenset()) -> tuple[list[Any], dict[SessionId, bytes]]:
    """The log of the whole story on an empty directory."""
    recorder = Recorder(str(root), deaf_to)
    with recorder.installed(), opened(root) as store:
        story = Story(store, recorder.log)
        asyncio.run(story.tell())
    return recorder.log, story.sessions


# What has to hold after a power cut


def check(
    root: Path,
    allowed: Mapping[object, set[object]],
    sessions: Mapping[SessionId, bytes],
    gone: frozenset[Digest] = frozenset(),
) -> None:
    """Open a registry on what is left, look at all of it, and go on with it.

    Raises:
        Violation: something that was acknowledged is gone, or something that is visible is not whole.
    """
    check_files(root, gone=gone)
    with opened(root) as store:
        left = [path for path in root.glob("swarm-registry/trash/**/*") if path.is_file()]
        _require(not left, f"a start leaves in the trash: {left}")
        asyncio.run(_check_store(store, allowed, sessions))
    check_files(root, gone=gone)


async def _check_store(
    store: LocalStore, allowed: Mapping[object, set[object]], sessions: Mapping[SessionId, bytes]
) -> None:
    await _check_facts(store, allowed)
    await _check_lists(store)
    for session, data in sessions.items():
        await _finish(store, session, data)
    again = Story(store, [])
    await again.push_everything()
    digest = Digest.of(SECOND.data)
    _require((await store.manifest(APP, V1)).digest == digest, "the same push does not complete")
    referrers = [entry["digest"] for entry in (await store.referrers(APP, digest)).entries]
    _require(referrers == [Digest.of(SIGNATURE.data)], f"referrers after a push: {referrers}")


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise Violation(otherwise)


async def _check_facts(store: LocalStore, allowed: Mapping[object, set[object]]) -> None:
    for fact, values in allowed.items():
        assert isinstance(fact, tuple)
        kind, repository, name = fact
        found = await _OBSERVE[kind](store, repository, name)
        _require(found in values, f"{kind} {name} of {repository} is {found}, and may be {values}")


async def _blob(store: LocalStore, repository: RepositoryName, digest: Digest) -> Digest | None:
    try:
        size = await store.blob_size(repository, digest)
        source = await store.blob(repository, digest)
    except BlobUnknown:
        return None
    assert isinstance(source, LocalFile)
    data = await asyncio.to_thread(source.file.read)
    source.close()
    _require(len(data) == size == source.size, f"blob {digest} has {len(data)} bytes, and {size} are told")
    return Digest.of(data, digest.algorithm)


async def _manifest(store: LocalStore, repository: RepositoryName, reference: Digest | Tag) -> Digest | None:
    try:
        found = await store.manifest(repository, reference)
    except ManifestUnknown:
        return None
    _require(Digest.of(found.data, found.digest.algorithm) == found.digest, f"manifest {reference} is not itself")
    return found.digest


_OBSERVE: dict[str, Callable[..., Awaitable[Digest | None]]] = {"blob": _blob, "manifest": _manifest, "tag": _manifest}


async def _check_lists(store: LocalStore) -> None:
    """What is listed is there."""
    for name in (await store.repositories()).names:
        repository = RepositoryName(name)
        try:
            tags = (await store.tags(repository)).names
        except NameUnknown:
            raise Violation(f"{repository} is in the catalog and has no tag list") from None
        for tag in tags:
            _require(await _manifest(store, repository, Tag(tag)), f"the tag {tag} names nothing")
        for entry in (await store.referrers(repository, Digest.of(SECOND.data))).entries:
            _require(await _manifest(store, repository, Digest(entry["digest"])), f"the referrer {entry} is nothing")


async def _finish(store: LocalStore, session: SessionId, data: bytes) -> None:
    """A session that survived goes on where it says that it is; wrong bytes are found out, never published."""
    try:
        offset = await store.upload_offset(APP, session)
    except UploadUnknown:
        return
    _require(offset <= len(data) + len(b"never counted"), f"session {session} is at {offset} of {len(data)} bytes")
    try:
        async with await store.resume_upload(APP, session) as upload:
            _require(upload.offset == offset, f"session {session} opens at {upload.offset}, and says {offset}")
            await upload.append(_body(data[offset:]))
            await upload.commit(Digest.of(data))
    except DigestInvalid:
        await store.cancel_upload(APP, session)


_BLOB = re.compile(r"docker/registry/v2/blobs/(sha256|sha512)/([0-9a-f]{2})/(\2[0-9a-f]+)/data")
_ALLOWED = re.compile(
    r"docker/registry/v2/repositories/team/(?:app|copy)/"
    r"(?:_layers/sha\d+/[0-9a-f]+/link"
    r"|_manifests/revisions/sha\d+/[0-9a-f]+/link"
    r"|_manifests/tags/\w+/(?:current|index/sha\d+/[0-9a-f]+)/link"
    r"|_uploads/[0-9a-f-]{36}/(?:data|startedat|progress))"
    r"|swarm-registry/(?:volume-id|last-collection|tmp/[^/]+|locks/(?:[0-9a-f]{2}|collector)|referrers/.+|trash/.+\.[0-9a-f]{32})"
)


def check_files(root: Path, known: set[str] | None = None, gone: frozenset[Digest] = frozenset()) -> None:
    """Nothing half-made has a name that registry:2, or we, would believe.

    Args:
        root: of the storage.
        known: blobs that were looked at before and need not be again; those of this time are added.
        gone: what a collection may have removed already, and the links to it not yet.
    """
    for directory, _, files in os.walk(root):
        for name in files:
            path = Path(directory, name)
            key = str(path.relative_to(root))
            blob = _BLOB.fullmatch(key)
            if blob is None:
                _require(_ALLOWED.fullmatch(key), f"nobody should make {key}")
                if name == "link":
                    _check_link(root, key, path.read_bytes(), gone)
            elif known is None or key not in known:
                found = Digest.of(path.read_bytes(), blob[1])
                _require(found == f"{blob[1]}:{blob[3]}", f"{key} is not what it is called")
                if known is not None:
                    known.add(key)


def _check_link(root: Path, key: str, data: bytes, gone: frozenset[Digest]) -> None:
    try:
        target = Digest(data.decode("ascii", "replace"))
    except DigestInvalid:
        raise Violation(f"{key} holds {data!r}") from None
    place = f"docker/registry/v2/blobs/{target.algorithm}/{target.hex[:2]}/{target.hex}"
    there = [*root.glob(f"{place}/data"), *root.glob(f"swarm-registry/trash/{place},data.*")]
    _require(there or target in gone, f"{key} names {target}, which is not there")
