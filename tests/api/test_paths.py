"""Paths that try to leave the tree: refused, and nothing on the disk is touched."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import OCI_INDEX, index
from rawhttp import ask
from serving import Server

NAMES = [
    b"..",
    b"../..",
    b"a/../b",
    b"../../../etc/passwd",
    b"%2e%2e",
    b"%2e%2e/%2e%2e",
    b"a/%2e%2e/b",
    b"%2E%2E%2F%2E%2E",
    b"..%2f..%2fa",
    b"%252e%252e%252fa",
    b".",
    b"a/./b",
    b"a%2fb",
    b"a%2Fb",
    b"%2fetc",
    b"a%00b",
    b"a%00",
    b"a\\b",
    b"..\\..",
    b"a%5cb",
    b"a%5C..%5Cb",
    b"A",
    b"a/B",
    b"a//b",
    b"/a",
    b"a/",
    b"%ff%fe",
    b"%c0%ae%c0%ae",
    b"%c0%af",
    b"%e0%80%ae",
    b"%ed%a0%80",
    b"\xc3\xa9",
    b"%c3%a9",
    b"%0a",
    b"a%0ab",
    b"a%0d%0aX-Injected:%20yes",
    b"%20",
    b"a%20b",
    b"%7f",
    b"~",
    b"~root",
    b"$HOME",
    b"%24%7bHOME%7d",
    b"a;b",
    b"a:b",
    b"*",
    b"a?/../b",
    b"_uploads",
    b"_layers",
    b"a/_manifests",
    b"CON",
    b"a" * 256,
    b"a/" * 200 + b"a",
    b"a/" * 5_000 + b"a",
    b"a" * 60_000,
]
REFERENCES = [
    b"..",
    b".",
    b"...",
    b"%2e%2e",
    b"%2e%2e%2f%2e%2e",
    b"..%5c..",
    b"a%00",
    b"%00",
    b"a%0a",
    b"%ff",
    b"sha256:..",
    b"sha256:%2e%2e",
    b"sha256:..%2f..",
    b"sha256%3a..",
    b"sha256:" + 64 * b".",
    b"..:" + 64 * b"a",
    b"sha256:" + 64 * b"A",
    b"a" * 129,
    b"a" * 60_000,
]
SESSIONS = [*REFERENCES, b"6D2E5F4C-0000-4000-8000-000000000000", b"{6d2e5f4c-0000-4000-8000-000000000000}"]
QUERIES = [b"../../a", b"..%2f..%2fa", b"%00", b"a%00b", b"%ff", b"", b"a/../../b", b"\\..\\a", b"A", b"a" * 60_000]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry with one image, and something beside its tree that nobody may see or touch."""
    directory = tmp_path_factory.mktemp("outside")
    (directory / "secret").write_bytes(b"not yours")
    with Server(directory / "data") as server:
        answer = ask(server, "PUT", "/v2/victim/manifests/latest", index().manifest.data, Content_Type=OCI_INDEX)
        assert answer.status_code == 201
        assert ask(server, "GET", "/v2/victim/tags/list").status_code == 200
        yield server


def listing(server: Server) -> dict[str, tuple[int, int, int]]:
    """Everything in and beside the tree: kind, size and time of the last change; the log may grow."""
    found = {}
    for directory, names, files in os.walk(server.root.parent):
        for name in [*names, *files]:
            path = Path(directory, name)
            if path != server.log_path:
                about = path.lstat()
                found[str(path)] = (about.st_mode, about.st_size, about.st_mtime_ns)
    return found


