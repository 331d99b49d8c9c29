"""Which tags stay: policies, and what they decide about the tags of a repository. No clock, no storage.

Whatever a rule keeps stays: a second rule can only keep more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from registry.store.immutable import ANY_MOVES, ImmutableTags

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from registry.oci.digest import Digest
    from registry.oci.names import RepositoryName, Tag
    from registry.oci.patterns import RepositoryPattern

Version: TypeAlias = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]
"""Such that a newer version compares as greater."""

_VERSION = re.compile(r"v?([0-9]+)\.([0-9]+)\.([0-9]+)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?")


@dataclass(frozen=True, slots=True)
class TagState:
    """A tag at one moment.

    Attributes:
        name: of the tag.
        digest: of the manifest that it names.
        pushed: when it was last pushed, in seconds since the epoch.
    """

    name: Tag
    digest: Digest
    pushed: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about a tag, and by which rule, in words that name the setting."""

    tag: TagState
    stays: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Keeps some of the tags that one of its expressions fits.

    Attributes:
        setting: names it in reasons.
        tags: regular expressions for whole tags; none = it is about every tag.
        last: how many, of those that were pushed last.
        younger: all that were pushed in so many seconds before now.
        versions: all with one of so many highest versions, as semver orders them; other tags are no versions.
    """

    setting: str
    tags: tuple[re.Pattern[str], ...] = ()
    last: int | None = None
    younger: float | None = None
    versions: int | None = None

    def reasons(self, tags: Iterable[TagState], now: float) -> dict[Tag, str]:
        """The tags that it keeps, and why."""
        concerned = [tag for tag in tags if not self.tags or any(each.fullmatch(tag.name) for each in self.tags)]
        kept: dict[Tag, str] = {}
        if self.last is None and self.younger is None and self.versions is None:
            kept |= dict.fromkeys((tag.name for tag in concerned), f"{self.setting}.tags")
        if self.versions is not None:
            names = _newest_versions(concerned, self.versions)
            kept |= dict.fromkeys(names, f"{self.setting}.versions: {self.versions}")
        if self.younger is not None:
            names = [tag.name for tag in concerned if tag.pushed > now - self.younger]
            kept |= dict.fromkeys(names, f"{self.setting}.younger")
        if self.last is not None:
            names = [tag.name for tag in newest_first(concerned)[: self.last]]
            kept |= dict.fromkeys(names, f"{self.setting}.last: {self.last}")
        return kept


@dataclass(frozen=True, slots=True)
class Policy:
    """What stays in some repositories.

    Attributes:
        setting: names it in reasons.
        repositories: which ones.
        keep: whose tags stay that none of the rules keeps: nobody's. None = every tag stays.
        untagged: seconds after which a manifest goes that no tag keeps; None = it stays.
    """

    setting: str
    repositories: tuple[RepositoryPattern, ...]
    keep: tuple[Rule, ...] | None = None
    untagged: float | None = None


class Retention:
    """What stays in which repository.

    Args:
        policies: the first that fits a repository decides about it.
        immutable: tags that stay whatever the policies say.
    """

    def __init__(self, policies: Sequence[Policy] = (), immutable: ImmutableTags = ANY_MOVES) -> None:
        self._policies = policies
        self._immutable = immutable

    @property
    def removes_something(self) -> bool:
        """Whether any policy ever lets anything go."""
        return any(policy.keep is not None or policy.untagged is not None for policy in self._policies)

    def policy(self, repository: RepositoryName) -> Policy | None:
        """The one that decides about a repository; None where none fits it."""
        fitting = (one for one in self._policies if any(each.matches(repository) for each in one.repositories))
        return next(fitting, None)

    def removes_tags(self, repository: RepositoryName) -> bool:
        """Whether any tag of a repository may go."""
        policy = self.policy(repository)
        return policy is not None and policy.keep is not None

    def untagged(self, repository: RepositoryName) -> float | None:
        """Seconds after which manifests go that no tag keeps; None where the policies say nothing about them."""
        policy = self.policy(repository)
        return None if policy is None else policy.untagged

    def decide(self, repository: RepositoryName, tags: Collection[TagState], now: float) -> list[Verdict]:
        """What happens to the tags of a repository, all of them, the newest first.

        Args:
            repository: whose they are.
            tags: all that it has: which ones are the last depends on the others.
            now: in seconds since the epoch.
        """
        policy = self.policy(repository)
        if policy is None or policy.keep is None:
            return [Verdict(tag, stays=True, reason="no policy removes its tags") for tag in newest_first(tags)]
        fixed = {tag.name: self._immutable.rule(repository, tag.name) for tag in tags}
        kept = {name: f"immutable, {rule}" for name, rule in fixed.items() if rule is not None}
        others = [tag for tag in tags if tag.name not in kept]
        for rule in policy.keep:
            kept = rule.reasons(others, now) | kept
        gone = f"no rule of {policy.setting}.keep keeps it"
        return [Verdict(tag, tag.name in kept, kept.get(tag.name, gone)) for tag in newest_first(tags)]


KEEP_EVERYTHING = Retention()
"""No tag goes, and no manifest because it has none."""


def newest_first(tags: Iterable[TagState]) -> list[TagState]:
    """In the order of their pushes; of two at the same time, the greater name counts as the later one."""
    return sorted(tags, key=lambda tag: (tag.pushed, tag.name), reverse=True)


def version(tag: str) -> Version | None:
    """The version that a tag such as `1.2.3`, `v1.2.3` or `1.2.3-rc.1` says; None for any other tag.

    Ordered as https://semver.org, section 11, has it. A tag cannot have the `+` of build metadata.
    """
    found = _VERSION.fullmatch(tag)
    if found is None:
        return None
    major, minor, patch, before = found.groups()
    parts = before.split(".") if before else []
    ordered = tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)
    return int(major), int(minor), int(patch), not parts, ordered


def _newest_versions(tags: Iterable[TagState], most: int) -> list[Tag]:
    """Names of the tags that say one of the highest versions; `1.2.3` and `v1.2.3` are one version."""
    versions = {tag.name: found for tag in tags if (found := version(tag.name)) is not None}
    highest = set(sorted(set(versions.values()), reverse=True)[:most])
    return [name for name, found in versions.items() if found in highest]
