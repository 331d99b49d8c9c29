"""Giving up root: to whom the storage belongs decides. Each test gives it up in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")

USER = 65532

SCRIPT = """
import json, os, sys
from pathlib import Path
from registry.privileges import give_up_root
root, user, before = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if before:
    os.setgroups([])
    os.setgid(before)
    os.setuid(before)
said = give_up_root(root, user)
print(json.dumps([said, os.getresuid(), os.getresgid(), os.getgroups()]))
"""


def give_up(root: Path, before: int = 0) -> tuple[str, Any, Any, Any]:
    """What it said; then its real, effective and saved uids and gids, and its other groups."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root), str(USER), str(before)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    said, uids, gids, groups = json.loads(ended.stdout)
    return said, uids, gids, groups


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def test_a_missing_directory_is_made_and_given_to_the_image_s_user(tmp_path):
    root = tmp_path / "a" / "b"
    said, uids, gids, groups = give_up(root)
    assert said == f"gave up root: serving as the owner of {root}, uid {USER}"
    assert (uids, gids, groups) == ([USER] * 3, [USER] * 3, [])
    assert owner(root) == (USER, USER)
    assert owner(tmp_path / "a") == (0, 0)


def test_an_empty_directory_of_root_is_given_to_the_image_s_user(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    _, uids, gids, groups = give_up(root)
    assert (uids, gids, groups) == ([USER] * 3, [USER] * 3, [])
    assert owner(root) == (USER, USER)


def test_a_tree_of_root_stays_root_s_and_the_log_says_how_to_give_it(tmp_path):
    root = tmp_path / "data"
    (root / "docker" / "registry" / "v2").mkdir(parents=True)
    said, uids, gids, _ = give_up(root)
    assert (uids, gids) == ([0] * 3, [0] * 3)
    assert said.endswith(f"chown -R {USER}:{USER} {root}")
    assert owner(root) == owner(root / "docker") == (0, 0)


def test_a_tree_of_another_user_is_served_as_that_user(tmp_path):
    root = tmp_path / "data"
    (root / "docker").mkdir(parents=True)
    os.chown(root, 1234, 4321)
    said, uids, gids, groups = give_up(root)
    assert said.endswith("uid 1234")
    assert (uids, gids, groups) == ([1234] * 3, [4321] * 3, [])
    assert owner(root) == (1234, 4321)
    assert owner(root / "docker") == (0, 0)


def test_without_root_there_is_nothing_to_decide(tmp_path):
    """The directory is not even looked at."""
    root = tmp_path / "data"
    said, uids, _, _ = give_up(root, before=1234)
    assert (said, uids) == ("", [1234] * 3)
    assert not root.exists()
