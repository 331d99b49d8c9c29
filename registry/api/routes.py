"""The table: method, path, handler, and the access it needs. A route without access cannot be built."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from registry.api import blobs, health, listing, manifests, token, uploads
from registry.api.audit import audited
from registry.api.responses import empty_response, json_response
from registry.auth.base import Action, Need
from registry.auth.bearer import PATH
from registry.oci.digest import Digest
from registry.oci.errors import MethodNotAllowed, NoSuchEndpoint, Unauthorized, Unsupported
from registry.oci.names import RepositoryName, SessionId, parse_reference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from registry.api.context import Context
    from registry.auth.base import Authenticator

    Handler = Callable[[Context, Request], Awaitable[ASGIApp]]


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
    """One row of the table.

    Attributes:
        begins_upload: a draining server refuses it, unless it is of a push under way.
        audited: what a line of the log calls it; empty where it has none.
    """

    method: str
    path: str
    handler: Handler
    access: Access
    begins_upload: bool = False
    audited: str = ""


async def _ok(api: Context, request: Request) -> ASGIApp:  # noqa: ARG001
    """`GET /`: what health checks of registry:2 ask for."""
    return empty_response(200, {})


async def _support(api: Context, request: Request) -> ASGIApp:  # noqa: ARG001
    """end-1."""
    return json_response({})


_REPOSITORY = "/v2/{repository}/"
_UPLOADS = _REPOSITORY + "blobs/uploads"
_UPLOAD = _UPLOADS + "/{session}"
_BLOB = _REPOSITORY + "blobs/{digest}"
_MANIFEST = _REPOSITORY + "manifests/{reference}"

_AT_THE_ROOT = ("/", "/healthz", "/readyz")  # whatever the prefix is
_LONG = 512  # characters of a path that is not worth remembering

_PARSERS: dict[str, Callable[[str], Any]] = {"reference": parse_reference, "digest": Digest, "session": SessionId}
"""What the last part of a path may be. Like the repository's name it takes anything, and says what is wrong with it."""

ENDPOINTS = (
    Endpoint("GET", "/", _ok, Access.NONE),
    Endpoint("GET", "/healthz", health.alive, Access.NONE),
    Endpoint("GET", "/readyz", health.ready, Access.NONE),
    Endpoint("GET", PATH, token.get, Access.NONE),
    Endpoint("POST", PATH, token.post, Access.NONE),
    Endpoint("GET", "/v2", _support, Access.BASE),
    Endpoint("GET", "/v2/", _support, Access.BASE),
    Endpoint("GET", "/v2/_catalog", listing.repositories, Access.CATALOG),
    Endpoint("GET", _MANIFEST, manifests.get, Access.PULL),
    Endpoint("PUT", _MANIFEST, manifests.put, Access.PUSH, audited="push"),
    Endpoint("DELETE", _MANIFEST, manifests.delete, Access.DELETE, audited="delete"),
    Endpoint("POST", _UPLOADS + "/", uploads.begin, Access.PUSH, begins_upload=True),
    Endpoint("POST", _UPLOADS, uploads.begin, Access.PUSH, begins_upload=True),
    Endpoint("GET", _UPLOAD, uploads.status, Access.PUSH),
    Endpoint("PATCH", _UPLOAD, uploads.append, Access.PUSH),
    Endpoint("PUT", _UPLOAD, uploads.close, Access.PUSH),
    Endpoint("DELETE", _UPLOAD, uploads.cancel, Access.PUSH),
    Endpoint("GET", _BLOB, blobs.get, Access.PULL),
    Endpoint("HEAD", _BLOB, blobs.head, Access.PULL),
    Endpoint("DELETE", _BLOB, blobs.delete, Access.DELETE, audited="delete"),
    Endpoint("GET", _REPOSITORY + "tags/list", listing.tags, Access.PULL),
    Endpoint("GET", _REPOSITORY + "referrers/{digest}", listing.referrers, Access.PULL),
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
        if not endpoint.audited:
            await self._answer(endpoint, scope, receive, send)
            return
        with audited(endpoint.audited, scope, send) as send_and_note:
            await self._answer(endpoint, scope, receive, send_and_note)

    async def _answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        if self._api.authenticator is not None and endpoint.access is not Access.NONE:
            # before anything is done, or read of the body
            await _admit(self._api, self._api.authenticator, scope, endpoint.access)
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


async def _admit(api: Context, authenticator: Authenticator, scope: Scope, access: Access) -> None:
    """Note who asks, for what only a handler can know. Raises Unauthorized, with the challenge; Denied."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    client = scope.get("client")
    need = _need(access, scope)
    try:
        scope["caller"] = caller = await authenticator.check(given, client[0] if client else "")
        # Whoever has no name is asked for one at `/v2/`: that is where docker learns how to log in.
        if caller.may(need) if need is not None else caller.name:
            return
        raise caller.refusal()
    except Unauthorized as error:
        base = api.locations.base(Request(scope))
        error.headers["WWW-Authenticate"] = authenticator.challenge([need] if need else [], base, error.word)
        raise


def _need(access: Access, scope: Scope) -> Need | None:
    if access is Access.BASE:
        return None
    return Need(Action(access.value), scope.get("path_params", {}).get("repository"))


class Router:
    """Every endpoint below the configured prefix, and the root, where health checks ask.

    A repository's name may have any number of parts, so a path is read from its end: two or three parts say what it is,
    and all before them is the name.
    """

    def __init__(self, api: Context) -> None:
        by_path: dict[str, list[Endpoint]] = defaultdict(list)
        for endpoint in ENDPOINTS:
            by_path[endpoint.path].append(endpoint)
        self._prefix = f"{api.locations.prefix}/v2/"
        self._fixed: dict[str, Resource] = {}
        self._known = lru_cache(maxsize=4096)(self._find)  # what is asked for once is asked for again
        self._of_repositories: dict[tuple[str | None, ...], tuple[Resource, str]] = {}
        for path, endpoints in by_path.items():
            resource = Resource(api, endpoints)
            if path.startswith(_REPOSITORY):
                *literal, last = path.removeprefix(_REPOSITORY).split("/")
                name = last[1:-1] if last.startswith("{") else ""
                self._of_repositories[*literal, None if name else last] = (resource, name)
            else:
                self._fixed[path if path in _AT_THE_ROOT else api.locations.prefix + path] = resource

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises RegistryError: there is no such endpoint, its path has something invalid, or the handler's own."""
        path = scope["path"]
        resource = self._fixed.get(path)
        if resource is None:
            resource, scope["path_params"] = self._find(path) if len(path) > _LONG else self._known(path)
        await resource(scope, receive, send)

    def _find(self, path: str) -> tuple[Resource, dict[str, Any]]:
        parts = path.rsplit("/", 3)
        for begin in range(1, len(parts) - 1):
            *literal, last = parts[begin:]
            found = self._of_repositories.get((*literal, last))
            if found is None and last:
                found = self._of_repositories.get((*literal, None))
            repository = "/".join(parts[:begin])
            if found is not None and repository.startswith(self._prefix) and repository != self._prefix:
                resource, name = found
                parameters: dict[str, Any] = {"repository": RepositoryName(repository[len(self._prefix) :])}
                if name:
                    parameters[name] = _PARSERS[name](last)
                return resource, parameters
        raise NoSuchEndpoint(f"no such endpoint: {path[:200]!r}")
