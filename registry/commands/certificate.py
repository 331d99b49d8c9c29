"""`registry certificate`: a certificate that its clients are told to trust, without an authority."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.commands.console import alone, fail, reason

if TYPE_CHECKING:
    from registry.commands.selfsigned import SelfSigned

_TWO_YEARS = 730
_MOST_DAYS = 824  # with the day before: what Apple's systems take
_PUBLIC, _PRIVATE = 0o644, 0o600


def certificate(  # noqa: PLR0913, PLR0917 - its options
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Names and IP addresses by which clients reach the registry.")
    ],
    days: Annotated[int, typer.Option(help="How long it is valid.", min=1, max=_MOST_DAYS)] = _TWO_YEARS,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where registry.crt and registry.key are made.")] = Path(),
    crt: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="PATH", help="The certificate, if not in DIR.", show_default=False),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="PATH", help="The key, if not in DIR.", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(help="Of the address that clients use.", min=1, max=65535)] = 5000,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Make a self-signed certificate and its key, and say what to do with them.

    Exit status 1: a file is there already; 2: anything else that is wrong.
    """
    from registry.commands import selfsigned  # noqa: PLC0415 - cryptography, which no other command waits for

    certificate, private = crt or out / "registry.crt", key or out / "registry.key"
    try:
        made = selfsigned.make(names, datetime.now(UTC), timedelta(days=days))
    except ValueError as error:
        fail(str(error))
    if certificate.absolute() == private.absolute():
        fail("--certificate and --key name the same file")
    if not force:
        _require_absent(certificate, private)
    _write((private, made.key, _PRIVATE), (certificate, made.certificate, _PUBLIC))
    typer.echo(_document(made, certificate, private) if as_json else _advice(made, certificate, private, port))


def _require_absent(*paths: Path) -> None:
    for path in paths:
        if os.path.lexists(path):
            fail(f"{path} is there already; to replace it: --force", 1)


def _write(*files: tuple[Path, bytes, int]) -> None:
    """Put files in place, with their modes, once all of them are written: an old pair stays a pair."""
    parts: list[tuple[Path, Path]] = []
    path = Path()
    try:
        for path, content, mode in files:
            part = path.with_name(f".{path.name}.{os.getpid()}")
            parts.append((part, path))
            _write_new(part, content, mode)
        for part, path in parts:
            part.rename(path)
    except OSError as error:
        fail(f"cannot write {path}: {reason(error)}")
    finally:
        for part, _ in parts:
            part.unlink(missing_ok=True)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Made by root, it belongs to the owner of its directory: whoever mounted that into a container."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "wb") as file:
        file.write(content)
        file.flush()
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def _document(made: SelfSigned, certificate: Path, key: Path) -> str:
    found = {
        "names": made.names,
        "certificate": str(certificate),
        "key": str(key),
        "begins": made.begins.isoformat(),
        "expires": made.expires.isoformat(),
        "sha256": made.fingerprint,
    }
    return json.dumps(found, indent=2)


def _advice(made: SelfSigned, certificate: Path, key: Path, port: int) -> str:
    """What was made, and the next steps, to be copied."""
    lines = [
        f"made {certificate}, valid until {made.expires:%Y-%m-%d} for {', '.join(made.names)}",
        f"made {key}; keep it to yourself",
        "",
        "Docker on each client, as root; no restart is needed:",
    ]
    places = [_directory(name, port) for name in made.names if "*" not in name]  # docker wants the very name
    lines += [f"  mkdir -p {place} && cp {certificate} {place}/ca.crt" for place in places]
    lines += [
        "A swarm, on a manager (docs/examples/stack.tls-auth.yml takes them):",
        f"  docker secret create registry.crt {certificate}",
        f"  docker secret create registry.key {key}",
        "Without a swarm, the registry's environment:",
        f"  REGISTRY_HTTP_TLS_CERTIFICATE={certificate.absolute()}",
        f"  REGISTRY_HTTP_TLS_KEY={key.absolute()}",
    ]
    return "\n".join(lines)


def _directory(name: str, port: int) -> str:
    """Where docker looks for what a registry is to be trusted by."""
    host = f"[{name}]" if ":" in name else name
    return f"/etc/docker/certs.d/{host}" if port == 443 else f"/etc/docker/certs.d/{host}:{port}"


command = alone(certificate)
