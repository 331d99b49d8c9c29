"""Manifests: exact bytes, and the descriptors that they reference.

Sources: image-spec, "Image Manifest" and "Image Index"; the docker image manifest version 2, schema 2.
Only the four media types below are stored: registry:2's garbage collection stops at any other.
A manifest's media type is not kept beside it: it is always derived from the bytes, as registry:2 does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid, ManifestInvalid

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

MOST_BYTES = 4 * 1024 * 1024
"""A manifest's largest size in bytes: what the specification asks registries to take, and clients stop at."""

_IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
_UNTYPED = frozenset({"", "application/json", "application/octet-stream", "text/plain"})


def _digest(text: str) -> Digest:
    try:
        return Digest(text)
    except DigestInvalid as error:
        raise ValueError(error.message) from None


def _texts(annotations: dict[str, Any]) -> dict[str, str]:
    if not all(isinstance(value, str) for value in annotations.values()):
        raise ValueError("expected text for every annotation")
    return annotations


# A hostile manifest may be wrong in a million places: look for one, not for all of them.
Annotations = Annotated[dict[str, Any], AfterValidator(_texts)]


class Platform(BaseModel):
    """For which machines an index's child is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(BaseModel):
    """Media type, size in bytes and digest of some content. Members that we do not need are not kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    media_type: str = Field(alias="mediaType")
    digest: Annotated[str, AfterValidator(_digest)]
    size: int = Field(strict=True, ge=0, le=2**63 - 1)
    urls: tuple[str, ...] | None = Field(default=None, fail_fast=True)
    platform: Platform | None = None
    artifact_type: str | None = Field(default=None, alias="artifactType")
    annotations: Annotations | None = None

    @property
    def address(self) -> Digest:
        return Digest(self.digest)

    @property
    def is_foreign(self) -> bool:
        """Whether its content may be elsewhere: it gives addresses, or its type says that it is not to be pushed."""
        kind = self.media_type
        return bool(self.urls) or ".nondistributable." in kind or ".foreign." in kind


class _Kind(BaseModel):
    """The members that tell which of the four kinds a manifest is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = Field(alias="schemaVersion", strict=True)
    media_type: str = Field(default="", alias="mediaType")
    manifests: Any = None


class _Document(_Kind):
    """The members of all four kinds that matter to a registry."""

    artifact_type: str | None = Field(default=None, alias="artifactType")
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = Field(default=None, fail_fast=True)
    manifests: tuple[Descriptor, ...] | None = Field(default=None, fail_fast=True)
    subject: Descriptor | None = None
    annotations: Annotations | None = None


_Model = TypeVar("_Model", bound=_Kind)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest.

    Attributes:
        data: the exact bytes.
        media_type: one of the four.
        blobs: config and layers of an image, in order.
        children: manifests of an index, in order.
        subject: the manifest that this one refers to, or None.
        artifact_type: as a referrers list gives it: the manifest's own, else an image's config media type.
        annotations: the manifest's own, or None.
    """

    data: bytes
    media_type: str
    blobs: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str | None
    annotations: dict[str, str] | None

    @classmethod
    def parse(cls, data: bytes, content_type: str = "") -> Manifest:
        """Read a manifest.

        Args:
            data: the bytes as they came.
            content_type: the Content-Type that came with them; parameters are ignored.

        Raises:
            ManifestInvalid: it is none of the four kinds, or does not keep their rules.
        """
        declared = content_type.partition(";")[0].strip().lower()
        if declared.startswith(_SCHEMA_1):
            raise _schema_1()
        document = _read(_Document, data)
        media_type = _media_type(document, declared)
        _check_shape(document, media_type)
        if media_type in _IMAGES:
            assert document.config is not None
            blobs = (document.config, *(document.layers or ()))
            artifact_type: str | None = document.artifact_type or document.config.media_type
            children: tuple[Descriptor, ...] = ()
        else:
            blobs, children = (), document.manifests or ()
            artifact_type = document.artifact_type or None
        return cls(data, media_type, blobs, children, document.subject, artifact_type or None, document.annotations)

    def referrer(self, digest: Digest) -> dict[str, Any]:
        """This manifest as an entry of its subject's referrers list (distribution-spec, "Listing Referrers")."""
        entry: dict[str, Any] = {"mediaType": self.media_type, "digest": str(digest), "size": len(self.data)}
        if self.artifact_type:
            entry["artifactType"] = self.artifact_type
        if self.annotations:
            entry["annotations"] = self.annotations
        return entry


def _read(model: type[_Model], data: bytes) -> _Model:
    if b"NaN" in data or b"Infinity" in data:
        _refuse_what_is_no_json(data)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ManifestInvalid(f"manifest invalid: {where + ': ' if where else ''}{first['msg']}") from None


def _refuse_what_is_no_json(data: bytes) -> None:
    """NaN and Infinity, which pydantic takes, and no other reader of a manifest does."""
    try:
        from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise ManifestInvalid(f"manifest invalid: {error}") from None


def is_manifest_type(media_type: str) -> bool:
    """Whether it is one of the four."""
    return media_type in _IMAGES | _INDEXES


def media_type(data: bytes) -> str:
    """The media type of a stored manifest, whatever else it holds: what registry:2 took is served.

    Raises:
        ManifestInvalid: it is none of the four.
    """
    return _media_type(_read(_Kind, data), "")


def _media_type(document: _Kind, declared: str) -> str:
    if document.schema_version == 1:
        raise _schema_1()
    if document.schema_version != 2:
        raise ManifestInvalid(f"manifest invalid: schemaVersion is {document.schema_version}, expected 2")
    found = document.media_type or (OCI_MANIFEST if document.manifests is None else OCI_INDEX)
    if found not in _IMAGES | _INDEXES:
        raise ManifestInvalid(
            f"manifest invalid: media type {found!r} is not stored; push it as an OCI image manifest with artifactType"
        )
    if declared not in _UNTYPED and declared != found:
        raise ManifestInvalid(f"manifest invalid: Content-Type says {declared!r}, the manifest is {found!r}")
    return found


def _check_shape(document: _Document, media_type: str) -> None:
    # A document that is both would be an image to one client and an index to another (CVE-2021-41190).
    if media_type in _IMAGES and (document.config is None or document.manifests is not None):
        raise ManifestInvalid("manifest invalid: an image has a config and no manifests")
    if media_type in _INDEXES and (
        "manifests" not in document.model_fields_set or document.config is not None or document.layers is not None
    ):
        raise ManifestInvalid("manifest invalid: an index has manifests, and neither config nor layers")


def _schema_1() -> ManifestInvalid:
    return ManifestInvalid(
        "docker schema 1 manifests are not stored: push with docker 1.10 or newer, "
        "or convert the image with 'skopeo copy --format v2s2'"
    )
