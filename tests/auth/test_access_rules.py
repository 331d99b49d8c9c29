"""Rules: the first that fits decides, and who has a name may do also what he might without."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.access import Access, Grant
from registry.auth.base import Action
from registry.oci.patterns import RepositoryPattern

PULL, PUSH, DELETE, CATALOG = Action.PULL, Action.PUSH, Action.DELETE, Action.CATALOG


def grant(*patterns, users=(), everyone=False, anonymous=False, actions=()):
    named = tuple(map(RepositoryPattern, patterns))
    return Grant(frozenset(users), everyone, anonymous, named, frozenset(actions))


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("**", ("a", "a/b", "a/b/c"), ()),
        ("*", ("a",), ("a/b",)),
        ("team/**", ("team/a", "team/a/b"), ("team", "teams/a", "a/team/a")),
        ("team/*", ("team/a",), ("team", "team/a/b")),
        ("team/app", ("team/app",), ("team/app2", "team/ap")),
        ("*/base-*", ("a/base-x",), ("a/base-", "a/b/base-x")),
        ("a.b/c", ("a.b/c",), ("axb/c",)),
    ],
)
def test_one_star_stops_at_a_slash_and_two_do_not(pattern, fits, does_not):
    found = RepositoryPattern(pattern)
    assert all(map(found.matches, fits))
    assert not any(map(found.matches, does_not))


@pytest.mark.parametrize("text", ["", "/", "a/", "/a", "a//b", "Team/a", "a b", "***", "a/***", "a:b", "a\n", "(a)"])
def test_what_no_name_can_match_is_no_pattern(text):
    with pytest.raises(ValueError, match="expected a repository or a pattern"):
        RepositoryPattern(text)


def test_without_rules_every_user_may_do_everything_and_nobody_else_anything():
    access = Access(None)
    assert all(access.may("alice", action, name) for action in Action for name in ("a/b", None))
    assert not any(access.may(None, action, name) for action in Action for name in ("a/b", None))
    assert not access.let_anonymous_in


def test_the_first_rule_that_fits_decides():
    access = Access(
        [
            grant("team/secret", everyone=True),
            grant("team/**", users=["bob"], actions=[PULL, PUSH]),
            grant("**", everyone=True, actions=[PULL]),
        ]
    )
    assert not access.may("bob", PULL, "team/secret")
    assert access.may("bob", PUSH, "team/app")
    assert not access.may("bob", DELETE, "team/app")
    assert access.may("bob", PULL, "other")
    assert not access.may("bob", PUSH, "other")
    assert not access.may("eve", PUSH, "team/app")
    assert [access.deciding("bob", name) for name in ("team/secret", "team/app", "other")] == [1, 2, 3]
    assert access.deciding(None, "other") is None


def test_who_has_a_name_may_do_what_anybody_may():
    access = Access([grant("public/**", anonymous=True, actions=[PULL]), grant("**", users=["bob"], actions=[PUSH])])
    assert access.let_anonymous_in
    assert access.may(None, PULL, "public/app")
    assert not access.may(None, PULL, "other")
    assert access.may("bob", PULL, "public/app")
    assert access.may("bob", PUSH, "public/app")
    assert not access.may("bob", PULL, "other")


def test_a_user_who_is_called_anonymous_is_a_user():
    access = Access([grant("**", anonymous=True, actions=[PULL]), grant("**", users=["anonymous"], actions=[PUSH])])
    assert not access.may(None, PUSH, "a")
    assert access.may("anonymous", PUSH, "a")


@pytest.mark.parametrize(
    ("grants", "everywhere", "catalog"),
    [
        ([grant("**", users=["bob"], actions=[PULL])], True, True),
        ([grant("team/**", users=["bob"], actions=[PULL])], False, True),
        ([grant("team/**", users=["bob"]), grant("**", users=["bob"], actions=[PULL])], False, True),
        ([grant("team/**", users=["bob"], actions=[PULL]), grant("**", everyone=True, actions=[PULL])], True, True),
        ([grant("team/**", users=["eve"]), grant("**", everyone=True, actions=[PULL])], True, True),
        ([grant("**", users=["bob"], actions=[PUSH])], False, False),
        ([], False, False),
    ],
)
def test_what_reaches_into_all_repositories_must_be_allowed_in_all(grants, everywhere, catalog):
    access = Access(grants)
    assert access.may("bob", PULL, None) is everywhere
    assert access.may("bob", CATALOG, None) is catalog


NAMES = st.sampled_from(["a", "b", "a/b", "a/c", "team/x", "team/x/y"])
GRANTS = st.builds(
    lambda patterns, users, everyone, anonymous, actions: grant(
        *patterns, users=users, everyone=everyone, anonymous=anonymous, actions=actions
    ),
    st.lists(st.sampled_from(["**", "*", "a/*", "team/**", "a", "b"]), min_size=1, max_size=2),
    st.sets(st.sampled_from(["bob", "eve"])),
    st.booleans(),
    st.booleans(),
    st.sets(st.sampled_from([PULL, PUSH, DELETE])),
)


@given(st.lists(GRANTS, max_size=4), st.sampled_from(["bob", "eve", None]), st.sampled_from([PULL, PUSH, DELETE]))
def test_everywhere_means_in_each_and_nobody_may_less_than_anybody(grants, name, action):
    access = Access(grants)
    for repository in ("a", "b", "a/b", "team/x/y"):
        if access.may(name, action, None):
            assert access.may(name, action, repository)
        if access.may(None, action, repository):
            assert access.may(name, action, repository)
