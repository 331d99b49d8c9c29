"""`registry config`: looks at a configuration."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from registry import config
from registry.commands.console import ConfigFile, fail, group

command = group("Look at the configuration.")


@command.command()
def check(
    path: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Check the configuration, and print the settings in effect (secrets hidden). Exit status 2: it is wrong."""
    source = config.find(path, os.environ)
    try:
        loaded = config.load(source, os.environ)
    except config.ConfigurationError as error:
        if as_json:
            typer.echo(json.dumps({"valid": False, "errors": str(error).splitlines()}, indent=2))
            raise typer.Exit(2) from None
        fail(str(error))
    if as_json:
        found = {"valid": True, "source": str(source) if source else None, "notices": loaded.notices}
        typer.echo(json.dumps({**found, "settings": config.to_dict(loaded.settings)}, indent=2))
        return
    typer.echo(f"# from {source or 'built-in defaults'} and the environment")
    typer.echo(config.render(loaded.settings), nl=False)
    for notice in loaded.notices:
        typer.echo(f"note: {notice}", err=True)
