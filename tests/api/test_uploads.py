"""end-4 to end-6, end-11, end-13 and end-14: pushing blobs."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx
import pytest
from answers import error
from images import digest_of, noise
from rawhttp import Connection
from serving import Server, wait_until

DATA = noise("upload", 5000)
DIGEST = digest_of(DATA)
LARGE = noise("large upload", 5 * 1024 * 1024)
ABSENT = digest_of(b"pushed by nobody")
UNKNOWN_SESSION = "6d2e5f4c-0000-4000-8000-000000000000"

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture
def uploads(repository):
    """Where sessions begin."""
    return f"/v2/{repository}/blobs/uploads/"


@pytest.fixture
def location(http, uploads):
    """A new session."""
    return begin(http, uploads)


def begin(http: httpx.Client, uploads: str) -> str:
    answer = http.post(uploads)
    assert answer.status_code == 202
    return answer.headers["Location"]


def is_session(answer: httpx.Response, status: int, last: int) -> str:
    """Check an answer about a session whose last byte is `last`; its Location."""
    assert answer.status_code == status, answer.text
    location = answer.headers["Location"]
    session = answer.headers["Docker-Upload-UUID"]
    assert re.fullmatch(rf"/v2/[a-z0-9/-]+/blobs/uploads/{session}", location)
    assert re.fullmatch(UUID, session)
    assert answer.headers["Range"] == f"0-{last}"
    assert answer.content == b"" or status == 416
    return location


def is_created(answer: httpx.Response, digest: str = DIGEST) -> str:
    """Check an answer that says that the blob is there; its Location."""
    assert answer.status_code == 201, answer.text
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Content-Length"] == "0"
    location = answer.headers["Location"]
    assert re.fullmatch(rf"/v2/[a-z0-9/-]+/blobs/{digest}", location)
    return location


def offset_of(http: httpx.Client, location: str) -> int:
    answer = http.get(location)
    assert answer.status_code == 204
    last = int(answer.headers["Range"].removeprefix("0-"))
    return last + 1 if last else 0


def chunked(data: bytes, size: int = 1000):
    """A body without a known length: httpx sends it in chunked coding."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def sessions_on_disk(server: Server, repository: str) -> list[Path]:
    directory = server.root / "docker/registry/v2/repositories" / repository / "_uploads"
    return list(directory.iterdir()) if directory.exists() else []


# POST


@pytest.mark.parametrize("slash", ["/", ""])
def test_post_begins_a_session(http, repository, slash):
    answer = http.post(f"/v2/{repository}/blobs/uploads{slash}")
    is_session(answer, 202, 0)
    assert answer.headers["Content-Length"] == "0"


def test_post_takes_any_content_type(http, uploads):
    """go-containerregistry sends application/json with an empty body."""
    is_session(http.post(uploads, headers={"Content-Type": "application/json"}), 202, 0)


def test_each_post_begins_a_session_of_its_own(http, uploads):
    assert len({begin(http, uploads) for _ in range(5)}) == 5


def test_post_with_a_digest_and_the_body_makes_the_blob(http, remote, repository, uploads):
    location = is_created(http.post(uploads, params={"digest": DIGEST}, content=DATA))
    assert http.get(location).content == DATA
    assert remote.blob(repository, DIGEST) == DATA


def test_post_with_a_digest_and_a_body_in_chunked_coding_makes_the_blob(http, uploads):
    is_created(http.post(uploads, params={"digest": DIGEST}, content=chunked(DATA)))


def test_post_with_a_digest_and_no_body_begins_a_session(http, uploads):
    """Some clients ask so whether one request would do."""
    location = is_session(http.post(uploads, params={"digest": DIGEST}), 202, 0)
    is_created(http.put(location, params={"digest": DIGEST}, content=DATA))


def test_post_with_the_digest_of_nothing_and_no_body_makes_the_empty_blob(http, remote, repository, uploads):
    empty = digest_of(b"")
    is_created(http.post(uploads, params={"digest": empty}), empty)
    assert remote.blob(repository, empty) == b""


