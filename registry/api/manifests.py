"""Pulling, pushing and deleting manifests. distribution-spec end-3, end-7, end-9."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING

from registry.api.context import joined
from registry.api.responses import Response, content_length, empty_response, encoded
from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid, TooLarge
from registry.oci.headers import Condition, EntityTags, entity_tag
from registry.oci.manifest import MOST_BYTES, Manifest
from registry.oci.names import Reference, RepositoryName, Tag

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from registry.api.context import Context
    from registry.api.responses import Header

_LARGE = 64 * 1024  # bytes; more is hashed and parsed in a thread, where it delays nobody


async def get(api: Context, request: Request) -> ASGIApp:
    """What is stored, whatever `Accept` says: there is only one form of it (HEAD too: the server drops the body)."""
    repository, reference = _target(request)
    found = await api.store.manifest(repository, reference)
    headers = _headers(found.digest, found.media_type)
    known = joined(request, "if-none-match")
    if known is not None and EntityTags.parse(known).match(found.digest):
        return Response(304, [*headers])
    return Response(200, [content_length(len(found.data)), *headers], found.data)


@lru_cache(maxsize=1024)
def _headers(digest: Digest, media_type: str) -> tuple[Header, ...]:
    """Each manifest has its own, and they never change."""
    headers = {"Content-Type": media_type, "Docker-Content-Digest": digest, "ETag": entity_tag(digest)}
    return tuple(encoded(headers))


async def put(api: Context, request: Request) -> ASGIApp:
    repository, reference = _target(request)
    data = await _body(request)
    content_type = request.headers.get("content-type", "")
    if len(data) > _LARGE:
        digest, manifest = await asyncio.to_thread(_read, data, content_type, reference)
    else:
        digest, manifest = _read(data, content_type, reference)
    if isinstance(reference, Digest):
        tags = [Tag(tag) for tag in dict.fromkeys(request.query_params.getlist("tag"))]
    else:
        tags = [reference]
    await api.store.put_manifest(repository, digest, manifest, tags, _condition(request))
    headers = {
        "Location": api.locations.manifest(request, repository, digest),
        "Docker-Content-Digest": digest,
        "ETag": entity_tag(digest),
    }
    if manifest.subject is not None:
        headers["OCI-Subject"] = manifest.subject.digest
    response = empty_response(201, headers)
    if isinstance(reference, Digest):
        response.headers += [(b"oci-tag", tag.encode("ascii")) for tag in tags]
    return response


async def delete(api: Context, request: Request) -> ASGIApp:
    repository, reference = _target(request)
    await api.store.delete_manifest(repository, reference, _condition(request))
    return empty_response(202, {})


def _target(request: Request) -> tuple[RepositoryName, Reference]:
    return request.path_params["repository"], request.path_params["reference"]


def _condition(request: Request) -> Condition:
    given = {name: joined(request, name) for name in ("if-match", "if-none-match")}
    return Condition.parse({name: value for name, value in given.items() if value is not None})


def _read(data: bytes, content_type: str, reference: Reference) -> tuple[Digest, Manifest]:
    """What was pushed, and its digest. Raises DigestInvalid where it is pushed by another one, ManifestInvalid."""
    if isinstance(reference, Digest):
        if (found := Digest.of(data, reference.algorithm)) != reference:
            raise DigestInvalid(
                "the manifest has another digest than the one it is pushed by",
                detail={"digest": reference, "content": found},
            )
    else:
        found = Digest.of(data)
    return found, Manifest.parse(data, content_type)


async def _body(request: Request) -> bytes:
    """The whole body, up to the limit. Raises TooLarge, before it is read where its length is told."""
    too_large = TooLarge(f"manifest too large: at most {MOST_BYTES} bytes are taken")
    if int(request.headers.get("content-length", 0)) > MOST_BYTES:
        raise too_large
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MOST_BYTES:
            raise too_large
    return bytes(data)
