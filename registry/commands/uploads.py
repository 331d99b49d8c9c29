"""`registry purge-uploads`: removes uploads that nobody goes on with, beside a running server."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry import app
from registry.commands.console import NICE, ConfigFile, alone, fail, read, reason
from registry.commands.reports import size
from registry.config.units import format_duration, parse_duration

if TYPE_CHECKING:
    from registry.store.expiry import Report


def purge_uploads(
    path: ConfigFile = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long nobody wrote to them, such as 24h. Default: storage.maintenance.uploadpurging.age.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Remove uploads that nobody goes on with, while the registry serves. One that is being written to stays.

    Exit status 0: done. 1: the storage cannot be read or changed. 2: the configuration or the command line is wrong.
    """
    settings = read(path).settings
    age = settings.storage.maintenance.uploadpurging.age if older_than is None else _age(older_than)
    if settings.storage.inmemory:
        fail("storage.inmemory: what is in the memory of a server cannot be purged from outside")
    os.nice(NICE)
    try:
        report = app.expire_uploads(settings, time.time() - age.total_seconds(), dry_run=dry_run)
    except app.EmptyVolume:
        root = settings.storage.filesystem.rootdirectory
        fail(f"storage.filesystem.rootdirectory: no registry was served from {root} before", 1)
    except OSError as error:
        fail(f"cannot read or change {error.filename}: {reason(error)}", 1)
    typer.echo(json.dumps(_document(report), indent=2) if as_json else _text(report, age))


def _age(text: str) -> timedelta:
    try:
        age = parse_duration(text)
    except ValueError as error:
        fail(f"--older-than: {error}, got {text!r}")
    if age <= timedelta():
        fail(f"--older-than: expected a duration of more than 0s, got {text!r}")
    return age


def _text(report: Report, age: timedelta) -> str:
    verb = "would be removed" if report.dry_run else "removed"
    lines = [f"{verb}: {one.repository} {one.session}, {size(one.size)}" for one in report.removed]
    total = (
        f"{len(report.removed)} of {report.uploads} uploads were idle for {format_duration(age)} or more and {verb}, "
        f"{size(report.bytes_freed)}"
    )
    return "\n".join([*lines, total])


def _document(report: Report) -> dict[str, Any]:
    return {
        "dry_run": report.dry_run,
        "uploads": report.uploads,
        "uploads_removed": len(report.removed),
        "bytes_freed": report.bytes_freed,
        "removed": [
            {"repository": one.repository, "session": one.session, "bytes": one.size} for one in report.removed
        ],
    }


command = alone(purge_uploads)
