"""What every handler works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry.api.traffic import Traffic

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.health import Storage
    from registry.auth.base import Authenticator
    from registry.auth.service import TokenService
    from registry.oci.digest import Digest
    from registry.oci.names import RepositoryName, SessionId
    from registry.store.base import Store


def joined(request: Request, name: str) -> str | None:
    """A header that is a list, and may therefore stand on several lines (RFC 9110 section 5.3); None without it."""
    wanted = name.encode("ascii")
    lines = [value.decode("latin-1") for given, value in request.scope["headers"] if given == wanted]
    return ", ".join(lines) if lines else None


@dataclass(frozen=True, slots=True)
class Locations:
    """The URLs that answers carry.

    A path alone is right behind every proxy and mesh, and all clients take it; so that is what is sent unless a host is
    configured, or `absolute` asks for the scheme and host of the request, as registry:2 did.

    Attributes:
        prefix: path before `/v2/`, without a slash at its end.
        host: `scheme://host[:port]` to put before every Location, or "".
        absolute: whether to take it from the request where `host` is empty.
    """

    prefix: str = ""
    host: str = ""
    absolute: bool = False

    def path(self, rest: str) -> str:
        return f"{self.prefix}/v2/{rest}"

    def blob(self, request: Request, repository: RepositoryName, digest: Digest) -> str:
        return self._location(request, f"{repository}/blobs/{digest}")

    def manifest(self, request: Request, repository: RepositoryName, digest: Digest) -> str:
        return self._location(request, f"{repository}/manifests/{digest}")

    def upload(self, request: Request, repository: RepositoryName, session: SessionId) -> str:
        return self._location(request, f"{repository}/blobs/uploads/{session}")

    def base(self, request: Request) -> str:
        """The URL before `/v2/` as the client knows it; absolute, since a challenge has no other kind."""
        host, port = request.scope.get("server") or ("", 0)
        return f"{self.host or _seen(request) or f'{request.url.scheme}://{host}:{port}'}{self.prefix}"

    def _location(self, request: Request, rest: str) -> str:
        return f"{self._origin(request)}{self.path(rest)}"

    def _origin(self, request: Request) -> str:
        if self.host or not self.absolute:
            return self.host
        return _seen(request)


def _seen(request: Request) -> str:
    """Scheme and host as the client sees them; empty where it names no host."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", request.url.scheme).partition(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "")).partition(",")[0].strip()
    return f"{scheme}://{host}" if host else ""


@dataclass(frozen=True, slots=True)
class Context:
    """The store behind the API, and the API's own limits.

    Attributes:
        store: the registry's content, with its policies around it.
        traffic: the requests under way.
        locations: how URLs are written.
        catalog_most: repositories in one answer of the catalog, at most.
        tags_most: tags in one answer of a tag list, at most; None = no limit.
        authenticator: who asks for credentials; None = nobody does, and everyone may do everything.
        tokens: who gives tokens out; None = nobody here does.
        storage: what `/readyz` knows of the storage; None = it is in memory.
    """

    store: Store
    traffic: Traffic = field(default_factory=Traffic)
    locations: Locations = field(default_factory=Locations)
    catalog_most: int = 1000
    tags_most: int | None = None
    authenticator: Authenticator | None = None
    tokens: TokenService | None = None
    storage: Storage | None = None
