"""Patterns of repository names, as rules have them: `team/app`, `team/*`, `team/**`, `**`."""

from __future__ import annotations

import re

_FIT = re.compile(r"[a-z0-9._*-]+(?:/[a-z0-9._*-]+)*")
_STARS = re.compile(r"(\*+)")
_MEANING = {"*": "[^/]+", "**": ".+"}


class RepositoryPattern(str):
    """Names with stars in them: one stands for a part of a name without a slash, two for anything, slashes too.

    `team/**` is everything below `team`, and not `team` itself. Raises ValueError for what no name can match.
    """

    __slots__ = ("_compiled",)
    _compiled: re.Pattern[str]

    def __new__(cls, text: str) -> RepositoryPattern:
        pattern = super().__new__(cls, text)
        pieces = _STARS.split(text)
        if not _FIT.fullmatch(text) or any(piece.startswith("***") for piece in pieces):
            raise ValueError("expected a repository or a pattern such as team/app, team/*, team/** or **")
        compiled = "".join(_MEANING.get(piece) or re.escape(piece) for piece in pieces)
        pattern._compiled = re.compile(compiled)
        return pattern

    @property
    def is_everything(self) -> bool:
        return self == "**"

    def matches(self, repository: str) -> bool:
        return self._compiled.fullmatch(repository) is not None
