"""Every contract test runs on every medium."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from media import Medium, filesystem, memory

from registry.storage.base import Blobs, BlobSource, LocalFile, Records


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where the machine has one: these tests sync more often than a disk likes."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as path:
        yield Path(path)


@pytest.fixture(params=["filesystem", "memory"])
def medium(request: pytest.FixtureRequest, directory: Path) -> Medium:
    return memory() if request.param == "memory" else filesystem(directory / "data")


@pytest.fixture
def blobs(medium: Medium) -> Blobs:
    return medium.blobs


@pytest.fixture
def records(medium: Medium) -> Records:
    return medium.records


@pytest.fixture
def content_of() -> Callable[[BlobSource], bytes]:
    """All bytes of a source, read as a server would."""

    def content(source: BlobSource) -> bytes:
        if isinstance(source, LocalFile):
            data = source.file.read()
            source.close()
        else:
            data = b""
            while part := source.read(len(data), 4097):
                assert len(part) <= 4097
                data += part
        assert len(data) == source.size
        return data

    return content
