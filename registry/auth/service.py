"""Giving tokens out: to whoever proves who he is, for what he asks and may do. Nothing here knows HTTP.

Source: distribution, "Token Authentication Specification" and "OAuth2 Token Authentication".

    access token    for requests; counts minutes; `access` has what was asked for and is allowed
    refresh token   for this service alone; in place of a password; ends when the password changes
"""

from __future__ import annotations

import time
import uuid
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from registry.auth.access import Access, Anonymous
from registry.auth.base import Action, Need
from registry.auth.jws import Invalid, verified
from registry.auth.scopes import CATALOG, EVERYTHING, REGISTRY, REPOSITORY, Scope, parse_scopes
from registry.auth.tokens import Terms
from registry.oci.errors import NameInvalid, Unauthorized
from registry.oci.names import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry.auth.base import Caller
    from registry.auth.jws import SigningKey

SERVICE = "swarm-registry"
"""What tokens call this registry, as issuer and as audience. Another registry has another key."""

TERMS = Terms(SERVICE, SERVICE)
_OF_REFRESH = Terms(SERVICE, f"{SERVICE} refresh")
_ACTIONS = {"pull": Action.PULL, "push": Action.PUSH, "delete": Action.DELETE}


class People(Protocol):
    """Who there is, and what each may do."""

    async def check(self, given: Sequence[bytes], address: str) -> Caller:
        """See `Authenticator.check`."""

    async def known(self, name: str) -> Known | None:
        """A user, without a password; None where there is none of that name."""


_NOBODY = Anonymous(Access(None))


@dataclass(frozen=True, slots=True)
class Known:
    """A user. `line` is what the password file says of the password: another password is another line."""

    caller: Caller
    line: bytes


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds that tokens count."""

    access: float = 300.0
    refresh: float = 365 * 86400.0


@dataclass(frozen=True, slots=True)
class Given:
    """What a request gets. `scopes` is what of those asked for was allowed."""

    token: str
    issued: float
    seconds: int
    scopes: tuple[Scope, ...]
    refresh: str = ""


class TokenService:
    """Gives tokens out.

    Args:
        people: who there is.
        key: signs.
        lifetimes: of tokens.
        clock: seconds since 1970.
    """

    def __init__(
        self, people: People, key: SigningKey, lifetimes: Lifetimes, clock: Callable[[], float] = time.time
    ) -> None:
        self._people = people
        self._key = key
        self._lifetimes = lifetimes
        self._clock = clock

    async def by_header(self, given: Sequence[bytes], address: str, scopes: Sequence[str], *, refresh: bool) -> Given:
        """For a request with a password in its Authorization header, or with none: then for nobody.

        Args:
            given: the values of its Authorization headers.
            address: of the client.
            scopes: the parameters of that name.
            refresh: whether a refresh token is asked for.

        Raises:
            Malformed: a scope is none.
            RegistryError: what `Authenticator.check` raises.
        """
        wanted = parse_scopes(scopes)
        try:
            caller = await self._people.check(given, address)
        except Unauthorized:
            if given:
                raise
            caller = _NOBODY  # docker would try again for a minute where it gets no token; with this one, it is told
        return await self._give(caller, wanted, refresh=refresh)

    async def by_password(
        self, user: str, password: str, address: str, scopes: Sequence[str], *, refresh: bool
    ) -> Given:
        """The same, with name and password from a form."""
        credentials = b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape"))
        return await self.by_header([b"Basic " + credentials], address, scopes, refresh=refresh)

    async def by_refresh(self, token: str, scopes: Sequence[str]) -> Given:
        """For whoever was given a refresh token, as long as the password is the same.

        Raises:
            Malformed: a scope is none.
            Unauthorized: the refresh token does not count, or no longer.
        """
        wanted = parse_scopes(scopes)
        try:
            members = verified(token, self._key)
            claims = _OF_REFRESH.read(members, self._clock())
        except Invalid:
            raise Unauthorized("this login has ended: log in again") from None
        known = await self._people.known(claims.subject)
        if known is None or members.get("line") != _mark(known.line):
            raise Unauthorized("this login has ended, as the password changed: log in again")
        return await self._give(known.caller, wanted, refresh=False)

    async def _give(self, caller: Caller, wanted: Sequence[Scope], *, refresh: bool) -> Given:
        granted = tuple(scope for scope in (_granted(caller, scope) for scope in wanted) if scope.actions)
        now = self._clock()
        access = [{"type": one.kind, "name": one.name, "actions": list(one.actions)} for one in granted]
        token = self._key.sign(_claims(TERMS, caller.name, now, self._lifetimes.access) | {"access": access})
        seconds = int(self._lifetimes.access)
        return Given(token, now, seconds, granted, await self._refresh(caller.name, now) if refresh else "")

    async def _refresh(self, name: str, now: float) -> str:
        known = await self._people.known(name)
        if known is None:
            return ""
        members = _claims(_OF_REFRESH, name, now, self._lifetimes.refresh) | {"line": _mark(known.line)}
        return self._key.sign(members)


def _granted(caller: Caller, scope: Scope) -> Scope:
    """What of a scope the caller may do; nothing of what this registry does not have."""
    actions: list[str] = []
    if scope.kind == REPOSITORY:
        asked = _ACTIONS if EVERYTHING in scope.actions else scope.actions
        try:
            name = RepositoryName(scope.name)
        except NameInvalid:
            return Scope(scope.kind, scope.name, ())
        actions = [one for one in asked if one in _ACTIONS and caller.may(Need(_ACTIONS[one], name))]
    elif (scope.kind, scope.name) == (REGISTRY, CATALOG) and EVERYTHING in scope.actions:
        actions = [EVERYTHING] if caller.may(Need(Action.CATALOG)) else []
    return Scope(scope.kind, scope.name, tuple(actions))


def _claims(terms: Terms, subject: str, now: float, seconds: float) -> dict[str, Any]:
    times = {"iat": int(now), "nbf": int(now), "exp": int(now + seconds)}
    return {"iss": terms.issuer, "aud": terms.audience, "sub": subject, "jti": str(uuid.uuid4()), **times}


def _mark(line: bytes) -> str:
    """A line's hash, which tells nothing of it: there are 128 bits of salt in a line."""
    return sha256(line).hexdigest()[:32]
