"""`registry user`: the users of an htpasswd file. A password comes from a prompt or a pipe, never from an argument."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.auth import htpasswd
from registry.commands.console import ConfigFile, fail, group, read

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEW_FILE = 0o600

command = group(
    "The users of an htpasswd file (auth.htpasswd). A running registry notices a change within about a second."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user.", show_default=False)]
File = Annotated[
    Path | None,
    typer.Option("--file", metavar="PATH", help="The file, if it is not that of CONFIG.", show_default=False),
]
FromPipe = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the standard input, without asking.")
]
Cost = Annotated[
    int,
    typer.Option(
        help="bcrypt's cost: one more doubles the time of a check.", min=htpasswd.LEAST_COST, max=htpasswd.MOST_COST
    ),
]


@command.command()
def add(
    name: Name,
    config: ConfigFile = None,
    file: File = None,
    password_stdin: FromPipe = False,
    cost: Cost = htpasswd.USUAL_COST,
) -> None:
    """Add a user; makes the file where it is missing. Exit status 1: the user is there already."""
    path, user = _path(config, file), _usable(name)
    if htpasswd.has_user(_content(path, missing=b""), user):
        fail(f"{name!r} is in {path} already; to change the password: registry user passwd {name}", 1)
    hashed = _hash(from_pipe=password_stdin, cost=cost)
    with _editing(path) as edited:
        if htpasswd.has_user(edited.content, user):
            fail(f"{name!r} was added to {path} meanwhile", 1)
        edited.content = htpasswd.with_user(edited.content, user, hashed)
    typer.echo(f"added {name!r} to {path}")


@command.command()
def passwd(
    name: Name,
    config: ConfigFile = None,
    file: File = None,
    password_stdin: FromPipe = False,
    cost: Cost = htpasswd.USUAL_COST,
) -> None:
    """Change a user's password. Exit status 1: there is no such user."""
    path, user = _path(config, file), _usable(name)
    _require(user, _content(path), path)
    hashed = _hash(from_pipe=password_stdin, cost=cost)
    with _editing(path) as edited:
        _require(user, edited.content, path)
        edited.content = htpasswd.with_user(edited.content, user, hashed)
    typer.echo(f"changed the password of {name!r} in {path}")


@command.command()
def remove(name: Name, config: ConfigFile = None, file: File = None) -> None:
    """Remove a user. Exit status 1: there is no such user."""
    path, user = _path(config, file), _usable(name)
    _content(path)
    with _editing(path) as edited:
        _require(user, edited.content, path)
        edited.content = htpasswd.without_user(edited.content, user)
    typer.echo(f"removed {name!r} from {path}")


@command.command("list")
def show(
    config: ConfigFile = None,
    file: File = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """List the users; lines that let nobody in are told on the standard error."""
    path = _path(config, file)
    entries = htpasswd.parse(_content(path))
    names = [name.decode("utf-8", "replace") for name in entries.users]
    if as_json:
        users = [{"name": name, "cost": cost} for name, cost in zip(names, entries.costs, strict=True)]
        wrong = [{"line": line.number, "problem": line.what} for line in entries.wrong]
        typer.echo(json.dumps({"file": str(path), "users": users, "wrong": wrong}, indent=2))
        return
    for name in names:
        typer.echo(name)
    for line in entries.wrong:
        typer.echo(f"registry: {path}, line {line.number}: {line.what}", err=True)


def _path(given: Path | None, file: Path | None) -> Path:
    """The file that is meant; behind symbolic links, so that they stay."""
    found = file or read(given).settings.auth.htpasswd.path
    if found is None:
        fail("auth.htpasswd.path is not set: name the file with --file PATH")
    return found.resolve()


def _usable(name: str) -> bytes:
    try:
        return htpasswd.usable_name(name)
    except ValueError as error:
        fail(str(error))


def _require(user: bytes, content: bytes, path: Path) -> None:
    if not htpasswd.has_user(content, user):
        fail(f"there is no {os.fsdecode(user)!r} in {path}; registry user list names those that are", 1)


def _content(path: Path, missing: bytes | None = None) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if missing is not None:
            return missing
        fail(f"there is no {path}; make it with: registry user add NAME --file {path}")
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")


def _hash(*, from_pipe: bool, cost: int) -> bytes:
    if from_pipe:
        password = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape")
    elif sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True)
    else:
        fail("there is no terminal to ask for the password at: pipe it in, with --password-stdin")
    try:
        return htpasswd.hash_of(password, cost)
    except ValueError as error:
        fail(str(error))


@dataclass(slots=True)
class _Edited:
    content: bytes


@contextmanager
def _editing(path: Path) -> Iterator[_Edited]:
    """A file's content, to be changed: replaced at once at the end, while no other edit runs."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)  # not of the file: a rename would leave the next one with the old
            edited = _Edited(_content(path, missing=b""))
            yield edited
            _replace(path, edited.content)
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}{_advice(error)}")


def _replace(path: Path, content: bytes) -> None:
    """Never half a file, also not after a power cut."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _make_alike(descriptor, path)
            os.fsync(descriptor)
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _make_alike(descriptor: int, path: Path) -> None:
    """Mode and owner of the file that is replaced. A new one is for the owner of its directory alone.

    Made by root, it belongs to that owner too: in a container, that is whoever mounted the directory, or the user that
    the registry runs as.
    """
    try:
        model, mode = path.stat(), stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        model, mode = path.parent.stat(), _NEW_FILE
    if os.geteuid() == 0:
        os.fchown(descriptor, model.st_uid, model.st_gid)
    elif (model.st_uid, model.st_gid) != (os.geteuid(), os.getegid()):
        with suppress(PermissionError):  # a group that is not ours; the directory lets us write, so the edit is allowed
            os.fchown(descriptor, -1, model.st_gid)
    os.fchmod(descriptor, mode)


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.EBUSY:
            return "; it is mounted as a single file: edit it where it comes from, or mount its directory instead"
        case errno.EROFS:
            return "; a swarm secret never changes: edit the file that it was made from, and make a new secret"
        case errno.ENOENT:
            return "; make its directory first"
        case _:
            return ""
