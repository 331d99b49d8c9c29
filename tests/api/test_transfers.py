"""Large bodies: read by threads, sent by the kernel. What connections carry besides them stays in order."""

import resource
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from images import digest_of, noise
from rawhttp import Connection
from serving import wait_until

MIB = 1 << 20
LARGE = noise("transfers", 24 * MIB + 4321)
DIGEST = digest_of(LARGE)
MANY = 1000


@pytest.fixture(scope="module")
def repository(shared_server, remote):
    name = "transfers/large"
    remote.push_blob(name, LARGE)
    return name


def blob(repository):
    return f"/v2/{repository}/blobs/{DIGEST}"


def path_of(location):
    return urlsplit(location).path


def chunks(data, size):
    return b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in (data[at : at + size] for at in range(0, len(data), size))
    )


def open_files(server):
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.processes())


def memory(server):
    """Peaks of resident memory of the server's processes, in MiB."""
    found = (Path(f"/proc/{pid}/status").read_text() for pid in server.processes())
    return sum(int(status.partition("VmHWM:")[2].split()[0]) for status in found) / 1024


# Pulls


def test_one_connection_carries_blobs_and_lists_in_any_order(connection, repository):
    for _ in range(2):
        assert connection.request("GET", blob(repository)).answer().content == LARGE
        assert connection.request("HEAD", blob(repository)).answer("HEAD").headers["Content-Length"] == str(len(LARGE))
        assert connection.request("GET", "/v2/").answer().json() == {}


def test_requests_sent_ahead_of_a_blob_are_answered_after_it(connection, repository):
    connection.request("GET", blob(repository))
    connection.request("GET", "/v2/")
    connection.request("GET", blob(repository), Range="bytes=1000000-9999999")
    connection.request("GET", f"/v2/{repository}/tags/list")
    assert connection.answer().content == LARGE
    assert connection.answer().json() == {}
    assert connection.answer().content == LARGE[1_000_000:10_000_000]
    assert connection.answer().status_code == 404


def test_a_thousand_requests_sent_ahead_are_answered_in_order(connection):
    one = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
    sending = threading.Thread(target=connection.send, args=(one * 5000,))
    sending.start()
    assert all(connection.answer().status_code == 200 for _ in range(5000))
    sending.join()


def test_several_large_ranges_are_whole(connection, repository):
    answer = connection.request("GET", blob(repository), Range="bytes=0-5000000,9000000-15000000,-100").answer()
    assert answer.status_code == 206
    boundary = answer.headers["Content-Type"].partition("boundary=")[2].encode()
    bodies = [part.partition(b"\r\n\r\n")[2][:-2] for part in answer.content.split(b"--" + boundary)[1:-1]]
    assert bodies == [LARGE[:5_000_001], LARGE[9_000_000:15_000_001], LARGE[-100:]]


@pytest.mark.parametrize("leave", [Connection.close, Connection.half_close, Connection.reset])
def test_a_client_that_leaves_in_the_middle_of_a_pull_leaves_nothing_open(shared_server, repository, leave):
    before = open_files(shared_server)
    for _ in range(5):
        with Connection(shared_server, window=65536) as reader:
            reader.request("GET", blob(repository))
            assert reader.head()[0] == 200
            reader.read(100_000)
            leave(reader)
    wait_until(lambda: open_files(shared_server) <= before, 10, "files and sockets closed")


def test_a_slow_reader_gets_all_of_it(shared_server, repository):
    with Connection(shared_server, window=16384) as reader:
        reader.request("GET", blob(repository))
        assert reader.head()[0] == 200
        got = b"".join(reader.read(MIB) for _ in range(3) if not time.sleep(0.2))
        assert got + reader.read(len(LARGE) - len(got)) == LARGE


# Pushes


