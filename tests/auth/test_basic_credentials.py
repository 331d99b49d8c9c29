"""The Authorization header of the Basic scheme, and the challenge: whatever comes, never a traceback."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.basic import MOST_BYTES, Credentials, Malformed, challenge


def basic(user: bytes, password: bytes) -> bytes:
    return b"Basic " + base64.b64encode(user + b":" + password)


NAMES = st.text(st.characters(exclude_characters=":", exclude_categories=["Cc", "Cs"])).map(str.encode)
PASSWORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).map(str.encode)


@given(NAMES, PASSWORDS)
def test_what_a_client_sends_is_what_is_read(user, password):
    if len(header := basic(user, password)) <= MOST_BYTES:
        assert Credentials.parse([header]) == Credentials(user, password)


def test_a_password_may_have_colons_and_is_utf_8():
    assert Credentials.parse([basic(b"ana", "a:ñ:€".encode())]).password.decode() == "a:ñ:€"


def test_the_scheme_has_no_case_and_spaces_do_not_count():
    token = base64.b64encode(b"a:b")
    for header in b"basic " + token, b"BASIC   " + token, b" Basic " + token + b" ":
        assert Credentials.parse([header]) == Credentials(b"a", b"b")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Bearer abc",
        b"Basic YQ==",  # no colon
        b"Basic YTpi\xff",
        b"Basic YTp",  # no padding
        b"Basic YTpi, Basic YTpi",
        basic(b"a\nb", b"x"),
        basic(b"a", b"x\0y"),
        b"Basic " + b"A" * MOST_BYTES,
    ],
)
def test_anything_else_is_malformed_and_the_error_does_not_quote_it(header):
    with pytest.raises(Malformed) as raised:
        Credentials.parse([header])
    assert "YT" not in str(raised.value)


def test_two_headers_are_ambiguous():
    with pytest.raises(Malformed):
        Credentials.parse([basic(b"a", b"b"), basic(b"c", b"d")])


@given(st.lists(st.binary(max_size=MOST_BYTES + 10) | st.binary().map(lambda rest: b"Basic " + rest), max_size=3))
def test_no_bytes_are_a_surprise(headers):
    try:
        Credentials.parse(headers)
    except Malformed as error:
        assert str(error)


def test_no_password_is_shown():
    assert "secret" not in repr(Credentials(b"a", b"secret"))


def test_the_challenge_quotes_the_realm():
    assert challenge("Registry Realm") == 'Basic realm="Registry Realm"'
    assert challenge('a "b" \\ c') == 'Basic realm="a \\"b\\" \\\\ c"'
