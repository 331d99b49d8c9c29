"""`registry serve`: opens what the settings name, gives up root, serves."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING

from registry import __version__, app, maintenance, server
from registry.auth.jws import Invalid, SigningKey
from registry.auth.passwordfile import PasswordFile
from registry.auth.trust import TrustFiles
from registry.commands.console import ConfigFile, User, alone, cannot_write, fail, load, reason
from registry.commands.rereading import Rereading
from registry.commands.schedule import scheduled
from registry.config.values import REFUSAL
from registry.privileges import give_up_root

if TYPE_CHECKING:
    import socket

    from registry.config import Settings

log = logging.getLogger("registry")


def serve(
    path: ConfigFile = None,
    user: User = None,
) -> None:
    """Serve images over HTTP until SIGTERM, then let running transfers end."""
    settings = load(path)
    tls = _tls(settings)
    opened = app.Opened(_users(settings), _signing_key(settings), _trust(settings))
    listeners = _listen(settings)  # as root still, for a port below 1024, and a key and passwords that are root's
    try:
        if user is not None and not settings.storage.inmemory:
            log.info(give_up_root(settings.storage.filesystem.rootdirectory, user) or "started without root")
        application = app.build(settings, opened)
        read_only_since = application.read_only.mark.since()
    except app.EmptyVolume:
        root = settings.storage.filesystem.rootdirectory
        fail(
            f"storage.filesystem.requirevolume: no registry was served from {root} before. If this is the right node "
            "and volume, prepare it once with: registry volume init"
        )
    except Invalid as error:
        fail(str(error))
    except OSError as error:
        cannot_write(error)
    if tls is not None:
        tls.settle()
    users = opened.users
    if users is not None and not os.access(users.path, os.R_OK):
        log.info("%s was read as root, and cannot be read again: restart the registry when it has changed", users.path)
    where = "memory" if settings.storage.inmemory else settings.storage.filesystem.rootdirectory.absolute()
    log.info("swarm-registry %s: serving %s, storage in %s", __version__, _url(settings, listeners[0]), where)
    if read_only_since is not None:
        log.warning("read-only, since %s; to end it: registry read-only off", read_only_since or "an unknown time")
    drain = settings.http.draintimeout.total_seconds()
    hang_up = Rereading(path, settings, application.read_only, tls)
    chores = scheduled(path, settings)
    beside = partial(maintenance.run, chores) if chores else None
    server.serve(server.Service(application.asgi, application.traffic, drain, tls, hang_up, beside), listeners)
    log.info("stopped")


def _listen(settings: Settings) -> list[socket.socket]:
    try:
        return server.listen(settings.http.addr, settings.http.net, settings.workers)
    except OSError as error:
        fail(f"http.addr: cannot listen on {settings.http.addr}: {reason(error)}")


def _tls(settings: Settings) -> server.Renewal | None:
    tls = settings.http.tls
    if tls.certificate is None or tls.key is None:
        if tls.clientcas:
            fail(f"http.tls.clientcas: expected certificate and key with it; {REFUSAL}")
        return None
    if tls.clientauth == "require-any-client-cert" and not tls.clientcas:
        fail(f"http.tls.clientauth: expected clientcas with it; {REFUSAL}")
    try:
        return server.Renewal(
            server.Tls(tls.certificate, tls.key, tls.clientcas, tls.clientauth, tls.minimumtls, tls.ciphersuites)
        )
    except server.UnusableTls as error:
        fail(f"http.tls: {error}")


def _users(settings: Settings) -> PasswordFile | None:
    path = settings.auth.htpasswd.path
    if path is None:
        return None
    try:
        return PasswordFile(path)
    except FileNotFoundError:
        fail(f"auth.htpasswd.path: there is no {path}; make it with: registry user add NAME --file {path}")
    except OSError as error:
        fail(f"auth.htpasswd.path: cannot read {path}: {error.strerror}")


def _signing_key(settings: Settings) -> SigningKey | None:
    path = settings.auth.tokens.key
    if path is None:
        return None
    try:
        return SigningKey.parse(path.read_bytes())
    except Invalid as error:
        fail(f"auth.tokens.key: {path}: {error}")
    except OSError as error:
        fail(f"auth.tokens.key: cannot read {path}: {error.strerror}")


def _trust(settings: Settings) -> TrustFiles | None:
    wanted = settings.auth.token
    if not wanted.is_given:
        return None
    try:
        return TrustFiles(wanted.rootcertbundle, wanted.jwks, frozenset(wanted.signingalgorithms))
    except Invalid as error:
        fail(f"auth.token: {error}")
    except OSError as error:
        fail(f"auth.token: cannot read {error.filename}: {error.strerror}")


def _url(settings: Settings, listener: socket.socket) -> str:
    if settings.http.net == "unix":
        return f"unix:{settings.http.addr}"
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.http.tls.certificate else "http"
    shown = "0.0.0.0" if host in ("::", "0.0.0.0") else f"[{host}]" if ":" in host else host  # noqa: S104 - for people
    return f"{scheme}://{shown}:{port}{settings.http.prefix or '/'}v2/"


command = alone(serve)
