"""Stopping: SIGTERM lets transfers end, and tells new ones to come back. Other tasks of the service take those."""

import os
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from answers import error
from images import OCI_INDEX, digest_of, index, noise
from rawhttp import Connection, is_draining
from serving import Server, wait_until

from registry.server import listen

DATA = noise("drained", 32 * 1024 * 1024)
DIGEST = digest_of(DATA)
AT_ONCE = 4.0  # seconds, on a busy machine


@pytest.fixture
def some(serve, connect):
    """A registry with a large blob and a manifest, and a client of it."""
    server = serve()
    remote = connect(server)
    remote.push_blob("some/name", DATA)
    remote.push_manifest("some/name", index().manifest, "latest")
    return server, remote


def pull_slowly(server: Server) -> Connection:
    """Ask for the blob, and leave most of it where it is."""
    reader = Connection(server, window=65536)
    reader.request("GET", f"/v2/some/name/blobs/{DIGEST}")
    assert reader.head()[0] == 200
    return reader


def push_slowly(server: Server, location: str) -> Connection:
    """Begin to send ten bytes, and send six of them."""
    return Connection(server).begin("PATCH", location, 10, b"012345")


def is_told_to_come_back(writer: Connection) -> None:
    """A push that is cut hears so, and the connection ends."""
    answer = writer.answer()
    error(answer, 503, "UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) > 0
    assert writer.is_closed_by_server()


def test_transfers_under_way_end_well_and_new_ones_are_told_to_come_back(some):
    """The slow ones take about a second here. A pull, and a push to where pushes are under way, get all they need."""
    server, remote = some
    location = urlsplit(remote.begin("some/name")).path
    other = urlsplit(remote.begin("some/name")).path
    with pull_slowly(server) as reader, push_slowly(server, location) as writer:
        server.terminate()
        wait_until(lambda: is_draining(remote), 5, "new uploads refused")
        for method, path in (
            ("POST", "/v2/other/name/blobs/uploads/"),
            ("POST", f"/v2/other/name/blobs/uploads/?digest={DIGEST}"),
            ("POST", f"/v2/other/name/blobs/uploads/?mount={DIGEST}&from=some/name"),
        ):
            answer = remote.http.request(method, path)
            error(answer, 503, "UNAVAILABLE")
            assert int(answer.headers["Retry-After"]) > 0
        for method, path, status in (
            ("GET", "/v2/", 200),
            ("GET", "/v2/some/name/manifests/latest", 200),
            ("HEAD", f"/v2/some/name/blobs/{DIGEST}", 200),
            ("GET", f"/v2/some/name/blobs/{DIGEST}", 200),
            ("POST", "/v2/some/name/blobs/uploads/", 202),
            ("PATCH", other, 202),
            ("PUT", f"{other}?digest={digest_of(b'')}", 201),
        ):
            assert remote.http.request(method, path).status_code == status, path
        body, kind = index().manifest.data, {"Content-Type": OCI_INDEX}
        assert remote.http.put("/v2/some/name/manifests/new", content=body, headers=kind).status_code == 201
        assert not server.has_ended()
        assert writer.send(b"6789").answer().headers["Range"] == "0-9"
        assert reader.read(len(DATA)) == DATA
    assert server.wait() == 0
    assert " ERROR " not in server.log()
    server.start()
    digest = digest_of(b"0123456789")
    assert remote.http.put(location, params={"digest": digest}).status_code == 201


def test_a_push_of_several_requests_ends_well(some):
    """Between two requests of a push there is nothing under way for a moment."""
    server, remote = some
    location = urlsplit(remote.begin("some/name")).path
    server.terminate()
    for number in range(10):
        assert remote.http.patch(location, content=bytes([number]) * 1000).status_code == 202
        time.sleep(0.1)
    digest = digest_of(b"".join(bytes([number]) * 1000 for number in range(10)))
    assert remote.http.put(location, params={"digest": digest}).status_code == 201
    body, kind = index().manifest.data, {"Content-Type": OCI_INDEX}
    assert remote.http.put("/v2/some/name/manifests/new", content=body, headers=kind).status_code == 201
    assert server.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_registry_with_nothing_under_way_stops_soon(serve, connect, number):
    """Idle connections that clients keep open do not hold it up."""
    server = serve()
    assert connect(server).http.get("/v2/").status_code == 200
    with Connection(server):
        os.kill(server.pid, number)
        assert server.wait(AT_ONCE) == 0


def test_without_time_to_drain_a_registry_stops_at_once(serve, connect):
    server = serve(REGISTRY_HTTP_DRAINTIMEOUT="0")
    location = urlsplit(connect(server).begin("some/name")).path
    with push_slowly(server, location) as writer:
        server.terminate()
        assert server.wait(AT_ONCE) == 0
        is_told_to_come_back(writer)


def test_a_second_signal_stops_at_once(some):
    server, remote = some
    location = urlsplit(remote.begin("some/name")).path
    with pull_slowly(server), push_slowly(server, location) as writer:
        server.terminate()
        wait_until(lambda: is_draining(remote), 5, "new uploads refused")
        server.terminate()
        assert server.wait(AT_ONCE) == 0
        is_told_to_come_back(writer)


def test_transfers_that_take_too_long_are_cut_when_the_time_is_over(serve, connect):
    """And a session that was cut goes on from its last request once the registry is back."""
    server = serve(REGISTRY_HTTP_DRAINTIMEOUT="1s")
    remote = connect(server)
    location = urlsplit(remote.begin("some/name")).path
    assert remote.http.patch(location, content=b"01234").status_code == 202
    with push_slowly(server, location) as writer:
        wait_until(lambda: (session_of(server, location) / "data").stat().st_size >= 5, 5, "bytes written")
        begun = time.monotonic()
        server.terminate()
        assert server.wait(1 + AT_ONCE) == 0
        assert time.monotonic() - begun >= 1
        is_told_to_come_back(writer)
    server.start()
    assert remote.http.get(location).headers["Range"] == "0-4"
    digest = digest_of(b"0123456789")
    assert remote.http.put(location, params={"digest": digest}, content=b"56789").status_code == 201


def session_of(server: Server, location: str) -> Path:
    session = location.rpartition("/")[2]
    return server.root / "docker/registry/v2/repositories/some/name/_uploads" / session


def test_a_registry_that_stopped_can_be_started_on_its_port_at_once(some):
    """Its connections are still in TIME_WAIT."""
    server, remote = some
    assert server.stop() == 0
    server.start()
    assert remote.http.get("/v2/some/name/manifests/latest").status_code == 200


# Connections


def test_connections_are_kept_alive_so_that_the_mesh_does_not_forget_them():
    """IPVS drops a connection after 15 minutes of silence, and the client waits for ever."""
    with listen("127.0.0.1:0")[0] as listener, socket.create_connection(listener.getsockname(), timeout=5):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            between = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            count = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            assert idle + between * count < 900


def test_the_server_leaves_them_kept_alive(shared_server):
    """The kernel says which timer runs for a connection: 2 is that of keep-alive (proc(5), /proc/net/tcp)."""
    with Connection(shared_server) as connection:
        connection.request("GET", "/v2/").answer()
        ours, theirs = connection.socket.getsockname()[1], shared_server.port
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ports = f"{theirs:04X}", f"{ours:04X}"
        timers = [fields[5] for fields in lines if (fields[1][-4:], fields[2][-4:]) == ports]
    kind, _, ticks = timers[0].partition(":")
    assert kind == "02"
    assert int(ticks, 16) / os.sysconf("SC_CLK_TCK") <= 61


def test_an_address_without_a_host_listens_on_all_addresses_of_both_families():
    with listen(":0")[0] as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1") if listener.family == socket.AF_INET6 else ("127.0.0.1",):
            with socket.create_connection((host, port), timeout=5):
                pass


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_an_address_with_a_host_listens_there(address):
    if address.startswith("[") and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with listen(address)[0] as listener, socket.create_connection(listener.getsockname()[:2], timeout=5):
        pass
