"""The command line: `registry serve`, `registry config check`, ... With `commands/`, the one place that prints."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from registry import __version__

COMMANDS = {
    "serve": "serve",
    "ping": "ping",
    "garbage-collect": "garbage",
    "usage": "usage",
    "purge-uploads": "uploads",
    "retention": "retention",
    "export": "exports",
    "import": "imports",
    "read-only": "readonly",
    "user": "users",
    "certificate": "certificate",
    "volume": "volume",
    "config": "configuration",
}
"""The commands, in the order of the help, and their modules in `commands/`."""


class _Commands(TyperGroup):
    """Imports a command when it is asked for: a health check needs neither the server nor the store."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> Any:  # noqa: ARG002 - typer has its own click
        if cmd_name not in COMMANDS:
            return None
        command = get_command(import_module(f"registry.commands.{COMMANDS[cmd_name]}").command)
        command.name = cmd_name
        return command


cli = typer.Typer(
    name="registry",
    cls=_Commands,
    help="An OCI container registry for Docker Swarm and self-hosting. It runs on registry:2's volume, and back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    cli()


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        typer.echo(f"registry (swarm-registry) {__version__}")
        raise typer.Exit


@cli.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", "-v", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass
