"""The repositories of a tree, in ASCII order, found as far as they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.oci.errors import NameInvalid
from registry.oci.names import RepositoryName
from registry.storage import layout
from registry.storage.base import Missing
from registry.store import links

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage.base import Records


def walk(records: Records, last: str = "", path: str = "") -> Iterator[RepositoryName]:
    """Repositories that hold a manifest, after `last`, in the order of their bytes.

    That is not the order of a walk by directories: `a-b` comes before `a/b`, as `-` is less than `/`. So a directory
    stands in the list of its siblings twice: as a repository, and, with a slash, as what is below it.
    """
    children = [name for name in records.list(layout.repository(path)) if not name.startswith("_")]
    for name in sorted([*children, *(f"{name}/" for name in children)]):
        full = f"{path}/{name}" if path else name
        if name.endswith("/"):
            if full > last or last.startswith(full):
                yield from walk(records, last, full[:-1])
        elif full > last and _holds_a_manifest(records, full):
            yield RepositoryName(full)


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
