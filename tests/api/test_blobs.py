"""end-2 and end-10: pulling blobs, whole and in parts, and deleting them."""

import email
import email.policy
import re
import zlib

import httpx
import pytest
from answers import error
from images import digest_of, noise
from rawhttp import Connection

DATA = noise("blob", 4000)
DIGEST = digest_of(DATA)
ABSENT = digest_of(b"pushed by nobody")
EMPTY = digest_of(b"")


@pytest.fixture
def path(remote, repository):
    """Where a blob of 4000 bytes is."""
    return f"/v2/{repository}/blobs/{remote.push_blob(repository, DATA)}"


def parts_of(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Content-Range and bytes of each part, as the standard library's MIME parser reads them."""
    kind = answer.headers["Content-Type"]
    message = email.message_from_bytes(
        f"Content-Type: {kind}\r\n\r\n".encode() + answer.content, policy=email.policy.HTTP
    )
    assert not message.defects
    assert message.get_content_type() == "multipart/byteranges"
    parts = []
    for part in message.iter_parts():
        assert not part.defects
        assert part["Content-Type"] == "application/octet-stream"
        parts.append((part["Content-Range"], part.get_payload(decode=True)))
    return parts


# GET and HEAD


def test_get_gives_the_bytes_with_digest_length_and_type(http, path):
    answer = http.get(path)
    assert answer.status_code == 200
    assert answer.content == DATA
    assert answer.headers["Docker-Content-Digest"] == DIGEST
    assert answer.headers["Content-Length"] == "4000"
    assert answer.headers["Content-Type"] == "application/octet-stream"


def test_head_is_get_without_the_bytes(http, path):
    got, asked = http.get(path), http.head(path)
    assert asked.status_code == 200
    assert asked.content == b""
    assert {**asked.headers, "date": ""} == {**got.headers, "date": ""}


def test_a_blob_says_that_it_never_changes_and_comes_in_parts(http, path):
    """`Accept-Ranges` makes a blob seekable for oras."""
    headers = http.get(path).headers
    assert headers["ETag"] == f'"{DIGEST}"'
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Cache-Control"] == "max-age=31536000, immutable"


@pytest.mark.parametrize("coding", ["gzip", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5", "*"])
def test_content_is_never_encoded_whatever_the_client_accepts(http, remote, repository, coding):
    """containerd offers all of these on blobs, and would store what it decoded."""
    data = zlib.compress(b"already compressed" * 100) + b"as text " * 1000
    digest = remote.push_blob(repository, data)
    answer = http.get(f"/v2/{repository}/blobs/{digest}", headers={"Accept-Encoding": coding})
    assert "Content-Encoding" not in answer.headers
    assert answer.content == data


def test_a_blob_of_no_bytes(http, remote, repository):
    path = f"/v2/{repository}/blobs/{remote.push_blob(repository, b'')}"
    assert path.endswith(EMPTY)
    for answer in http.get(path), http.head(path):
        assert answer.status_code == 200
        assert answer.content == b""
        assert answer.headers["Content-Length"] == "0"
        assert answer.headers["Docker-Content-Digest"] == EMPTY
    answer = http.get(path, headers={"Range": "bytes=0-"})
    error(answer, 416, "RANGE_INVALID")
    assert answer.headers["Content-Range"] == "bytes */0"


def test_a_blob_named_by_sha512(http, remote, repository):
    digest = remote.push_blob(repository, DATA, "sha512")
    assert remote.blob(repository, digest) == DATA
    assert http.get(f"/v2/{repository}/blobs/{digest}").headers["ETag"] == f'"{digest}"'


def test_a_blob_larger_than_all_buffers_comes_whole(remote, repository):
    data = noise("large", 24 * 1024 * 1024)
    assert remote.blob(repository, remote.push_blob(repository, data)) == data


def test_the_host_that_a_mirror_is_asked_for_changes_nothing(http, path):
    """containerd adds `ns`; the specification lets a registry that is no proxy ignore it."""
    answer = http.get(path, params={"ns": "docker.io"})
    assert answer.content == DATA
    assert "OCI-Namespace" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_an_unknown_blob_is_404_blob_unknown_in_any_repository(http, path, repository, method):
    for name in repository, "no/such/repository":
        answer = http.request(method, f"/v2/{name}/blobs/{ABSENT}")
        assert answer.status_code == 404
        if method == "HEAD":
            assert answer.content == b""
        else:
            assert error(answer, 404, "BLOB_UNKNOWN")["detail"] == {"digest": ABSENT}


def test_a_blob_is_seen_only_in_the_repositories_it_was_pushed_to(http, path, repository):
    error(http.get(f"/v2/{repository}/elsewhere/blobs/{DIGEST}"), 404, "BLOB_UNKNOWN")


# Ranges


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=500-1499", 500, 1499),
        ("bytes=3999-3999", 3999, 3999),
        ("bytes=500-", 500, 3999),
        ("bytes=-500", 3500, 3999),
        ("bytes=2000-5000", 2000, 3999),
        ("bytes=-5000", 0, 3999),
        ("bytes=0-18446744073709551615", 0, 3999),
        ("Bytes = 7-9", 7, 9),
        ("bytes=10-19,4000-", 10, 19),
    ],
)
def test_a_range_is_answered_with_206_and_its_bytes_clamped_to_the_size(http, path, asked, first, last):
    """docker resumes a pull so, and needs the first byte as asked and the last one the blob's."""
    answer = http.get(path, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == DATA[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/4000"
    assert answer.headers["Content-Length"] == str(last - first + 1)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Docker-Content-Digest"] == DIGEST


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=4000-",
        "bytes=5000-10000",
        "bytes=500-0",
        "bytes=-0",
        "bytes=",
        "bytes=x-y",
        "bytes=-",
        "bytes=4000-,9999-",
    ],
)
def test_a_range_that_cannot_be_had_is_416_with_the_size(http, path, asked):
    answer = http.get(path, headers={"Range": asked})
    error(answer, 416, "RANGE_INVALID")
    assert answer.headers["Content-Range"] == "bytes */4000"


@pytest.mark.parametrize(
    "asked",
    [
        [(0, 9), (20, 29)],
        [(3000, 3999), (0, 0), (17, 18)],
        [(5, 9), (0, 7)],
        [(number, number) for number in range(0, 2000, 3)],
    ],
)
def test_several_ranges_come_as_parts_in_the_order_asked_for(http, path, asked):
    """Partial pulls of zstd:chunked layers ask for hundreds at once."""
    answer = http.get(path, headers={"Range": "bytes=" + ",".join(f"{first}-{last}" for first, last in asked)})
    assert answer.status_code == 206
    assert "Content-Range" not in answer.headers
    assert parts_of(answer) == [(f"bytes {a}-{b}/4000", DATA[a : b + 1]) for a, b in asked]


def test_several_ranges_are_announced_with_their_exact_length_and_a_plain_boundary(shared_server, path):
    """containers/image reads a boundary of letters, digits, `-` and `:` only."""
    with Connection(shared_server) as connection:
        connection.request("GET", path, Range="bytes=0-9, -10, 1000-2000", Connection="close")
        answer = connection.answer()
        assert connection.is_closed_by_server()
    assert re.fullmatch(r"multipart/byteranges; boundary=[A-Za-z0-9:-]{1,70}", answer.headers["Content-Type"])
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_of_several_ranges_those_that_cannot_be_had_are_left_out(http, path):
    answer = http.get(path, headers={"Range": "bytes=0-9,5000-6000,20-29,9-1"})
    assert parts_of(answer) == [("bytes 0-9/4000", DATA[:10]), ("bytes 20-29/4000", DATA[20:30])]


def test_up_to_1024_ranges_come_in_parts(http, path):
    answer = http.get(path, headers={"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(1024))})
    assert answer.status_code == 206
    assert len(parts_of(answer)) == 1024


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=" + ",".join(f"{n}-{n}" for n in range(1025)),
        "bytes=0-3999,0-3999",
        "bytes=0-,0-,0-,0-,0-,0-,0-,0-",
        "items=0-9",
        "0-9",
    ],
)
def test_too_many_ranges_or_bytes_and_other_units_are_answered_whole(http, path, asked):
    """Clients of partial pulls take 200, and fail on a 416 for ranges that exist."""
    answer = http.get(path, headers={"Range": asked})
    assert answer.status_code == 200
    assert answer.content == DATA


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (f'"{DIGEST}"', 206),
        (f'"{ABSENT}"', 200),
        (f'W/"{DIGEST}"', 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
    ],
)
def test_if_range_gives_the_part_only_of_the_very_content_it_names(http, path, condition, status):
    """RFC 9110 section 13.1.5: a weak tag never matches."""
    answer = http.get(path, headers={"Range": "bytes=0-9", "If-Range": condition})
    assert (answer.status_code, len(answer.content)) == (status, {206: 10, 200: 4000}[status])


