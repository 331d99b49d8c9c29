"""`quota`: how much may be stored."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from registry.config.values import REFUSAL, Pattern, Section, Several, Size


def _something(value: int) -> int:
    if not value:
        raise ValueError("expected a size of more than 0, such as 100GiB")
    return value


class Limit(Section):
    """One of the list: what all repositories that fit may have, in sum and not each."""

    repositories: Several[Pattern]
    together: Annotated[Size, AfterValidator(_something)]

    @model_validator(mode="after")
    def _for_something(self) -> Self:
        if not self.repositories:
            raise ValueError(f"expected repositories, such as team/** or **; {REFUSAL}")
        return self


class Quota(Section):
    """`total` is of the whole storage, 0 for no limit. A repository may be in several `limits`: all of them hold."""

    total: Size = 0
    limits: list[Limit] = []