def test_post_with_the_digest_of_something_else_leaves_nothing(http, shared_server, repository, uploads):
    """Nobody was told of the session, so nobody could go on with it."""
    error(http.post(uploads, params={"digest": ABSENT}, content=DATA), 400, "DIGEST_INVALID")
    error(http.get(f"/v2/{repository}/blobs/{ABSENT}"), 404, "BLOB_UNKNOWN")
    error(http.get(f"/v2/{repository}/blobs/{DIGEST}"), 404, "BLOB_UNKNOWN")
    assert sessions_on_disk(shared_server, repository) == []


def test_post_of_which_the_end_never_came_leaves_nothing(http, shared_server, repository, uploads):
    with Connection(shared_server) as connection:
        connection.request("POST", f"{uploads}?digest={digest_of(LARGE)}", LARGE[:-1], Content_Length=len(LARGE))
        wait_until(lambda: sessions_on_disk(shared_server, repository), 10, "a session")
    wait_until(lambda: not sessions_on_disk(shared_server, repository), 10, "the session removed")
    error(http.get(f"/v2/{repository}/blobs/{digest_of(LARGE)}"), 404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:abc", "md5:" + 32 * "0", "sha256:" + 64 * "G", "sha256:" + 64 * "A", 64 * "0"]
)
def test_post_and_put_with_what_is_no_digest_are_400(http, location, uploads, digest):
    error(http.post(uploads, params={"digest": digest}, content=DATA), 400, "DIGEST_INVALID")
    error(http.put(location, params={"digest": digest}, content=DATA), 400, "DIGEST_INVALID")


# POST to mount


@pytest.fixture
def source(remote, repository):
    """Another repository, which has the blob."""
    name = f"{repository}/source"
    remote.push_blob(name, DATA)
    return name


def test_mount_from_a_repository_that_has_the_blob_is_201(http, remote, repository, uploads, source):
    is_created(http.post(uploads, params={"mount": DIGEST, "from": source}))
    assert remote.blob(repository, DIGEST) == DATA


def test_mount_from_nowhere_finds_the_blob_wherever_it_is(http, remote, repository, uploads, source):
    """regclient tries this first."""
    is_created(http.post(uploads, params={"mount": DIGEST}))
    assert remote.blob(repository, DIGEST) == DATA


@pytest.mark.parametrize(
    ("digest", "origin"),
    [
        (ABSENT, None),
        (ABSENT, "{repository}/source"),
        (DIGEST, "{repository}/without"),
        (DIGEST, "UPPER"),
        (DIGEST, "../source"),
        (DIGEST, 256 * "a"),
    ],
)
def test_a_mount_that_cannot_be_is_a_session_for_the_upload(http, uploads, repository, source, digest, origin):
    """The blob of a third repository does not count: only `from` says that the client may see it."""
    query = {"mount": digest} | ({"from": origin.format(repository=repository)} if origin else {})
    location = is_session(http.post(uploads, params=query), 202, 0)
    is_created(http.put(location, params={"digest": DIGEST}, content=DATA))


def test_a_failed_mount_may_be_cancelled(http, uploads):
    """podman does so, and expects 204."""
    location = http.post(uploads, params={"mount": ABSENT, "from": "library/none"}).headers["Location"]
    assert http.delete(location).status_code == 204


def test_a_mount_of_what_is_no_digest_is_400(http, uploads):
    error(http.post(uploads, params={"mount": "latest", "from": "library/none"}), 400, "DIGEST_INVALID")


def test_a_mounted_blob_stays_when_its_source_is_deleted(http, remote, repository, uploads, source):
    is_created(http.post(uploads, params={"mount": DIGEST, "from": source}))
    remote.delete_blob(source, DIGEST)
    assert remote.blob(repository, DIGEST) == DATA


# Algorithms