@pytest.mark.parametrize("size", [1, 1000, 32 * 1024, 3 * MIB], ids="chunks of {} bytes".format)
def test_chunks_of_any_size_are_taken_and_what_follows_them_is_answered(connection, remote, repository, size):
    data = LARGE if size > 1 else LARGE[: 200 * 1024]
    location = path_of(remote.begin(repository))
    sent = chunks(data, size) + b"0\r\n\r\n"
    connection.request("PATCH", location, sent + b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", Transfer_Encoding="chunked")
    answer = connection.answer()
    assert (answer.status_code, answer.headers["Range"]) == (202, f"0-{len(data) - 1}")
    assert connection.answer().json() == {}
    assert remote.http.put(location, params={"digest": digest_of(data)}).status_code == 201


def test_a_body_with_a_length_and_what_follows_it(connection, remote, repository):
    location = path_of(remote.begin(repository))
    follow = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
    connection.request("PUT", f"{location}?digest={DIGEST}", LARGE + follow, Content_Length=len(LARGE))
    assert connection.answer().status_code == 201
    assert connection.answer().json() == {}


def test_a_large_body_waits_for_100_continue(connection, repository):
    target = f"/v2/{repository}/blobs/uploads/?digest={DIGEST}"
    connection.request("POST", target, Content_Length=len(LARGE), Expect="100-continue")
    assert connection.head()[0] == 100
    assert connection.send(LARGE).answer().status_code == 201


def test_a_slow_writer_is_heard_to_its_end(connection, remote, repository):
    location = path_of(remote.begin(repository))
    connection.request("PATCH", location, Content_Length=len(LARGE))
    for at in range(0, len(LARGE), 3 * MIB):
        connection.send(LARGE[at : at + 3 * MIB])
        time.sleep(0.15)
    assert connection.answer().headers["Range"] == f"0-{len(LARGE) - 1}"


@pytest.mark.parametrize("leave", [Connection.close, Connection.half_close, Connection.reset])
@pytest.mark.parametrize("coding", ["length", "chunks"])
def test_a_client_that_leaves_in_the_middle_of_a_large_body_has_sent_nothing(
    shared_server, remote, repository, leave, coding
):
    before = open_files(shared_server)
    location = path_of(remote.begin(repository))
    with Connection(shared_server) as writer:
        if coding == "length":
            writer.request("PATCH", location, LARGE[: 5 * MIB], Content_Length=len(LARGE))
        else:
            writer.request("PATCH", location, chunks(LARGE[: 5 * MIB], 40_000), Transfer_Encoding="chunked")
        leave(writer)
    wait_until(lambda: open_files(shared_server) <= before, 10, "files and sockets closed")
    assert remote.http.get(location).headers["Range"] == "0-0"
    assert remote.http.put(location, params={"digest": DIGEST}, content=LARGE).status_code == 201


def test_chunks_that_go_wrong_after_megabytes_end_the_connection(shared_server, remote, repository):
    location = path_of(remote.begin(repository))
    with Connection(shared_server) as writer:
        writer.request("PATCH", location, chunks(LARGE[: 3 * MIB], 32768) + b"zz\r\n", Transfer_Encoding="chunked")
        answer = writer.answer()
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"
        assert writer.is_closed_by_server()
    assert remote.http.get(location).headers["Range"] == "0-0"


def test_an_answer_before_the_end_of_a_large_body_does_not_disturb_the_next_request(connection, repository):
    session = f"/v2/{repository}/blobs/uploads/6d2e5f4c-0000-4000-8000-000000000000"
    for coding in ({}, {"Transfer_Encoding": "chunked"}):
        body = chunks(LARGE[: 4 * MIB], 32768) + b"0\r\n\r\n" if coding else LARGE[: 4 * MIB]
        connection.request("PATCH", session, body, **coding)
        assert connection.answer().status_code == 404
    assert connection.request("GET", "/v2/").answer().json() == {}


# Many


@pytest.fixture
def many_files():
    """As many sockets as the tests of many clients need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def slowest_ping(server):
    """The longest of twenty answers to another client, in seconds."""
    worst = 0.0
    with Connection(server) as other:
        for _ in range(20):
            begun = time.monotonic()
            assert other.request("GET", "/v2/").answer().status_code == 200
            worst = max(worst, time.monotonic() - begun)
    return worst


@pytest.mark.usefixtures("many_files")
def test_a_thousand_slow_readers_hold_up_nobody(serve, connect):
    server = serve()
    before = memory(server)
    remote = connect(server)
    remote.push_blob("many/readers", LARGE)
    with ExitStack() as stack:
        readers = [stack.enter_context(Connection(server, window=4096)) for _ in range(MANY)]
        for reader in readers:
            reader.request("GET", f"/v2/many/readers/blobs/{DIGEST}")
        assert all(reader.head()[0] == 200 for reader in readers)
        assert slowest_ping(server) < 5
        assert remote.blob("many/readers", DIGEST) == LARGE
        assert readers[17].read(len(LARGE)) == LARGE
        assert memory(server) - before < 105
    wait_until(lambda: open_files(server) < 100, 20, "files and sockets closed")
    assert " ERROR " not in server.log()


@pytest.mark.usefixtures("many_files")
def test_a_thousand_slow_writers_hold_up_nobody(serve, connect):
    server = serve()
    before = memory(server)
    remote = connect(server)
    data = LARGE[: 200 * 1024]
    with ExitStack() as stack:
        writers = []
        for _ in range(MANY):
            writer = stack.enter_context(Connection(server))
            writer.request(
                "POST", "/v2/many/writers/blobs/uploads/?digest=" + digest_of(data), Content_Length=len(data)
            )
            writers.append(writer)
        for at in range(0, 50_000, 10_000):
            for writer in writers:
                writer.send(data[at : at + 10_000])
        assert slowest_ping(server) < 5
        remote.push_blob("many/writers", LARGE)
        for writer in writers[:20]:
            assert writer.send(data[50_000:]).answer().status_code == 201
        assert memory(server) - before < 105
    wait_until(lambda: open_files(server) < 100, 20, "files and sockets closed")
    assert " ERROR " not in server.log()


@pytest.mark.usefixtures("many_files")
def test_idle_connections_cost_little(serve):
    server = serve()
    before = memory(server)
    with ExitStack() as stack:
        for _ in range(MANY):
            idle = stack.enter_context(Connection(server))
            assert idle.request("GET", "/v2/").answer().status_code == 200
        assert memory(server) - before < 40
        assert isinstance(idle.socket, socket.socket)
