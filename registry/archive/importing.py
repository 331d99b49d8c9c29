"""Importing: a layout -> the store, by the ways of a push, while the registry serves.

Content comes first, verified and durable, under its digest and in no repository: a lease keeps it, as it keeps a blob
between its upload and its manifest, and is renewed for as long as the import runs. Then each image as a client pushes
it: its blobs are mounted, its manifests pushed, children first, its tags last. Whatever happens in between, the store
has whole images, and content that nothing needs, which the next garbage collection removes.
"""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from registry.archive import tape
from registry.archive.base import CHUNK, LeftOut, Report, Unusable, is_sound
from registry.archive.sources import DOCUMENTS, Taken, require_few, whole
from registry.oci import imagelayout
from registry.oci.digest import Digest
from registry.oci.errors import (
    BlobUnknown,
    Denied,
    DigestInvalid,
    ManifestInvalid,
    NameInvalid,
    RegistryError,
    StorageFull,
    Unsupported,
)
from registry.oci.manifest import MOST_BYTES, Manifest, is_manifest_type
from registry.oci.names import RepositoryName, Tag
from registry.storage import layout
from registry.storage.base import Busy, Missing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.archive.base import Body, Watch
    from registry.archive.sources import Source
    from registry.oci.manifest import Descriptor
    from registry.storage.base import Blobs, Draft, Records
    from registry.store.base import Store
    from registry.store.threads import Threads

_RENEW = 10 * 60  # seconds; much less than the shortest grace of a garbage collection
_ENDS_IT = (StorageFull, Unsupported)  # the disk is full, or the registry read-only: so for all that follows


@dataclass(frozen=True, slots=True)
class Incoming:
    """An image to import: where to, and what it is."""

    repository: RepositoryName
    digest: Digest
    media_type: str
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Naming:
    """Where the images of a layout go.

    Attributes:
        repository: all of them into this one; None = each by its own name.
        prefix: repositories go below this.
    """

    repository: RepositoryName | None = None
    prefix: str = ""

    def images(self, entries: Iterable[imagelayout.Entry]) -> list[Incoming]:
        """The images of an index, those without a tag first: an image's signatures are there when its tag is.

        Raises:
            Unusable: one has no repository, or one tag would name two images.
            ManifestInvalid: a name that is none.
        """
        tags: dict[tuple[RepositoryName, Digest], list[Tag]] = {}
        kinds: dict[Digest, str] = {}
        named: dict[tuple[RepositoryName, Tag], Digest] = {}
        for entry in entries:
            repository, tag = self._place(entry)
            kinds[entry.digest] = entry.media_type
            found = tags.setdefault((repository, entry.digest), [])
            if tag is None or tag in found:
                continue
            found.append(tag)
            if named.setdefault((repository, tag), entry.digest) != entry.digest:
                raise Unusable(f"two images would have the name {repository}:{tag}; import them with --prefix")
        images = [Incoming(name, digest, kinds[digest], tuple(each)) for (name, digest), each in tags.items()]
        return sorted(images, key=lambda image: bool(image.tags))

    def _place(self, entry: imagelayout.Entry) -> tuple[RepositoryName, Tag | None]:
        own, tag = imagelayout.checked(entry.name)
        if self.repository is not None:
            return self.repository, tag
        if own is None:
            raise Unusable(f"the layout does not say which repository {entry.digest} is of: name it with --repository")
        try:
            return RepositoryName(f"{self.prefix}/{own}" if self.prefix else own), tag
        except NameInvalid as error:
            raise Unusable(error.message) from None


