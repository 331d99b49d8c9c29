"""Giving tokens out over HTTP: `GET /auth/token` with a password or none, `POST /auth/token` with a form (OAuth2)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from registry.api.responses import json_response
from registry.auth.scopes import Malformed, render_scopes
from registry.oci.errors import NoSuchEndpoint, TooLarge, Unauthorized, Unsupported

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from registry.api.context import Context
    from registry.auth.service import Given, TokenService
    from registry.oci.errors import RegistryError

_LARGEST_FORM = 64 * 1024
_MOST_FIELDS = 200
_FORM = "application/x-www-form-urlencoded"
_YES = {"true", "1"}
_NO_STORE = {"Cache-Control": "no-store"}


class _Wrong(Exception):
    """A request that is none. `word` is that of RFC 6749, section 5.2."""

    def __init__(self, message: str, word: str = "invalid_request") -> None:
        super().__init__(message)
        self.word = word


async def get(api: Context, request: Request) -> ASGIApp:
    """As distribution's token specification has it. `account` and `client_id` say nothing that the header does not."""
    query = request.query_params
    try:
        given = await _service(api).by_header(
            [value for name, value in request.scope["headers"] if name == b"authorization"],
            _address(request),
            query.getlist("scope"),
            refresh=query.get("offline_token", "").lower() in _YES,
        )
    except Malformed as error:
        return _refusal(Unsupported(str(error)), 400, "invalid_scope")
    return _answer(given, {})


async def post(api: Context, request: Request) -> ASGIApp:
    """As RFC 6749 has it."""
    service = _service(api)
    try:
        form = await _form(request)
        given = await _by_form(service, form, _address(request))
    except Unauthorized as error:
        return _refusal(error, error.status, "invalid_grant")
    except Malformed as error:
        return _refusal(Unsupported(str(error)), 400, "invalid_scope")
    except _Wrong as error:
        return _refusal(Unsupported(str(error)), 400, error.word)
    return _answer(given, {"scope": render_scopes(given.scopes)})


async def _by_form(service: TokenService, form: dict[str, list[str]], address: str) -> Given:
    scopes = form.get("scope", [])
    match _one(form, "grant_type"):
        case "refresh_token":
            return await service.by_refresh(_one(form, "refresh_token"), scopes)
        case "password":
            refresh = form.get("access_type") == ["offline"]
            return await service.by_password(
                _one(form, "username"), _one(form, "password"), address, scopes, refresh=refresh
            )
        case other:
            raise _Wrong(
                f"unknown grant_type {other[:40]!r}: expected password or refresh_token",
                "unsupported_grant_type",
            )


def _service(api: Context) -> TokenService:
    if api.tokens is None:
        raise NoSuchEndpoint("no such endpoint: this registry gives out no tokens (auth.tokens.enabled)")
    return api.tokens


def _address(request: Request) -> str:
    client = request.scope.get("client")
    return client[0] if client else ""


def _one(form: dict[str, list[str]], name: str) -> str:
    values = form.get(name, [])
    if len(values) != 1:
        raise _Wrong(f"expected one {name} in the form")
    return values[0]


async def _form(request: Request) -> dict[str, list[str]]:
    """Raises _Wrong: it is none; TooLarge."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise _Wrong(f"expected a form ({_FORM})")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_FORM:
            raise TooLarge(f"the form has more than {_LARGEST_FORM} bytes")
    try:
        return parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise _Wrong(f"expected a form ({_FORM})") from None


def _answer(given: Given, more: dict[str, Any]) -> ASGIApp:
    """Under both names of the token: each specification has its own."""
    issued = datetime.fromtimestamp(int(given.issued), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = {"token": given.token, "access_token": given.token, "expires_in": given.seconds, "issued_at": issued}
    refresh = {"refresh_token": given.refresh} if given.refresh else {}
    return json_response({**found, **refresh, **more}, _NO_STORE)


def _refusal(error: RegistryError, status: int, word: str) -> ASGIApp:
    """An error in two forms: that of RFC 6749, and the one that docker prints."""
    content = {"error": word, "error_description": error.message, "errors": error.entries()}
    return json_response(content, {**error.headers, **_NO_STORE}, status=status)
