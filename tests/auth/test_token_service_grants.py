"""What is granted: what was asked for, as far as whoever asks may do it. Each person here may do something else."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from registry.auth.base import Action, Need
from registry.auth.jws import SigningKey
from registry.auth.scopes import MOST, MOST_CHARACTERS, parse_scopes
from registry.auth.service import TERMS, Known, Lifetimes, TokenService
from registry.auth.tokens import Tokens
from registry.oci.errors import Unauthorized

KEY = SigningKey.generate()


@dataclass
class Person:
    name: str
    allowed: set[tuple[Action, str | None]]

    def may(self, need: Need) -> bool:
        return (need.action, need.repository) in self.allowed


NOBODY = Person("", {(Action.PULL, "open/image")})
ALICE = Person("alice", {(Action.PULL, "a"), (Action.PUSH, "a"), (Action.PULL, "b"), (Action.CATALOG, None)})


@dataclass
class People:
    """Whoever comes without credentials may pull `open/image`; whoever names himself is who he says."""

    lines: dict[str, bytes] = field(default_factory=lambda: {"alice": b"line"})

    async def check(self, given: Sequence[bytes], address: str) -> Person:
        if not given:
            return NOBODY
        if given != [b"Basic YWxpY2U6c2VjcmV0"]:
            raise Unauthorized
        return ALICE

    async def known(self, name: str) -> Known | None:
        return Known(ALICE, self.lines[name]) if name in self.lines else None


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def service(people, clock) -> TokenService:
    return TokenService(people, KEY, Lifetimes(300, 1000), clock)


def granted(service, user: str, *scopes: str) -> list[str]:
    if user:
        given = asyncio.run(service.by_password("alice", "secret", "", scopes, refresh=False))
    else:
        given = asyncio.run(service.by_header([], "", scopes, refresh=True))
        assert given.refresh == ""
    claims = Tokens(TERMS, KEY, service._clock).check(given.token)
    assert claims.subject == user
    assert all(claims.allow(scope) for scope in given.scopes)
    assert len(claims.access) == len(given.scopes)
    return [str(scope) for scope in given.scopes]


def test_nobody_gets_what_nobody_may(service):
    """docker asks for both when it pushes: the token says what is left of it, and the push is refused by that."""
    assert granted(service, "", "repository:open/image:pull") == ["repository:open/image:pull"]
    assert granted(service, "", "repository:open/image:pull,push") == ["repository:open/image:pull"]
    assert granted(service, "", "repository:a:pull", "registry:catalog:*") == []


def test_a_user_gets_what_the_user_may(service):
    asked = ["repository:a:pull,push,delete", "repository:b:push,pull", "repository:open/image:pull"]
    assert granted(service, "alice", *asked) == ["repository:a:pull,push", "repository:b:pull"]
    assert granted(service, "alice", "repository:a:*") == ["repository:a:pull,push"]
    assert granted(service, "alice", "registry:catalog:*") == ["registry:catalog:*"]


def test_the_largest_token_that_can_be_asked_for_counts(service):
    room = MOST_CHARACTERS // MOST - len("repository::pull,push,delete")
    names = [f"n{number:0{room - 1}}" for number in range(MOST)]
    everything = Person("x" * 200, {(action, name) for action in Action for name in names})
    wanted = parse_scopes([f"repository:{name}:pull,push,delete" for name in names])
    given = asyncio.run(service._give(everything, wanted, refresh=False))
    assert len(given.scopes) == MOST
    assert len(Tokens(TERMS, KEY, service._clock).check(given.token).access) == MOST


def test_a_refresh_token_gives_what_its_user_may_now(service, people, clock):
    first = asyncio.run(service.by_password("alice", "secret", "", [], refresh=True))
    clock.now += 500
    again = asyncio.run(service.by_refresh(first.refresh, ["repository:a:delete,push"]))
    assert [str(scope) for scope in again.scopes] == ["repository:a:push"]


@pytest.mark.parametrize("lines", [{}, {"alice": b"another line"}])
def test_a_refresh_token_ends_with_the_password(service, people, lines):
    refresh = asyncio.run(service.by_password("alice", "secret", "", [], refresh=True)).refresh
    people.lines = lines
    with pytest.raises(Unauthorized, match="log in again"):
        asyncio.run(service.by_refresh(refresh, []))


def test_a_refresh_token_ends_in_time(service, clock):
    refresh = asyncio.run(service.by_password("alice", "secret", "", [], refresh=True)).refresh
    clock.now += 1100
    with pytest.raises(Unauthorized, match="log in again"):
        asyncio.run(service.by_refresh(refresh, []))


def test_a_wrong_password_is_not_taken_for_nobody(service):
    with pytest.raises(Unauthorized):
        asyncio.run(service.by_header([b"Basic eDp5"], "", ["repository:open/image:pull"], refresh=False))
