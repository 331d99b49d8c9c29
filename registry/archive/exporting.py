"""Exporting: images of a storage -> a layout, while the registry serves and takes pushes.

Nothing is promised and nothing locked, so the storage may be a snapshot, or one that takes no writes. What a tag names
is not collected; what is deleted meanwhile and collected may be missing when its turn comes, and then that image is
left out. An open file outlives its name.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from registry.archive.base import LeftOut, Report, Unusable
from registry.archive.plan import Image, Reader
from registry.archive.targets import Damaged, Documents
from registry.oci import imagelayout
from registry.storage.base import Missing
from registry.store.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.archive.base import Watch
    from registry.archive.plan import Choice
    from registry.archive.targets import Target
    from registry.oci.digest import Digest
    from registry.oci.names import Tag
    from registry.storage.base import Blobs, BlobSource, Records


class Exporter:
    """One export out of a storage.

    Args:
        blobs: content.
        records: links.
        choice: what to export.
        watch: is told what happens.
    """

    def __init__(self, blobs: Blobs, records: Records, choice: Choice, watch: Watch) -> None:
        self._blobs = blobs
        self._records = records
        self._choice = choice
        self._watch = watch
        self._wrong: dict[Digest, str] = {}
        self._counted: set[Digest] = set()
        self._begun = time.monotonic()
        self.report = Report()

    def plan(self) -> list[Image]:
        """What there is to export, now: images of one repository after the other."""
        names = [name for name in Catalog(self._records).walk() if self._choice.has_repository(name)]
        self._watch.begin("manifests", len(names))
        images: list[Image] = []
        for name in names:
            images += self._images(Reader(self._blobs, self._records, name))
            self._watch.advance()
        return images

    def _images(self, reader: Reader) -> list[Image]:
        tags: dict[Digest, list[Tag]] = {}
        for tag, digest in reader.tags():
            if self._choice.has_tag(tag):
                tags.setdefault(digest, []).append(tag)
        images = [reader.image(digest, named) for digest, named in tags.items()]
        return [*images, *reader.untagged(images, everything=self._choice.untagged)]

    def copy(self, images: Sequence[Image], target: Target) -> Report:
        """Write a layout, if there is anything to put into it.

        Raises:
            OSError: the target takes no writes; there is no layout, but what a directory has by then stays.
            Unusable: there are too many images for one layout.
        """
        self._watch.begin("bytes", self._total(images))
        exported = [image for image in images if self._image(image, target)]
        target.keep_only({digest for image in exported for digest in image.contents})
        if exported:
            target.finish(_documents(exported))
        self.report.repositories = len({image.repository for image in exported})
        self.report.tags = sum(len(image.tags) for image in exported)
        self.report.untagged = sum(not image.tags for image in exported)
        self.report.seconds = round(time.monotonic() - self._begun, 3)
        return self.report

    def _total(self, images: Sequence[Image]) -> int:
        contents = {digest: content for image in images for digest, content in image.contents.items()}
        return sum(self._size(content) for content in contents.values())

    def _size(self, content: Digest) -> int:
        try:
            return self._blobs.size(content)
        except Missing:
            return 0

    def _image(self, image: Image, target: Target) -> bool:
        """Copy what it needs. Whether it is whole."""
        reason = image.obstacle
        for digest, content in image.contents.items():
            reason = reason or self._content(digest, content, target)
        if reason:
            self.report.left_out.append(LeftOut(image.repository, image.tags, image.digest, reason))
        return not reason

    def _content(self, digest: Digest, content: Digest, target: Target) -> str:
        """Copy it unless it is there. What is wrong with it, if anything is."""
        if digest not in self._counted and digest not in self._wrong:
            try:
                self._copy(digest, content, target)
            except Missing:
                self._wrong[digest] = f"{digest} is missing; it was deleted meanwhile, or lost"
            except Damaged as error:
                self._wrong[digest] = str(error)
        return self._wrong.get(digest, "")

    def _copy(self, digest: Digest, content: Digest, target: Target) -> None:
        size = self._blobs.size(content)
        if target.has(digest, size):
            self.report.blobs_present += 1
            self.report.bytes_present += size
            self._watch.advance(size)
        else:
            with closing(self._open(content)) as source:
                target.add(digest, source, self._watch.advance)
            self.report.blobs_copied += 1
            self.report.bytes_copied += size
        self._counted.add(digest)

    def _open(self, content: Digest) -> BlobSource:
        try:
            return self._blobs.open(content)
        except OSError as error:
            raise Damaged(f"{content} cannot be read: {error.strerror}") from None


def _documents(images: Sequence[Image]) -> Documents:
    is_alone = len({image.repository for image in images}) == 1
    entries = [
        {**image.descriptor, "annotations": imagelayout.naming(image.repository, tag, is_alone=is_alone)}
        for image in images
        for tag in image.tags or (None,)
    ]
    docker = [
        {**image.docker, "RepoTags": [f"{image.repository}:{tag}" for tag in image.tags]}
        for image in images
        if image.docker is not None and image.tags
    ]
    index = _json(imagelayout.index(entries))
    if len(index) > imagelayout.MOST_INDEX_BYTES:
        raise Unusable(f"{len(entries)} images are too many for one layout: export them in parts, with --repository")
    return Documents(index, _json(docker) if docker else None)


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=2).encode()