def is_refused(server: Server, method: str, target: bytes) -> None:
    body = index().manifest.data if method in {"PUT", "PATCH", "POST"} else b""
    answer = ask(server, method, target, body)
    assert answer.status_code in {400, 404, 405, 414}, (method, target[:200], answer)
    assert "X-Injected" not in answer.headers
    assert b"not yours" not in answer.content
    assert len(answer.content) < 4000


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:30]))
def test_a_name_that_is_none_is_refused_and_nothing_touched(attacked, name):
    before = listing(attacked)
    digest = index().digest.encode()
    for method, rest in (
        ("GET", b"tags/list"),
        ("GET", b"manifests/latest"),
        ("PUT", b"manifests/latest"),
        ("DELETE", b"manifests/latest"),
        ("GET", b"blobs/" + digest),
        ("DELETE", b"blobs/" + digest),
        ("POST", b"blobs/uploads/"),
        ("POST", b"blobs/uploads/?digest=" + digest),
        ("PUT", b"blobs/uploads/6d2e5f4c-0000-4000-8000-000000000000?digest=" + digest),
        ("GET", b"referrers/" + digest),
    ):
        is_refused(attacked, method, b"/v2/" + name + b"/" + rest)
    assert listing(attacked) == before


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda name: ascii(name[:30]))
def test_a_tag_or_digest_that_is_none_is_refused_and_nothing_touched(attacked, reference):
    before = listing(attacked)
    for method in "GET", "HEAD", "PUT", "DELETE":
        is_refused(attacked, method, b"/v2/victim/manifests/" + reference)
        is_refused(attacked, method, b"/v2/victim/blobs/" + reference)
    is_refused(attacked, "GET", b"/v2/victim/referrers/" + reference)
    assert listing(attacked) == before


@pytest.mark.parametrize("session", SESSIONS, ids=lambda name: ascii(name[:30]))
def test_a_session_that_is_none_is_refused_and_nothing_touched(attacked, session):
    before = listing(attacked)
    for method in "GET", "PATCH", "PUT", "DELETE":
        is_refused(attacked, method, b"/v2/victim/blobs/uploads/" + session)
    assert listing(attacked) == before


@pytest.mark.parametrize("value", QUERIES, ids=lambda name: ascii(name[:30]))
def test_a_parameter_that_names_nothing_is_refused_and_nothing_touched(attacked, value):
    before = listing(attacked)
    digest = index().digest.encode()
    for method, target in (
        ("POST", b"blobs/uploads/?digest=" + value),
        ("POST", b"blobs/uploads/?mount=" + value),
        ("POST", b"blobs/uploads/?mount=" + value + b"&from=" + value),
        ("POST", b"blobs/uploads/?digest-algorithm=" + value),
        ("PUT", b"manifests/" + digest + b"?tag=good&tag=" + value + b"%2f"),
        ("GET", b"referrers/" + digest + b"?n=" + value + b"x"),
    ):
        is_refused(attacked, method, b"/v2/victim/" + target)
    assert listing(attacked) == before


@pytest.mark.parametrize("value", QUERIES, ids=lambda name: ascii(name[:30]))
def test_a_list_that_goes_on_after_a_strange_name_is_still_a_list(attacked, value):
    before = listing(attacked)
    for path in (
        b"/v2/_catalog?last=",
        b"/v2/victim/tags/list?last=",
        b"/v2/victim/referrers/sha256:" + 64 * b"0" + b"?last=",
    ):
        assert ask(attacked, "GET", path + value).status_code in {200, 400}
    assert listing(attacked) == before


@pytest.mark.parametrize(
    "target",
    [b"/../v2/", b"/..", b"/%2e%2e/v2/", b"/v2/..", b"//v2/", b"/v2//", b"/v2/%2e%2e/", b"/V2/", b"/v2%2f", b"/v2/%0a"],
)
def test_paths_are_taken_as_they_are_and_not_tidied(attacked, target):
    """A proxy that checks paths must not be told another one than we serve."""
    assert ask(attacked, "GET", target).status_code == 404


def test_a_name_in_a_mount_never_leaves_the_tree(attacked):
    """`from` that is no name is a failed mount: a session, in the repository that was asked for."""
    digest = index().digest.encode()
    for value in QUERIES:
        if value:
            answer = ask(attacked, "POST", b"/v2/victim/blobs/uploads/?mount=" + digest + b"&from=" + value)
            assert answer.status_code == 202
            assert answer.headers["Location"].startswith("/v2/victim/blobs/uploads/")
            assert ask(attacked, "DELETE", answer.headers["Location"]).status_code == 204
    assert {path.name for path in attacked.root.parent.iterdir()} == {"secret", "data", attacked.log_path.name}
    assert (attacked.root.parent / "secret").read_bytes() == b"not yours"
