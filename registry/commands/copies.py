"""What `registry export` and `registry import` share: the places on their command lines, and what came of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.commands import reports
from registry.commands.console import fail, read

if TYPE_CHECKING:
    from registry.archive.base import Report
    from registry.config import Settings

STREAM = Path("-")
"""The standard input or output, as a place."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def places_of(given: list[str]) -> tuple[Path | None, Path]:
    """The configuration, and where to or where from; or the end."""
    if len(given) > 2:
        fail(f"expected a configuration and one place, got {len(given)} names; quote names with blanks in them")
    return Path(given[0]) if len(given) == 2 else None, Path(given[-1])


def settings_of(config: Path | None) -> Settings:
    """The settings of a storage that others may look into; or the end."""
    settings = read(config).settings
    if settings.storage.inmemory:
        fail("storage.inmemory: nothing outside a server can read or change its memory")
    return settings


def tell(report: Report, aborted: str | None, *, as_json: bool, err: bool, verb: str) -> None:
    """Say what was done, and end with the status that it deserves."""
    if as_json:
        typer.echo(json.dumps({"aborted": aborted, **asdict(report)}, indent=2), err=err)
    elif aborted is None:
        typer.echo(_text(report, verb), err=err)
    for each in report.left_out:
        name = f"{each.repository}:{','.join(each.tags)}" if each.tags else f"{each.repository}@{each.digest}"
        typer.echo(f"registry: left out: {name}: {each.reason}", err=True)
    if aborted is not None:
        fail(aborted, 1)
    if report.left_out:
        raise typer.Exit(1)


def _text(report: Report, verb: str) -> str:
    rows = [
        ("repositories", f"{report.repositories:,}"),
        ("tags", f"{report.tags:,}"),
        ("without a tag", f"{report.untagged:,}"),
        ("blobs copied", f"{report.blobs_copied:,}, {reports.size(report.bytes_copied)}"),
        ("there before", f"{report.blobs_present:,}, {reports.size(report.bytes_present)}"),
        ("left out", f"{len(report.left_out):,}"),
        ("seconds", f"{report.seconds:.1f}"),
    ]
    return "\n".join([f"{verb}:", *(f"  {name:<20} {value}" for name, value in rows)])
