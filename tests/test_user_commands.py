"""`registry user`: the file afterwards, and what is said. Passwords come from a pipe or a terminal alone."""

import json
import os
import pty
import re
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import typer.main

from registry.auth.htpasswd import matches, parse
from registry.cli import cli


def run(*arguments: object, password: str | bytes = "", **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    data = password.encode() if isinstance(password, str) else password
    ended = subprocess.run(
        [sys.executable, "-m", "registry", "user", *map(str, arguments)],
        env=inherited | {"REGISTRY_CONFIGURATION_PATH": "", "COLUMNS": "200"} | variables,
        input=data,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b"Traceback" not in ended.stderr, ended.stderr
    return subprocess.CompletedProcess(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def add(path: Path, name: str, password: str | bytes, *more: str) -> subprocess.CompletedProcess[str]:
    return run("add", name, "--file", path, "--password-stdin", "--cost", "4", *more, password=password)


def fails(ended: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    for word in ("registry: ", *words):
        assert word in ended.stderr, ended.stderr


def lets_in(path: Path, name: str, password: str) -> bool:
    return matches(password.encode(), parse(path.read_bytes()).users[name.encode()])


@pytest.fixture
def path(tmp_path):
    """A file with alice in it, a comment, and another's line."""
    path = tmp_path / "htpasswd"
    path.write_text("# people\nold:$apr1$x$y\n")
    path.chmod(0o640)
    assert add(path, "alice", "secret").returncode == 0
    return path


def test_a_user_is_added_and_the_rest_of_the_file_stays(path):
    lines = path.read_text().splitlines()
    assert lines[:2] == ["# people", "old:$apr1$x$y"]
    assert re.fullmatch(r"alice:\$2y\$04\$\S{53}", lines[2])
    assert lets_in(path, "alice", "secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("given", ["contraseña\n", "contraseña\r\n", "contraseña"])
def test_one_line_end_of_the_pipe_is_left_out(path, given):
    assert add(path, "ana", given).stdout == f"added 'ana' to {path}\n"
    assert lets_in(path, "ana", "contraseña")


def test_a_password_is_changed(path):
    assert run("passwd", "alice", "--file", path, "--password-stdin", password="new").returncode == 0
    assert lets_in(path, "alice", "new")
    assert not lets_in(path, "alice", "secret")
    assert "$2y$10$" in path.read_text()  # the usual cost


def test_a_line_that_let_nobody_in_is_mended(path):
    assert run("passwd", "old", "--file", path, "--password-stdin", password="new").returncode == 0
    assert lets_in(path, "old", "new")


def test_a_user_is_removed(path):
    assert run("remove", "alice", "--file", path).stdout == f"removed 'alice' from {path}\n"
    assert path.read_text() == "# people\nold:$apr1$x$y\n"


def test_users_are_listed(path):
    ended = run("list", "--file", path)
    assert (ended.returncode, ended.stdout) == (0, "alice\n")
    assert "line 2: the password of 'old' is not hashed with bcrypt" in ended.stderr
    found = json.loads(run("list", "--json", "--file", path).stdout)
    assert found["users"] == [{"name": "alice", "cost": 4}]
    assert [line["line"] for line in found["wrong"]] == [2]
    assert "$" not in json.dumps(found)


def test_the_file_is_that_of_the_configuration(path, tmp_path):
    config = tmp_path / "config.yml"
    config.write_text(f"version: 0.1\nauth: {{htpasswd: {{realm: r, path: '{path}'}}}}\n")
    assert run("list", config).stdout == "alice\n"
    variables = {"REGISTRY_AUTH_HTPASSWD_REALM": "r", "REGISTRY_AUTH_HTPASSWD_PATH": str(path)}
    assert run("list", **variables).stdout == "alice\n"
    fails(run("list"), 2, "auth.htpasswd.path is not set", "--file")


def test_a_missing_file_is_made_for_its_owner_alone(tmp_path):
    path = tmp_path / "htpasswd"
    assert add(path, "alice", "secret").returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_root_makes_it_for_the_owner_of_the_directory_and_leaves_the_owner_of_one_that_is_there(tmp_path):
    """So that the registry, or whoever mounted the directory into a container, can read it."""
    os.chown(tmp_path, 1234, 4321)
    path = tmp_path / "htpasswd"
    add(path, "alice", "secret")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)
    os.chown(path, 65532, 0)
    add(path, "bob", "secret")
    assert (path.stat().st_uid, path.stat().st_gid) == (65532, 0)


def test_a_symbolic_link_stays_one(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    assert add(link, "bob", "secret").returncode == 0
    assert link.is_symlink()
    assert lets_in(path, "bob", "secret")


def test_edits_at_once_are_all_there_afterwards(tmp_path):
    path = tmp_path / "htpasswd"
    threads = [threading.Thread(target=add, args=(path, f"user-{n}", "secret")) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parse(path.read_bytes()).users) == 6


# Mistakes


def test_what_is_there_already_or_is_not_is_exit_status_1_and_says_what_to_do(path):
    before = path.read_bytes()
    fails(add(path, "alice", "x"), 1, "already", "registry user passwd alice")
    fails(run("passwd", "bob", "--file", path, "--password-stdin", password="x"), 1, "no 'bob'", "registry user list")
    fails(run("remove", "bob", "--file", path), 1, "no 'bob'")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("bob", "", ["empty"]),
        ("bob", "\n", ["empty"]),
        ("bob", "two\nlines", ["one line"]),
        ("bob", b"zero\0byte", ["zero byte"]),
        ("bob", "x" * 73, ["73 bytes", "72"]),
        ("a:b", "x", ["'a:b'", "colons"]),
        ("", "x", ["user's name"]),
        ("a\nb", "x", ["control characters"]),
        ("#a", "x", ["#"]),
    ],
)
def test_names_and_passwords_that_cannot_be(path, name, password, words):
    before = path.read_bytes()
    fails(add(path, name, password), 2, *words)
    assert path.read_bytes() == before


def test_a_file_that_is_not_there(tmp_path):
    missing = tmp_path / "missing"
    for command in ["list"], ["remove", "alice"], ["passwd", "alice", "--password-stdin"]:
        fails(run(*command, "--file", missing, password="x"), 2, str(missing), "registry user add")
    fails(add(tmp_path / "no" / "htpasswd", "alice", "x"), 2, "No such file", "make its directory first")


def test_a_cost_that_would_block_all_logins_is_refused(path):
    assert run("add", "bob", "--file", path, "--password-stdin", "--cost", "31", password="x").returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_file_that_is_mounted_alone_says_so(path, tmp_path):
    """As `docker run -v ./htpasswd:/auth/htpasswd` does."""
    (tmp_path / "on").mkdir()
    target = tmp_path / "on" / "htpasswd"
    target.touch()
    if subprocess.run(["mount", "--bind", path, target], check=False, capture_output=True).returncode:
        pytest.skip("no mounts here")
    try:
        fails(add(target, "bob", "x"), 2, "mounted as a single file")
        assert list(target.parent.iterdir()) == [target]
    finally:
        subprocess.run(["umount", target], check=True)


# Where a password comes from


def commands():
    return typer.main.get_command(cli).get_command(None, "user").commands


def test_no_option_and_no_argument_takes_a_password():
    """So that no list of processes, and no history of a shell, can show one."""
    assert set(commands()) == {"add", "passwd", "remove", "list"}
    taking = {name: [p.name for p in command.params if "password" in p.name] for name, command in commands().items()}
    assert taking == {"add": ["password_stdin"], "passwd": ["password_stdin"], "remove": [], "list": []}
    for name in "add", "passwd":
        (flag,) = (p for p in commands()[name].params if p.name == "password_stdin")
        assert flag.is_flag
        assert [p.name for p in commands()[name].params if p.param_type_name == "argument"] == ["name", "config"]


def test_without_a_terminal_and_without_a_pipe_it_says_what_to_do(path):
    fails(run("add", "bob", "--file", path), 2, "--password-stdin")


def at_a_terminal(path: Path, *answers: str) -> tuple[int, str]:
    """Run `user add bob` at a terminal, and type. Its exit status, and all that the terminal showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["REGISTRY_CONFIGURATION_PATH"] = ""
        arguments = ["-m", "registry", "user", "add", "bob", "--cost", "4", "--file", str(path)]
        os.execv(sys.executable, [sys.executable, *arguments])
    shown = b""
    left = [*answers]
    try:
        while data := os.read(terminal, 1000):
            shown += data
            if shown.endswith(b": ") and left:  # the space comes when what is typed is no longer thrown away
                os.write(terminal, left.pop(0).encode() + b"\n")
    except OSError:  # it has ended
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_a_terminal_is_asked_twice_and_shows_nothing(path):
    status, shown = at_a_terminal(path, "hunter2", "hunter2")
    assert status == 0, shown
    assert "hunter2" not in shown
    assert lets_in(path, "bob", "hunter2")


def test_two_that_differ_are_asked_for_again(path):
    status, shown = at_a_terminal(path, "hunter2", "hunter3", "other", "other")
    assert status == 0, shown
    assert lets_in(path, "bob", "other")


# serve


def test_serve_without_the_file_names_the_command_that_makes_it():
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/htpasswd"
        ended = subprocess.run(
            [sys.executable, "-m", "registry", "serve"],
            env=os.environ
            | {
                "REGISTRY_CONFIGURATION_PATH": "",
                "REGISTRY_HTTP_ADDR": "127.0.0.1:0",
                "REGISTRY_STORAGE": "inmemory",
                "REGISTRY_AUTH": "htpasswd",
                "REGISTRY_AUTH_HTPASSWD_REALM": "r",
                "REGISTRY_AUTH_HTPASSWD_PATH": path,
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode == 2
        last = ended.stderr.splitlines()[-1]
        assert last.startswith("registry: auth.htpasswd.path: ")
        assert f"registry user add NAME --file {path}" in last
        assert list(Path(directory).iterdir()) == []  # registry:2 would make one, with a password in its log
