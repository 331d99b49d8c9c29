"""Configuration: registry:2's YAML file and its `REGISTRY_*` variables, as one frozen tree of settings.

    file = find(argument, os.environ)   # which file, if any
    loaded = load(file, os.environ)     # its settings and what to tell the log, or a ConfigurationError

`settings.py` is the tree, `sources.py` reads file and variables, `inherited.py` knows what registry:2 has and
this registry has not, `values.py` and `units.py` know the kinds of values. `docs/configuration.md` shows it to
administrators.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from registry.config.inherited import adapt
from registry.config.settings import Settings
from registry.config.sources import CONFIGURATION_PATH, ConfigurationError, nearest, overlay, read, tidy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

    from registry.config.inherited import Key, Problem

__all__ = ["ConfigurationError", "Loaded", "Settings", "find", "load", "render", "to_dict"]

CONFIGURATION_PATHS = (Path("/etc/docker/registry/config.yml"), Path("/etc/distribution/config.yml"))
"""Where the images of registry:2 and registry:3 keep their file."""

_EXPECTED = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "string_type": "expected text",
    "path_type": "expected a path",
    "list_type": "expected a list",
    "dict_type": "expected a map of names to values",
    "model_type": "expected a section with keys of its own",
    "literal_error": "expected {expected}",
    "greater_than_equal": "expected {ge} or more",
    "missing": "missing",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and what to say about where they come from."""

    settings: Settings
    notices: tuple[str, ...]
    """Lines for the log, to be written once: keys without effect, variables without a meaning."""
    source: Path | None
    """The file; None for the built-in defaults."""


def find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Which file to load: the argument, else `REGISTRY_CONFIGURATION_PATH` (set but empty: none), else the
    first of `CONFIGURATION_PATHS` that is there, else None for the built-in defaults.
    """
    if path is not None:
        return path
    if CONFIGURATION_PATH in environ:
        return Path(environ[CONFIGURATION_PATH]) if environ[CONFIGURATION_PATH] else None
    return next((candidate for candidate in CONFIGURATION_PATHS if _present(candidate)), None)


def load(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Reads the file, lays the variables over it, and checks the whole.

    Args:
        path: the file, as `find` answers; None starts from the built-in defaults.
        environ: the process environment; names that do not begin with `REGISTRY_` are left alone.

    Raises:
        ConfigurationError: with one line for each problem.
    """
    tree = read(path) if path is not None else {}
    overlaid = overlay(tree, environ)
    tidy(tree)
    notices, problems = adapt(tree, overlaid.origins)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += [(details["loc"], _expected(details)) for details in error.errors()]
    lines = [*overlaid.problems, *(_line(problem, overlaid.origins) for problem in problems)]
    if lines:
        raise ConfigurationError("\n".join(lines))
    return Loaded(settings, (*overlaid.notices, *notices), path)


def to_dict(settings: Settings) -> dict[str, Any]:
    """The settings as values that JSON knows; durations and sizes as texts, secrets as `****`.

    Of the storage drivers, and of the kinds of authentication, only the chosen one is in it, so that it could be loaded
    again.
    """
    tree = settings.model_dump(mode="json")
    storage = tree["storage"]
    if settings.storage.inmemory:
        storage["inmemory"] = {}
        del storage["filesystem"]
    else:
        del storage["inmemory"]
    tree["auth"] = _chosen_authentication(settings, tree["auth"])
    return tree


def _chosen_authentication(settings: Settings, tree: dict[str, Any]) -> dict[str, Any]:
    if settings.auth.token.is_given:
        return {"token": tree["token"]}
    if settings.auth.htpasswd.path is None:
        return {"none": {}}
    return {name: inner for name, inner in tree.items() if name != "token"}


def render(settings: Settings) -> str:
    """The settings as a YAML configuration file, with secrets as `****`."""
    return yaml.safe_dump(to_dict(settings), sort_keys=False, allow_unicode=True)


def _present(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # behind a closed door: reading it will say so, while defaults would hide it


def _line(problem: Problem, origins: Mapping[Key, str]) -> str:
    key, expected = problem
    dotted = ".".join(str(part) for part in key if part != "[key]")
    # A variable may have set what is wrong, what holds it, or a part of it.
    above_or_below = [path for path in origins if key[: len(path)] == path[: len(key)]]
    setter = f" ({origins[max(above_or_below, key=len)]})" if above_or_below else ""
    return f"{dotted}{setter}: {expected}"


def _expected(details: ErrorDetails) -> str:
    kind, context, given = details["type"], details.get("ctx", {}), details["input"]
    if kind == "extra_forbidden":
        near = nearest(".".join(map(str, details["loc"])))
        return "unknown key" + (f"; did you mean {near}?" if near else "")
    if kind == "value_error":
        expected = str(context["error"])
    else:
        expected = _EXPECTED[kind].format(**context) if kind in _EXPECTED else details["msg"]
    return expected + (f", got {given!r}" if isinstance(given, str | int | float) else "")
