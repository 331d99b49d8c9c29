"""Where settings come from: the YAML file of registry:2, and `REGISTRY_*` variables laid over it.

Both are read as one tree of maps, lists and texts. Plain numbers and booleans stay texts until their setting
is known, so a password of digits keeps its leading zeros.

The rules for variables, which are registry:2's:

- `REGISTRY_HTTP_ADDR` names `http.addr`: the name is split at each `_`, in upper case.
- The value is YAML, so it may be a whole list or map: `REGISTRY_HTTP_HEADERS='{X-Frame-Options: [DENY]}'`.
- Variables are applied sorted by name: `REGISTRY_STORAGE` first, then what changes parts of it.
- In maps, a name meets an existing one whatever its case; a new one becomes lower case. Names of HTTP headers
  keep the case of the variable.
- A number addresses an element of a list; the number after the last appends one.

And one of ours: `REGISTRY_X_FILE` names a file that holds the text of `REGISTRY_X`.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from registry.config.inherited import DRIVERS, Key, Tree, known
from registry.config.settings import Leaf, leaves

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from registry.config.settings import Schema

CONFIGURATION_PATH = "REGISTRY_CONFIGURATION_PATH"
_PREFIX = "REGISTRY_"
_KNOWN = known()
_DEFAULTS: dict[Key, Any] = {path: setting.get_default(call_default_factory=True) for path, setting in leaves()}


class ConfigurationError(Exception):
    """The configuration cannot be used. One line for each problem, naming the key and what was expected."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What applying the variables brought to light."""

    origins: dict[Key, str] = field(default_factory=dict)
    """Which variable set a key."""
    notices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str

    @property
    def parts(self) -> list[str]:
        return self.name.removeprefix(_PREFIX).split("_")

    @property
    def key(self) -> str:
        return ".".join(self.parts).lower()

    @property
    def here(self) -> str:
        """How messages name it."""
        return f"{self.key} ({self.name})"


def read(path: Path) -> Tree:
    """Reads a configuration file.

    Top-level names that begin with `x-` are left out: they are a place for YAML anchors.

    Raises:
        ConfigurationError: it cannot be read, is not YAML, is not a map, or lacks `version`.
    """
    try:
        tree = _parse(path.read_text("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: expected UTF-8 text") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the configuration file: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}{_place(error)}") from None
    if not isinstance(tree, dict | None):
        raise ConfigurationError(f"{path}: expected a YAML map that begins with version: 0.1")
    tree = {name: value for name, value in (tree or {}).items() if not name.startswith("x-")}
    if not tree.get("version"):
        raise ConfigurationError(f"version: missing in {path}; expected the line version: 0.1")
    _spell_out(tree)
    return tree


def overlay(tree: Tree, environ: Mapping[str, str]) -> Overlay:
    """Lays the `REGISTRY_*` variables over the tree, which is changed in place."""
    result = Overlay()
    for name in sorted(environ):
        if not name.startswith(_PREFIX) or name == CONFIGURATION_PATH:
            continue
        node = _named(_Variable(name).parts)
        plain = _Variable(name.removesuffix("_FILE"))
        if node is not None:
            _apply(tree, _Variable(name), environ[name], result)
        elif plain.name != name and _named(plain.parts) is Leaf.SCALAR:
            _apply_file(tree, plain, environ, result)
        else:
            result.notices.append(_unknown(_Variable(name)))
    return result


def tidy(tree: Tree, names: Schema = _KNOWN) -> None:
    """Empty counts as not given, as in registry:2: such settings are removed, such sections become maps."""
    for name in names.keys() & tree.keys():
        node = names[name]
        if isinstance(node, dict):
            tree[name] = {} if tree[name] is None else tree[name]
            if isinstance(tree[name], dict):
                tidy(tree[name], node)
        elif tree[name] in (None, ""):
            del tree[name]


def nearest(key: str) -> str | None:
    """The known key that a misspelt one resembles: `http.addr` for `http.adr`, or for a misplaced `addr`."""
    section, dot, name = key.rpartition(".")
    keys = list(_dotted(_KNOWN))
    beside = [known_key for known_key in keys if known_key.rpartition(".")[0] == section]
    if not beside:
        return next(iter(get_close_matches(key, keys, n=1, cutoff=0.75)), None)
    if near := get_close_matches(name, [known_key.rpartition(".")[2] for known_key in beside], n=1, cutoff=0.7):
        return f"{section}{dot}{near[0]}"
    return next((known_key for known_key in keys if known_key.rpartition(".")[2] == name), None)


def variable(key: str) -> str:
    """The variable that sets a key: `REGISTRY_HTTP_ADDR` for `http.addr`."""
    return _PREFIX + key.replace(".", "_").upper()


class _Texts(yaml.SafeLoader):
    """Makes maps, lists, nulls and merges (`<<`) as ever; every other scalar stays the text that it is."""


