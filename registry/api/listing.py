"""Lists: repositories, tags, referrers. distribution-spec end-8, end-12; `_catalog` as registry:2 has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.api.responses import json_response
from registry.oci.errors import PageInvalid
from registry.oci.headers import next_link
from registry.oci.manifest import OCI_INDEX

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from registry.api.context import Context
    from registry.oci.digest import Digest
    from registry.oci.names import RepositoryName
    from registry.store.base import Page


async def repositories(api: Context, request: Request) -> ASGIApp:
    """What the caller may pull, at most `catalog_most` a page.

    An answer has a Link where more follow, as the specification allows for lists.
    """
    limit = _at_most(_limit(request), api.catalog_most)
    if limit == 0:
        return json_response({"repositories": []})
    caller = request.scope.get("caller")
    visible = None if caller is None or caller.sees(None) else caller.sees
    page = await api.store.repositories(request.query_params.get("last", ""), limit, visible)
    link = _link(api.locations.path("_catalog"), page, limit)
    return json_response({"repositories": page.names}, link)


async def tags(api: Context, request: Request) -> ASGIApp:
    repository: RepositoryName = request.path_params["repository"]
    limit = _at_most(_limit(request), api.tags_most)
    page = await api.store.tags(repository, request.query_params.get("last", ""), limit)
    link = _link(api.locations.path(f"{repository}/tags/list"), page, limit) if limit != 0 else {}
    return json_response({"name": repository, "tags": page.names}, link)


async def referrers(api: Context, request: Request) -> ASGIApp:
    """An index of descriptors; never a 404 for a name that could exist: clients would take it for a missing API."""
    repository: RepositoryName = request.path_params["repository"]
    digest: Digest = request.path_params["digest"]
    kinds = request.query_params.getlist("artifactType")
    limit, last = _limit(request), request.query_params.get("last", "")
    page = await api.store.referrers(repository, digest, frozenset(kinds), last, limit)
    headers = {"OCI-Filters-Applied": "artifactType"} if kinds else {}
    if page.more and page.entries:
        query = [("artifactType", kind) for kind in kinds] + [("last", page.entries[-1]["digest"])]
        query += [("n", str(limit))] if limit is not None else []
        headers["Link"] = next_link(api.locations.path(f"{repository}/referrers/{digest}"), query)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page.entries}
    return json_response(index, headers, media_type=OCI_INDEX)


def _limit(request: Request) -> int | None:
    text = request.query_params.get("n")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise PageInvalid(f"n is {text[:40]!r}: expected a number of entries, 0 or more", detail={"n": text[:40]})
    return int(text)


def _at_most(limit: int | None, most: int | None) -> int | None:
    given = [bound for bound in (limit, most) if bound is not None]
    return min(given) if given else None


def _link(path: str, page: Page, limit: int | None) -> dict[str, str]:
    if not page.more or limit is None:
        return {}
    return {"Link": next_link(path, [("n", str(limit)), ("last", page.names[-1])])}
