"""HTTP's Bearer scheme (RFC 6750): tokens from a header, and the challenge that says where to get one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.auth.base import Action, Need
from registry.auth.basic import quoted
from registry.auth.jws import MOST_BYTES, Invalid
from registry.auth.scopes import CATALOG, EVERYTHING, REGISTRY, REPOSITORY, Scope, render_scopes
from registry.auth.service import TERMS
from registry.auth.tokens import Claims, Terms, Tokens
from registry.oci.errors import InsufficientScope, TokenInvalid, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.auth.access import Access
    from registry.auth.base import Authenticator, Caller
    from registry.auth.jws import SigningKey
    from registry.auth.trust import Trusted, TrustFiles
    from registry.oci.errors import RegistryError
    from registry.oci.names import RepositoryName

log = logging.getLogger("registry.auth")

PATH = "/auth/token"
"""Of the endpoint that gives tokens out; registry:3 has its own there, too."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whoever sent a token: may do what it says, and nothing else.

    Attributes:
        claims: what it says.
        access: that of the user that it was given to, for what the catalog shows; None = all of it.
    """

    claims: Claims
    access: Access | None = None

    @property
    def name(self) -> str:
        return self.claims.subject

    def may(self, need: Need) -> bool:
        return self.claims.allow(scope_of(need))

    def sees(self, repository: RepositoryName | None) -> bool:
        return self.access is None or self.access.may(self.claims.subject or None, Action.PULL, repository)

    def refusal(self) -> RegistryError:
        return InsufficientScope()


def scope_of(need: Need) -> Scope:
    """What a token must have for it. No token has a name for all repositories."""
    if need.action is Action.CATALOG:
        return Scope(REGISTRY, CATALOG, (EVERYTHING,))
    return Scope(REPOSITORY, need.repository or "", (need.action.value,))


def scopes_of(needs: Sequence[Need]) -> list[Scope]:
    """What a client is told to ask a token for. Whoever pushes looks first whether it is there."""
    actions: dict[tuple[str, str], list[str]] = {}
    for need in needs:
        scope = scope_of(need)
        before = ["pull"] if need.action is Action.PUSH else []
        wanted = actions.setdefault((scope.kind, scope.name), [])
        wanted += [action for action in (*before, *scope.actions) if action not in wanted]
    return [Scope(kind, name, tuple(wanted)) for (kind, name), wanted in actions.items()]


def challenge(realm: str, service: str, needs: Sequence[Need], error: str = "") -> str:
    """The value of WWW-Authenticate; its members are quoted, as docker's parser wants it."""
    members = {"realm": realm, "service": service, "scope": render_scopes(scopes_of(needs)), "error": error}
    return "Bearer " + ",".join(f"{name}={quoted(value)}" for name, value in members.items() if value)


def token_in(given: Sequence[bytes]) -> str | None:
    """The token of a request's Authorization headers; None where they have another scheme.

    Raises:
        TokenInvalid: two headers, or a token that no token can be.
    """
    if not any(value.strip()[:7].lower() == b"bearer " for value in given):
        return None
    text = given[0].strip()[7:].strip()
    if len(given) > 1 or len(text) > MOST_BYTES:
        raise TokenInvalid
    return text.decode("latin-1")


class OwnTokens:
    """Tokens that this registry gave out, and passwords as before.

    Args:
        passwords: checks whatever has no token.
        key: that tokens were signed with.
        access: who may do what; a token says what of it was asked for.
    """

    def __init__(self, passwords: Authenticator, key: SigningKey, access: Access) -> None:
        self._passwords = passwords
        self._access = access
        self._tokens = Tokens(TERMS, key)

    async def check(self, given: Sequence[bytes], address: str) -> Caller:
        """See `Authenticator.check`."""
        token = token_in(given)
        if token is None:
            return await self._passwords.check(given, address)
        return _bearer(self._tokens, token, self._access)

    def challenge(self, needs: Sequence[Need], base: str, error: str = "") -> str:
        """See `Authenticator.challenge`."""
        return challenge(base + PATH, TERMS.audience, needs, error)


class ForeignTokens:
    """Tokens of another server, and nothing else.

    Args:
        files: the keys that it signs with.
        terms: what its tokens must say.
        realm: its URL.
    """

    def __init__(self, files: TrustFiles, terms: Terms, realm: str) -> None:
        self._files = files
        self._terms = terms
        self._realm = realm
        self._trusted: Trusted | None = None

    async def check(self, given: Sequence[bytes], address: str) -> Caller:  # noqa: ARG002 - no password to guess
        """See `Authenticator.check`."""
        trusted = await self._files.trusted()
        if trusted is not self._trusted:
            self._trusted, self._tokens = trusted, Tokens(self._terms, trusted)  # what was right before counts no more
        token = token_in(given)
        if token is None:
            raise Unauthorized
        return _bearer(self._tokens, token, None)

    def challenge(self, needs: Sequence[Need], base: str, error: str = "") -> str:  # noqa: ARG002
        """See `Authenticator.challenge`."""
        return challenge(self._realm, self._terms.audience, needs, error)


def _bearer(tokens: Tokens, text: str, access: Access | None) -> Bearer:
    try:
        return Bearer(tokens.check(text), access)
    except Invalid as error:
        log.info("token refused: %s", error)
        raise TokenInvalid(f"the token does not count: {error}") from None