_STRUCTURE = {"tag:yaml.org,2002:" + kind for kind in ("map", "merge", "null", "seq", "str")}
_Texts.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag in _STRUCTURE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Texts.yaml_constructors = {
    tag: make if tag is None or tag in _STRUCTURE else yaml.SafeLoader.construct_yaml_str
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
}


def _parse(text: str) -> Any:
    try:
        return _with_text_names(yaml.load(text, _Texts))  # noqa: S506 - it is a SafeLoader
    except RecursionError:  # an anchor that contains itself, or a mountain of brackets
        raise yaml.YAMLError from None


def _with_text_names(value: Any) -> Any:
    match value:
        case dict():
            return {str(name): _with_text_names(inner) for name, inner in value.items()}
        case list():
            return [_with_text_names(inner) for inner in value]
        case _:
            return value


def _place(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return ": not valid YAML"
    line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
    # The other kinds of error quote what they met, which may be a secret.
    quotable = isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError)
    return f", line {line}, column {column}: not valid YAML" + (f": {error.problem}" if quotable else "")


def _spell_out(tree: Tree) -> None:
    """`storage: inmemory` is short for a map with that one key; a driver may come without parameters."""
    for section in ("storage", "auth"):
        if isinstance(tree.get(section), str) and tree[section]:
            tree[section] = {tree[section]: {}}
    storage = tree.get("storage")
    if isinstance(storage, dict):
        storage.update({driver: {} for driver in DRIVERS if storage.get(driver, {}) is None})


def _named(parts: list[str]) -> Schema | Leaf | None:
    """What the parts of a variable's name lead to; None if nowhere."""
    if parts[0] == "VERSION":
        return None  # of the file alone; and people keep the version of an image in REGISTRY_VERSION
    if parts[0] in {"STORAGE", "AUTH"}:
        # Maps in registry:2: the case of names does not matter, and an unknown driver stops the start.
        parts = [part.upper() for part in parts]
        if len(parts) > 1 and ".".join(parts[:2]).lower() not in _dotted(_KNOWN):
            return Leaf.FREE
    return _descend(parts, _KNOWN)


def _descend(parts: list[str], names: Schema) -> Schema | Leaf | None:
    first, *rest = parts
    node = names.get(first.lower()) if first == first.upper() else None
    if not rest or node is None:
        return node
    if isinstance(node, dict):
        return _descend(rest, node)
    if node is Leaf.SCALAR or (node is Leaf.LIST and not rest[0].isdecimal()):
        return None
    return Leaf.FREE


def _apply(tree: Tree, given: _Variable, text: str, result: Overlay) -> None:
    try:
        value = _parse(text)
    except yaml.YAMLError:
        # The value stays out of the message: it may be a secret.
        result.problems.append(f"{given.here}: expected YAML; put the value in quotes")
        return
    _assign(tree, given, value, result)
    _spell_out(tree)


def _apply_file(tree: Tree, plain: _Variable, environ: Mapping[str, str], result: Overlay) -> None:
    given = f"{plain.name}_FILE"
    path = environ[given]
    if not path:
        return
    if environ.get(plain.name):
        result.problems.append(f"{plain.key}: expected {plain.name} or {given}, got both")
        return
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        result.problems.append(f"{plain.key} ({given}): expected UTF-8 text in {path}")
    except OSError as error:
        result.problems.append(f"{plain.key} ({given}): cannot read {path}: {error.strerror}")
    else:
        key = _assign(tree, plain, text.removesuffix("\n").removesuffix("\r"), result)
        result.origins[key] = given


def _assign(tree: Tree, given: _Variable, value: Any, result: Overlay) -> Key:
    """Puts a value where the name of a variable leads, making maps and lists on the way."""
    here: Any = tree
    key: Key = ()
    for part, following in zip(given.parts, [*given.parts[1:], None], strict=True):
        if isinstance(here, list) and not (part.isdecimal() and int(part) <= len(here)):
            result.problems.append(f"{given.here}: expected a number up to {len(here)}, got {part!r}")
            break
        step = int(part) if isinstance(here, list) else _name_in(here, part, key)
        key = (*key, step)
        if isinstance(here, list) and step == len(here):
            here.append(None)
        if following is None:
            here[step] = value
        elif not isinstance(_at(here, step), dict | list):
            here[step] = deepcopy(_DEFAULTS.get(key)) or ([] if following == "0" else {})
        here = here[step]
    result.origins[key] = given.name
    return key


def _at(here: Any, step: str | int) -> Any:
    return here.get(step) if isinstance(here, dict) else here[step]


def _name_in(here: Tree, part: str, key: Key) -> str:
    existing = next((name for name in here if name.upper() == part.upper()), None)
    return existing or (part if key == ("http", "headers") else part.lower())


def _unknown(given: _Variable) -> str:
    near = nearest(given.key)
    return f"{given.name}: no setting has this name, ignored" + (f"; did you mean {variable(near)}?" if near else "")


def _dotted(names: Schema, above: str = "") -> Iterator[str]:
    for name, node in names.items():
        yield above + name
        if isinstance(node, dict):
            yield from _dotted(node, f"{above}{name}.")
