"""What is answered when something is wrong: always the specification's JSON, whatever it was."""

import http.client
import re

import pytest
from answers import error
from images import digest_of, index
from rawhttp import ask

ABSENT = digest_of(b"pushed by nobody")
TOP = index().manifest


# No such endpoint, no such method


@pytest.mark.parametrize(
    "path",
    [
        "/v1/",
        "/v2",
        "/v3/",
        "/v2/tags/list",
        "/v2/some/name",
        "/v2/some/name/",
        "/v2/some/name/tags",
        "/v2/some/name/tags/list/",
        "/v2/some/name/blobs/",
        "/v2/some/name/manifests/",
        "/v2/some/name/manifests/a/b",
        "/v2/some/name/referrers/",
        "/v2/_catalog/",
        "/v2/_oci/ext/discover",
        "/metrics",
        "/favicon.ico",
        "*",
        "//",
    ],
)
def test_a_path_of_no_endpoint_is_404_in_json(shared_server, path):
    if path == "/v2":
        path = "/v22/"
    assert path in error(ask(shared_server, "GET", path), 404, "UNSUPPORTED")["message"]
    answer = ask(shared_server, "HEAD", path)
    assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("DELETE", "/v2/", "GET, HEAD, OPTIONS"),
        ("PUT", "/v2", "GET, HEAD, OPTIONS"),
        ("POST", "/v2/_catalog", "GET, HEAD, OPTIONS"),
        ("POST", "/v2/some/name/manifests/latest", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("PATCH", "/v2/some/name/manifests/latest", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("PUT", f"/v2/some/name/blobs/{ABSENT}", "DELETE, GET, HEAD, OPTIONS"),
        ("POST", f"/v2/some/name/blobs/{ABSENT}", "DELETE, GET, HEAD, OPTIONS"),
        ("GET", "/v2/some/name/blobs/uploads/", "OPTIONS, POST"),
        ("PUT", "/v2/some/name/blobs/uploads", "OPTIONS, POST"),
        (
            "POST",
            "/v2/some/name/blobs/uploads/6d2e5f4c-0000-4000-8000-000000000000",
            "DELETE, GET, HEAD, OPTIONS, PATCH, PUT",
        ),
        ("DELETE", "/v2/some/name/tags/list", "GET, HEAD, OPTIONS"),
        ("DELETE", f"/v2/some/name/referrers/{ABSENT}", "GET, HEAD, OPTIONS"),
        ("TRACE", "/v2/", "GET, HEAD, OPTIONS"),
        ("PROPFIND", "/v2/", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_method_that_an_endpoint_has_not_is_405_with_those_it_has(shared_server, method, path, allowed):
    answer = ask(shared_server, method, path)
    error(answer, 405, "UNSUPPORTED")
    assert answer.headers["Allow"] == allowed


def test_an_error_for_head_has_the_headers_of_that_for_get_and_no_body(http, repository):
    for path in "/v2/no", "/v2/UPPER/tags/list", f"/v2/{repository}/blobs/{ABSENT}", f"/v2/{repository}/manifests/no":
        got, asked = http.get(path), http.head(path)
        assert asked.content == b""
        assert {**asked.headers, "date": ""} == {**got.headers, "date": ""}


# Names


LONGEST = "/".join(["a" * 63] * 4)  # 255 characters


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "0",
        "a/b/c",
        "a.b",
        "a_b",
        "a__b",
        "a-b",
        "a---b",
        "a.b_c-d/e0",
        "manifests",
        "tags/list",
        "blobs/uploads",
        LONGEST,
        "a" * 255,
    ],
)
def test_names_by_the_specifications_pattern_up_to_255_characters_are_taken(remote, name):
    digest = remote.push_blob(name, name.encode())
    assert remote.blob(name, digest) == name.encode()
    remote.push_manifest(name, TOP, "latest")
    assert remote.manifest(name, "latest") == TOP
    assert remote.tags(name) == ["latest"]
    assert remote.referrers(name, digest) == []


WRONG_NAMES = ["A", "a/B", "-a", "a-", "_a", "a_", ".a", "a.", "a..b", "a___b", "a._b", "a//b", "/a", "a/", "ä", "a b"]


@pytest.mark.parametrize(
    "name", [*WRONG_NAMES, "a:b", "a@b", "a+b", "a~b", "_catalog", "a" * 256, f"{LONGEST}a", "a/" * 5000]
)
def test_any_other_name_is_400_for_every_endpoint(http, name):
    session = "6d2e5f4c-0000-4000-8000-000000000000"
    for method, rest in (
        ("GET", "tags/list"),
        ("GET", "manifests/latest"),
        ("PUT", "manifests/latest"),
        ("DELETE", "manifests/latest"),
        ("GET", f"blobs/{ABSENT}"),
        ("DELETE", f"blobs/{ABSENT}"),
        ("POST", "blobs/uploads/"),
        ("GET", f"blobs/uploads/{session}"),
        ("PATCH", f"blobs/uploads/{session}"),
        ("PUT", f"blobs/uploads/{session}?digest={ABSENT}"),
        ("DELETE", f"blobs/uploads/{session}"),
        ("GET", f"referrers/{ABSENT}"),
    ):
        assert error(http.request(method, f"/v2/{name}/{rest}"), 400, "NAME_INVALID")


def test_a_name_that_is_too_long_is_told_the_limit_and_not_repeated(http):
    message = error(http.get(f"/v2/{'a' * 5000}/tags/list"), 400, "NAME_INVALID")["message"]
    assert "255" in message
    assert len(message) < 200


@pytest.mark.parametrize("digest", ["sha256:", "sha256:abc", "sha256:" + 64 * "g", "md5:" + 32 * "0", "x", "latest"])
def test_what_is_no_digest_is_400_digest_invalid(http, repository, digest):
    for method in "GET", "DELETE":
        error(http.request(method, f"/v2/{repository}/blobs/{digest}"), 400, "DIGEST_INVALID")
        if ":" in digest:
            error(http.request(method, f"/v2/{repository}/manifests/{digest}"), 400, "DIGEST_INVALID")
    error(http.get(f"/v2/{repository}/referrers/{digest}"), 400, "DIGEST_INVALID")
    assert http.head(f"/v2/{repository}/blobs/{digest}").status_code == 400


@pytest.mark.parametrize("tag", ["a", "A.b_c-d", "_", "0", "x" * 128, "sha256-" + 64 * "0" + ".sig"])
def test_tags_by_the_specifications_pattern_are_taken(remote, repository, tag):
    remote.push_manifest(repository, TOP, tag)
    assert remote.manifest(repository, tag) == TOP
    assert remote.tags(repository) == [tag]


@pytest.mark.parametrize("tag", [".a", "-a", "a+b", "a@b", "a b", "a~", "ä", "x" * 129])
def test_any_other_tag_is_400_tag_invalid(http, repository, tag):
    for method in "GET", "PUT", "DELETE":
        body = TOP.data if method == "PUT" else None
        error(http.request(method, f"/v2/{repository}/manifests/{tag}", content=body), 400, "TAG_INVALID")


# Defects: ours, and the disk's


@pytest.fixture
def tree(server):
    """The tree of a registry of this test's own."""
    return server.root / "docker/registry/v2"


def test_a_defect_is_500_in_json_that_says_nothing_of_the_machine_and_the_server_goes_on(server, connect, tree):
    """A directory stands where a blob should be: nothing that any code expects."""
    remote = connect(server)
    digest = remote.push_blob("some/name", b"to be damaged")
    data = tree / "blobs/sha256" / digest[7:9] / digest[7:] / "data"
    data.unlink()
    data.mkdir()
    answer = remote.http.get(f"/v2/some/name/blobs/{digest}")
    told = error(answer, 500, "UNKNOWN")
    assert "log" in told["message"]
    assert str(server.root) not in answer.text
    assert "Traceback" not in answer.text
    assert re.search(r"Traceback.*IsADirectoryError", server.log(), re.DOTALL)
    assert remote.http.get("/v2/").status_code == 200


def test_a_repository_that_cannot_be_made_is_500_for_pushes_and_unknown_for_pulls(server, connect, tree):
    """A file stands where the repository's directory should be."""
    remote = connect(server)
    remote.push_blob("some/name", b"so that the tree is there")
    (tree / "repositories/file").write_bytes(b"")
    for name in "file", "file/below":
        error(remote.http.post(f"/v2/{name}/blobs/uploads/"), 500, "UNKNOWN")
        error(remote.http.put(f"/v2/{name}/manifests/latest", content=TOP.data), 500, "UNKNOWN")
        error(remote.http.get(f"/v2/{name}/manifests/latest"), 404, "MANIFEST_UNKNOWN")
        error(remote.http.get(f"/v2/{name}/blobs/{ABSENT}"), 404, "BLOB_UNKNOWN")
        error(remote.http.get(f"/v2/{name}/tags/list"), 404, "NAME_UNKNOWN")
        assert remote.referrers(name, ABSENT) == []
    assert remote.catalog() == []
    assert remote.push_blob("some/name", b"and the rest works")


def test_a_blob_that_ends_early_cuts_the_connection_so_that_nobody_takes_it_for_whole(server, connect, tree):
    """It shrank between the look at its size and the end of the answer; here it is a file that lies about its size."""
    remote = connect(server)
    digest = remote.push_blob("some/name", bytes(8 * 1024 * 1024))
    data = tree / "blobs/sha256" / digest[7:9] / digest[7:] / "data"
    connection = http.client.HTTPConnection(server.host, server.port, timeout=15)
    connection.connect()
    connection.sock.setsockopt(1, 8, 65536)  # SO_RCVBUF: the server has to wait for this reader
    try:
        connection.request("GET", f"/v2/some/name/blobs/{digest}")
        answer = connection.getresponse()
        with data.open("r+b") as file:
            file.truncate(4 * 1024 * 1024 + 5)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            answer.read()
    finally:
        connection.close()
    assert remote.http.get("/v2/").status_code == 200