def test_head_ignores_ranges(http, path):
    """RFC 9110 section 14.2: Range is defined for GET alone."""
    answer = http.head(path, headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, "4000")


# Conditions


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "known", [f'"{DIGEST}"', DIGEST, f'"{ABSENT}", "{DIGEST}"', f"{ABSENT},{DIGEST}", f'W/"{DIGEST}"', "*"]
)
def test_a_blob_that_the_client_has_is_304(http, path, method, known):
    """registry:2 takes the digest without quotes too, and scripts send it so."""
    answer = http.request(method, path, headers={"If-None-Match": known})
    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["ETag"] == f'"{DIGEST}"'


def test_what_the_client_has_may_be_listed_on_several_lines(http, path):
    """RFC 9110 section 5.3."""
    answer = http.get(path, headers=[("If-None-Match", f'"{ABSENT}"'), ("If-None-Match", f'"{DIGEST}"')])
    assert answer.status_code == 304


@pytest.mark.parametrize("known", [f'"{ABSENT}"', '""', f'"{DIGEST[:-1]}"', f'"x{DIGEST}"', ""])
def test_a_blob_that_the_client_has_not_is_sent(http, path, known):
    assert http.get(path, headers={"If-None-Match": known}).content == DATA


def test_whoever_has_the_blob_gets_304_and_not_a_part(http, path):
    """RFC 9110 section 13.2.2: If-None-Match comes before Range."""
    answer = http.get(path, headers={"If-None-Match": f'"{DIGEST}"', "Range": "bytes=0-9"})
    assert answer.status_code == 304


