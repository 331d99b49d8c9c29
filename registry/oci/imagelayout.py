"""The image layout: images as files, in a directory or a tar file; and what names them there.

Sources: image-spec, "Image Layout" and "Annotations"; what skopeo, podman, containerd and docker look for.

Who reads which name, of an entry in `index.json`:

    annotation                          what it says                 read by
    ----------------------------------  ---------------------------  -----------------------------------------
    org.opencontainers.image.ref.name   `tag`, or `repository:tag`   skopeo, buildah, oras: `oci:DIRECTORY:NAME`
    io.containerd.image.name            docker's full name           containerd, podman, docker from 25 on
    swarm-registry.repository           the repository               this registry
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid, ManifestInvalid, NameInvalid, TagInvalid
from registry.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor
from registry.oci.names import RepositoryName, Tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry.oci.manifest import Manifest

MARK = "oci-layout"
INDEX = "index.json"
DOCKER_LIST = "manifest.json"
"""What docker reads instead of the index: a list of images for one platform."""

MARK_TEXT = b'{"imageLayoutVersion":"1.0.0"}'
MOST_INDEX_BYTES = 64 * 1024 * 1024
"""An `index.json` above this size is not read; one of ours has about 500 bytes for each tag."""

REF_NAME = "org.opencontainers.image.ref.name"
FULL_NAME = "io.containerd.image.name"
REPOSITORY = "swarm-registry.repository"

_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]+)")
_HOST = re.compile(r"localhost(?::\d+)?|[^/]*[.:][^/]*")
_CONFIGS = frozenset({"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"})
_UNPACKED_BY_DOCKER = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
)


def blob_path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def blob_at(path: str) -> Digest | None:
    """The blob whose place a path is, if it is one."""
    found = _BLOB.fullmatch(path)
    try:
        return Digest(f"{found[1]}:{found[2]}") if found else None
    except DigestInvalid:
        return None


@dataclass(frozen=True, slots=True)
class Name:
    """How an entry of an index is named: by a repository, a tag, both or nothing."""

    repository: str | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a layout, as its index lists it."""

    digest: Digest
    media_type: str
    name: Name


class _Mark(BaseModel):
    version: str = Field(alias="imageLayoutVersion")


class _Index(BaseModel):
    """An index, of which only its list counts: layouts of old tools lack the rest."""

    model_config = ConfigDict(extra="ignore")

    version: int = Field(alias="schemaVersion", default=2)
    manifests: tuple[Descriptor, ...] = Field(fail_fast=True)


def check_mark(data: bytes) -> None:
    """Raises ManifestInvalid where this is not the `oci-layout` of a version that is known here."""
    try:
        version = _Mark.model_validate_json(data).version
    except ValidationError:
        version = "unreadable"
    if not version.startswith("1."):
        raise ManifestInvalid(f"{MARK}: the version is {version[:20]!r}, expected 1.0.0")


def entries(data: bytes) -> list[Entry]:
    """The images that an `index.json` lists. Raises ManifestInvalid."""
    try:
        listed = _Index.model_validate_json(data).manifests
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ManifestInvalid(f"{INDEX}: {where + ': ' if where else ''}{first['msg']}") from None
    return [Entry(each.address, each.media_type, _name(each.annotations or {})) for each in listed]


def _name(annotations: Mapping[str, str]) -> Name:
    """What an entry is named by. Of several annotations the most exact one counts, for each of the two."""
    ours = annotations.get(REPOSITORY)
    short = annotations.get(REF_NAME, "")
    repository, tag = _parts(short)
    if not short or (repository is None and FULL_NAME in annotations):
        repository, full_tag = _parts(annotations.get(FULL_NAME, ""))
        tag = tag or full_tag
    return Name(ours or repository, tag)


def _parts(name: str) -> tuple[str | None, str | None]:
    """Repository and tag of `tag`, `repository:tag` or `host:port/repository:tag`; the host does not count.

    A name without a colon is a tag, unless there is a slash: then it is a repository, and the tag `latest`.
    """
    name = name.partition("@")[0]
    above, slash, last = name.rpartition("/")
    path, colon, tag = last.rpartition(":")
    if not colon:
        return (None, name or None) if not slash else (_familiar(name), "latest")
    return _familiar(f"{above}{slash}{path}"), tag


def _familiar(path: str) -> str:
    """As people say it: without the host, and of Docker Hub's own images without `library`."""
    host, slash, rest = path.partition("/")
    if not slash or not _HOST.fullmatch(host):
        return path
    return rest.removeprefix("library/") if host == "docker.io" else rest


def checked(name: Name) -> tuple[RepositoryName | None, Tag | None]:
    """The name as values. Raises ManifestInvalid where a part of it is none."""
    try:
        repository = RepositoryName(name.repository) if name.repository else None
        return repository, Tag(name.tag) if name.tag else None
    except (NameInvalid, TagInvalid) as error:
        raise ManifestInvalid(f"{INDEX}: {error.message}") from None


def naming(repository: RepositoryName, tag: Tag | None, *, is_alone: bool) -> dict[str, str]:
    """What names an image in a layout.

    Args:
        repository: where it is.
        tag: None for what is found by other images only, such as signatures.
        is_alone: whether the layout has this repository alone: then a tag says enough.
    """
    ours = {REPOSITORY: str(repository)}
    if tag is None:
        return ours
    full = f"{repository}:{tag}" if "/" in repository else f"library/{repository}:{tag}"
    return {REF_NAME: str(tag) if is_alone else f"{repository}:{tag}", FULL_NAME: f"docker.io/{full}", **ours}


def descriptor(manifest: Manifest, digest: Digest) -> dict[str, Any]:
    """A manifest as an index has it. Its own annotations stay its own: among them may be a name of elsewhere."""
    found = manifest.referrer(digest)
    is_image = found.get("artifactType") in _CONFIGS
    return {
        name: value
        for name, value in found.items()
        if name != "annotations" and not (is_image and name == "artifactType")
    }


def index(listed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(listed)}


def for_docker(manifest: Manifest) -> dict[str, Any] | None:
    """An image's entry in docker's list, but for `RepoTags`; None where docker before 25 could not unpack it."""
    if manifest.media_type not in {OCI_MANIFEST, DOCKER_MANIFEST}:
        return None
    config, *layers = manifest.blobs
    if config.media_type not in _CONFIGS or any(each.media_type not in _UNPACKED_BY_DOCKER for each in layers):
        return None
    paths = [blob_path(each.address) for each in layers]
    return {"Config": blob_path(config.address), "Layers": paths}
