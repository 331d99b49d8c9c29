"""`retention`: which tags never move."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from registry.config.values import REFUSAL, Regex, Section, Several
from registry.oci.patterns import RepositoryPattern


def _pattern(value: str) -> str:
    RepositoryPattern(value)
    return value


class Policy(Section):
    """One of the list. `immutable` has regular expressions for whole tags."""

    repositories: Several[Annotated[str, AfterValidator(_pattern)]]
    immutable: Several[Regex]

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
