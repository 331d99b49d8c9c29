"""Rules: who may do what in which repositories. The first one that fits decides; where none fits, it is a no."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from registry.auth.base import Action, Need
from registry.oci.errors import Denied, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.oci.errors import RegistryError
    from registry.oci.names import RepositoryName
    from registry.oci.patterns import RepositoryPattern

_REMEMBERED = 16_384  # answers


@dataclass(frozen=True, slots=True)
class Grant:
    """One of the list.

    Attributes:
        users: names it is for.
        everyone: whether it is for every user.
        anonymous: whether it is for whoever has no name.
        repositories: what it is about: any of these.
        actions: what it allows; empty = nothing.
    """

    users: frozenset[str]
    everyone: bool
    anonymous: bool
    repositories: tuple[RepositoryPattern, ...]
    actions: frozenset[Action]

    def is_for(self, name: str | None) -> bool:
        """Whether it is for a user; None = whoever has no name, which is no user's name."""
        return self.anonymous if name is None else self.everyone or name in self.users

    def is_about(self, repository: str) -> bool:
        return any(pattern.matches(repository) for pattern in self.repositories)


class Access:
    """The list, in its order; None = each user may do everything, and nobody else anything: registry:2's meaning.

    Whoever has a name may do also what he might without: he could leave it out.
    """

    def __init__(self, grants: Sequence[Grant] | None) -> None:
        self._grants = grants
        self.let_anonymous_in = any(grant.anonymous and grant.actions for grant in grants or ())
        self.may = lru_cache(maxsize=_REMEMBERED)(self._may)

    def deciding(self, name: str | None, repository: str) -> int | None:
        """The number of the rule that decides, from 1 on; None where none fits."""
        for number, grant in enumerate(self._grants or (), 1):
            if grant.is_for(name) and grant.is_about(repository):
                return number
        return None

    def _may(self, name: str | None, action: Action, repository: RepositoryName | None) -> bool:
        """Whether a user (None: whoever has no name) may. A repository of None stands for all of them."""
        if self._grants is None:
            return name is not None
        if action is Action.CATALOG:
            allowed = any(Action.PULL in grant.actions for grant in self._of(name))
        elif repository is None:
            allowed = self._may_everywhere(name, action)
        else:
            decides = self.deciding(name, repository)
            allowed = decides is not None and action in self._grants[decides - 1].actions
        return allowed or (name is not None and self._may(None, action, repository))

    def _may_everywhere(self, name: str | None, action: Action) -> bool:
        for grant in self._of(name):
            if action not in grant.actions:
                return False
            if any(pattern.is_everything for pattern in grant.repositories):
                return True
        return False

    def _of(self, name: str | None) -> Iterator[Grant]:
        return (grant for grant in self._grants or () if grant.is_for(name))


@dataclass(frozen=True, slots=True)
class Person:
    """A user whose password was right."""

    name: str
    access: Access

    def may(self, need: Need) -> bool:
        return self.access.may(self.name, need.action, need.repository)

    def sees(self, repository: RepositoryName | None) -> bool:
        return self.access.may(self.name, Action.PULL, repository)

    def refusal(self) -> RegistryError:
        return Denied(f"{self.name!r} is not allowed to do this here (auth.access)")


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Whoever sent no credentials. A password would help, so a no is a challenge."""

    access: Access
    name: str = ""

    def may(self, need: Need) -> bool:
        return self.access.may(None, need.action, need.repository)

    def sees(self, repository: RepositoryName | None) -> bool:
        return self.access.may(None, Action.PULL, repository)

    def refusal(self) -> RegistryError:
        return Unauthorized()
