"""`registry volume`: prepares a storage."""

from __future__ import annotations

import typer

from registry.commands.console import ConfigFile, User, cannot_write, group, load
from registry.privileges import give_up_root
from registry.storage.root import Filesystem

command = group("Prepare the storage.")


@command.command()
def init(
    path: ConfigFile = None,
    user: User = None,
) -> None:
    """Prepare the storage of a new registry, and print its id. One that holds a registry is left as it is."""
    settings = load(path)
    root = settings.storage.filesystem.rootdirectory
    try:
        if user is not None:
            give_up_root(root, user)
        files = Filesystem(root)
        files.require_writable()
        typer.echo(files.volume_id())
    except OSError as error:
        cannot_write(error)
