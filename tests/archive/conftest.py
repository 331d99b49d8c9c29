"""Storages to copy out of and into."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("copying", "history")
sys.path.append(str(Path(__file__).parent.parent / "swap"))  # its histories

from archived import APP, MULTI  # noqa: E402
from copying import succeed  # noqa: E402
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


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout of `APP` and `MULTI`, tags of one repository, that no test changes."""
    directory = tmp_path_factory.mktemp("exported")
    with Server(directory / "data") as server, Remote(server.url) as remote:
        remote.push("team/app", APP, "app")
        remote.push("team/app", MULTI, "multi")
    succeed(directory / "data", "export", directory / "layout")
    return directory / "layout"


@pytest.fixture
def layout(exported: Path, tmp_path: Path) -> Path:
    """The same, to tamper with."""
    shutil.copytree(exported, tmp_path / "layout")
    return tmp_path / "layout"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A storage that is still to be made."""
    return tmp_path / "data"
