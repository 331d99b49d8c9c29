"""What is pushed: one file of random bytes, and the pieces of it that the rows use, each hashed once."""

import hashlib
import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
KIB = 1024

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

LEAST = 2 * MIB
"""Bytes of the file, so that all pieces find their place."""


@dataclass(frozen=True)
class Amounts:
    """How much of everything; `scaled` makes less of it."""

    size: int = 1024 * MIB
    images: int = 3
    layers: int = 60
    blobs: int = 2000
    ranges: int = 512
    tags: int = 10_000
    repositories: int = 10_000
    referrers: int = 1_000
    idle: int = 1_000
    seconds: float = 3.0

    def scaled(self, factor: float) -> "Amounts":
        def less(count: int) -> int:
            return max(2, int(count * factor))

        return Amounts(
            self.size,
            max(1, int(self.images * factor)),
            less(self.layers),
            less(self.blobs),
            less(self.ranges),
            less(self.tags),
            less(self.repositories),
            less(self.referrers),
            less(self.idle),
            self.seconds,
        )

    @property
    def layer(self) -> int:
        return min(MIB, self.size // 64)

    @property
    def quarter(self) -> int:
        return self.size // 4


@dataclass(frozen=True)
class Piece:
    """A blob: where it begins in the source, its length and its name."""

    start: int
    size: int
    digest: str


@dataclass(frozen=True)
class Image:
    """Layers of the source, and a config and a manifest that name them."""

    layers: tuple[Piece, ...]
    config: bytes
    manifest: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def digest_of(data: bytes | memoryview) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


class Source:
    """Made before the first server starts, and shared by all processes of the client since it is one mapped file."""

    def __init__(self, path: Path, amounts: Amounts) -> None:
        self.path = path
        with path.open("wb") as file:
            for left in range(amounts.size, 0, -MIB):
                file.write(os.urandom(min(MIB, left)))
        self.file = os.open(path, os.O_RDONLY)
        self.content = mmap.mmap(self.file, 0, prot=mmap.PROT_READ)
        self.whole = self.piece(0, amounts.size)
        self.quarters = [self.piece(number * amounts.quarter, amounts.quarter) for number in range(4)]
        self.images = [self._image(number, amounts) for number in range(amounts.images)]
        self.small = [self.piece(number * 512, 4 * KIB) for number in range(amounts.blobs)]
        self.app = image((self.piece(0, 16 * KIB), self.piece(16 * KIB, 16 * KIB)), "app")

    def piece(self, start: int, size: int) -> Piece:
        with memoryview(self.content) as view:
            return Piece(start, size, digest_of(view[start : start + size]))

    def bytes_of(self, piece: Piece) -> bytes:
        return self.content[piece.start : piece.start + piece.size]

    def _image(self, number: int, amounts: Amounts) -> Image:
        """Images overlap in the file, shifted against each other, so that no two layers are the same."""
        size, shift = amounts.layer, 1 + number * 512
        return image(tuple(self.piece(shift + at * size, size) for at in range(amounts.layers)), str(number))


def image(layers: tuple[Piece, ...], seed: str) -> Image:
    document = {"architecture": "amd64", "os": "linux", "config": {"Labels": {"seed": seed}}}
    rootfs = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
    config = json.dumps(document | {"rootfs": rootfs}).encode()
    entries = [{"mediaType": _LAYER, "digest": layer.digest, "size": layer.size} for layer in layers]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(_CONFIG, config), "layers": entries}
    return Image(layers, config, json.dumps(manifest, indent=3).encode())
