"""docs/api.md says what is there: every endpoint, and tests that exist."""

import ast
import re
from pathlib import Path

from registry.api.routes import ENDPOINTS

HERE = Path(__file__).parent
PAGE = (HERE.parent.parent / "docs" / "api.md").read_text()


def as_written(path: str) -> str:
    """`/v2/<name>/blobs/<digest>` for `/v2/{repository}/blobs/{digest}`."""
    return re.sub(r"\{(\w+)\}", lambda found: f"<{found[1]}>", path).replace("<repository>", "<name>")


def test_every_endpoint_is_on_the_page():
    for endpoint in ENDPOINTS:
        assert f"`{endpoint.method} {as_written(endpoint.path)}`" in PAGE


def test_every_endpoint_on_the_page_is_one():
    ours = {(endpoint.method, as_written(endpoint.path)) for endpoint in ENDPOINTS}
    ours |= {("HEAD", path) for method, path in ours if method == "GET"}
    named = set(re.findall(r"`(GET|HEAD|POST|PUT|PATCH|DELETE) (/[^`]*)`", PAGE))
    assert named <= ours


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", PAGE)
    assert len(named) == PAGE.count("::") > 80
    for file in {file for file, _ in named}:
        tree = ast.parse((HERE / file).read_text())
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {name for where, name in named if where == file} <= there, file
