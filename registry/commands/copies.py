"""`registry export` and `registry import`: images as files of the OCI image layout, beside a running server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from registry import app
from registry.archive.base import CHUNK, Unusable
from registry.archive.importing import Naming
from registry.archive.plan import Choice
from registry.archive.sources import DirectorySource, TarSource
from registry.archive.targets import DirectoryTarget, StreamTarget, TarTarget
from registry.commands import reports
from registry.commands.console import User, cannot_write, fail, read, reason
from registry.oci.errors import NameInvalid, RegistryError
from registry.oci.names import RepositoryName
from registry.oci.patterns import RepositoryPattern
from registry.privileges import give_up_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.archive.base import Report
    from registry.archive.exporting import Exporter
    from registry.archive.importing import Importer
    from registry.archive.sources import Source
    from registry.archive.targets import Target
    from registry.config import Settings
    from registry.store.readonly import Switch

_NICE = 10  # a copy has time; pulls and pushes have not
_STREAM = Path("-")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


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
    config, path = _places(places)
    settings = _settings(config)
    choice = _choice(repositories or [], tags or [], everything=everything)
    if path == _STREAM and sys.stdout.isatty():
        fail("a tar is no text for a terminal: pipe it on, or name a file or a directory")
    exporter = _exporter(settings, choice, bar := reports.Bar())
    os.nice(_NICE)
    with bar:
        aborted = _export(exporter, path, verify=verify)
    _tell(exporter.report, aborted, as_json=as_json, err=path == _STREAM, verb="exported")


def import_(  # noqa: PLR0913, PLR0917 - its options
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="[CONFIG] SOURCE",
            help="The configuration, as of serve; and a directory, a tar file, or - for a tar on the standard input.",
            show_default=False,
        ),
    ],
    repository: Annotated[
        str | None,
        typer.Option("--repository", "-r", metavar="NAME", help="All images into this one.", show_default=False),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="PREFIX", help="Repositories below this one.", show_default=False),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash content that is there already, and replace it where it is damaged.")
    ] = False,
    as_json: AsJson = False,
    user: User = None,
) -> None:
    """Copy images out of an OCI image layout into the storage, as a push does, while the registry serves.

    What is there already is not copied. Exit status 0: all of it is there. 1: it was aborted, an image had to be left
    out, or the registry is read-only. 2: the configuration or the command line is wrong.
    """
    config, path = _places(places)
    settings = _settings(config)
    naming = _naming(repository, prefix)
    file = _opened(path)
    importer, switch = _importer(settings, naming, bar := reports.Bar(), user, verify=verify)
    os.nice(_NICE)
    with bar:
        aborted = asyncio.run(switch.reason()) or _import(importer, path, file)
    _tell(importer.report, aborted, as_json=as_json, err=False, verb="imported")


def _places(given: list[str]) -> tuple[Path | None, Path]:
    if len(given) > 2:
        fail(f"expected a configuration and one place, got {len(given)} names; quote names with blanks in them")
    return Path(given[0]) if len(given) == 2 else None, Path(given[-1])


def _settings(config: Path | None) -> Settings:
    settings = read(config).settings
    if settings.storage.inmemory:
        fail("storage.inmemory: nothing outside a server can read or change its memory")
    return settings


def _choice(repositories: list[str], tags: list[str], *, everything: bool) -> Choice:
    if tags and everything:
        fail("--tag chooses tags, --all takes also what no tag keeps: give one of the two")
    try:
        return Choice([RepositoryPattern(each) for each in repositories], tags, everything)
    except ValueError as error:
        fail(f"--repository: {error}")


def _naming(repository: str | None, prefix: str | None) -> Naming:
    if repository is not None and prefix is not None:
        fail("--repository puts all images into one repository, --prefix keeps their names: give one of the two")
    try:
        below = RepositoryName(prefix.rstrip("/")) if prefix else ""
        return Naming(RepositoryName(repository) if repository is not None else None, below)
    except NameInvalid as error:
        fail(error.message)


# Export


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
    if path == _STREAM:
        with os.fdopen(os.dup(sys.stdout.fileno()), "wb", CHUNK) as file:
            yield StreamTarget(file)
        return
    target = TarTarget(path) if path.suffix == ".tar" else DirectoryTarget(path, verify=verify)
    try:
        yield target
    finally:
        target.close()


# Import


def _opened(path: Path) -> IO[bytes] | None:
    """The file to read, opened as root still, if this is root; None for a directory."""
    if path == _STREAM:
        if sys.stdin.isatty():
            fail("there is no tar on the standard input: pipe one in, or name a file or a directory")
        return sys.stdin.buffer
    try:
        return None if path.is_dir() else path.open("rb")
    except OSError as error:
        fail(f"cannot read {path}: {reason(error)}", 1)


def _importer(
    settings: Settings, naming: Naming, bar: reports.Bar, user: int | None, *, verify: bool
) -> tuple[Importer, Switch]:
    root = settings.storage.filesystem.rootdirectory
    try:
        if user is not None:
            give_up_root(root, user)  # files of root's in the volume would be in the server's way
        return app.importer(settings, naming, bar, verify=verify)
    except app.EmptyVolume:
        fail(
            f"storage.filesystem.requirevolume: no registry was served from {root} before; if this is the right "
            "volume, prepare it with: registry volume init",
            1,
        )
    except OSError as error:
        cannot_write(error)


def _import(importer: Importer, path: Path, file: IO[bytes] | None) -> str | None:
    """Run it. Why it did not come to its end, if it did not."""
    source: Source | None = None
    try:
        importer.tidy()
        source = _source(importer, path, file)
        report = asyncio.run(importer.run(source))
    except (Unusable, RegistryError) as error:
        return str(error)
    except OSError as error:
        return f"cannot read or write {error.filename or path}: {reason(error)}"
    finally:
        if source is not None:
            source.close()
    return None if report.repositories or not report.left_out else "no image could be imported"


def _source(importer: Importer, path: Path, file: IO[bytes] | None) -> Source:
    if file is None:
        return DirectorySource(path)
    if file.seekable() and file.tell() == 0:
        return TarSource(file)
    return importer.receive(file)


# What came of it


def _tell(report: Report, aborted: str | None, *, as_json: bool, err: bool, verb: str) -> None:
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
