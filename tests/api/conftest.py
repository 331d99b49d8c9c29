"""Fixtures of the API's tests: clients of the shared registry, and registries with settings of their own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from rawhttp import Connection
from remote import Remote
from serving import Process, Server


@pytest.fixture(scope="session")
def remote(shared_server: Process) -> Iterator[Remote]:
    """The shared registry."""
    with Remote(shared_server.url) as client:
        yield client


@pytest.fixture
def http(remote: Remote) -> httpx.Client:
    """Plain requests to the shared registry."""
    return remote.http


@pytest.fixture
def connection(shared_server: Process) -> Iterator[Connection]:
    """A raw connection to the shared registry."""
    with Connection(shared_server) as opened:
        yield opened


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a registry with settings of its own: `serve(REGISTRY_HTTP_PREFIX="/hub/")`; its log is shown on failure.

    A second one in the same test has the same tree.
    """
    started: list[Server] = []

    def start(kind: type[Server] = Server, **settings: str) -> Server:
        server = kind(tmp_path / "data", environment=settings)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        if server.process is not None:
            server.kill()
    print(*(server.log() for server in started[:1]))


@pytest.fixture
def connect() -> Iterator[Callable[[Process], Remote]]:
    """Makes clients of such registries."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(Remote(server.url))
