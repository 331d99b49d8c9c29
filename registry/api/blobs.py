"""Pulling, checking and deleting blobs. distribution-spec end-2, end-10."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.api.context import joined
from registry.api.responses import BlobResponse, Response, content_length, empty_response, encoded
from registry.oci.errors import RegistryError
from registry.oci.headers import ByteRange, EntityTags, entity_tag, parse_ranges

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from registry.api.context import Context
    from registry.oci.digest import Digest

_YEAR = 365 * 24 * 3600


def _headers(digest: Digest) -> dict[str, str]:
    """Content under a digest never changes. There is never a Content-Encoding: containerd would decode it."""
    return {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "ETag": entity_tag(digest),
        "Accept-Ranges": "bytes",
        "Cache-Control": f"max-age={_YEAR}, immutable",
    }


async def get(api: Context, request: Request) -> ASGIApp:
    digest: Digest = request.path_params["digest"]
    source = await api.store.blob(request.path_params["repository"], digest)
    try:
        if _is_known(request, digest):
            source.close()
            return empty_response(304, _headers(digest))
        return BlobResponse(source, _ranges(request, digest, source.size), _headers(digest))
    except RegistryError:
        source.close()
        raise


async def head(api: Context, request: Request) -> ASGIApp:
    digest: Digest = request.path_params["digest"]
    size = await api.store.blob_size(request.path_params["repository"], digest)
    if _is_known(request, digest):
        return empty_response(304, _headers(digest))
    return Response(200, [content_length(size), *encoded(_headers(digest))])


async def delete(api: Context, request: Request) -> ASGIApp:
    digest: Digest = request.path_params["digest"]
    await api.store.delete_blob(request.path_params["repository"], digest)
    return empty_response(202, {"Docker-Content-Digest": digest})


def _is_known(request: Request, digest: Digest) -> bool:
    known = joined(request, "if-none-match")
    return known is not None and EntityTags.parse(known).match(digest)


def _ranges(request: Request, digest: Digest, size: int) -> tuple[ByteRange, ...]:
    asked = request.headers.get("range")
    condition = request.headers.get("if-range")
    if asked is None or (condition is not None and condition.strip() != entity_tag(digest)):
        return ()
    return parse_ranges(asked, size)
