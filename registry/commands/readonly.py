"""`registry read-only`: refuse changes by clients, on all registries of a storage, whether they run now or later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from registry import app
from registry.commands.console import ConfigFile, User, cannot_write, fail, group, read, reason
from registry.privileges import give_up_root

if TYPE_CHECKING:
    from pathlib import Path

    from registry.config import Settings
    from registry.store.readonly import Mark

command = group(
    "Read-only mode: pulls go on, pushes and deletes are refused. For every registry on the storage, at once."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

_SETTING = "storage.maintenance.readonly.enabled"


@command.command()
def on(path: ConfigFile = None, as_json: AsJson = False, user: User = None) -> None:
    """Refuse pushes and deletes from now on, also after a restart. Requests that are being answered still end."""
    settings, mark = _open(path, user)
    try:
        mark.make()
    except OSError as error:
        cannot_write(error)
    _tell(settings, mark, as_json=as_json)


@command.command()
def off(path: ConfigFile = None, as_json: AsJson = False, user: User = None) -> None:
    """Take pushes and deletes again. Exit status 1: the configuration says read-only, too, and that still counts."""
    settings, mark = _open(path, user)
    try:
        mark.remove()
    except OSError as error:
        cannot_write(error)
    _tell(settings, mark, as_json=as_json)
    if settings.storage.maintenance.readonly.enabled:
        fail(f"{_SETTING} is true: set it to false, and send the registry a SIGHUP or start it again", 1)


@command.command()
def status(path: ConfigFile = None, as_json: AsJson = False) -> None:
    """Tell whether read-only mode is on, and by what."""
    settings, mark = _open(path, None)
    _tell(settings, mark, as_json=as_json)


def _open(path: Path | None, user: int | None) -> tuple[Settings, Mark]:
    settings = read(path).settings
    root = settings.storage.filesystem.rootdirectory
    if settings.storage.inmemory:
        fail(f"storage.inmemory: nothing outside a server can switch it; use {_SETTING} and SIGHUP")
    try:
        if user is not None and root.exists():
            give_up_root(root, user)  # a mark of root's would be in the server's way
        return settings, app.mark(settings)
    except app.EmptyVolume:
        fail(f"storage.filesystem.rootdirectory: no registry was served from {root} before", 1)
    except OSError as error:
        cannot_write(error)


def _tell(settings: Settings, mark: Mark, *, as_json: bool) -> None:
    try:
        since = mark.since()
    except OSError as error:
        fail(f"cannot read {error.filename}: {reason(error)}")
    configured = settings.storage.maintenance.readonly.enabled
    if as_json:
        found = {"read_only": since is not None or configured, "switched_on": since, "configured": configured}
        typer.echo(json.dumps(found, indent=2))
        return
    if since is not None:
        typer.echo(f"read-only: on, since {since or 'an unknown time'}; to end it: registry read-only off")
    elif configured:
        typer.echo(f"read-only: on, by {_SETTING}")
    else:
        typer.echo("read-only: off")
