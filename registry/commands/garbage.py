"""`registry garbage-collect`, with registry:2's flags: beside a running server, or instead of one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from registry import app
from registry.commands import reports
from registry.commands.console import NICE, ConfigFile, User, alone, cannot_write, fail, read, reason
from registry.commands.flags import GoFlags
from registry.privileges import give_up_root
from registry.storage.base import Busy
from registry.store.gc import Aborted, Options

if TYPE_CHECKING:
    from registry.config import Settings
    from registry.store.gc import Collector, Watch

BUSY = "another garbage collection is at work on this storage"


def garbage_collect(  # noqa: PLR0913, PLR0917 - its options
    path: ConfigFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-d", help="Only tell what would be removed; change nothing.")
    ] = False,
    delete_untagged: Annotated[
        bool,
        typer.Option(
            "--delete-untagged",
            "-m",
            help="Also delete manifests that no tag keeps. Parts of an index and referrers stay with what is kept.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    user: User = None,
) -> None:
    """Remove the content that no manifest needs, while the registry serves and takes pushes.

    Exit status 0: done. 1: aborted, because it would not be safe or another collection runs; nothing that is needed was
    removed. 2: the configuration is wrong.
    """
    settings = read(path).settings
    options = Options(settings.gc.grace.total_seconds(), delete_untagged, dry_run)
    watch = reports.Notes() if as_json else reports.Silent() if quiet else reports.Lines()
    collector = _collector(settings, options, watch, user)
    os.nice(NICE)
    with watch:
        aborted = _collect(collector)
    if isinstance(watch, reports.Notes):
        typer.echo(json.dumps(reports.document(collector.report, watch, aborted), indent=2))
    elif aborted is None and not quiet:
        typer.echo(reports.text(collector.report))
    if aborted is not None:
        fail(aborted, 1)


def _collector(settings: Settings, options: Options, watch: Watch, user: int | None) -> Collector:
    root = settings.storage.filesystem.rootdirectory
    if settings.storage.inmemory:
        fail("storage.inmemory: what is in the memory of a server cannot be collected from outside")
    try:
        if user is not None and root.exists():
            give_up_root(root, user)  # files of root's in the volume would be in the server's way
        return app.collector(settings, options, watch)
    except app.EmptyVolume:
        fail(f"storage.filesystem.rootdirectory: no registry was served from {root} before", 1)
    except OSError as error:
        cannot_write(error)


def _collect(collector: Collector) -> str | None:
    """Run it. Why it did not come to its end, if it did not."""
    try:
        collector.collect()
    except Busy:
        return BUSY
    except Aborted as error:
        return str(error)
    except OSError as error:
        return f"cannot read or change {error.filename}: {reason(error)}"
    return None


command = alone(garbage_collect, GoFlags)
