"""The repositories of a tree, in ASCII order, found as far as they are asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from registry.oci.digest import ALGORITHMS
from registry.oci.errors import NameInvalid
from registry.oci.names import RepositoryName
from registry.storage import layout
from registry.store import links
from registry.store.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.oci.digest import Digest
    from registry.storage.base import Records


_REPOSITORY = frozenset({layout.LAYERS, layout.MANIFESTS})


def _ordered(children: list[str]) -> list[str]:
    """The directories in a repository's directory, in the order in which a walk meets them.

    That is not the order of a walk by directories: `a-b` comes before `a/b`, as `-` is less than `/`. So a directory
    stands in the list twice: as a repository, and, with a slash, as what is below it.
    """
    names = [name for name in children if not name.startswith("_")]
    return sorted([*names, *(f"{name}/" for name in names)])


class Catalog:
    """The repositories of a storage, remembered as far as they were asked for.

    Args:
        records: their links.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._paths = Names(records, _ordered)
        self._revisions = Names(records, _Revisions)

    def walk(
        self, last: str = "", visible: Callable[[RepositoryName], bool] | None = None, path: str = ""
    ) -> Iterator[RepositoryName]:
        """Repositories that hold a manifest, after `last`, in the order of their bytes. Blocks.

        Args:
            last: as below `path`.
            visible: those alone; None = all.
            path: where to look, with a slash at its end; empty for everywhere.
        """
        here = self._paths.below(layout.repository(path[:-1]))
        above, slash, rest = last.partition("/")
        if slash and _holds(here, f"{above}/"):
            yield from self.walk(rest, visible, f"{path}{above}/")
        for name in here[bisect_right(here, last) :]:
            if name.endswith("/"):
                yield from self.walk("", visible, path + name)
            elif (found := _named(path + name)) and (not visible or visible(found)) and self._holds_a_manifest(found):
                yield found

    def _holds_a_manifest(self, name: RepositoryName) -> bool:
        return any(self._has_one_of(name, algorithm) for algorithm in ALGORITHMS)

    def _has_one_of(self, name: RepositoryName, algorithm: str) -> bool:
        """Whether a revision was or is found. One that goes takes its directory along, and that is seen."""
        known = self._revisions.below(layout.revisions(name, algorithm))
        if not known.is_found:
            known.is_found = any(
                links.is_there(self._records, layout.revision_link(name, digest)) for digest in known.digests(algorithm)
            )
        return known.is_found


class _Revisions:
    """The names below a repository's revisions, and whether one of them was seen to be a manifest."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.is_found = False

    def __len__(self) -> int:
        return len(self._names)

    def digests(self, algorithm: str) -> Iterator[Digest]:
        return links.valid_digests(algorithm, self._names)


def _named(path: str) -> RepositoryName | None:
    try:
        return RepositoryName(path)
    except NameInvalid:
        return None


def _holds(names: list[str], name: str) -> bool:
    position = bisect_left(names, name)
    return position < len(names) and names[position] == name


def every(records: Records, signs: frozenset[str] = _REPOSITORY, path: str = "") -> Iterator[str]:
    """Every path where a repository is, or what is left of one, even if its name is no name.

    Args:
        records: their links.
        signs: what is below such a path: any of these.
        path: where to look; empty for everywhere.
    """
    children = records.list(layout.repository(path))
    if path and not signs.isdisjoint(children):
        yield path
    for name in sorted(children):
        if not name.startswith("_"):
            yield from every(records, signs, f"{path}/{name}" if path else name)
