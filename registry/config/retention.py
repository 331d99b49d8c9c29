"""`retention`: which tags never move."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from registry.config.values import REFUSAL, Pattern, Regex, Section, Several


class Policy(Section):
    """One of the list. `immutable` has regular expressions for whole tags."""

    repositories: Several[Pattern]
    immutable: Several[Annotated[Regex, Field(min_length=1)]]

    @model_validator(mode="after")
    def _for_something(self) -> Self:
        if not self.repositories:
            raise ValueError(f"expected repositories, such as team/** or **; {REFUSAL}")
        if not self.immutable:
            raise ValueError(f"expected immutable, such as v[0-9.]+; {REFUSAL}")
        return self


class Retention(Section):
    """The first policy that fits a repository decides about it."""

    policies: list[Policy] = []
