"""What an image runs: command lines shaped like those of registry:2's and registry:3's images.

/etc/docker/registry/config.yml        -> registry serve /etc/docker/registry/config.yml
serve ..., garbage-collect ..., -v     -> registry serve ..., and so on
help                                   -> registry --help
sh -c ...                              -> that program, in place of a registry
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from registry.cli import COMMANDS, cli

if TYPE_CHECKING:
    from collections.abc import Sequence

_OURS = frozenset({*COMMANDS, "help"})


def main() -> None:
    """Run what the container's command line says."""
    given = sys.argv[1:] or ["serve"]
    if not is_ours(given[0]):
        try:
            os.execvp(given[0], given)  # noqa: S606 - the administrator's own command line
        except OSError as error:
            sys.stderr.write(f"registry: cannot run {given[0]}: {error.strerror}\n")
            sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
    cli(arguments(given), prog_name="registry")


def is_ours(word: str) -> bool:
    """Whether a command line that begins so is one of the registry, and not of another program."""
    return word in _OURS or word.startswith("-") or word.endswith((".yml", ".yaml"))


def arguments(given: Sequence[str]) -> list[str]:
    """The registry's own command line."""
    match given:
        case ["help"]:
            return ["--help"]
        case [first, *_] if first.endswith((".yml", ".yaml")):
            return ["serve", *given]
        case _:
            return list(given)
