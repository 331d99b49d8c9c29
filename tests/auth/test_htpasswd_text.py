"""The text of an htpasswd file: what is read, what is named as wrong, and edits that leave the rest alone."""

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.htpasswd import (
    MOST_PASSWORD,
    Entries,
    has_user,
    hash_of,
    matches,
    parse,
    stand_in,
    usable_name,
    with_user,
    without_user,
)

SECRET = hash_of("secret", 4)
OTHER = hash_of("other", 4)
TAIL = SECRET[7:]


def test_lines_comments_and_blanks_as_registry_2_reads_them():
    text = b"\xef\xbb\xbf# people\n\n alice:" + SECRET + b" \r\n  # machines\nci:" + OTHER
    assert parse(text) == Entries({b"alice": SECRET, b"ci": OTHER}, (4, 4))


@pytest.mark.parametrize("kind", [b"2a", b"2b", b"2y"])
def test_the_three_names_of_bcrypt(kind):
    """`htpasswd -B` writes 2y, others 2a and 2b."""
    hashed = parse(b"alice:$" + kind + SECRET[3:]).users[b"alice"]
    assert matches(b"secret", hashed)
    assert not matches(b"Secret", hashed)


def test_of_several_lines_for_one_name_the_last_counts():
    assert parse(b"a:" + SECRET + b"\na:" + OTHER).users == {b"a": OTHER}


def test_a_salt_with_bits_to_spare_is_taken():
    """Go and C pass over them; the library would not."""
    untidy = SECRET[:28] + {b".": b"/", b"O": b"P", b"e": b"f", b"u": b"v"}[SECRET[28:29]] + SECRET[29:]
    with pytest.raises(ValueError, match="salt"):
        bcrypt.checkpw(b"secret", untidy)
    assert matches(b"secret", parse(b"a:" + untidy).users[b"a"])


@pytest.mark.parametrize(
    ("hashed", "words"),
    [
        (b"$apr1$abcdefgh$ijklmnopqrstuvwxyz0123", ["'bob'", "bcrypt", "registry user passwd"]),
        (b"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", ["bcrypt"]),
        (b"rqXexS6ZhobKA", ["bcrypt"]),
        (b"$6$salt$0123456789", ["bcrypt"]),
        (b"$2x$04$" + TAIL, ["bcrypt"]),
        (SECRET[:-1], ["bcrypt"]),
        (b"", ["bcrypt"]),
        (b"$2y$03$" + TAIL, ["cost 3"]),
        (b"$2y$31$" + TAIL, ["cost 31"]),
    ],
    ids=["MD5", "SHA-1", "DES", "SHA-512", "faulty bcrypt", "short", "none", "too cheap", "too dear"],
)
def test_another_hash_is_a_wrong_line_that_says_what_to_do_and_not_the_hash(hashed, words):
    entries = parse(b"alice:" + SECRET + b"\nbob:" + hashed + b"\n")
    assert list(entries.users) == [b"alice"]
    (wrong,) = entries.wrong
    assert wrong.number == 2
    assert all(word in wrong.what for word in words)
    for text in wrong.what, repr(wrong), repr(entries):
        assert len(hashed) < 5 or hashed[4:].decode() not in text


@pytest.mark.parametrize("line", [b"no colon", b":" + SECRET, SECRET], ids=["no colon", "no name", "hash alone"])
def test_a_line_without_a_name_is_wrong_and_not_quoted(line):
    (wrong,) = parse(line).wrong
    assert "NAME:HASH" in wrong.what
    assert TAIL.decode() not in wrong.what


@given(st.binary())
def test_no_bytes_are_a_surprise(data):
    entries = parse(data)
    assert len(entries.users) == len(entries.costs)


# Passwords


def test_a_new_hash_is_what_htpasswd_would_write():
    assert hash_of("ñ€", 5).startswith(b"$2y$05$")
    assert matches("ñ€".encode(), hash_of("ñ€", 4))


def test_72_bytes_count_and_no_more_as_in_registry_2():
    """Tools cut longer passwords when they made the hash; whoever has such a one must still get in."""
    hashed = hash_of("x" * MOST_PASSWORD, 4)
    assert matches(b"x" * 72, hashed)
    assert matches(b"x" * 72 + b"whatever", hashed)
    assert not matches(b"x" * 71, hashed)


@pytest.mark.parametrize(
    ("password", "word"),
    [("", "empty"), ("x" * 73, "73 bytes"), ("ñ" * 37, "74 bytes"), ("a\nb", "line"), ("\0", "zero byte")],
)
def test_a_password_that_would_not_count_whole_is_not_hashed(password, word):
    with pytest.raises(ValueError, match=word):
        hash_of(password, 4)


def test_a_stand_in_is_a_hash_of_that_cost_that_nothing_matches():
    assert list(parse(b"a:" + stand_in(4)).costs) == [4]
    assert not matches(b"", stand_in(4))


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "\x7f", " a", "a ", "#a"])
def test_names_that_cannot_stand_in_a_file(name):
    with pytest.raises(ValueError, match="user's name"):
        usable_name(name)


# Edits

FILE = b"# people\r\nalice:" + SECRET + b"\r\n\nbob:$apr1$old\ncarol:" + OTHER


def test_a_new_user_comes_last_and_nothing_else_changes():
    assert with_user(FILE, b"dora", SECRET) == FILE + b"\ndora:" + SECRET + b"\n"
    assert with_user(b"", b"dora", SECRET) == b"dora:" + SECRET + b"\n"


def test_a_password_is_changed_in_its_place():
    assert with_user(FILE, b"bob", SECRET) == FILE.replace(b"$apr1$old", SECRET)


def test_of_several_lines_for_one_user_one_is_left():
    assert with_user(b"a:1\nb:2\na:3\n", b"a", b"4") == b"a:4\nb:2\n"
    assert without_user(b"a:1\nb:2\na:3\n", b"a") == b"b:2\n"


def test_a_user_is_removed_and_nothing_else_changes():
    assert without_user(FILE, b"alice") == FILE.replace(b"alice:" + SECRET + b"\r\n", b"")
    assert without_user(FILE, b"nobody") == FILE


def _usable(name: str) -> bool:
    try:
        return bool(usable_name(name))
    except ValueError:
        return False


NAMES = st.text(min_size=1, max_size=8).filter(_usable)


@given(st.lists(st.tuples(NAMES, st.booleans()), max_size=12))
def test_edits_one_after_another_leave_what_a_dictionary_would(edits):
    data, model = b"# first\n", {}
    for name, adds in edits:
        if adds:
            data = with_user(data, usable_name(name), SECRET)
            model[usable_name(name)] = SECRET
        else:
            data = without_user(data, usable_name(name))
            model.pop(usable_name(name), None)
        assert has_user(data, usable_name(name)) == adds
    assert parse(data) == Entries(model, (4,) * len(model))
    assert data.startswith(b"# first\n")
