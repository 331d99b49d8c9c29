"""`registry ping`: what health checks run, every few seconds on every node. So it imports little."""

from __future__ import annotations

from typing import Annotated

import typer

from registry import probe
from registry.commands.console import ConfigFile, alone, read, reason


def ping(
    path: ConfigFile = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0.1)] = 5,
) -> None:
    """Ask the registry on this machine whether it serves, for health checks. Exit status 1: it does not."""
    http = read(path).settings.http
    try:
        probe.ask(
            http.addr, http.net, f"{http.prefix or '/'}v2/", tls=http.tls.certificate is not None, timeout=timeout
        )
    except OSError as error:
        typer.echo(f"registry: no answer at {http.addr}: {reason(error)}", err=True)
        raise typer.Exit(1) from None


command = alone(ping)
