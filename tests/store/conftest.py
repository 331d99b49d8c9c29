"""Every test of the store runs in memory and on a filesystem."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import Backend, backend

from registry.store.local import LocalStore


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
def stored(request: pytest.FixtureRequest, directory: Path) -> Iterator[Backend]:
    with backend(directory / "data" if request.param == "filesystem" else None) as opened:
        yield opened


@pytest.fixture
def on_disk(directory: Path) -> Iterator[Backend]:
    with backend(directory / "data") as opened:
        yield opened


@pytest.fixture
def store(stored: Backend) -> LocalStore:
    return stored.store


@pytest.fixture
def anyio_backend() -> str:
    """What runs the tests that are coroutines."""
    return "asyncio"
