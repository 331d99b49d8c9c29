"""What a configuration of registry:2 or registry:3 may hold and this registry does not do.

Three kinds: keys that mean nothing here (accepted, named once), keys whose promise this version cannot keep
(refused: to start without them would be worse than not to start), and old spellings (translated).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from registry.config.settings import Leaf, schema
from registry.config.values import REFUSAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from registry.config.settings import Schema

Key: TypeAlias = tuple[str | int, ...]
Tree: TypeAlias = dict[str, Any]
Problem: TypeAlias = tuple[Key, str]
"""A key and what was expected of it."""

INERT = (
    "log.hooks",
    "log.reportcaller",
    "storage.cache",
    "storage.redirect",
    "storage.tag",
    "http.http2",
    "http.h2c",
    "notifications",
    "redis",
    "health",
    "proxy",
    "middleware",
    "policy",
    "compatibility",
    "reporting",
    "auth.token.autoredirect",
    "auth.token.autoredirectpath",
)
"""Sections and keys that are accepted and mean nothing here."""

UNSUPPORTED_DRIVERS = ("azure", "gcs", "oss", "rados", "s3", "swift")
AUTH_DETAILS = ("access", "groups", "tokens")
"""What `auth` may have beside the one kind of authentication that is chosen."""
UNSUPPORTED_AUTH = ("auth.none", "auth.silly")
DRIVERS = ("filesystem", "inmemory", *UNSUPPORTED_DRIVERS)

# What the files that come with registry:2 and registry:3 say: nobody chose it, and nothing is lost.
_STOCK = (
    ("storage.cache.blobdescriptor", "inmemory"),
    ("storage.cache.layerinfo", "inmemory"),
    ("storage.tag.concurrencylimit", "5"),
    ("storage.tag.concurrencylimit", "8"),
)
_EXPECTED = {"htpasswd": "realm and path together", "token": "realm, service, issuer, and rootcertbundle or jwks"}
_TRUE = {"true", "yes", "on", "y", "1"}


def known() -> Schema:
    """Every name that a configuration may hold: the settings, and what is accepted or refused beside them."""
    names = schema()
    for dotted in ("loglevel", "http.tls.letsencrypt", *UNSUPPORTED_AUTH, *INERT):
        _put(names, dotted, Leaf.FREE)
    for driver in UNSUPPORTED_DRIVERS:
        _put(names, f"storage.{driver}", Leaf.FREE)
    names["loglevel"] = Leaf.SCALAR
    return names


def adapt(tree: Tree, origins: dict[Key, str]) -> tuple[list[str], list[Problem]]:
    """Takes out of the tree all that the settings do not know, and translates old spellings.

    Args:
        tree: what file and variables say; changed in place.
        origins: the variable that set a key; changed where a key moves.

    Returns:
        Notices for the log, and problems to refuse the configuration for.
    """
    problems = [*_auth(tree), *_proxy(tree), *_letsencrypt(tree), *_storage_drivers(tree, origins)]
    notices = [*_log(tree, origins), *_notifications(tree), *_debug(tree), *_inert(tree)]
    return notices, problems


def _auth(tree: Tree) -> Iterator[Problem]:
    auth = tree.pop("auth", None)
    if not auth:
        return
    if not isinstance(auth, dict):
        yield ("auth",), "expected a section such as htpasswd"
        return
    given = {name.lower(): value for name, value in auth.items()}
    details = {name: given[name] for name in AUTH_DETAILS if name in given}
    chosen = {kind: value for kind, value in given.items() if kind not in details}
    if len(chosen) > 1:
        yield ("auth", [*chosen][-1]), f"expected one kind of authentication, got {' and '.join(chosen)}"
    for kind in chosen.keys() - {"none", *_EXPECTED}:
        yield ("auth", kind), f"this version cannot do this yet; {REFUSAL}"
    tree["auth"] = details | {kind: chosen[kind] for kind in _EXPECTED if kind in chosen}
    for kind, expected in _EXPECTED.items():
        if chosen.get(kind) == {}:
            yield ("auth", kind), f"expected {expected}; {REFUSAL}"


def _proxy(tree: Tree) -> Iterator[Problem]:
    if not _get(tree, "proxy.remoteurl"):
        return
    tree.pop("proxy")
    refusal = "refusing to serve as a registry of its own instead"
    yield ("proxy", "remoteurl"), f"this version cannot be a pull-through cache yet; {refusal}"


def _letsencrypt(tree: Tree) -> Iterator[Problem]:
    given = _pop(tree, "http.tls.letsencrypt")
    if any(value for _, value in _flat("", given)):
        instead = "name the files of a certificate in http.tls.certificate and http.tls.key"
        yield ("http", "tls", "letsencrypt"), f"not supported; {instead}"


def _storage_drivers(tree: Tree, origins: Mapping[Key, str]) -> Iterator[Problem]:
    storage = tree.get("storage")
    if not isinstance(storage, dict):
        return
    chosen = [name for name in storage if name in DRIVERS and not _is_no(storage[name])]
    if len(chosen) > 1 and _only_shipped(storage, chosen, origins):
        chosen.remove("filesystem")
        del storage["filesystem"]
    if len(chosen) > 1:
        yield ("storage", chosen[-1]), f"expected one storage driver, got {' and '.join(chosen)}"
    for name in UNSUPPORTED_DRIVERS:
        if name in storage:
            del storage[name]
            yield ("storage", name), "not supported by this version yet; use storage.filesystem"
    if "inmemory" in storage:
        storage["inmemory"] = "inmemory" in chosen


def _only_shipped(storage: Tree, chosen: list[str], origins: Mapping[Key, str]) -> bool:
    """Whether `filesystem` is what every shipped file says, and variables chose another driver."""
    by_variable = {key[1] for key in origins if key[0] == "storage" and len(key) > 1}
    others = set(chosen) - {"filesystem"}
    shipped = storage.get("filesystem") in ({}, None, {"rootdirectory": "/var/lib/registry"})
    return "filesystem" in chosen and shipped and "filesystem" not in by_variable and others <= by_variable


def _log(tree: Tree, origins: dict[Key, str]) -> Iterator[str]:
    level = tree.pop("loglevel", None)
    log = tree.setdefault("log", {})
    if not isinstance(log, dict):
        return
    if level and not log.get("level"):
        log["level"] = level
        if ("loglevel",) in origins:
            origins["log", "level"] = origins["loglevel",]
    if log.get("formatter") == "logstash":
        log["formatter"] = "json"
        yield "log.formatter: logstash is written as json"


def _notifications(tree: Tree) -> Iterator[str]:
    endpoints = _get(tree, "notifications.endpoints")
    if not isinstance(endpoints, list):
        return
    enabled = [e for e in endpoints if isinstance(e, dict) and str(e.get("disabled")).lower() not in _TRUE]
    tree.pop("notifications")
    if enabled:
        names = ", ".join(str(e.get("name") or f"number {n}") for n, e in enumerate(enabled))
        yield f"notifications.endpoints: events are not sent by this version; waiting in vain: {names}"


def _debug(tree: Tree) -> Iterator[str]:
    if _get(tree, "http.debug.addr"):
        yield "http.debug.addr: this version does not serve metrics and debug pages yet"


def _inert(tree: Tree) -> Iterator[str]:
    named = [dotted for dotted in INERT if not _stock(dotted, _pop(tree, dotted))]
    if named:
        yield f"accepted, but without effect in this registry: {', '.join(named)}"


def _stock(dotted: str, value: object) -> bool:
    return all(
        not text or _is_no(text) or key.startswith("health.storagedriver") or (key, text) in _STOCK
        for key, text in _flat(dotted, value)
    )


def _is_no(value: object) -> bool:
    return isinstance(value, str) and value.lower() in {"false", "no", "off"}


def _flat(dotted: str, value: object) -> Iterator[tuple[str, object]]:
    if not isinstance(value, dict):
        yield dotted, value
        return
    for name, inner in value.items():
        yield from _flat(f"{dotted}.{name}", inner)


def _get(tree: Tree, dotted: str) -> Any:
    here: Any = tree
    for name in dotted.split("."):
        here = here.get(name) if isinstance(here, dict) else None
    return here


def _put(tree: Tree, dotted: str, value: object) -> None:
    *sections, last = dotted.split(".")
    for name in sections:
        tree = tree.setdefault(name, {})
    tree[last] = value


def _pop(tree: Tree, dotted: str) -> Any:
    section, _, last = dotted.rpartition(".")
    holder = _get(tree, section) if section else tree
    return holder.pop(last, None) if isinstance(holder, dict) else None
