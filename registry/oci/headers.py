"""Header values: parse and render. Parsing never trusts; rendering is the exact inverse where both exist.

Sources: RFC 9110 sections 8.8.3 (entity tags), 13.1 (conditions), 14 (ranges); RFC 8288 (Link);
distribution-spec, "Pushing a blob in chunks" (its Content-Range is `<first>-<last>`, both inclusive).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from registry.oci.errors import RangeInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_RANGES = 1024
"""Ranges answered in one response; zstd:chunked pulls ask for hundreds. Above it the whole blob is sent."""

_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]+|\*))?", re.ASCII)
_RANGE = re.compile(r"([0-9]{0,40})-([0-9]{0,40})", re.ASCII)
_ENTITY_TAG = re.compile(r'(?:W/)?"([^"]*)"|([^\s,"]+)', re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `first` to `last`, both inclusive."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def render(self, size: int) -> str:
        """The Content-Range of a partial response to a blob of `size` bytes."""
        return f"bytes {self.first}-{self.last}/{size}"


def parse_ranges(header: str, size: int) -> tuple[ByteRange, ...]:
    """The satisfiable ranges of a Range header for `size` bytes; empty = answer with everything.

    A unit other than bytes, and more than `MOST_RANGES` or more bytes than the blob has, are answered whole, as RFC
    9110 section 14.2 allows; clients of partial pulls take that, and would fail on a 416.

    Raises:
        RangeInvalid: no range can be satisfied, or the header cannot be read (the conformance suite wants 416
            for `bytes=500-0`, which RFC 9110 section 14.1.2 calls invalid).
    """
    unit, _, text = header.partition("=")
    if unit.strip().lower() != "bytes" or text.count(",") >= MOST_RANGES:
        return ()
    ranges = [_parse_range(part.strip(), size) for part in text.split(",") if part.strip()]
    satisfiable = tuple(found for found in ranges if found is not None)
    if not satisfiable:
        raise RangeInvalid(
            f"the range {header[:80]!r} cannot be had of {size} bytes",
            headers={"Content-Range": f"bytes */{size}"},
        )
    if len(satisfiable) > 1 and sum(one.length for one in satisfiable) > size:
        return ()
    return satisfiable


def _parse_range(text: str, size: int) -> ByteRange | None:
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    match found.groups():
        case "", "":
            return None
        case "", suffix:
            first, last = max(size - int(suffix), 0), size - 1
        case first_text, "":
            first, last = int(first_text), size - 1
        case first_text, last_text:
            if int(last_text) < int(first_text):
                return None
            first, last = int(first_text), min(int(last_text), size - 1)
    return ByteRange(first, last) if first <= last else None


def parse_content_range(header: str) -> ByteRange:
    """The Content-Range of an upload's chunk. `bytes 0-9/*`, the form of RFC 9110, is taken as well.

    Raises:
        RangeInvalid: it is no range, or it ends before it begins.
    """
    found = _CONTENT_RANGE.fullmatch(header.strip())
    if found is None or int(found[2]) < int(found[1]):
        raise RangeInvalid(f"invalid Content-Range {header[:80]!r}: expected <first>-<last>, both inclusive")
    return ByteRange(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class EntityTags:
    """The list of an If-Match or If-None-Match header; `anything` is `*`. Values are without quotes.

    registry:2 takes an unquoted digest too, and scripts send one.
    """

    values: frozenset[str]
    anything: bool = False

    @classmethod
    def parse(cls, header: str) -> EntityTags:
        if header.strip() == "*":
            return cls(frozenset(), anything=True)
        return cls(frozenset(quoted or bare for quoted, bare in _ENTITY_TAG.findall(header)))

    def match(self, current: str | None) -> bool:
        """Whether they name the current entity tag (None: there is nothing)."""
        return current is not None and (self.anything or current in self.values)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a conditional request asks for. RFC 9110 section 13.2.2 gives the order."""

    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None

    @classmethod
    def parse(cls, headers: Mapping[str, str]) -> Condition:
        """From request headers, looked up by lower-case name."""
        match, none_match = headers.get("if-match"), headers.get("if-none-match")
        return cls(
            EntityTags.parse(match) if match is not None else None,
            EntityTags.parse(none_match) if none_match is not None else None,
        )

    def holds(self, current: str | None) -> bool:
        """Whether the request may go on, given the current entity tag (None: there is nothing)."""
        if self.if_match is not None and not self.if_match.match(current):
            return False
        return self.if_none_match is None or not self.if_none_match.match(current)


def entity_tag(value: str) -> str:
    """A strong entity tag."""
    return f'"{value}"'


def next_link(path: str, query: Sequence[tuple[str, str]]) -> str:
    """A Link header to the next page: path only, so that it is right behind every proxy."""
    return f'<{path}?{urlencode(query, safe=":/")}>; rel="next"'
