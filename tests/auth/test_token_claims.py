"""Tokens: which count, what they allow, and that those known to be right cost no second look at their signature."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from issuing import ISSUER, SERVICE, claims, on

from registry.auth.jws import Invalid, SigningKey
from registry.auth.scopes import Scope
from registry.auth.tokens import LEEWAY, Terms, Tokens

KEY = SigningKey.generate()
NOW = 1_000_000.0


class Counting:
    """The key, and how often it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def find(self, header):
        self.asked += 1
        return KEY.find(header)


@pytest.fixture
def keys():
    return Counting()


@pytest.fixture
def tokens(keys, clock):
    clock.now = NOW
    return Tokens(Terms(ISSUER, SERVICE), keys, clock)


def token(*access, **others) -> str:
    return KEY.sign(claims(*access, **({"nbf": NOW, "exp": NOW + 300} | others)))


def test_a_token_says_who_may_do_what(tokens):
    found = tokens.check(token(on("a", "pull"), on("b/c", "pull", "push"), on("a", "delete"), on("d", "*")))
    assert found.subject == "alice"
    for kind, name, actions, allowed in [
        ("repository", "a", ("pull",), True),
        ("repository", "a", ("pull", "delete"), True),
        ("repository", "a", ("push",), False),
        ("repository", "b/c", ("pull", "push"), True),
        ("repository", "b", ("pull",), False),
        ("repository", "d", ("push", "delete"), True),
        ("registry", "a", ("pull",), False),
        ("registry", "catalog", ("*",), False),
    ]:
        assert found.allow(Scope(kind, name, actions)) is allowed, (kind, name, actions)


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "somebody"}, {"iss": None}, {"iss": [ISSUER]}, {"iss": ISSUER + " "},
        {"aud": "another"}, {"aud": None}, {"aud": []}, {"aud": ["another"]}, {"aud": {SERVICE: 1}},
        {"aud": SERVICE[:-1]},
        {"exp": None}, {"exp": NOW - LEEWAY}, {"exp": "1e9"}, {"exp": True}, {"exp": [NOW + 300]}, {"exp": 10**400},
        {"nbf": NOW + LEEWAY + 1}, {"nbf": "0"}, {"nbf": False},
        {"sub": 7}, {"sub": ["alice"]},
        {"access": "all"}, {"access": {}}, {"access": [1]}, {"access": [None]}, {"access": [{"type": "repository"}]},
        {"access": [{"type": "repository", "name": "a", "actions": "pull"}]},
        {"access": [{"type": ["repository"], "name": "a", "actions": ["pull"]}]},
    ],
)  # fmt: skip
def test_a_token_that_does_not_count_is_refused(tokens, wrong):
    with pytest.raises(Invalid):
        tokens.check(token(**wrong))


@pytest.mark.parametrize(
    "right",
    [
        {"aud": [SERVICE]}, {"aud": ["another", SERVICE]}, {"nbf": None}, {"nbf": NOW + LEEWAY}, {"sub": None},
        {"sub": ""},
        {"exp": NOW - LEEWAY + 1}, {"exp": NOW + 0.5}, {"access": None}, {"access": []}, {"jti": None, "iat": None},
        {"more": {"of": ["other", "things"]}},
    ],
)  # fmt: skip
def test_what_a_token_may_leave_out_and_how_far_clocks_may_be_apart(tokens, right):
    assert tokens.check(token(**right)).subject in {"alice", ""}


def test_a_token_that_was_right_is_not_verified_again_until_it_ends(tokens, keys, clock):
    text = token(on("a", "pull"))
    first = tokens.check(text)
    for _ in range(10):
        assert tokens.check(text) is first
    assert keys.asked == 1
    clock.now += 300 + LEEWAY
    with pytest.raises(Invalid, match="expired"):
        tokens.check(text)


def test_a_token_that_was_wrong_is_looked_at_each_time(tokens, keys, clock):
    early = token(nbf=NOW + 100)
    with pytest.raises(Invalid):
        tokens.check(early)
    clock.now += 100
    assert tokens.check(early)


def test_one_letter_makes_another_token(tokens):
    text = token()
    tokens.check(text)
    for changed in text[:-5] + "AAAAA", text + "A", "A" + text:
        with pytest.raises(Invalid):
            tokens.check(changed)


def test_what_is_remembered_is_bounded(tokens, keys):
    texts = [token(jti=str(number)) for number in range(1025)]
    for text in texts:
        tokens.check(text)
    tokens.check(texts[-1])
    assert keys.asked == 1025
    tokens.check(texts[0])
    assert keys.asked == 1026


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "sub", "access", "x"]), JSON))
def test_any_other_claims_are_read_or_refused(members):
    try:
        found = Terms(ISSUER, SERVICE).read({"iss": ISSUER, "aud": SERVICE, "exp": math.pi * NOW} | members, NOW)
    except Invalid:
        return
    assert found.expires > NOW - LEEWAY


def test_a_remembered_token_costs_microseconds(tokens):
    """A pull is dozens of requests with the same token. The limit is far above what it takes, for busy machines."""
    text = token(on("a", "pull"))
    tokens.check(text)
    began = time.perf_counter()
    for _ in range(1000):
        tokens.check(text)
    assert time.perf_counter() - began < 0.1  # about 2 ms
