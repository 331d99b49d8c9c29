"""Fixtures for every test that speaks to a running registry.

`tests/` is no package: its own modules are imported by their bare name (`from serving import Server`).
"""

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before they are imported: their assertions say what they compared.
pytest.register_assert_rewrite("https", "images", "remote", "serving")

from serving import PeerRegistry, Process, Server  # noqa: E402


def registry_under_test(root: Path) -> Process:
    """Ours; or, with `REGISTRY_UNDER_TEST=peer`, registry:2: to see what a test says of the peer."""
    if os.environ.get("REGISTRY_UNDER_TEST") == "peer":
        return PeerRegistry(root)
    return Server(root)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    """A registry of this test's own, on an empty tree; its log is shown when the test fails."""
    with registry_under_test(tmp_path / "data") as running:
        yield running
    print(running.log())


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One registry for all tests that mostly read; each keeps to its own `repository`."""
    with registry_under_test(tmp_path_factory.mktemp("shared") / "data") as running:
        yield running


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository name that no other test has."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60].strip("-")
    return f"{words}/{uuid.uuid4().hex[:8]}"