def test_a_session_for_sha512_takes_a_stream_and_its_sha512(http, remote, repository, uploads):
    digest = digest_of(DATA, "sha512")
    location = is_session(http.post(uploads, params={"digest-algorithm": "sha512"}), 202, 0)
    is_session(http.patch(location, content=chunked(DATA)), 202, 4999)
    is_created(http.put(location, params={"digest": digest}), digest)
    assert remote.blob(repository, digest) == DATA


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_closing_digest_may_be_of_another_algorithm_than_the_session(http, uploads, algorithm):
    other = {"sha256": "sha512", "sha512": "sha256"}[algorithm]
    location = http.post(uploads, params={"digest-algorithm": algorithm}).headers["Location"]
    http.patch(location, content=DATA[:3000])
    digest = digest_of(DATA, other)
    is_created(http.put(location, params={"digest": digest}, content=DATA[3000:]), digest)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "", "SHA256", "../sha256"])
def test_an_unknown_algorithm_is_400_and_no_session(http, shared_server, repository, uploads, algorithm):
    answer = http.post(uploads, params={"digest-algorithm": algorithm})
    assert "sha512" in error(answer, 400, "DIGEST_INVALID")["message"]
    assert sessions_on_disk(shared_server, repository) == []


# PATCH


def test_patch_with_a_length_appends(http, location):
    is_session(http.patch(location, content=DATA[:1000]), 202, 999)
    is_session(http.patch(location, content=DATA[1000:]), 202, 4999)
    is_created(http.put(location, params={"digest": DIGEST}))


def test_patch_in_chunked_coding_appends(http, location):
    """docker sends a whole layer so: no length, no range."""
    is_session(http.patch(location, content=chunked(DATA)), 202, 4999)
    is_created(http.put(location, params={"digest": DIGEST}))


