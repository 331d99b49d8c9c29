"""`registry export`: images as an OCI image layout, beside a running server."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from registry import app
from registry.archive.base import CHUNK, Unusable
from registry.archive.plan import Choice
from registry.archive.targets import DirectoryTarget, StreamTarget, TarTarget
from registry.commands import reports
from registry.commands.console import NICE, alone, fail, reason
from registry.commands.copies import STREAM, AsJson, places_of, settings_of, tell
from registry.oci.patterns import RepositoryPattern

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry.archive.exporting import Exporter
    from registry.archive.targets import Target
    from registry.config import Settings


def export(  # noqa: PLR0913, PLR0917 - its options
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="[CONFIG] DEST",
            help="The configuration, as of serve; and a directory, a file whose name ends with .tar, or - for a tar on "
            "the standard output.",
            show_default=False,
        ),
    ],
    repositories: Annotated[
        list[str] | None,
        typer.Option(
            "--repository",
            "-r",
            metavar="PATTERN",
            help="These alone, such as team/app, team/* or team/**; may be given several times.",
            show_default=False,
        ),
    ] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            "-t",
            metavar="PATTERN",
            help="These alone, such as v1 or v2.*; may be given several times.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also manifests that no tag keeps.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash what a directory has already; else its size will do.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy images into an OCI image layout, while the registry serves and takes pushes.

    Into a directory, what is there is not copied again. Exit status 0: all of it is there. 1: it was aborted, an image
    had to be left out, or there was nothing to export. 2: the configuration or the command line is wrong.
    """
    config, path = places_of(places)
    settings = settings_of(config)
    choice = _choice(repositories or [], tags or [], everything=everything)
    if path == STREAM and sys.stdout.isatty():
        fail("a tar is no text for a terminal: pipe it on, or name a file or a directory")
    exporter = _exporter(settings, choice, bar := reports.Bar())
    os.nice(NICE)
    with bar:
        aborted = _export(exporter, path, verify=verify)
    tell(exporter.report, aborted, as_json=as_json, err=path == STREAM, verb="exported")


def _choice(repositories: list[str], tags: list[str], *, everything: bool) -> Choice:
    if tags and everything:
        fail("--tag chooses tags, --all takes also what no tag keeps: give one of the two")
    try:
        return Choice([RepositoryPattern(each) for each in repositories], tags, everything)
    except ValueError as error:
        fail(f"--repository: {error}")


def _exporter(settings: Settings, choice: Choice, bar: reports.Bar) -> Exporter:
    try:
        return app.exporter(settings, choice, bar)
    except app.EmptyVolume:
        root = settings.storage.filesystem.rootdirectory
        fail(f"storage.filesystem.rootdirectory: no registry was served from {root} before", 1)


def _export(exporter: Exporter, path: Path, *, verify: bool) -> str | None:
    """Run it. Why it did not come to its end, if it did not."""
    try:
        images = exporter.plan()
        if not images:
            return "there is nothing to export: no repository and tag matches"
        with _target(path, verify=verify) as target:
            report = exporter.copy(images, target)
    except Unusable as error:
        return str(error)
    except OSError as error:
        return f"cannot read or write {error.filename or path}: {reason(error)}"
    return None if report.repositories else "no image could be exported"


@contextmanager
def _target(path: Path, *, verify: bool) -> Iterator[Target]:
    target: Target
    if path == STREAM:
        with os.fdopen(os.dup(sys.stdout.fileno()), "wb", CHUNK) as file:
            yield StreamTarget(file)
        return
    target = TarTarget(path) if path.suffix == ".tar" else DirectoryTarget(path, verify=verify)
    try:
        yield target
    finally:
        target.close()


command = alone(export)
