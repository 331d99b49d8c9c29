"""The volume that the tests of swapping share out between two registries."""

from collections.abc import Iterator
from pathlib import Path

import pytest

# Before they are imported: their assertions say what they compared.
pytest.register_assert_rewrite("history", "volume")

from serving import executable  # noqa: E402
from volume import Volume  # noqa: E402


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """An empty volume. Whatever happens on it, ours never has to say Traceback, and theirs never panics."""
    executable("docker-registry")
    made = Volume(tmp_path / "volume")
    yield made
    for each in (made.ours, made.theirs):
        assert each.process is None, "a test left a registry running"
        print(each.log())
    assert "Traceback" not in made.ours.log()
    assert "panic" not in made.theirs.log()