@pytest.mark.parametrize("form", ["{}-{}", "bytes {}-{}/*", "bytes={}-{}"])
def test_patch_with_a_content_range_appends_at_its_place(http, location, form):
    """The specification's form, and those that clients send for it."""
    is_session(http.patch(location, content=DATA[:1000], headers={"Content-Range": form.format(0, 999)}), 202, 999)
    rest = {"Content-Range": form.format(1000, 4999)}
    is_session(http.patch(location, content=chunked(DATA[1000:]), headers=rest), 202, 4999)
    is_created(http.put(location, params={"digest": DIGEST}))


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "text/plain; charset=utf-8"])
def test_patch_takes_any_content_type_and_none(http, location, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    is_session(http.patch(location, content=DATA, headers=headers), 202, 4999)


def test_patch_of_nothing_changes_nothing(http, location):
    is_session(http.patch(location), 202, 0)
    http.patch(location, content=DATA)
    is_session(http.patch(location), 202, 4999)


@pytest.mark.parametrize("begins", [0, 500, 999, 1001, 10**18])
def test_a_chunk_out_of_order_is_416_with_the_place_to_go_on(http, location, begins):
    """regclient goes on from Location and Range of the 416."""
    http.patch(location, content=DATA[:1000])
    chunk = {"Content-Range": f"{begins}-{begins + 3999}"}
    answer = http.patch(location, content=DATA[1000:], headers=chunk)
    error(answer, 416, "RANGE_INVALID")
    assert is_session(answer, 416, 999) == location
    is_session(http.patch(location, content=DATA[1000:], headers={"Content-Range": "1000-4999"}), 202, 4999)
    is_created(http.put(location, params={"digest": DIGEST}))


def test_a_first_chunk_that_does_not_begin_at_0_is_416(http, location):
    is_session(http.patch(location, content=DATA, headers={"Content-Range": "1-5000"}), 416, 0)
    is_session(http.get(location), 204, 0)


@pytest.mark.parametrize("form", ["5-1", "x-y", "0", "-", "0-", "-5", "bytes */5000", "", "0-4999,5000-5001"])
def test_a_content_range_that_is_none_is_416_and_nothing_is_appended(http, location, form):
    error(http.patch(location, content=DATA, headers={"Content-Range": form}), 416, "RANGE_INVALID")
    is_session(http.get(location), 204, 0)


@pytest.mark.parametrize("coded", [bytes, chunked])
@pytest.mark.parametrize("last", [4998, 5000, 10**18])
def test_a_chunk_of_another_length_than_its_content_range_is_not_appended(http, location, coded, last):
    http.patch(location, content=DATA)
    answer = http.patch(location, content=coded(DATA), headers={"Content-Range": f"5000-{5000 + last}"})
    error(answer, 400, "SIZE_INVALID")
    is_session(http.get(location), 204, 4999)
    is_created(http.put(location, params={"digest": DIGEST}))


# PUT


def test_put_with_the_whole_body(http, remote, repository, location):
    """containerd and most others push so."""
    url = is_created(http.put(location, params={"digest": DIGEST}, content=DATA))
    assert http.get(url).content == DATA
    assert remote.blob(repository, DIGEST) == DATA


def test_put_with_a_body_in_chunked_coding(http, location):
    is_created(http.put(location, params={"digest": DIGEST}, content=chunked(DATA)))


@pytest.mark.parametrize("chunk", [{}, {"Content-Range": "3000-4999"}])
def test_put_may_bring_the_last_chunk(http, remote, repository, location, chunk):
    http.patch(location, content=DATA[:3000])
    is_created(http.put(location, params={"digest": DIGEST}, content=DATA[3000:], headers=chunk))
    assert remote.blob(repository, DIGEST) == DATA


def test_a_misplaced_last_chunk_is_416_and_the_session_goes_on(http, location):
    http.patch(location, content=DATA[:3000])
    wrong = {"Content-Range": "2999-4998"}
    answer = http.put(location, params={"digest": DIGEST}, content=DATA[3000:], headers=wrong)
    error(answer, 416, "RANGE_INVALID")
    is_session(answer, 416, 2999)
    is_created(http.put(location, params={"digest": DIGEST}, content=DATA[3000:]))


def test_put_without_a_body_closes_an_empty_session_as_the_empty_blob(http, location):
    is_created(http.put(location, params={"digest": digest_of(b"")}), digest_of(b""))


def test_put_without_a_digest_is_400_and_the_session_goes_on(http, location):
    http.patch(location, content=DATA)
    assert "digest" in error(http.put(location), 400, "DIGEST_INVALID")["message"]
    is_created(http.put(location, params={"digest": DIGEST}))


def test_put_with_the_digest_of_something_else_is_400_and_what_was_patched_stays(http, repository, location):
    http.patch(location, content=DATA[:3000])
    answer = http.put(location, params={"digest": ABSENT}, content=DATA[3000:])
    assert error(answer, 400, "DIGEST_INVALID")["detail"] == {"digest": ABSENT, "content": DIGEST}
    error(http.get(f"/v2/{repository}/blobs/{ABSENT}"), 404, "BLOB_UNKNOWN")
    error(http.get(f"/v2/{repository}/blobs/{DIGEST}"), 404, "BLOB_UNKNOWN")
    is_session(http.get(location), 204, 2999)
    is_created(http.put(location, params={"digest": DIGEST}, content=DATA[3000:]))


def test_a_closed_session_leaves_nothing_behind(http, shared_server, repository, location):
    http.put(location, params={"digest": DIGEST}, content=DATA)
    assert sessions_on_disk(shared_server, repository) == []


def test_a_location_survives_a_client_that_sorts_and_encodes_its_query(http, location):
    """docker takes a Location apart, adds its digest and writes the query anew, sorted."""
    parts = urlsplit(urljoin(str(http.base_url), location))
    query = urlencode(sorted([*parse_qsl(parts.query), ("digest", DIGEST)]))
    is_created(http.put(parts._replace(query=query).geturl(), content=DATA))


def test_a_blob_pushed_again_stays_the_blob(http, remote, repository, uploads):
    for _ in range(2):
        is_created(http.put(begin(http, uploads), params={"digest": DIGEST}, content=DATA))
        assert remote.blob(repository, DIGEST) == DATA


def test_one_blob_pushed_by_many_at_once_is_created_for_each(shared_server, remote, repository, uploads):
    def push(_: int) -> None:
        with httpx.Client(base_url=shared_server.url, timeout=30, trust_env=False) as http:
            is_created(http.put(begin(http, uploads), params={"digest": DIGEST}, content=DATA))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(push, range(16)))
    assert remote.blob(repository, DIGEST) == DATA
    assert sessions_on_disk(shared_server, repository) == []


