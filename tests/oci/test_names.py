"""Names of repositories, tags and sessions, and the two ways to ask for a manifest."""

import posixpath
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid, NameInvalid, TagInvalid, UploadUnknown
from registry.oci.names import RepositoryName, SessionId, Tag, parse_reference

# distribution-spec, "Pulling manifests", typed from there and not from the code.
SPECIFIED_NAME = re.compile(r"\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\Z")
SPECIFIED_TAG = re.compile(r"\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")

NAME_LIKE = st.text(alphabet="abz09._-/A", max_size=20)
TAG_LIKE = st.text(alphabet="abzAZ09._-/:", max_size=20)


@pytest.mark.parametrize(
    "text",
    ["a", "0", "ubuntu", "library/ubuntu", "a/b/c/d/e", "a.b", "a_b", "a__b", "a-b", "a---b", "a-b_c.d/0__1", "v2/x"],
)
def test_a_repository_name_is_lower_case_components_with_single_separators(text: str) -> None:
    assert RepositoryName(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "A",
        "aB",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        ".a",
        "a.",
        "_a",
        "a_",
        "a___b",
        "a..b",
        "a._b",
        "-a",
        "a-",
        "a/_uploads",
        "_catalog",
        "a b",
        "a\n",
        "a\0b",
        "a%2fb",
        "é",
        "٣",
        "a:b",
        "a@b",
        "a\\b",
    ],
)
def test_a_name_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(NameInvalid):
        RepositoryName(text)


def test_a_repository_name_has_255_characters_at_most() -> None:
    assert len(RepositoryName("a" * 255)) == 255
    with pytest.raises(NameInvalid, match="256 characters, at most 255"):
        RepositoryName("a" * 256)


@given(st.one_of(NAME_LIKE, st.text()))
def test_names_are_those_of_the_specification_and_stay_in_their_directory(text: str) -> None:
    try:
        name = RepositoryName(text)
    except NameInvalid:
        assert len(text) > 255 or SPECIFIED_NAME.match(text) is None
    else:
        assert SPECIFIED_NAME.match(text)
        assert posixpath.normpath(f"/root/{name}") == f"/root/{text}"
        assert not any(part.startswith("_") for part in name.split("/"))


@pytest.mark.parametrize("text", ["latest", "_", "0", "V1.2_3-rc.1", "a..b", "sha256-abc.sig", "x" * 128])
def test_a_tag_is_up_to_128_word_characters_dots_and_dashes(text: str) -> None:
    assert Tag(text) == text


@pytest.mark.parametrize("text", ["", ".a", "-a", "..", "a/b", "a:b", "a b", "a\n", "é", "٣", "x" * 129])
def test_a_tag_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TagInvalid):
        Tag(text)


@given(st.one_of(TAG_LIKE, st.text()))
def test_tags_are_those_of_the_specification(text: str) -> None:
    try:
        Tag(text)
    except TagInvalid as error:
        assert SPECIFIED_TAG.match(text) is None
        assert len(error.message) < 1200
    else:
        assert SPECIFIED_TAG.match(text)


@given(st.uuids())
def test_a_session_has_the_canonical_text_of_a_uuid(value: uuid.UUID) -> None:
    assert SessionId(str(value)) == str(value)
    for other in (value.hex, str(value).upper() + "X", f"{{{value}}}", f"{value}\n", value.urn):
        with pytest.raises(UploadUnknown):
            SessionId(other)


@given(st.text())
def test_no_session_has_an_arbitrary_text(text: str) -> None:
    try:
        session = SessionId(text)
    except UploadUnknown:
        return
    assert str(uuid.UUID(session)) == text


def test_a_reference_with_a_colon_is_a_digest() -> None:
    digest = Digest.of(b"")
    found = parse_reference(str(digest))
    assert isinstance(found, Digest)
    assert found == digest
    with pytest.raises(DigestInvalid):
        parse_reference("sha256:abc")
    with pytest.raises(DigestInvalid):
        parse_reference("latest:")


def test_a_reference_without_one_is_a_tag() -> None:
    assert isinstance(parse_reference("latest"), Tag)
    assert isinstance(parse_reference("0" * 64), Tag)  # hex alone names no digest
    with pytest.raises(TagInvalid):
        parse_reference("-latest")


@given(st.text())
def test_an_arbitrary_reference_is_a_tag_a_digest_or_refused(text: str) -> None:
    try:
        found = parse_reference(text)
    except (DigestInvalid, TagInvalid):
        return
    assert isinstance(found, Tag | Digest)
    assert found == text
