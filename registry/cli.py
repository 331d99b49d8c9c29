"""The command line: `registry serve`, `registry garbage-collect`, ... With `reports`, the one place that prints."""

from __future__ import annotations

import json
import logging
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from registry import __version__, app, config, logs, probe, reports, server
from registry.flags import GoFlags
from registry.privileges import give_up_root
from registry.storage.base import Busy
from registry.storage.root import Filesystem
from registry.store.gc import Aborted, Options

if TYPE_CHECKING:
    import socket

    from registry.config import Settings
    from registry.store.gc import Collector, Watch

log = logging.getLogger("registry")

_NICE = 10  # a collection has time; pulls and pushes have not

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
    listener = _listen(settings)  # as root still, for a port below 1024 and a key that is root's
    try:
        if user is not None and not settings.storage.inmemory:
            log.info(give_up_root(settings.storage.filesystem.rootdirectory, user) or "started without root")
        application = app.build(settings)
    except app.EmptyVolume:
        root = settings.storage.filesystem.rootdirectory
        _fail(
            f"storage.filesystem.requirevolume: no registry was served from {root} before. If this is the right node "
            "and volume, prepare it once with: registry volume init"
        )
    except OSError as error:
        _fail_to_write(error)
    where = "memory" if settings.storage.inmemory else settings.storage.filesystem.rootdirectory.absolute()
    log.info("swarm-registry %s: serving %s, storage in %s", __version__, _url(settings, listener), where)
    server.serve(application.asgi, listener, application.traffic, settings.http.draintimeout.total_seconds(), tls)
    log.info("stopped")


@cli.command()
def ping(
    path: ConfigFile = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0.1)] = 5,
) -> None:
    """Ask the registry on this machine whether it serves, for health checks. Exit status 1: it does not."""
    http = _read(path).settings.http
    try:
        probe.ask(
            http.addr, http.net, f"{http.prefix or '/'}v2/", tls=http.tls.certificate is not None, timeout=timeout
        )
    except OSError as error:
        typer.echo(f"registry: no answer at {http.addr}: {_reason(error)}", err=True)
        raise typer.Exit(1) from None


@cli.command(cls=GoFlags)
def garbage_collect(  # noqa: PLR0913, PLR0917 - its options
    path: ConfigFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-d", help="Only tell what would be removed; change nothing.")
    ] = False,
    delete_untagged: Annotated[
        bool,
        typer.Option(
            "--delete-untagged",
            "-m",
            help="Also delete manifests that no tag keeps. Parts of an index and referrers stay with what is kept.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    user: User = None,
) -> None:
    """Remove the content that no manifest needs, while the registry serves and takes pushes.

    Exit status 0: done. 1: aborted, because it would not be safe or another collection runs; nothing that is needed was
    removed. 2: the configuration is wrong.
    """
    settings = _read(path).settings
    options = Options(settings.gc.grace.total_seconds(), delete_untagged, dry_run)
    watch = reports.Notes() if as_json else reports.Silent() if quiet else reports.Lines()
    collector = _collector(settings, options, watch, user)
    os.nice(_NICE)
    with watch:
        aborted = _collect(collector)
    if isinstance(watch, reports.Notes):
        typer.echo(json.dumps(reports.document(collector.report, watch, aborted), indent=2))
    elif aborted is None and not quiet:
        typer.echo(reports.text(collector.report))
    if aborted is not None:
        _stop(aborted)


def _collector(settings: Settings, options: Options, watch: Watch, user: int | None) -> Collector:
    root = settings.storage.filesystem.rootdirectory
    if settings.storage.inmemory:
        _fail("storage.inmemory: what is in the memory of a server cannot be collected from outside")
    try:
        if user is not None and root.exists():
            give_up_root(root, user)  # files of root's in the volume would be in the server's way
        return app.collector(settings, options, watch)
    except app.EmptyVolume:
        _stop(f"storage.filesystem.rootdirectory: no registry was served from {root} before")
    except OSError as error:
        _fail_to_write(error)


def _collect(collector: Collector) -> str | None:
    """Run it. Why it did not come to its end, if it did not."""
    try:
        collector.collect()
    except Busy:
        return "another garbage collection is at work on this storage"
    except Aborted as error:
        return str(error)
    except OSError as error:
        return f"cannot read or change {error.filename}: {_reason(error)}"
    return None


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
        _fail_to_write(error)


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
        _fail(str(error))
    if as_json:
        found = {"valid": True, "source": str(source) if source else None, "notices": loaded.notices}
        typer.echo(json.dumps({**found, "settings": config.to_dict(loaded.settings)}, indent=2))
        return
    typer.echo(f"# from {source or 'built-in defaults'} and the environment")
    typer.echo(config.render(loaded.settings), nl=False)
    for notice in loaded.notices:
        typer.echo(f"note: {notice}", err=True)


def _read(path: Path | None) -> config.Loaded:
    try:
        return config.load(config.find(path, os.environ), os.environ)
    except config.ConfigurationError as error:
        _fail(str(error))


def _load(path: Path | None) -> Settings:
    """Read the settings, and begin the log with what is to be said of them."""
    loaded = _read(path)
    wanted = loaded.settings.log
    logs.set_up(wanted.level, wanted.formatter, wanted.fields, access=not wanted.accesslog.disabled)
    log.info("configuration: %s", loaded.source or "built-in defaults")
    for notice in loaded.notices:
        log.warning(notice)
    return loaded.settings


def _listen(settings: Settings) -> socket.socket:
    try:
        return server.listen(settings.http.addr, settings.http.net)
    except OSError as error:
        _fail(f"http.addr: cannot listen on {settings.http.addr}: {_reason(error)}")


def _tls(settings: Settings) -> ssl.SSLContext | None:
    tls = settings.http.tls
    if tls.certificate is None or tls.key is None:
        return None
    try:
        wanted = server.Tls(tls.certificate, tls.key, tls.clientcas, tls.clientauth, tls.minimumtls, tls.ciphersuites)
        return wanted.context()
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(map(str, (tls.certificate, tls.key, *tls.clientcas)))
        _fail(f"http.tls: cannot use {files}: {error.strerror or error}")


def _url(settings: Settings, listener: socket.socket) -> str:
    if settings.http.net == "unix":
        return f"unix:{settings.http.addr}"
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.http.tls.certificate else "http"
    shown = "0.0.0.0" if host in ("::", "0.0.0.0") else f"[{host}]" if ":" in host else host  # noqa: S104 - for people
    return f"{scheme}://{shown}:{port}{settings.http.prefix or '/'}v2/"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


def _fail_to_write(error: OSError) -> NoReturn:
    _fail(f"storage.filesystem.rootdirectory: cannot write to {error.filename}: {error.strerror}")


def _fail(message: str) -> NoReturn:
    _say(message)
    raise typer.Exit(2)


def _stop(message: str) -> NoReturn:
    _say(message)
    raise typer.Exit(1)


def _say(message: str) -> None:
    for line in message.splitlines():
        typer.echo(f"registry: {line}", err=True)
