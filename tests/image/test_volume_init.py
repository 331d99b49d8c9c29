"""`registry volume init`, and a registry that is told to serve from no other volume than a prepared one."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from serving import Server

REQUIRED = {"REGISTRY_STORAGE_FILESYSTEM_REQUIREVOLUME": "true"}


def run(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    return subprocess.run(
        [sys.executable, "-m", "registry", *arguments],
        env=inherited
        | REQUIRED
        | {
            "REGISTRY_CONFIGURATION_PATH": "",
            "REGISTRY_HTTP_ADDR": "127.0.0.1:0",
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(root),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def init(root: Path) -> str:
    ended = run("volume", "init", root=root)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 1
    return ended.stdout.strip()


@pytest.mark.parametrize("exists", [True, False])
def test_an_unprepared_directory_is_refused(tmp_path, exists):
    root = tmp_path / "data"
    if exists:
        root.mkdir()
    ended = run("serve", root=root)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("registry: ")]
    assert len(said) == 1, ended.stderr
    assert said[0] == ended.stderr.splitlines()[-1]
    assert "requirevolume" in said[0]
    assert "registry volume init" in said[0]
    # A refused start is no preparation: the next one is refused as well.
    assert run("serve", root=root).returncode == 2


def test_a_prepared_one_is_served(tmp_path):
    root = tmp_path / "data"
    identity = init(root)
    with Server(root, environment=REQUIRED) as server:
        assert server.stop() == 0
    assert init(root) == identity


def test_the_id_is_a_uuid_and_stays(tmp_path):
    root = tmp_path / "data"
    first = init(root)
    assert str(uuid.UUID(first)) == first
    assert init(root) == first
    assert init(tmp_path / "other") != first


def test_a_tree_of_registry_2_is_a_prepared_one(tmp_path):
    root = tmp_path / "data"
    (root / "docker" / "registry" / "v2").mkdir(parents=True)
    with Server(root, environment=REQUIRED) as server:
        assert server.stop() == 0


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    ended = run("volume", "init", root=tmp_path / "file" / "data")
    assert (ended.returncode, ended.stdout) == (2, "")
    said = ended.stderr.splitlines()[-1]
    assert said.startswith("registry: storage.filesystem.rootdirectory: cannot write to ")
    assert "Traceback" not in ended.stderr
