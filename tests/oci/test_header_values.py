"""Header values: parsed without trust, rendered so that they parse back."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.errors import RangeInvalid
from registry.oci.headers import (
    MOST_RANGES,
    ByteRange,
    Condition,
    EntityTags,
    entity_tag,
    next_link,
    parse_content_range,
    parse_ranges,
)

SIZES = st.integers(min_value=0, max_value=2**40)
ASCII = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126))
RANGE_LIKE = st.text(alphabet="0123456789-, =*/bytes", max_size=40)


# Range


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-0", 10, [(0, 0)]),
        ("bytes=0-9", 10, [(0, 9)]),
        ("bytes=3-5", 10, [(3, 5)]),
        ("bytes=3-", 10, [(3, 9)]),
        ("bytes=-3", 10, [(7, 9)]),
        ("bytes=-30", 10, [(0, 9)]),  # RFC 9110 14.1.2: a longer suffix is everything
        ("bytes=5-100", 10, [(5, 9)]),
        ("bytes=0-9999999999999999999", 10, [(0, 9)]),
        ("Bytes=1-2", 10, [(1, 2)]),
        ("bytes = 1-2", 10, [(1, 2)]),
        ("bytes=0-1, 4-5", 10, [(0, 1), (4, 5)]),
        ("bytes=0-1,,4-5,", 10, [(0, 1), (4, 5)]),
        ("bytes=4-5,0-1", 10, [(4, 5), (0, 1)]),
        ("bytes=0-1,50-60", 10, [(0, 1)]),  # what can be had is sent
        ("bytes=0-1,x-y", 10, [(0, 1)]),
    ],
)
def test_the_satisfiable_ranges_are_found_in_their_order(
    header: str, size: int, expected: list[tuple[int, int]]
) -> None:
    assert [(found.first, found.last) for found in parse_ranges(header, size)] == expected


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes=10-", 10),
        ("bytes=10-12", 10),
        ("bytes=-0", 10),
        ("bytes=500-0", 1000),
        ("bytes=", 10),
        ("bytes=-", 10),
        ("bytes=a-b", 10),
        ("bytes=1", 10),
        ("bytes=1-2-3", 10),
        ("bytes=--1", 10),
        ("bytes=0-0", 0),
        ("bytes=-1", 0),
        ("bytes=٣-٤", 10),
        ("bytes=99999999999999999999-", 10),
    ],
)
def test_a_range_that_cannot_be_had_is_refused_with_the_size(header: str, size: int) -> None:
    with pytest.raises(RangeInvalid) as refused:
        parse_ranges(header, size)
    assert refused.value.status == 416
    assert refused.value.headers == {"Content-Range": f"bytes */{size}"}


@pytest.mark.parametrize("header", ["items=0-1", "0-1", "", "seconds=1-2"])
def test_a_unit_other_than_bytes_is_answered_with_everything(header: str) -> None:
    assert parse_ranges(header, 10) == ()


def test_more_bytes_than_there_are_or_too_many_ranges_are_answered_with_everything() -> None:
    assert parse_ranges("bytes=0-9,0-9", 10) == ()
    assert parse_ranges("bytes=0-5,5-9", 10) == ()
    most = ",".join(f"{2 * n}-{2 * n}" for n in range(MOST_RANGES))
    assert len(parse_ranges(f"bytes={most}", 10_000)) == MOST_RANGES
    assert parse_ranges(f"bytes={most},5000-5000", 10_000) == ()


def test_a_single_range_of_everything_is_a_range() -> None:
    assert parse_ranges("bytes=0-", 10) == (ByteRange(0, 9),)


@given(st.one_of(ASCII, RANGE_LIKE, RANGE_LIKE.map("bytes={}".format), st.text()), SIZES)
def test_arbitrary_range_headers_give_ranges_within_the_blob_or_are_refused(header: str, size: int) -> None:
    try:
        found = parse_ranges(header, size)
    except RangeInvalid:
        return
    assert all(0 <= part.first <= part.last < size for part in found)
    assert len(found) < 2 or sum(part.length for part in found) <= size


@given(st.data(), st.integers(min_value=1, max_value=2**40))
def test_a_range_asked_for_as_first_and_last_comes_back_as_it_was(data: st.DataObject, size: int) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, size - 1))
    (found,) = parse_ranges(f"bytes={first}-{last}", size)
    assert found == ByteRange(first, last)
    assert found.length == last - first + 1
    assert found.render(size) == f"bytes {first}-{last}/{size}"
    assert parse_content_range(found.render(size)) == found


# Content-Range


@pytest.mark.parametrize(
    "header",
    ["0-9", "bytes 0-9", "bytes=0-9", "bytes 0-9/10", "bytes 0-9/*", " 0-9 ", "0-9/10"],
)
def test_a_chunk_names_its_place_in_the_form_of_either_specification(header: str) -> None:
    assert parse_content_range(header) == ByteRange(0, 9)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "-",
        "9",
        "-9",
        "9-",
        "9-0",
        "a-b",
        "0-9-10",
        "0 - 9",
        "bytes */10",
        "items 0-9/10",
        "0x0-0x9",
        "+0-9",
        "1e3-2e3",
    ],
)
def test_what_names_no_place_is_refused(header: str) -> None:
    with pytest.raises(RangeInvalid):
        parse_content_range(header)


@given(st.one_of(ASCII, RANGE_LIKE, st.text()))
def test_arbitrary_content_ranges_are_ranges_or_refused(header: str) -> None:
    try:
        found = parse_content_range(header)
    except RangeInvalid as error:
        assert len(error.message) < 500
    else:
        assert 0 <= found.first <= found.last


# Entity tags and conditions


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ('"a"', {"a"}),
        ('W/"a"', {"a"}),
        ('"a", "b"', {"a", "b"}),
        ('"a","b" , W/"c"', {"a", "b", "c"}),
        ('"a,b"', {"a,b"}),
        ("sha256:abc", {"sha256:abc"}),  # registry:2 takes a digest without quotes
        ('sha256:abc, "b"', {"sha256:abc", "b"}),
        ("", set()),
        (",,", set()),
    ],
)
def test_a_list_of_entity_tags_is_read_with_and_without_quotes(header: str, values: set[str]) -> None:
    assert EntityTags.parse(header) == EntityTags(frozenset(values))


@pytest.mark.parametrize("header", ["*", " * "])
def test_a_star_matches_whatever_is_there_and_nothing_that_is_not(header: str) -> None:
    tags = EntityTags.parse(header)
    assert tags.anything
    assert tags.match("x")
    assert not tags.match(None)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"'), min_size=1))
def test_an_entity_tag_that_we_render_matches_its_own_value_and_no_other(value: str) -> None:
    tags = EntityTags.parse(entity_tag(value))
    assert tags.match(value)
    assert not tags.match(value + "x")
    assert not tags.match(None)


@given(st.text())
def test_arbitrary_entity_tags_are_read_without_an_exception(header: str) -> None:
    assert not EntityTags.parse(header).match(None)


@pytest.mark.parametrize(
    ("headers", "current", "holds"),
    [
        ({}, None, True),
        ({}, "a", True),
        ({"if-match": '"a"'}, "a", True),
        ({"if-match": '"a"'}, "b", False),
        ({"if-match": '"a"'}, None, False),
        ({"if-match": "*"}, "b", True),
        ({"if-match": "*"}, None, False),
        ({"if-none-match": "*"}, None, True),
        ({"if-none-match": "*"}, "a", False),
        ({"if-none-match": '"a"'}, "a", False),
        ({"if-none-match": '"a"'}, "b", True),
        ({"if-none-match": '"a"'}, None, True),
        ({"if-match": '"a"', "if-none-match": '"b"'}, "a", True),
        ({"if-match": '"a"', "if-none-match": '"a"'}, "a", False),
        ({"if-match": ""}, "a", False),  # nothing is named, so nothing matches
    ],
)
def test_a_condition_holds_as_rfc_9110_has_it(headers: dict[str, str], current: str | None, holds: bool) -> None:  # noqa: FBT001
    assert Condition.parse(headers).holds(current) is holds


def test_a_request_without_conditions_has_the_empty_condition() -> None:
    assert Condition.parse({"accept": "*/*"}) == Condition()


# Link


def test_the_next_page_is_a_path_so_that_it_is_right_behind_every_proxy() -> None:
    link = next_link("/v2/a/b/tags/list", [("n", "2"), ("last", "v1.0_x-y")])
    assert link == '</v2/a/b/tags/list?n=2&last=v1.0_x-y>; rel="next"'


def test_digests_and_names_stand_in_a_link_as_they_are() -> None:
    assert "last=library/ubuntu" in next_link("/v2/_catalog", [("last", "library/ubuntu")])
    assert "last=sha256:abc" in next_link("/v2/x", [("last", "sha256:abc")])


@given(st.text(), st.integers(0, 10**9))
def test_the_query_of_a_link_reads_back_and_cannot_leave_its_brackets(last: str, count: int) -> None:
    try:
        last.encode()
    except UnicodeEncodeError:
        return
    found = re.fullmatch(r'<([^<>]*)>; rel="next"', next_link("/v2/_catalog", [("n", str(count)), ("last", last)]))
    assert found is not None
    query = parse_qs(urlsplit(found[1]).query, keep_blank_values=True, strict_parsing=True)
    assert query == {"n": [str(count)], "last": [last]}