# GET and DELETE


def test_get_tells_how_far_a_session_is(http, location):
    is_session(http.get(location), 204, 0)
    http.patch(location, content=DATA[:1])
    is_session(http.get(location), 204, 0)
    http.patch(location, content=DATA[1:])
    assert is_session(http.get(location), 204, 4999) == location


def test_delete_ends_a_session(http, shared_server, repository, location):
    http.patch(location, content=DATA)
    answer = http.delete(location)
    assert answer.status_code == 204
    assert answer.content == b""
    error(http.get(location), 404, "BLOB_UPLOAD_UNKNOWN")
    assert sessions_on_disk(shared_server, repository) == []


def test_delete_ends_a_session_that_is_written_to(http, shared_server, repository, location):
    with Connection(shared_server) as writer:
        begin_to_send(shared_server, repository, writer, "PATCH", location)
        assert http.delete(location).status_code == 204
        writer.send(LARGE[-2_000_000:])
        error(writer.answer(), 404, "BLOB_UPLOAD_UNKNOWN")
    assert sessions_on_disk(shared_server, repository) == []


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("state", ["unknown", "no uuid", "closed", "cancelled", "of another repository"])
def test_a_session_that_is_not_there_is_404(http, repository, uploads, location, state, method):
    query = {"digest": DIGEST}
    match state:
        case "unknown":
            location = uploads + UNKNOWN_SESSION
        case "no uuid":
            location = uploads + "not-a-uuid"
        case "closed":
            http.put(location, params=query, content=DATA)
        case "cancelled":
            http.delete(location)
        case "of another repository":
            location = location.replace(repository, f"{repository}/other")
    answer = http.request(method, location, params=query, content=DATA if method in {"PATCH", "PUT"} else None)
    error(answer, 404, "BLOB_UPLOAD_UNKNOWN")


# Several writers, writers that leave


def begin_to_send(server: Server, repository: str, writer: Connection, method: str, target: str, **headers) -> None:
    """Send a part of `LARGE`, and wait until the server has written some of it; 2,000,000 bytes are held back."""
    files = [session / "data" for session in sessions_on_disk(server, repository)]
    before = {file: file.stat().st_size for file in files}
    writer.request(method, target, LARGE[:-2_000_000], Content_Length=len(LARGE), **headers)
    wait_until(lambda: any(file.stat().st_size > before[file] for file in files), 10, "bytes of the upload written")


def test_a_second_writer_waits_for_the_first(http, shared_server, repository, location):
    """Bytes of two requests never mix: one comes after the other."""
    with Connection(shared_server) as first, Connection(shared_server) as second:
        begin_to_send(shared_server, repository, first, "PATCH", location)
        second.request("PATCH", location, DATA)
        second.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            second.socket.recv(1, 2)  # MSG_PEEK
        second.socket.settimeout(15)
        first.send(LARGE[-2_000_000:])
        assert first.answer().headers["Range"] == f"0-{len(LARGE) - 1}"
        assert second.answer().headers["Range"] == f"0-{len(LARGE) + len(DATA) - 1}"
    digest = digest_of(LARGE + DATA)
    is_created(http.put(location, params={"digest": digest}), digest)


def test_a_second_writer_of_the_same_chunk_is_told_that_it_is_there(http, shared_server, repository, location):
    chunk = {"Content_Range": f"0-{len(LARGE) - 1}"}
    with Connection(shared_server) as first, Connection(shared_server) as second:
        begin_to_send(shared_server, repository, first, "PATCH", location, **chunk)
        with ThreadPoolExecutor(1) as pool:  # as much as the server takes in before it is its turn
            sent = pool.submit(second.request, "PATCH", location, LARGE, **chunk)
            first.send(LARGE[-2_000_000:])
            assert first.answer().status_code == 202
            answer = sent.result().answer()
        error(answer, 416, "RANGE_INVALID")
        assert answer.headers["Range"] == f"0-{len(LARGE) - 1}"
    is_created(http.put(location, params={"digest": digest_of(LARGE)}), digest_of(LARGE))


