"""Storages to copy out of and into."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("copying", "history")
sys.path.append(str(Path(__file__).parent.parent / "swap"))  # its histories

from remote import Remote  # noqa: E402
from serving import Server  # noqa: E402


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Remote]:
    """A registry that is served all the time; its storage is `tmp_path / "source"`."""
    with Server(tmp_path / "source") as server, Remote(server.url) as remote:
        yield remote
        assert "Traceback" not in server.log()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Remote]:
    """Another one, empty: `tmp_path / "target"`."""
    with Server(tmp_path / "target") as server, Remote(server.url) as remote:
        yield remote
        assert "Traceback" not in server.log()
