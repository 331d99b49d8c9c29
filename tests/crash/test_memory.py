"""A blob is never held whole in memory."""

import hashlib
import http.client
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Server

SIZE = 1 << 30
PIECE = bytes(range(256)) * 4096  # 1 MiB
MOST = 64 << 20

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def digest() -> str:
    hashed = hashlib.sha256()
    for _ in range(SIZE // len(PIECE)):
        hashed.update(PIECE)
    return f"sha256:{hashed.hexdigest()}"


def pieces() -> Iterator[bytes]:
    for _ in range(SIZE // len(PIECE)):
        yield PIECE


def peaks(server: Server) -> dict[int, int]:
    """The most memory that each process of the server ever had, in bytes."""
    found = {pid: Path(f"/proc/{pid}/status").read_text() for pid in server.processes()}
    return {pid: int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10 for pid, status in found.items()}


def answer(
    connection: http.client.HTTPConnection, method: str, path: str, **request: object
) -> http.client.HTTPResponse:
    connection.request(method, path, **request)
    return connection.getresponse()


def begin(connection: http.client.HTTPConnection) -> str:
    response = answer(connection, "POST", "/v2/large/blobs/uploads/")
    response.read()
    assert response.status == 202
    return response.headers["Location"]


def push_with_a_length(connection: http.client.HTTPConnection, digest: str) -> int:
    headers = {"Content-Length": str(SIZE)}
    response = answer(connection, "PUT", f"{begin(connection)}?digest={digest}", body=pieces(), headers=headers)
    response.read()
    return response.status


def push_in_chunked_coding(connection: http.client.HTTPConnection, digest: str) -> int:
    location = begin(connection)
    headers = {"Transfer-Encoding": "chunked"}
    response = answer(connection, "PATCH", location, body=pieces(), headers=headers, encode_chunked=True)
    response.read()
    assert response.status == 202
    response = answer(connection, "PUT", f"{location}?digest={digest}")
    response.read()
    return response.status


@pytest.fixture
def large_server(tmp_path: Path) -> Iterator[Server]:
    """A registry whose tree is not left for later: it is large."""
    with Server(tmp_path / "data") as server:
        yield server
    shutil.rmtree(server.root)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("push", [push_with_a_length, push_in_chunked_coding])
def test_pushing_and_pulling_a_gibibyte_moves_peak_memory_by_under_64_mib(large_server, digest, push):
    """Once each way, by a client that sends as fast as it can and reads as fast as it can."""
    connection = http.client.HTTPConnection(large_server.host, large_server.port, timeout=60)
    begin(connection)  # what the first request of any kind loads is not the blob's
    before = peaks(large_server)

    assert push(connection, digest) == 201

    response = answer(connection, "GET", f"/v2/large/blobs/{digest}")
    hashed = hashlib.sha256()
    while part := response.read(1 << 20):
        hashed.update(part)
    connection.close()
    assert f"sha256:{hashed.hexdigest()}" == digest
    grown = {pid: peak - before[pid] for pid, peak in peaks(large_server).items()}
    assert max(grown.values()) < MOST
