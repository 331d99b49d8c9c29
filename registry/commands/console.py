"""What the commands share: finding the configuration, and how mistakes are told."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from typer.core import TyperCommand

from registry import config, logs
from registry.oci.patterns import RepositoryPattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config import Settings

log = logging.getLogger("registry")

ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="[CONFIG]",
        help="registry:2's YAML file. Default: $REGISTRY_CONFIGURATION_PATH, then the path of registry:2's image, "
        "then that of registry:3's; without any, built-in defaults. REGISTRY_* variables win over the file.",
        show_default=False,
    ),
]


User = Annotated[
    int | None,
    typer.Option(
        envvar="SWARM_REGISTRY_USER",
        help="Started as root: become the storage's owner, or this uid where the storage is empty.",
        min=1,
        show_default=False,
    ),
]


NICE = 10
"""Of commands that work beside a server: they have time; pulls and pushes have not."""


def alone(function: Callable[..., None], cls: type[TyperCommand] = TyperCommand) -> typer.Typer:
    """A command without subcommands."""
    made = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    made.command(cls=cls)(function)
    return made


def group(purpose: str) -> typer.Typer:
    """A command with subcommands."""
    made = typer.Typer(
        help=purpose, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    made.callback()(_nothing)  # also where it has one subcommand only
    return made


def _nothing() -> None:
    pass


def read(path: Path | None) -> config.Loaded:
    """The configuration in effect, or the end with what is wrong with it."""
    try:
        return config.load(config.find(path, os.environ), os.environ)
    except config.ConfigurationError as error:
        fail(str(error))


def load(path: Path | None) -> Settings:
    """Read the settings, and begin the log with what is to be said of them."""
    loaded = read(path)
    wanted = loaded.settings.log
    logs.set_up(wanted.level, wanted.formatter, wanted.fields, access=not wanted.accesslog.disabled)
    log.info("configuration: %s", loaded.source or "built-in defaults")
    for notice in loaded.notices:
        log.warning(notice)
    return loaded.settings


def fail(message: str, status: int = 2) -> NoReturn:
    """End with a message."""
    for line in message.splitlines():
        typer.echo(f"registry: {line}", err=True)
    raise typer.Exit(status)


def reason(error: OSError) -> str:
    """What a system call says, for people."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


def cannot_write(error: OSError) -> NoReturn:
    """End because the storage takes no writes."""
    fail(f"storage.filesystem.rootdirectory: cannot write to {error.filename}: {error.strerror}")


def repository_patterns(given: list[str] | None) -> list[RepositoryPattern]:
    """What `--repository` names; a mistake ends the command."""
    patterns = []
    for text in given or ():
        try:
            patterns.append(RepositoryPattern(text))
        except ValueError as error:
            fail(f"--repository: {error}, got {text!r}")
    return patterns