def test_a_second_writer_that_would_wait_for_long_is_refused(http, shared_server, repository, location):
    """A client that lost its connection comes back before the server knows; for 10 seconds it is kept waiting."""
    with Connection(shared_server) as first:
        begin_to_send(shared_server, repository, first, "PATCH", location)
        answer = http.put(location, params={"digest": DIGEST}, content=DATA)
        error(answer, 503, "UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) > 0
        first.send(LARGE[-2_000_000:])
        assert first.answer().status_code == 202
    is_created(http.put(location, params={"digest": digest_of(LARGE)}), digest_of(LARGE))


def test_many_writers_of_one_session_at_once_leave_each_chunk_whole(shared_server, http, location):
    def send(letter: bytes) -> None:
        with httpx.Client(base_url=shared_server.url, timeout=30, trust_env=False) as client:
            assert client.patch(location, content=letter * 100_000).status_code == 202

    letters = [b"a", b"b", b"c", b"d"]
    with ThreadPoolExecutor(len(letters)) as pool:
        list(pool.map(send, letters))
    assert offset_of(http, location) == 400_000
    orders = (b"".join(letter * 100_000 for letter in order) for order in permutations(letters))
    answers = (http.put(location, params={"digest": digest_of(data)}) for data in orders)
    assert any(answer.status_code == 201 for answer in answers)


@pytest.mark.parametrize("leave", [Connection.close, Connection.half_close, Connection.reset])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_request_that_ended_early_counts_for_nothing(http, shared_server, repository, location, method, leave):
    """containerd sends the whole body again to the same Location; docker's PATCH has no range either."""
    digest = digest_of(DATA + LARGE)
    http.patch(location, content=DATA)
    query = f"?digest={digest}" if method == "PUT" else ""
    with Connection(shared_server) as writer:
        begin_to_send(shared_server, repository, writer, method, location + query)
        leave(writer)
        if leave is Connection.half_close:
            assert writer.is_closed_by_server()
    is_session(http.get(location), 204, len(DATA) - 1)
    is_created(http.put(location, params={"digest": digest}, content=LARGE), digest)


def test_a_stream_that_ended_early_counts_for_nothing(http, shared_server, location):
    """In chunked coding only the last, empty chunk says that the body is whole."""
    with Connection(shared_server) as writer:
        writer.request("PATCH", location, Transfer_Encoding="chunked")
        writer.chunk(DATA).half_close()
        assert writer.is_closed_by_server()
    is_session(http.get(location), 204, 0)
    is_created(http.put(location, params={"digest": DIGEST}, content=DATA))


def test_a_stream_may_have_extensions_and_trailers(shared_server, remote, repository, location):
    """RFC 9112 section 7.1: they are read over."""
    with Connection(shared_server) as writer:
        writer.request("PUT", f"{location}?digest={DIGEST}", Transfer_Encoding="Chunked")
        writer.send(b"%X;name=value\r\n%b\r\n0\r\nX-Trailer: read over\r\n\r\n" % (len(DATA), DATA))
        assert writer.answer().status_code == 201
        assert writer.request("GET", "/v2/").answer().status_code == 200
    assert remote.blob(repository, DIGEST) == DATA


def test_a_stream_whose_coding_is_broken_counts_for_nothing(http, shared_server, location):
    with Connection(shared_server) as writer:
        writer.request("PUT", f"{location}?digest={DIGEST}", Transfer_Encoding="chunked")
        writer.chunk(DATA).send(b"not a length\r\n")
        assert writer.answer().status_code == 400
        assert writer.is_closed_by_server()
    is_session(http.get(location), 204, 0)
    is_created(http.put(location, params={"digest": DIGEST}, content=DATA))


def test_a_body_shorter_than_its_length_makes_no_blob(http, shared_server, repository, location):
    """Not even when the digest is that of the bytes that came."""
    with Connection(shared_server) as writer:
        writer.request("PUT", f"{location}?digest={DIGEST}", DATA, Content_Length=len(DATA) + 1)
        writer.half_close()
        assert writer.is_closed_by_server()
    error(http.get(f"/v2/{repository}/blobs/{DIGEST}"), 404, "BLOB_UNKNOWN")
    is_session(http.get(location), 204, 0)


def test_bytes_after_the_length_of_a_body_are_not_of_the_blob(http, remote, shared_server, repository, location):
    """They would be the next request, and are none; whether the first one is still answered is a race."""
    more = DATA + b"more than was announced"
    with Connection(shared_server) as writer:
        writer.request("PUT", f"{location}?digest={DIGEST}", more, Content_Length=len(DATA))
        status = writer.answer().status_code
    assert status in {201, 400}
    error(http.get(f"/v2/{repository}/blobs/{digest_of(more)}"), 404, "BLOB_UNKNOWN")
    if status == 201 or remote.has_blob(repository, DIGEST):
        assert remote.blob(repository, DIGEST) == DATA
    else:
        is_created(http.put(location, params={"digest": DIGEST}, content=DATA))


def test_of_a_chunk_that_ended_early_the_bytes_that_came_count(http, shared_server, repository, location):
    """Its Content-Range told its place, so that a client can ask how far it came, and go on from there."""
    sent = len(LARGE) - 2_000_000
    with Connection(shared_server) as writer:
        begin_to_send(shared_server, repository, writer, "PATCH", location, Content_Range=f"0-{len(LARGE) - 1}")
        writer.half_close()
        assert writer.is_closed_by_server()
    wait_until(lambda: offset_of(http, location) == sent, 10, "the bytes counted")
    again = http.patch(location, content=LARGE, headers={"Content-Range": f"0-{len(LARGE) - 1}"})
    is_session(again, 416, sent - 1)
    rest = {"Content-Range": f"{sent}-{len(LARGE) - 1}"}
    is_session(http.patch(location, content=LARGE[sent:], headers=rest), 202, len(LARGE) - 1)
    is_created(http.put(location, params={"digest": digest_of(LARGE)}), digest_of(LARGE))


# Several servers


def test_a_session_outlives_the_server(serve, connect, repository):
    """A stop, and a kill."""
    server = serve()
    remote = connect(server)
    location = remote.begin(repository)
    for end, part in (server.stop, DATA[:1000]), (server.kill, DATA[1000:3000]):
        assert remote.http.patch(location, content=part).status_code == 202
        end()
        server.start()
    assert offset_of(remote.http, location) == 3000
    is_created(remote.http.put(location, params={"digest": DIGEST}, content=DATA[3000:]))
    assert remote.blob(repository, DIGEST) == DATA


def test_a_session_is_continued_by_another_server_on_the_same_tree(serve, connect, repository):
    """Requests of one push reach any replica of the service."""
    remotes = [connect(serve()), connect(serve())]
    location = urlsplit(remotes[0].begin(repository)).path
    for number in range(5):
        http = remotes[number % 2].http
        part = DATA[number * 1000 : number * 1000 + 1000]
        is_session(http.patch(location, content=part), 202, number * 1000 + 999)
    is_created(remotes[1].http.put(location, params={"digest": DIGEST}))
    for remote in remotes:
        assert remote.blob(repository, DIGEST) == DATA
        error(remote.http.get(location), 404, "BLOB_UPLOAD_UNKNOWN")


def test_writers_through_two_servers_wait_for_one_another(serve, connect, repository):
    one, other = serve(), serve()
    remote = connect(one)
    location = urlsplit(remote.begin(repository)).path
    with Connection(one) as first, Connection(other) as second:
        begin_to_send(one, repository, first, "PATCH", location)
        timer = threading.Timer(0.5, first.send, [LARGE[-2_000_000:]])
        timer.start()
        second.request("PATCH", location, DATA)
        assert second.answer().headers["Range"] == f"0-{len(LARGE) + len(DATA) - 1}"
        timer.join()
        assert first.answer().headers["Range"] == f"0-{len(LARGE) - 1}"
    digest = digest_of(LARGE + DATA)
    is_created(remote.http.put(location, params={"digest": digest}), digest)
