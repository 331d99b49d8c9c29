"""Images made from a seed: real layers, configs, manifests and indexes, the same bytes for the same seed.

Nothing here needs a container engine or a network: each piece of content is a value with its bytes, and an OCI
layout directory of them is what skopeo, podman and buildah read.
"""

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
EVERY_MANIFEST = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)

EMPTY_JSON = "application/vnd.oci.empty.v1+json"

Flavour = Literal["oci", "docker"]

_MANIFEST = {"oci": OCI_MANIFEST, "docker": DOCKER_MANIFEST}
_INDEX = {"oci": OCI_INDEX, "docker": DOCKER_LIST}
_CONFIG = {
    "oci": "application/vnd.oci.image.config.v1+json",
    "docker": "application/vnd.docker.container.image.v1+json",
}
_LAYER = {
    "oci": "application/vnd.oci.image.layer.v1.tar+gzip",
    "docker": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}


@dataclass(frozen=True)
class Content:
    """Bytes, what they are, and their name."""

    media_type: str
    data: bytes = field(repr=False)
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        return digest_of(self.data, self.algorithm)

    @property
    def hex(self) -> str:
        return self.digest.partition(":")[2]

    @property
    def json(self) -> dict[str, Any]:
        document = json.loads(self.data)
        assert isinstance(document, dict)
        return document

    def descriptor(self, **more: object) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **more}


@dataclass(frozen=True)
class Image:
    """A manifest, the blobs that it needs, and for an index the images that it lists."""

    manifest: Content
    blobs: tuple[Content, ...] = ()
    children: tuple["Image", ...] = ()
    files: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def config(self) -> Content:
        return self.blobs[0]

    @property
    def layers(self) -> tuple[Content, ...]:
        return self.blobs[1:]

    def walk(self) -> Iterator["Image"]:
        """This image and all below it, in the order in which they can be pushed: children first."""
        for child in self.children:
            yield from child.walk()
        yield self

    def all_blobs(self) -> dict[str, bytes]:
        return {blob.digest: blob.data for image in self.walk() for blob in image.blobs}


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def noise(seed: object, size: int) -> bytes:
    """Bytes that no compression shrinks."""
    return random.Random(repr(seed)).randbytes(size)


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _json(document: object) -> bytes:
    return json.dumps(document, indent=3).encode()


def image(
    seed: object,
    *,
    flavour: Flavour = "oci",
    layers: int = 2,
    size: int = 200_000,
    architecture: str = "amd64",
    subject: Content | None = None,
    annotations: dict[str, str] | None = None,
    algorithm: str = "sha256",
) -> Image:
    """An image of `layers` layers, each one file of `size` bytes named `/file-<n>`."""
    files = {f"file-{number}": noise((seed, number), size) for number in range(layers)}
    tars = [tar({name: data}) for name, data in files.items()]
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "config": {"Labels": {"seed": repr(seed)}, "Cmd": ["/file-0"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in tars]},
        "history": [{"created": "2024-01-02T03:04:05Z", "created_by": name} for name in files],
    }
    blobs = (
        Content(_CONFIG[flavour], _json(config), algorithm),
        *(Content(_LAYER[flavour], gzip.compress(data, 1, mtime=0), algorithm) for data in tars),
    )
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST[flavour],
        "config": blobs[0].descriptor(),
        "layers": [blob.descriptor() for blob in blobs[1:]],
    }
    if subject is not None:
        manifest["subject"] = subject.descriptor()
    if annotations is not None:
        manifest["annotations"] = annotations
    return Image(Content(_MANIFEST[flavour], _json(manifest), algorithm), blobs, files=files)


def artifact(seed: object, artifact_type: str, *, subject: Content | None = None, algorithm: str = "sha256") -> Image:
    """An OCI artifact as cosign or oras push one: an empty config, one blob, perhaps a subject."""
    blobs = (
        Content(EMPTY_JSON, b"{}", algorithm),
        Content("application/octet-stream", noise((seed, "artifact"), 2_000), algorithm),
    )
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": blobs[0].descriptor(),
        "layers": [blobs[1].descriptor()],
        "annotations": {"org.example.seed": repr(seed)},
    }
    if subject is not None:
        manifest["subject"] = subject.descriptor()
    return Image(Content(OCI_MANIFEST, _json(manifest), algorithm), blobs)


def index(
    *children: Image,
    flavour: Flavour = "oci",
    subject: Content | None = None,
    annotations: dict[str, str] | None = None,
) -> Image:
    """An OCI index or docker manifest list of `children`, which may be indexes themselves."""
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": _INDEX[flavour],
        "manifests": [_entry(child) for child in children],
    }
    if subject is not None:
        manifest["subject"] = subject.descriptor()
    if annotations is not None:
        manifest["annotations"] = annotations
    return Image(Content(_INDEX[flavour], _json(manifest)), children=children)


def _entry(child: Image) -> dict[str, Any]:
    """How an index names a child: the platform is what the child's config says, and an index has none."""
    if child.children or child.config.media_type == EMPTY_JSON:
        return child.manifest.descriptor()
    config = child.config.json
    return child.manifest.descriptor(
        platform={"architecture": config["architecture"], "os": config["os"]},
    )


def multi_platform(seed: object, *, flavour: Flavour = "oci", size: int = 100_000) -> Image:
    """One image for each of two platforms, and the index over them."""
    return index(
        image((seed, "amd64"), flavour=flavour, architecture="amd64", size=size),
        image((seed, "arm64"), flavour=flavour, architecture="arm64", size=size),
        flavour=flavour,
    )


def fallback_tag(subject: str) -> str:
    """The tag under which clients list referrers where a registry has no referrers API."""
    return subject.replace(":", "-")


def fallback_index(*referrers: Image) -> Image:
    """What stands under the fallback tag: an index of referrers with their artifact types."""
    entries = []
    for referrer in referrers:
        document = referrer.manifest.json
        kind = document.get("artifactType") or document["config"]["mediaType"]
        entries.append(referrer.manifest.descriptor(artifactType=kind, annotations=document.get("annotations", {})))
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Image(Content(OCI_INDEX, _json(document)))


def write_layout(directory: Path, top: Image, tag: str = "latest") -> Path:
    """Write `top` as an OCI layout directory, which clients read as `oci:<directory>:<tag>`."""
    for element in top.walk():
        for content in (*element.blobs, element.manifest):
            path = directory / "blobs" / content.algorithm / content.hex
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.data)
    (directory / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    entry = top.manifest.descriptor(annotations={"org.opencontainers.image.ref.name": tag})
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [entry]}))
    return directory


def files_of_layers(layers: list[bytes]) -> dict[str, bytes]:
    """The files in layers, compressed or not: what a pull must bring back."""
    found: dict[str, bytes] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            for member in archive:
                data = archive.extractfile(member)
                if member.isfile() and data is not None:
                    found[member.name.removeprefix("./")] = data.read()
    return found


def files_of_layout(directory: Path) -> dict[str, bytes]:
    """The files in the one image of an OCI layout directory."""

    def read(digest: str) -> bytes:
        return directory.joinpath("blobs", *digest.split(":")).read_bytes()

    (top,) = json.loads((directory / "index.json").read_bytes())["manifests"]
    return files_of_layers([read(layer["digest"]) for layer in json.loads(read(top["digest"]))["layers"]])
