"""The repositories of a tree, in ASCII order, found as far as they are asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from registry.oci.errors import NameInvalid
from registry.oci.names import RepositoryName
from registry.storage import layout
from registry.storage.base import Missing
from registry.store import links

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage.base import Records
    from registry.store.names import Names


def ordered(children: list[str]) -> list[str]:
    """The directories in a repository's directory, in the order in which `walk` meets them.

    That is not the order of a walk by directories: `a-b` comes before `a/b`, as `-` is less than `/`. So a directory
    stands in the list twice: as a repository, and, with a slash, as what is below it.
    """
    names = [name for name in children if not name.startswith("_")]
    return sorted([*names, *(f"{name}/" for name in names)])


def walk(names: Names[list[str]], records: Records, last: str = "", path: str = "") -> Iterator[RepositoryName]:
    """Repositories that hold a manifest, after `last`, in the order of their bytes.

    Args:
        names: sorted by `ordered`.
        records: of the same storage.
        last: as below `path`.
        path: where to look, with a slash at its end; empty for everywhere.
    """
    here = names.below(layout.repository(path[:-1]))
    above, slash, rest = last.partition("/")
    if slash and _holds(here, f"{above}/"):
        yield from walk(names, records, rest, f"{path}{above}/")
    for name in here[bisect_right(here, last) :]:
        if name.endswith("/"):
            yield from walk(names, records, "", path + name)
        elif _holds_a_manifest(records, path + name):
            yield RepositoryName(path + name)


def _holds(names: list[str], name: str) -> bool:
    position = bisect_left(names, name)
    return position < len(names) and names[position] == name


def every(records: Records, path: str = "") -> Iterator[str]:
    """Every path where a repository is, or what is left of one, even if its name is no name."""
    children = records.list(layout.repository(path))
    if path and not {layout.LAYERS, layout.MANIFESTS}.isdisjoint(children):
        yield path
    for name in sorted(children):
        if not name.startswith("_"):
            yield from every(records, f"{path}/{name}" if path else name)


def _holds_a_manifest(records: Records, path: str) -> bool:
    try:
        name = RepositoryName(path)
    except NameInvalid:
        return False
    for digest in links.revisions(records, name):
        try:
            links.target(records, layout.revision_link(name, digest))
        except Missing:
            continue
        return True
    return False
