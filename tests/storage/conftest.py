"""A storage root of each test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.root import Filesystem

Opened = Callable[..., Filesystem]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def opened(root: Path) -> Opened:
    """The root, opened once more, as another process would."""

    def open_again(floor: int = 0) -> Filesystem:
        files = Filesystem(root, floor)
        files.require_writable()
        return files

    return open_again


@pytest.fixture
def blobs(opened: Opened) -> FilesystemBlobs:
    return FilesystemBlobs(opened())


@pytest.fixture
def records(opened: Opened) -> FilesystemRecords:
    return FilesystemRecords(opened())


@pytest.fixture
def other_blobs(opened: Opened) -> FilesystemBlobs:
    return FilesystemBlobs(opened())