class Importer:
    """One import into a storage.

    Args:
        store: takes the images; policies are in it.
        blobs: takes their content.
        records: of the same storage.
        threads: where storage calls run.
        naming: where images go.
        watch: is told what happens.
        verify: hash what the storage has already, and replace it where it is wrong.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - its parts
        self,
        store: Store,
        blobs: Blobs,
        records: Records,
        threads: Threads,
        naming: Naming,
        watch: Watch,
        *,
        verify: bool = False,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._records = records
        self._threads = threads
        self._naming = naming
        self._watch = watch
        self._verify = verify
        self._taken: set[Digest] = set()
        self._wrong: dict[Digest, str] = {}
        self._renewed = self._begun = time.monotonic()
        self.report = Report()

    def tidy(self) -> None:
        """Remove what killed imports left. Blocks."""
        for name in self._records.list(layout.INCOMING):
            key = layout.incoming(name)
            try:
                self._blobs.resume(key).close()
            except Busy:  # of an import that runs
                continue
            except Missing:
                pass
            self._blobs.discard(key)

    def receive(self, file: IO[bytes]) -> Taken:
        """Take all content of a tar that comes as a stream: what it is for comes at its end. Blocks.

        Raises:
            Unusable: it is no tar, or a damaged one.
            StorageFull: there is less room than the storage's floor.
            OSError: the storage is full, or refuses.
        """
        documents: dict[str, bytes] = {}
        self._watch.begin("receiving", 0)
        for member, body in tape.Reader(file).members():
            digest = imagelayout.blob_at(member.name)
            if member.is_file and member.name in DOCUMENTS:
                documents[member.name] = whole(member.name, body, imagelayout.MOST_INDEX_BYTES)
            elif member.is_file and digest is not None:
                self._receive(digest, body)
            require_few(len(self._taken))
        return Taken(documents)

    def _receive(self, digest: Digest, body: Body) -> None:
        if self._is_there(digest, body.size):
            return
        try:
            self._write(digest, body)
        except DigestInvalid:
            self._wrong[digest] = "its content has another digest"

    async def run(self, source: Source) -> Report:
        """Import all images of a layout.

        Raises:
            Unusable: it is no layout, or not all of its images have a place; nothing was changed.
            ManifestInvalid: its index is none; nothing was changed.
            StorageFull, Unsupported: the storage takes no more; what was imported before stays.
            OSError: it refuses.
        """
        images = self._naming.images(imagelayout.entries(await self._threads.run(source.index)))
        self._watch.begin("bytes", await self._threads.run(source.total))
        done = [image for image in images if await self._image(image, source)]
        self.report.repositories = len({image.repository for image in done})
        self.report.tags = sum(len(image.tags) for image in done)
        self.report.untagged = sum(not image.tags for image in done)
        self.report.seconds = round(time.monotonic() - self._begun, 3)
        return self.report

    async def _image(self, image: Incoming, source: Source) -> bool:
        """Import one. Whether it is there now."""
        try:
            await self._push(image, source)
        except _ENDS_IT:
            raise
        except (Unusable, RegistryError) as error:
            self.report.left_out.append(LeftOut(image.repository, image.tags, image.digest, str(error)))
            return False
        return True

    async def _push(self, image: Incoming, source: Source) -> None:
        """Its manifests, children first. No manifest can be below itself: each was found by its digest."""
        seen: set[Digest] = set()
        pending = [(image.digest, image.media_type, False)]
        while pending:
            digest, media_type, is_ready = pending.pop()
            if is_ready:
                await self._put(image, digest, await self._manifest(digest, media_type, source))
            elif digest not in seen:
                seen.add(digest)
                manifest = await self._manifest(digest, media_type, source)
                for blob in manifest.blobs:
                    await self._blob(image.repository, blob, source, may_lack=blob.is_foreign)
                pending.append((digest, media_type, True))
                pending += await self._children(image.repository, manifest, source)

    async def _children(
        self, repository: RepositoryName, manifest: Manifest, source: Source
    ) -> list[tuple[Digest, str, bool]]:
        """The manifests below an index. It may lack some of them, if the store allows that, and have blobs for some."""
        found: list[tuple[Digest, str, bool]] = []
        for child in manifest.children:
            if not is_manifest_type(child.media_type):
                await self._blob(repository, child, source, may_lack=True)
            elif await self._threads.run(self._take_if_any, child.address, source):
                found.append((child.address, child.media_type, False))
        return found

    async def _put(self, image: Incoming, digest: Digest, manifest: Manifest) -> None:
        tags = image.tags if digest == image.digest else ()
        await self._store.put_manifest(image.repository, digest, manifest, tags)

    async def _manifest(self, digest: Digest, media_type: str, source: Source) -> Manifest:
        size = source.size(digest)
        if size is not None and size > MOST_BYTES:
            raise ManifestInvalid(f"the manifest {digest} has {size} bytes, at most {MOST_BYTES} are taken")
        await self._threads.run(self._take, digest, source)
        try:
            data = await self._threads.run(self._blobs.read, digest, MOST_BYTES)
        except Missing:
            raise ManifestInvalid(f"the manifest {digest} has more than {MOST_BYTES} bytes") from None
        if Digest.of(data, digest.algorithm) != digest:
            raise ManifestInvalid(f"the storage's copy of {digest} is damaged; import with --verify")
        return Manifest.parse(data, media_type)

    async def _blob(self, repository: RepositoryName, blob: Descriptor, source: Source, *, may_lack: bool) -> None:
        """Make a blob visible in a repository, durably."""
        if not await self._threads.run(self._take_if_any, blob.address, source):
            if may_lack:
                return
            raise Unusable(f"{blob.address} {self._wrong.get(blob.address, 'is missing in the layout')}")
        try:
            await self._store.blob_size(repository, blob.address)
        except BlobUnknown:
            if not await self._store.mount_blob(repository, blob.address, None):
                raise

    def _take_if_any(self, digest: Digest, source: Source) -> bool:
        """As `_take`; False where neither the layout nor the storage has it."""
        if source.size(digest) is None and not self._is_there(digest, None):
            return False
        self._take(digest, source)
        return True

    def _take(self, digest: Digest, source: Source) -> None:
        """Have some content in the storage. Blocks.

        Raises:
            Unusable: the layout has not got it, or something else under its name.
        """
        size = source.size(digest)
        if digest in self._taken or self._is_there(digest, size):
            return
        if size is None or digest in self._wrong:
            raise Unusable(f"{digest} {self._wrong.get(digest, 'is missing in the layout')}")
        try:
            with closing(source.open(digest)) as body:
                self._write(digest, body)
        except (DigestInvalid, Unusable) as error:
            self._wrong[digest] = str(error) if isinstance(error, Unusable) else "has content of another digest"
            raise Unusable(f"{digest} {self._wrong[digest]}") from None

    def _is_there(self, digest: Digest, size: int | None) -> bool:
        """Whether the storage has some content, with the size that it should have. Then it stays."""
        if digest in self._taken:
            return True
        try:
            found = self._blobs.promise(digest)
            if (size is not None and found != size) or (self._verify and not self._is_sound(digest)):
                return False
        except Missing:
            return False
        self._taken.add(digest)
        self.report.blobs_present += 1
        self.report.bytes_present += found
        self._watch.advance(found)
        return True

    def _is_sound(self, digest: Digest) -> bool:
        with closing(self._blobs.open(digest)) as source:
            return is_sound(digest, source)

    def _write(self, digest: Digest, body: Body) -> None:
        """Make content from what is read. Raises DigestInvalid, Unusable, StorageFull."""
        key = layout.incoming(str(uuid.uuid4()))
        try:
            with closing(self._blobs.begin(key, digest.algorithm)) as draft:
                self._fill(draft, body)
                draft.commit(digest)
        except Denied as error:  # by the floor of the disk; any other denial is of one image
            raise StorageFull(error.message) from None
        finally:
            self._blobs.discard(key)
        self._taken.add(digest)
        self.report.blobs_copied += 1
        self.report.bytes_copied += body.size

    def _fill(self, draft: Draft, body: Body) -> None:
        draft.expect(body.size)
        while chunk := body.read(CHUNK):
            draft.write([chunk])
            self._watch.advance(len(chunk))
            self._renew()

    def _renew(self) -> None:
        """Keep what was taken and is in no image yet, if the time has come."""
        if time.monotonic() - self._renewed < _RENEW:
            return
        self._renewed = time.monotonic()
        for digest in self._taken:
            try:
                self._blobs.promise(digest)
            except Missing:  # deleted by hand; its image will be told
                continue
