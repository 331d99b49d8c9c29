"""The command line: `registry serve`, `registry config check`, ... With `commands/`, the one place that prints."""

from __future__ import annotations

import json
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from registry import __version__, app, config, logs, maintenance, probe, server
from registry.auth.jws import Invalid, SigningKey
from registry.auth.passwordfile import PasswordFile
from registry.auth.trust import TrustFiles
from registry.commands.certificate import certificate
from registry.commands.console import ConfigFile, User, cannot_write, fail, read, reason
from registry.commands.flags import GoFlags
from registry.commands.garbage import garbage_collect
from registry.commands.readonly import read_only_commands
from registry.commands.rereading import Rereading
from registry.commands.schedule import scheduled
from registry.commands.uploads import purge_uploads
from registry.commands.users import user_commands
from registry.config.values import REFUSAL
from registry.privileges import give_up_root
from registry.storage.root import Filesystem

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from registry.config import Settings

log = logging.getLogger("registry")

cli = typer.Typer(
    name="registry",
    help="An OCI container registry for Docker Swarm and self-hosting. It runs on registry:2's volume, and back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_commands = typer.Typer(help="Look at the configuration.", no_args_is_help=True)
cli.add_typer(config_commands, name="config")
volume_commands = typer.Typer(help="Prepare the storage.", no_args_is_help=True)
cli.add_typer(volume_commands, name="volume")
cli.add_typer(user_commands, name="user")
cli.add_typer(read_only_commands, name="read-only")

cli.command(cls=GoFlags)(garbage_collect)
cli.command()(purge_uploads)
cli.command()(certificate)


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


@cli.command()
def serve(
    path: ConfigFile = None,
    user: User = None,
) -> None:
    """Serve images over HTTP until SIGTERM, then let running transfers end."""
    settings = _load(path)
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


@cli.command()
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


@volume_commands.command()
def init(
    path: ConfigFile = None,
    user: User = None,
) -> None:
    """Prepare the storage of a new registry, and print its id. One that holds a registry is left as it is."""
    settings = _load(path)
    root = settings.storage.filesystem.rootdirectory
    try:
        if user is not None:
            give_up_root(root, user)
        files = Filesystem(root)
        files.require_writable()
        typer.echo(files.volume_id())
    except OSError as error:
        cannot_write(error)


@config_commands.command()
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


def _load(path: Path | None) -> Settings:
    """Read the settings, and begin the log with what is to be said of them."""
    loaded = read(path)
    wanted = loaded.settings.log
    logs.set_up(wanted.level, wanted.formatter, wanted.fields, access=not wanted.accesslog.disabled)
    log.info("configuration: %s", loaded.source or "built-in defaults")
    for notice in loaded.notices:
        log.warning(notice)
    return loaded.settings


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
