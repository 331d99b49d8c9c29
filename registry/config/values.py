"""The kinds of values that settings have, and what a section of the tree is."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, SecretStr

from registry.config.units import format_duration, format_size, parse_age, parse_duration, parse_size
from registry.oci.patterns import RepositoryPattern

REFUSAL = "refusing to serve without the protection that you ask for"

_Element = TypeVar("_Element")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _age(value: object) -> object:
    return parse_age(value) if isinstance(value, str) else value


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta():
        raise ValueError("expected a duration of 0s or more")
    return value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta():
        raise ValueError("expected a duration of more than 0s, such as 30m or 24h")
    return value


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error:
        raise ValueError("expected a regular expression") from None
    return value


def _pattern(value: str) -> str:
    RepositoryPattern(value)
    return value


def _header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError("expected the name of an HTTP header")
    return value


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("expected the value of an HTTP header, on one line")
    return value


_as_duration = PlainSerializer(format_duration, return_type=str, when_used="json")
Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_not_negative), _as_duration]
Period = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive), _as_duration]
Age = Annotated[timedelta, BeforeValidator(_age), AfterValidator(_positive), _as_duration]
"""Of settings that are ours alone: days, too."""
Size = Annotated[
    int, BeforeValidator(_size), Field(ge=0), PlainSerializer(format_size, return_type=str, when_used="json")
]
Secret = Annotated[SecretStr, PlainSerializer(lambda _: "****", return_type=str, when_used="json")]
Several = Annotated[list[_Element], BeforeValidator(_listed)]
"""A list; a single text counts as a list of one."""
Regex = Annotated[str, AfterValidator(_regex)]
Pattern = Annotated[str, AfterValidator(_pattern)]
"""Of repository names."""
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]


class Section(BaseModel):
    """One level of the tree. Unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
