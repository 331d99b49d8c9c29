"""`registry usage`: what takes the room, told beside a running server."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry import app
from registry.commands import reports
from registry.commands.console import NICE, ConfigFile, alone, fail, read, reason, repository_patterns
from registry.commands.reports import size
from registry.store.gc import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config import Settings
    from registry.oci.digest import Digest
    from registry.oci.names import RepositoryName
    from registry.store.usage import Holding, Usage


class Sort(Enum):
    """The order of the repositories."""

    SIZE = "size"
    NAME = "name"


class _Bar(reports.Lines):
    """A bar on a terminal, and no lines."""

    def manifest_goes(self, repository: RepositoryName, digest: Digest) -> None:
        pass

    def blob_goes(self, digest: Digest) -> None:
        pass

    def marked(self, blobs: int, eligible: int, manifests: int) -> None:
        pass


def usage(
    path: ConfigFile = None,
    repository: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only these, such as team/app or team/**. May be given several times."),
    ] = None,
    sort: Annotated[Sort, typer.Option(help="The order of the repositories.")] = Sort.SIZE,
    delete_untagged: Annotated[
        bool, typer.Option("--delete-untagged", "-m", help="What a collection with --delete-untagged would free.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Tell what takes the room, while the registry serves. Changes nothing.

    Exit status 0: done. 1: the storage cannot be read. 2: the configuration or the command line is wrong.
    """
    settings = read(path).settings
    patterns = repository_patterns(repository)
    options = Options(settings.gc.grace.total_seconds(), delete_untagged or settings.gc.deleteuntagged)
    os.nice(NICE)
    found, room = _take(settings, options, reports.Silent() if as_json else _Bar())
    if patterns:
        chosen = [one for one in found.holdings if any(pattern.matches(one.repository) for pattern in patterns)]
    else:
        chosen = list(found.holdings)
    if sort is Sort.SIZE:
        chosen.sort(key=lambda one: one.bytes_logical, reverse=True)
    typer.echo(json.dumps(_document(found, chosen, room), indent=2) if as_json else _text(found, chosen, room))


def _take(settings: Settings, options: Options, watch: reports.Silent) -> tuple[Usage, tuple[int, int]]:
    if settings.storage.inmemory:
        fail("storage.inmemory: what is in the memory of a server cannot be looked at from outside")
    try:
        with watch:
            return app.take_usage(settings, options, watch)
    except app.EmptyVolume:
        root = settings.storage.filesystem.rootdirectory
        fail(f"storage.filesystem.rootdirectory: no registry was served from {root} before", 1)
    except OSError as error:
        fail(f"cannot read {error.filename}: {reason(error)}", 1)


def _document(found: Usage, chosen: list[Holding], room: tuple[int, int]) -> dict[str, Any]:
    return {
        "repositories": [asdict(one) for one in chosen],
        "total": {
            "repositories": len(found.holdings),
            "tags": sum(one.tags for one in found.holdings),
            "blobs": found.blobs,
            "bytes_logical": found.bytes_logical,
            "bytes_stored": found.bytes_stored,
            "bytes_shared": found.bytes_shared,
            "bytes_freeable": found.bytes_freeable,
            "bytes_young": found.bytes_young,
            "bytes_uploading": found.bytes_uploading,
            "bytes_free_on_disk": room[0],
            "bytes_of_disk": room[1],
        },
        "quotas": [asdict(one) for one in found.quotas],
        "problems": found.problems,
    }


def _text(found: Usage, chosen: list[Holding], room: tuple[int, int]) -> str:
    head = ("REPOSITORY", "TAGS", "MANIFESTS", "LOGICAL", "UNIQUE", "FREEABLE", "UPLOADING")
    lines = [*_table([head, *map(_row, chosen)]), "" if chosen else "no repositories", *_totals(found, room)]
    return "\n".join([*lines, *(f"problem: {problem}" for problem in found.problems)])


def _row(one: Holding) -> tuple[str, ...]:
    counts = f"{one.tags:,}", f"{one.manifests:,}"
    sizes = one.bytes_logical, one.bytes_unique, one.bytes_freeable, one.bytes_uploading
    return one.repository, *counts, *map(_size, sizes)


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Rows as lines: the first column to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *figures in rows:
        cells = [f"{figure:>{width}}" for figure, width in zip(figures, widths[1:], strict=True)]
        yield "  ".join([f"{name:<{widths[0]}}", *cells])


def _totals(found: Usage, room: tuple[int, int]) -> list[str]:
    rows = [
        ("repositories", f"{len(found.holdings):,}"),
        ("logical", f"{size(found.bytes_logical)}, what the repositories' manifests need"),
        ("stored", f"{size(found.bytes_stored)} in {found.blobs:,} blobs"),
        ("shared", f"{size(found.bytes_shared)} not stored, as repositories share blobs"),
        ("freeable", f"{_size(found.bytes_freeable)}; {size(found.bytes_young)} more are too young to go"),
        ("uploading", size(found.bytes_uploading)),
        ("free on the disk", f"{size(room[0])} of {size(room[1])}"),
        *((one.quota, f"{size(one.used)} of {size(one.limit)}") for one in found.quotas),
    ]
    return ["total:", *(f"  {name:<20} {value}" for name, value in rows)]


def _size(count: int | None) -> str:
    return "not known" if count is None else size(count)


command = alone(usage)
