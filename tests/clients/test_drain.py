"""SIGTERM while bytes flow: what is under way ends well, new uploads are told to come back, the end comes in time.

No client program is needed here: a slow client is a socket that sends when it is told to.
"""

import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from images import digest_of, image, noise
from remote import Remote
from serving import Server, wait_until

BODY = noise("drained", 1_000_000)
HALF = len(BODY) // 2


class SlowPatch:
    """A PATCH whose body comes in two halves."""

    def __init__(self, server: Server, repository: str) -> None:
        with Remote(server.url) as remote:
            self.location = remote.begin(repository)
        self.connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        self.connection.putrequest("PATCH", httpx.URL(self.location).raw_path.decode())
        self.connection.putheader("Content-Type", "application/octet-stream")

    def begin(self, *, chunked: bool) -> None:
        """Send the head and the first half: with a length, or as docker does, without."""
        self.chunked = chunked
        if chunked:
            self.connection.putheader("Transfer-Encoding", "chunked")
        else:
            self.connection.putheader("Content-Length", str(len(BODY)))
        self.connection.endheaders()
        self._send(BODY[:HALF])

    def end(self) -> http.client.HTTPResponse:
        self._send(BODY[HALF:])
        if self.chunked:
            self.connection.send(b"0\r\n\r\n")
        return self.connection.getresponse()

    def put(self, location: str) -> http.client.HTTPResponse:
        """Close the upload, on the connection that carried its bytes."""
        url = httpx.URL(self.location).join(location).copy_merge_params({"digest": digest_of(BODY)})
        self.connection.request("PUT", url.raw_path.decode(), headers={"Content-Length": "0"})
        return self.connection.getresponse()

    def close(self) -> None:
        self.connection.close()

    def _send(self, data: bytes) -> None:
        self.connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Our server, which alone drains; registry:2 does so only from 2.7 on, and only if it is told to."""
    with Server(tmp_path / "data") as running:
        yield running
    print(running.log())


@pytest.fixture
def patch(server: Server, repository: str) -> Iterator[SlowPatch]:
    slow = SlowPatch(server, repository)
    yield slow
    slow.close()


def refused_upload(server: Server) -> httpx.Response | None:
    """The refusal that a new upload meets once the server drains."""
    answer = httpx.post(f"{server.url}/v2/another/blobs/uploads/", timeout=10, trust_env=False)
    return answer if answer.status_code == 503 else None


@pytest.mark.parametrize("framing", ["with a length", "chunked"])
def test_an_upload_under_way_ends_with_its_put(server: Server, patch: SlowPatch, repository: str, framing: str) -> None:
    """PATCH 202, PUT 201, exit code 0, and the blob is there after the next start."""
    patch.begin(chunked=framing == "chunked")
    server.terminate()
    wait_until(lambda: refused_upload(server), 10, "a new upload is refused")

    answer = patch.end()
    answer.read()
    assert answer.status == 202
    assert answer.headers["Range"] == f"0-{len(BODY) - 1}"
    answer = patch.put(answer.headers["Location"])
    answer.read()
    assert answer.status == 201
    assert answer.headers["Docker-Content-Digest"] == digest_of(BODY)

    patch.close()
    assert server.wait(15) == 0
    server.start()
    with Remote(server.url) as remote:
        assert remote.blob(repository, digest_of(BODY)) == BODY


def test_a_new_upload_is_told_when_to_come_back(server: Server, patch: SlowPatch) -> None:
    patch.begin(chunked=False)
    server.terminate()
    wait_until(lambda: refused_upload(server), 10, "a new upload is refused")
    refusal = refused_upload(server)
    assert refusal is not None
    assert int(refusal.headers["Retry-After"]) > 0
    assert refusal.json()["errors"][0]["code"] == "UNAVAILABLE"


def test_a_pull_that_began_is_served_to_its_last_layer(server: Server, patch: SlowPatch) -> None:
    """Only new uploads are refused: skopeo and podman do not repeat a pull that met a 503."""
    with Remote(server.url) as remote:
        pulled = image("pulled", size=10_000)
        remote.push("pulled", pulled, "v1")
        patch.begin(chunked=False)
        server.terminate()
        wait_until(lambda: refused_upload(server), 10, "a new upload is refused")
        remote.holds("pulled", pulled, "v1")


def test_a_download_under_way_is_sent_to_its_end(server: Server, repository: str) -> None:
    """A reader that is slow from before the signal until after it gets every byte."""
    data = noise("slowly read", 40_000_000)
    with Remote(server.url) as remote:
        digest = remote.push_blob(repository, data)
    with socket.create_connection((server.host, server.port), timeout=30) as reader:
        # A small window, so that most of the blob is still with the server when the signal comes.
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        request = f"GET /v2/{repository}/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n"
        reader.sendall(request.encode())
        response = http.client.HTTPResponse(reader, method="GET")
        response.begin()
        start = response.read(1_000_000)
        server.terminate()
        wait_until(lambda: refused_upload(server), 10, "a new upload is refused")
        assert not server.has_ended()
        assert start + response.read() == data
        response.close()
    assert server.wait(15) == 0


def test_nothing_under_way_ends_at_once(server: Server) -> None:
    """Idle connections, which clients keep in their pools, hold nobody up."""
    with Remote(server.url) as remote:
        assert remote.catalog() == []
        begun = time.monotonic()
        assert server.stop(10) == 0
        assert time.monotonic() - begun < 5


def test_a_client_that_sends_nothing_more_is_waited_for_only_so_long(tmp_path: Path, repository: str) -> None:
    """`http.draintimeout` bounds the wait, and the upload is still there for who comes back."""
    with Server(tmp_path / "data", environment={"REGISTRY_HTTP_DRAINTIMEOUT": "2s"}) as server:
        patch = SlowPatch(server, repository)
        try:
            patch.begin(chunked=False)
            assert server.stop(20) == 0
        finally:
            patch.close()
        server.start()
        with Remote(server.url) as remote:
            answer = remote.http.get(patch.location)
            assert answer.status_code == 204
            assert answer.headers["Range"] == "0-0"
            assert remote.push_blob(repository, BODY) == digest_of(BODY)


def test_a_second_signal_does_not_wait_for_the_drain(tmp_path: Path, repository: str) -> None:
    with Server(tmp_path / "data") as server:
        patch = SlowPatch(server, repository)
        try:
            patch.begin(chunked=False)
            server.terminate()
            wait_until(lambda: refused_upload(server), 10, "a new upload is refused")
            begun = time.monotonic()
            server.stop(20)
            assert time.monotonic() - begun < 15
        finally:
            patch.close()


def test_a_request_that_is_cut_off_at_the_end_leaves_no_traceback(tmp_path: Path, repository: str) -> None:
    with Server(tmp_path / "data", environment={"REGISTRY_HTTP_DRAINTIMEOUT": "1s"}) as server:
        patch = SlowPatch(server, repository)
        try:
            patch.begin(chunked=False)
            server.stop(20)
        finally:
            patch.close()
        assert "Traceback" not in server.log()
