"""What clients ask tokens for, as distribution's token specification writes it: `repository:some/name:pull,push`.

A scope has a type, a name, and actions. A name may have colons in it, since it may begin with a host and its port; so
a scope is read from both ends. A parameter may hold several scopes with spaces between, and come several times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REPOSITORY = "repository"
REGISTRY = "registry"
CATALOG = "catalog"
EVERYTHING = "*"

MOST = 100
"""Scopes of one request. docker asks for one more than the repositories that it would mount layers from."""
MOST_CHARACTERS = 12 * 1024

_SCOPE = re.compile(
    r"([a-z0-9]+)(?:\([a-z0-9]+\))?:([^:\s\x00-\x1f\"\\]+(?::[0-9]+/[^:\s\x00-\x1f\"\\]+)?):([a-z*,]*)", re.ASCII
)


class Malformed(Exception):
    """It is no scope. Its message says what one looks like."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one thing."""

    kind: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"


def parse_scopes(given: Sequence[str]) -> list[Scope]:
    """The scopes of a request's parameters, in their order; each thing once, with all actions that are asked for it.

    A class in the type, as in `repository(plugin)`, is left out: this registry knows none.

    Raises:
        Malformed: one is none, or there are too many.
    """
    if sum(map(len, given)) > MOST_CHARACTERS:
        raise Malformed(f"the scopes have more than {MOST_CHARACTERS} characters")
    texts = [text for parameter in given for text in parameter.split(" ") if text]
    if len(texts) > MOST:
        raise Malformed(f"more than {MOST} scopes")
    found: dict[tuple[str, str], dict[str, None]] = {}
    for text in texts:
        parts = _SCOPE.fullmatch(text)
        if parts is None:
            raise Malformed(
                f"invalid scope {text[:80]!r}: expected TYPE:NAME:ACTIONS, such as repository:some/name:pull,push"
            )
        actions = found.setdefault((parts[1], parts[2]), {})
        actions.update(dict.fromkeys(action for action in parts[3].split(",") if action))
    return [Scope(kind, name, tuple(actions)) for (kind, name), actions in found.items()]


def render_scopes(scopes: Iterable[Scope]) -> str:
    """As a challenge has them; `parse_scopes` undoes it."""
    return " ".join(map(str, scopes))
