"""Tags that stay what they are, once they name a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

    from registry.oci.names import RepositoryName, Tag
    from registry.oci.patterns import RepositoryPattern


@dataclass(frozen=True, slots=True)
class Protection:
    """What a policy says about the tags of some repositories.

    Attributes:
        setting: names it in messages.
        repositories: whose tags it is about.
        tags: each for whole tags; one that fits is immutable.
    """

    setting: str
    repositories: tuple[RepositoryPattern, ...]
    tags: tuple[re.Pattern[str], ...]


class ImmutableTags:
    """Which tags are immutable.

    Args:
        protections: the first that fits a repository decides about its tags.
    """

    def __init__(self, protections: tuple[Protection, ...] = ()) -> None:
        self._protections = protections

    def rule(self, repository: RepositoryName, tag: Tag) -> str | None:
        """What makes a tag immutable, as messages name it; None where nothing does."""
        for protection in self._protections:
            if any(pattern.matches(repository) for pattern in protection.repositories):
                fitting = (pattern.pattern for pattern in protection.tags if pattern.fullmatch(tag))
                return next((f"{pattern!r} of {protection.setting}" for pattern in fitting), None)
        return None


ANY_MOVES = ImmutableTags()
"""No tag is immutable."""
