"""What clients ask tokens for is read strictly, and written as it is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.scopes import MOST, MOST_CHARACTERS, Malformed, Scope, parse_scopes, render_scopes


@pytest.mark.parametrize(
    ("given_", "found"),
    [
        ([], []),
        ([""], []),
        (["repository:some/name:pull"], [("repository", "some/name", ("pull",))]),
        (["repository:some/name:pull,push"], [("repository", "some/name", ("pull", "push"))]),
        (["repository:some/name:push,pull,push"], [("repository", "some/name", ("push", "pull"))]),
        (["repository:host:5000/some/name:pull"], [("repository", "host:5000/some/name", ("pull",))]),
        (["repository:some/name:*"], [("repository", "some/name", ("*",))]),
        (["repository:some/name:"], [("repository", "some/name", ())]),
        (["repository(plugin):some/name:pull"], [("repository", "some/name", ("pull",))]),
        (["registry:catalog:*"], [("registry", "catalog", ("*",))]),
        (["repository:a:pull", "repository:b:pull"], [("repository", "a", ("pull",)), ("repository", "b", ("pull",))]),
        (["repository:a:pull  repository:b:push"], [("repository", "a", ("pull",)), ("repository", "b", ("push",))]),
        (["repository:a:pull", "repository:a:push"], [("repository", "a", ("pull", "push"))]),
        (["other:thing:something"], [("other", "thing", ("something",))]),
    ],
)
def test_scopes(given_, found):
    assert parse_scopes(given_) == [Scope(*scope) for scope in found]


@pytest.mark.parametrize(
    "text",
    [
        "repository", "repository:", "repository:name", ":name:pull", "repository::pull", "repository:name:PULL",
        "Repository:name:pull", "repository:na me:pull", "repository:name:pull;push", "repository:a:b:pull",
        "repository:name:pull\n", "repository:name\n:pull", "repository:na\tme:pull", 'repository:na"me:pull',
        "repository():name:pull", "repository(a b):name:pull", "repository:host:5000:pull",
        "repository:host:x/name:pull",
        "repository:na\0me:pull", "repository:name:pull\u00e9", "rep\u00f6:name:pull",
    ],
)  # fmt: skip
def test_what_is_no_scope_is_refused(text):
    with pytest.raises(Malformed):
        parse_scopes([text])


def test_too_many_are_refused():
    assert len(parse_scopes([f"repository:n{number}:pull" for number in range(MOST)])) == MOST
    with pytest.raises(Malformed, match=str(MOST)):
        parse_scopes([" ".join(f"repository:n{number}:pull" for number in range(MOST + 1))])
    with pytest.raises(Malformed, match=str(MOST_CHARACTERS)):
        parse_scopes(["repository:" + "a" * MOST_CHARACTERS + ":pull"])


NAMES = st.from_regex(r"([a-z]{1,8}:[0-9]{1,5}/)?[a-z0-9]+([._/-][a-z0-9]+){0,4}", fullmatch=True)
ACTIONS = st.lists(st.sampled_from(["pull", "push", "delete", "*", "other"]), max_size=4, unique=True).map(tuple)
SCOPES = st.builds(Scope, st.sampled_from(["repository", "registry", "other"]), NAMES, ACTIONS)


@given(st.lists(SCOPES, max_size=10, unique_by=lambda scope: (scope.kind, scope.name)))
def test_written_scopes_read_as_themselves(scopes):
    assert parse_scopes([render_scopes(scopes)]) == scopes
    assert parse_scopes([str(scope) for scope in scopes]) == scopes


@given(st.lists(st.text(max_size=60) | st.from_regex(r"[a-z():,/*0-9 ]{0,60}", fullmatch=True), max_size=4))
def test_any_other_text_is_read_or_refused_and_nothing_gets_out_of_a_quoted_string(texts):
    try:
        found = parse_scopes(texts)
    except Malformed:
        return
    assert parse_scopes([render_scopes(found)]) == found
    assert not set('"\\\r\n\0') & set(render_scopes(found))