@pytest.mark.parametrize("known", ["*", f'"{ABSENT}"'])
def test_a_condition_does_not_make_an_unknown_blob_known(http, repository, known):
    error(http.get(f"/v2/{repository}/blobs/{ABSENT}", headers={"If-None-Match": known}), 404, "BLOB_UNKNOWN")


# DELETE


def test_delete_is_202_and_then_the_blob_is_unknown(http, path):
    answer = http.delete(path)
    assert answer.status_code == 202
    assert answer.headers["Docker-Content-Digest"] == DIGEST
    assert answer.headers["Content-Length"] == "0"
    for method in "GET", "HEAD", "DELETE":
        assert http.request(method, path).status_code == 404


def test_delete_takes_a_blob_out_of_one_repository_alone(http, remote, path, repository):
    other = f"{repository}/other"
    assert remote.mount(other, DIGEST, repository) == 201
    assert http.delete(path).status_code == 202
    assert remote.blob(other, DIGEST) == DATA


def test_a_deleted_blob_can_be_pushed_again(remote, path, repository):
    remote.delete_blob(repository, DIGEST)
    remote.push_blob(repository, DATA)
    assert remote.blob(repository, DIGEST) == DATA


def test_a_pull_under_way_outlives_the_delete(shared_server, remote, repository):
    data = noise("pulled while deleted", 16 * 1024 * 1024)
    digest = remote.push_blob(repository, data)
    with Connection(shared_server, window=65536) as connection:
        connection.request("GET", f"/v2/{repository}/blobs/{digest}")
        assert connection.head()[0] == 200
        remote.delete_blob(repository, digest)
        assert connection.read(len(data)) == data
    assert not remote.has_blob(repository, digest)
