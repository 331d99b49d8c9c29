"""What the commands share: finding the configuration, and how mistakes are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from registry import config

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


def read(path: Path | None) -> config.Loaded:
    """The configuration in effect, or the end with what is wrong with it."""
    try:
        return config.load(config.find(path, os.environ), os.environ)
    except config.ConfigurationError as error:
        fail(str(error))


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
