"""What an image runs: command lines of registry:2's and registry:3's images, and of other programs."""

import os
import subprocess
import sys

import pytest

from registry import __version__
from registry.entrypoint import arguments, is_ours

CONFIG = "/etc/docker/registry/config.yml"


def enter(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the entrypoint as an image does."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    return subprocess.run(
        [sys.executable, "-c", "from registry.entrypoint import main; main()", *arguments],
        env=inherited | {"REGISTRY_CONFIGURATION_PATH": "", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([CONFIG], ["serve", CONFIG]),
        (["config.yaml"], ["serve", "config.yaml"]),
        (["serve"], ["serve"]),
        (["serve", CONFIG], ["serve", CONFIG]),
        (["garbage-collect", "--dry-run", CONFIG], ["garbage-collect", "--dry-run", CONFIG]),
        (["ping", "--timeout", "1"], ["ping", "--timeout", "1"]),
        (["config", "check"], ["config", "check"]),
        (["volume", "init"], ["volume", "init"]),
        (["read-only", "on"], ["read-only", "on"]),
        (["export", "-"], ["export", "-"]),
        (["import", CONFIG, "-"], ["import", CONFIG, "-"]),
        (["certificate", "registry"], ["certificate", "registry"]),
        (["help"], ["--help"]),
        (["-v"], ["-v"]),
        (["--version"], ["--version"]),
    ],
)
def test_command_lines_of_the_registry(given, expected):
    assert is_ours(given[0])
    assert arguments(given) == expected


@pytest.mark.parametrize("word", ["sh", "/bin/sh", "registry", "/bin/registry", "id", "", "yml", "config.yml.old"])
def test_any_other_word_is_another_program(word):
    assert not is_ours(word)


def test_another_program_runs_in_place_of_a_registry():
    """In place: with the same pid, so that signals of the container reach it."""
    code = (
        "import os; from registry.entrypoint import main; print(os.getpid(), flush=True); "
        "import sys; sys.argv[1:] = ['sh', '-c', 'echo $$; exit 7']; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (7, "")
    before, after = ended.stdout.split()
    assert before == after


@pytest.mark.parametrize(("given", "code"), [("no-such-program", 127), ("/dev/null", 126)])
def test_a_program_that_cannot_run_is_one_line_and_a_shell_s_code(given, code):
    ended = enter(given)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert given in ended.stderr


def test_the_version():
    ended = enter("--version")
    assert (ended.returncode, ended.stdout) == (0, f"registry (swarm-registry) {__version__}\n")


def test_help_is_the_registry_s():
    ended = enter("help")
    assert ended.returncode == 0
    assert ended.stdout.startswith("Usage: registry ")


def test_nothing_at_all_serves(tmp_path):
    """`serve` without a file: an address that cannot be is what it stops at."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    ended = subprocess.run(
        [sys.executable, "-c", "from registry.entrypoint import main; main()"],
        env=inherited
        | {
            "REGISTRY_CONFIGURATION_PATH": "",
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(tmp_path / "data"),
            "REGISTRY_HTTP_NET": "unix",
            "REGISTRY_HTTP_ADDR": str(tmp_path / "missing" / "socket"),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "http.addr: cannot listen on" in ended.stderr.splitlines()[-1]
