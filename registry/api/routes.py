"""The table: method, path, handler, and the access it needs. A route without access cannot be built."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.routing import Route, Router

from registry.api import blobs, listing, manifests, uploads
from registry.api.responses import empty_response, json_response
from registry.oci.digest import Digest
from registry.oci.errors import MethodNotAllowed, NoSuchEndpoint, Unsupported
from registry.oci.names import Reference, RepositoryName, SessionId, parse_reference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from registry.api.context import Context
    from registry.auth.base import Authenticator

    Handler = Callable[[Context, Request], Awaitable[ASGIApp]]


class _Name(Convertor[RepositoryName]):
    """Takes anything, slashes too, and says what is wrong with it: a 400 tells more than a 404."""

    regex = ".+"

    def convert(self, value: str) -> RepositoryName:
        return RepositoryName(value)

    def to_string(self, value: RepositoryName) -> str:
        return value


class _Digest(Convertor[Digest]):
    regex = "[^/]+"

    def convert(self, value: str) -> Digest:
        return Digest(value)

    def to_string(self, value: Digest) -> str:
        return value


class _Reference(Convertor[Reference]):
    regex = "[^/]+"

    def convert(self, value: str) -> Reference:
        return parse_reference(value)

    def to_string(self, value: Reference) -> str:
        return value


class _Session(Convertor[SessionId]):
    regex = "[^/]+"

    def convert(self, value: str) -> SessionId:
        return SessionId(value)

    def to_string(self, value: SessionId) -> str:
        return value


register_url_convertor("repository", _Name())
register_url_convertor("digest", _Digest())
register_url_convertor("reference", _Reference())
register_url_convertor("session", _Session())


class Access(Enum):
    """What a caller must be allowed to do."""

    NONE = "none"
    BASE = "base"
    CATALOG = "catalog"
    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table. `begins_upload`: a draining server refuses it, unless it is of a push under way."""

    method: str
    path: str
    handler: Handler
    access: Access
    begins_upload: bool = False


async def _ok(api: Context, request: Request) -> ASGIApp:  # noqa: ARG001
    """`GET /`: what health checks of registry:2 ask for."""
    return empty_response(200, {})


async def _support(api: Context, request: Request) -> ASGIApp:  # noqa: ARG001
    """end-1."""
    return json_response({})


_UPLOADS = "/v2/{repository:repository}/blobs/uploads"
_UPLOAD = _UPLOADS + "/{session:session}"
_BLOB = "/v2/{repository:repository}/blobs/{digest:digest}"
_MANIFEST = "/v2/{repository:repository}/manifests/{reference:reference}"

ENDPOINTS = (
    Endpoint("GET", "/", _ok, Access.NONE),
    Endpoint("GET", "/v2", _support, Access.BASE),
    Endpoint("GET", "/v2/", _support, Access.BASE),
    Endpoint("GET", "/v2/_catalog", listing.repositories, Access.CATALOG),
    Endpoint("GET", _MANIFEST, manifests.get, Access.PULL),
    Endpoint("PUT", _MANIFEST, manifests.put, Access.PUSH),
    Endpoint("DELETE", _MANIFEST, manifests.delete, Access.DELETE),
    Endpoint("POST", _UPLOADS + "/", uploads.begin, Access.PUSH, begins_upload=True),
    Endpoint("POST", _UPLOADS, uploads.begin, Access.PUSH, begins_upload=True),
    Endpoint("GET", _UPLOAD, uploads.status, Access.PUSH),
    Endpoint("PATCH", _UPLOAD, uploads.append, Access.PUSH),
    Endpoint("PUT", _UPLOAD, uploads.close, Access.PUSH),
    Endpoint("DELETE", _UPLOAD, uploads.cancel, Access.PUSH),
    Endpoint("GET", _BLOB, blobs.get, Access.PULL),
    Endpoint("HEAD", _BLOB, blobs.head, Access.PULL),
    Endpoint("DELETE", _BLOB, blobs.delete, Access.DELETE),
    Endpoint("GET", "/v2/{repository:repository}/tags/list", listing.tags, Access.PULL),
    Endpoint("GET", "/v2/{repository:repository}/referrers/{digest:digest}", listing.referrers, Access.PULL),
)


class Resource:
    """One path of the table, with what answers each of its methods."""

    def __init__(self, api: Context, endpoints: list[Endpoint]) -> None:
        self._api = api
        self._endpoints = {endpoint.method: endpoint for endpoint in endpoints}
        if "GET" in self._endpoints:
            self._endpoints.setdefault("HEAD", self._endpoints["GET"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method == "OPTIONS":  # browsers ask before they send headers of their own; the settings add CORS
            await empty_response(204, {"Allow": self._allowed()})(scope, receive, send)
            return
        endpoint = self._endpoints.get(method)
        if endpoint is None:
            raise MethodNotAllowed(headers={"Allow": self._allowed()})
        if self._api.authenticator is not None and endpoint.access is not Access.NONE:
            await _identify(self._api.authenticator, scope)  # before anything is done, or read of the body
        if endpoint.begins_upload:
            self._api.traffic.admit(scope["path_params"]["repository"])
        if endpoint.access is Access.PUSH:
            self._api.traffic.pushes(scope["path_params"]["repository"])
        try:
            response = await endpoint.handler(self._api, Request(scope, receive, send))
        except Unsupported as error:  # a policy
            error.headers.setdefault("Allow", self._allowed(endpoint.access))
            raise
        await response(scope, receive, send)

    def _allowed(self, refused: Access | None = None) -> str:
        methods = [method for method, endpoint in self._endpoints.items() if endpoint.access is not refused]
        return ", ".join(sorted([*methods, "OPTIONS"]))


async def _identify(authenticator: Authenticator, scope: Scope) -> None:
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    client = scope.get("client")
    await authenticator.check(given, client[0] if client else "")


def router(api: Context) -> Router:
    """Every endpoint below the configured prefix, and the root, where health checks ask."""
    by_path: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in ENDPOINTS:
        prefix = "" if endpoint.access is Access.NONE else api.locations.prefix
        by_path[prefix + endpoint.path].append(endpoint)
    routes = [Route(path, Resource(api, found)) for path, found in by_path.items()]
    return Router(routes, redirect_slashes=False, default=_nothing_here)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    raise NoSuchEndpoint(f"no such endpoint: {scope['path'][:200]!r}")
