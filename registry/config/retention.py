"""`retention`: which tags never move, which stay, and which go."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from registry.config.values import REFUSAL, Age, Pattern, Regex, Section, Several

Expressions = Several[Annotated[Regex, Field(min_length=1)]]
"""Regular expressions, each for whole tags."""


class Keep(Section):
    """One rule: of the tags that `tags` fits, which ones stay; without another word, all of them."""

    tags: Expressions = []
    last: PositiveInt | None = None
    younger: Age | None = None
    versions: PositiveInt | None = None

    @model_validator(mode="after")
    def _for_something(self) -> Self:
        if not (self.tags or self.last or self.younger or self.versions):
            raise ValueError("expected what to keep: tags, last, younger or versions")
        return self


class Policy(Section):
    """One of the list."""

    repositories: Several[Pattern]
    immutable: Expressions = []
    keep: list[Keep] | None = None
    untagged: Age | None = None

    @model_validator(mode="after")
    def _for_something(self) -> Self:
        if not self.repositories:
            raise ValueError(f"expected repositories, such as team/** or **; {REFUSAL}")
        if not (self.immutable or self.keep is not None or self.untagged):
            raise ValueError(f"expected immutable, such as v[0-9.]+, or keep, or untagged; {REFUSAL}")
        if self.keep == []:
            raise ValueError("keep is empty, so every tag would go: say what to keep, or leave it out to keep all")
        return self


class Retention(Section):
    """The first policy that fits a repository decides about it."""

    policies: list[Policy] = []
