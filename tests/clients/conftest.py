"""Fixtures for tests with real clients: `docker`, `podman`, `buildah`, `skopeo`, `ctr`, and the `wire`."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import engines
import pytest
from engines import Docker, Tool
from remote import Remote
from serving import Process
from wire import Wire


@pytest.fixture(scope="session")
def short_directory() -> Iterator[Path]:
    """A temporary directory whose path leaves room for the name of a socket."""
    directory = Path(tempfile.mkdtemp(prefix="clients-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def docker(short_directory: Path) -> Iterator[Docker]:
    """One daemon for the whole run; its images are told apart by their names."""
    directory = short_directory / "docker"
    directory.mkdir()
    engine = Docker(directory)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def ctr(docker: Docker) -> Tool:
    return engines.ctr(docker)


@pytest.fixture
def podman(short_directory: Path) -> Tool:
    """podman with an empty store. It takes no --runroot of more than 50 characters."""
    return engines.podman(Path(tempfile.mkdtemp(dir=short_directory)))


@pytest.fixture
def buildah(tmp_path: Path) -> Tool:
    """buildah with an empty store."""
    (tmp_path / "buildah").mkdir()
    return engines.buildah(tmp_path / "buildah")


@pytest.fixture
def skopeo(tmp_path: Path) -> Tool:
    (tmp_path / "skopeo").mkdir()
    return engines.skopeo(tmp_path / "skopeo")


@pytest.fixture
def remote(server: Process) -> Iterator[Remote]:
    """The registry under test, without a client between."""
    with Remote(server.url) as client:
        yield client


@pytest.fixture
def wire(server: Process) -> Iterator[Wire]:
    """A relay before the registry under test."""
    with Wire(server.port) as relay:
        yield relay


@pytest.fixture(autouse=True)
def no_traceback(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a client did, the server knew what to answer."""
    server: Process | None = None
    if "server" in request.fixturenames:
        server = request.getfixturevalue("server")
    yield
    if server is not None:
        assert "Traceback" not in server.log(), server.log()
