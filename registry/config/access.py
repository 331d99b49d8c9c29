"""`auth.access` and `auth.groups`: who may do what in which repositories."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from registry.config.values import REFUSAL, Pattern, Section, Several

ANONYMOUS, AUTHENTICATED = "anonymous", "authenticated"
"""Names in `users` that stand for whoever sends no password, and for every user."""


class AccessRule(Section):
    """One of the list. `users` and `groups` add up; `actions: []` allows nothing."""

    users: Several[str] = []
    groups: Several[str] = []
    repositories: Several[Pattern]
    actions: Several[Literal["pull", "push", "delete"]]

    @model_validator(mode="after")
    def _for_somebody(self) -> Self:
        if not self.users and not self.groups:
            raise ValueError(f"expected users or groups; {REFUSAL}")
        if not self.repositories:
            raise ValueError(f"expected repositories, such as team/** or **; {REFUSAL}")
        return self
