"""`registry import`: images of an OCI image layout into the storage, beside a running server."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import IO, TYPE_CHECKING, Annotated

import typer

from registry import app
from registry.archive.base import Unusable
from registry.archive.importing import Naming
from registry.archive.sources import DirectorySource, TarSource
from registry.commands import reports
from registry.commands.console import NICE, User, alone, cannot_write, fail, reason
from registry.commands.copies import STREAM, AsJson, places_of, settings_of, tell
from registry.oci.errors import NameInvalid, RegistryError
from registry.oci.names import RepositoryName
from registry.privileges import give_up_root

if TYPE_CHECKING:
    from pathlib import Path

    from registry.archive.importing import Importer
    from registry.archive.sources import Source
    from registry.config import Settings
    from registry.store.readonly import Switch


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
    config, path = places_of(places)
    settings = settings_of(config)
    naming = _naming(repository, prefix)
    file = _opened(path)
    importer, switch = _importer(settings, naming, bar := reports.Bar(), user, verify=verify)
    os.nice(NICE)
    with bar:
        aborted = asyncio.run(switch.reason()) or _import(importer, path, file)
    tell(importer.report, aborted, as_json=as_json, err=False, verb="imported")


def _naming(repository: str | None, prefix: str | None) -> Naming:
    if repository is not None and prefix is not None:
        fail("--repository puts all images into one repository, --prefix keeps their names: give one of the two")
    try:
        below = RepositoryName(prefix.rstrip("/")) if prefix else ""
        return Naming(RepositoryName(repository) if repository is not None else None, below)
    except NameInvalid as error:
        fail(error.message)


def _opened(path: Path) -> IO[bytes] | None:
    """The file to read, opened as root still, if this is root; None for a directory."""
    if path == STREAM:
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


command = alone(import_)
