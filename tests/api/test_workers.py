"""Several processes that serve: connections are divided, one that dies is replaced, and all of them stop as one."""

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from images import digest_of, noise
from rawhttp import Connection, is_draining
from remote import Remote
from serving import Server, wait_until

CONNECTIONS = 24
"""So many that all workers have some: one of two has none once in eight million runs."""


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "data", environment={"REGISTRY_HTTP_WORKERS": "2"}) as server:
        yield server


def workers(server: Server) -> set[int]:
    return {*server.processes()} - {server.pid}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def sockets_of(pid: int) -> int:
    """Open sockets of a process."""
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(descriptor.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
    return found


def test_connections_are_divided_among_the_workers(server):
    assert len(workers(server)) == 2
    before = {pid: sockets_of(pid) for pid in workers(server)}
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(Connection(server))
            assert connection.request("GET", "/v2/").answer().status_code == 200
        more = {pid: sockets_of(pid) - before[pid] for pid in workers(server)}
        assert min(more.values()) >= 2, "one may be of its start"


def test_a_push_goes_on_whichever_worker_answers(server):
    """Each request on a connection of its own."""
    data = [noise(f"part {number}", 100_000) for number in range(CONNECTIONS)]
    with Connection(server) as connection:
        location = connection.request("POST", "/v2/some/name/blobs/uploads/").answer().headers["Location"]
    for part in data:
        with Connection(server) as connection:
            answer = connection.request("PATCH", urlsplit(location).path, part).answer()
            assert answer.status_code == 202
            location = answer.headers["Location"]
    digest = digest_of(b"".join(data))
    with Connection(server) as connection:
        assert connection.request("PUT", f"{urlsplit(location).path}?digest={digest}", b"").answer().status_code == 201
    for _ in range(CONNECTIONS):
        with Connection(server) as connection:
            assert connection.request("HEAD", f"/v2/some/name/blobs/{digest}").head()[0] == 200


def test_a_worker_that_is_killed_is_replaced_and_nobody_is_refused(server):
    (killed, other) = workers(server)
    os.kill(killed, signal.SIGKILL)
    for _ in range(CONNECTIONS):
        with Connection(server) as connection:
            assert connection.request("GET", "/v2/").answer().status_code == 200
    assert other in workers(server)
    assert len(workers(server) - {killed}) == 2
    assert "killed by SIGKILL; starting another one" in server.log()
    assert server.stop() == 0


def test_what_a_killed_worker_had_under_way_does_not_hold_up_the_end(server):
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            location = urlsplit(
                stack.enter_context(Connection(server))
                .request("POST", "/v2/some/name/blobs/uploads/")
                .answer()
                .headers["Location"]
            ).path
            stack.enter_context(Connection(server).begin("PATCH", location, 10, b"012345"))
        before = workers(server)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(workers(server) - before) == 2, 10, "two other workers")
        with Connection(server) as connection:
            assert connection.request("GET", "/v2/").answer().status_code == 200
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 5


def test_workers_end_with_a_parent_that_was_killed(server):
    alive = workers(server)
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    wait_until(lambda: not any(map(is_alive, alive)), 5, "the end of the workers")


def test_a_signal_to_the_whole_group_lets_transfers_end(server):
    """As Ctrl-C in a terminal sends it, and systemd."""
    with Connection(server) as connection:
        location = urlsplit(
            connection.request("POST", "/v2/some/name/blobs/uploads/").answer().headers["Location"]
        ).path
    with Connection(server).begin("PATCH", location, 10, b"012345") as writer:
        os.killpg(server.pid, signal.SIGTERM)
        time.sleep(1)
        assert writer.send(b"6789").answer().status_code == 202
    assert server.wait() == 0


def test_while_it_stops_every_worker_takes_what_belongs_to_a_push_under_way(server):
    with Connection(server) as connection:
        location = urlsplit(
            connection.request("POST", "/v2/some/name/blobs/uploads/").answer().headers["Location"]
        ).path
    with Connection(server).begin("PATCH", location, 10, b"012345") as writer:
        server.terminate()
        with Remote(server.url) as remote:
            wait_until(lambda: is_draining(remote), 5, "new uploads refused")
        for repository, status in (("some/name", 202), ("other/name", 503)):
            for _ in range(CONNECTIONS):
                with Connection(server) as connection:
                    answer = connection.request("POST", f"/v2/{repository}/blobs/uploads/").answer()
                    assert answer.status_code == status
        assert writer.send(b"6789").answer().status_code == 202
    assert server.wait() == 0


def test_a_port_in_use_is_refused_also_where_its_owner_shares_it_among_workers(server, tmp_path):
    other = Server(tmp_path / "other", environment={"REGISTRY_HTTP_WORKERS": "2"}, port=server.port)
    with other:
        wait_until(other.has_ended, 10, "the end of the second server")
        assert f"cannot listen on {server.address}" in other.log()
    assert server.is_ready()


def test_on_a_socket_with_a_path_all_workers_answer(tmp_path):
    """There is one queue, and whoever is free takes from it."""
    path = tmp_path / "socket"
    environment = {"REGISTRY_HTTP_WORKERS": "2", "REGISTRY_HTTP_NET": "unix", "REGISTRY_HTTP_ADDR": str(path)}
    server = Server(tmp_path / "data", environment=environment)
    server.is_ready = path.exists
    with server:
        for _ in range(CONNECTIONS):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n")
                assert client.recv(64).startswith(b"HTTP/1.1 200 ")
