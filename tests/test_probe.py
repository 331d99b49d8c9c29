"""`registry ping` and what is behind it: asking a registry on this machine whether it serves."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from passwords import Guarded
from serving import STOP_SECONDS, Server, executable, free_port, wait_until

from registry import probe


def ask(address: str, network: str = "tcp", *, tls: bool = False, timeout: float = 5, path: str = "/v2/") -> None:
    probe.ask(address, network, path, tls=tls, timeout=timeout)


def answers(address: str, network: str = "tcp", *, tls: bool = False) -> bool:
    try:
        ask(address, network, tls=tls)
    except OSError:
        return False
    return True


def ping(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    return subprocess.run(
        [sys.executable, "-m", "registry", "ping", *arguments],
        env=inherited | {"REGISTRY_CONFIGURATION_PATH": "", "COLUMNS": "200"} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def fails(ended: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """That exit status, nothing on the standard output, and one line with all of the words."""
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith("registry: ")
    for word in words:
        assert word in ended.stderr


class Elsewhere(Server):
    """A registry that listens where, and how, its variables say."""

    network = "tcp"
    tls = False

    @property
    def listening(self) -> str:
        return self.environment.get("REGISTRY_HTTP_ADDR", self.address)

    def is_ready(self) -> bool:
        """As soon as it is there; whether it answers is the test's question."""
        if self.network == "tcp":
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=5):
                return True
            return False
        return Path(self.listening).exists()


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A path that leaves room for the name of a socket."""
    with tempfile.TemporaryDirectory(prefix="ping-") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `server.pem` and `server.key`: for another name than loopback, signed by nobody else."""
    directory = tmp_path_factory.mktemp("certificates")
    subprocess.run(
        [
            *(executable("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=registry.example", "-keyout", "server.key", "-out", "server.pem"),
        ],
        cwd=directory,
        check=True,
        capture_output=True,
        timeout=30,
    )
    return directory


@contextlib.contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Something on a port that is no registry; `serve` gets each connection. Yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        bound.settimeout(0.1)
        ended = threading.Event()

        def loop() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = bound.accept()
                    with connection:
                        connection.settimeout(5)
                        serve(connection)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield f"127.0.0.1:{bound.getsockname()[1]}"
        finally:
            ended.set()
            thread.join(STOP_SECONDS)


def rubbish(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"220 mail.example ESMTP\r\n")


def silence(connection: socket.socket) -> None:
    """Says nothing until the other side goes."""
    while connection.recv(65536):
        pass


# Asking


def test_over_tcp(tmp_path):
    with Server(tmp_path / "data") as server:
        ask(server.address)
        ask(f"localhost:{server.port}")


@pytest.mark.parametrize("host", ["", "0.0.0.0"])
def test_all_addresses_are_asked_at_the_loopback_one(tmp_path, host):
    port = free_port()
    with Elsewhere(tmp_path / "data", environment={"REGISTRY_HTTP_ADDR": f"{host}:{port}"}, port=port) as server:
        wait_until(lambda: answers(server.listening), 10, "it answers")


def test_all_addresses_of_ipv6(tmp_path):
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
            port = tried.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server = Elsewhere(tmp_path / "data", environment={"REGISTRY_HTTP_ADDR": f"'[::]:{port}'"}, port=port)
    server.is_ready = lambda: answers(f"[::1]:{port}")
    with server:
        ask(f"[::]:{port}")
        ask(f"[::1]:{port}")


def test_over_a_unix_socket(tmp_path, short_directory):
    address = str(short_directory / "socket")
    server = Elsewhere(tmp_path / "data", environment={"REGISTRY_HTTP_NET": "unix", "REGISTRY_HTTP_ADDR": address})
    server.network = "unix"
    with server:
        wait_until(lambda: answers(address, "unix"), 10, "it answers")
        assert ping(**server.environment).returncode == 0
    with pytest.raises(OSError, match="refused"):
        ask(address, "unix")


def test_over_https_whatever_the_certificate_says(tmp_path, certificates):
    server = Elsewhere(
        tmp_path / "data",
        environment={
            "REGISTRY_HTTP_TLS_CERTIFICATE": str(certificates / "server.pem"),
            "REGISTRY_HTTP_TLS_KEY": str(certificates / "server.key"),
        },
    )
    with server:
        wait_until(lambda: answers(server.address, tls=True), 10, "it answers")
        ended = ping(REGISTRY_HTTP_ADDR=server.address, **server.environment)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("minimum", ["tls1.2", "tls1.3"])
def test_https_that_wants_a_certificate_of_ours_serves(tmp_path, certificates, minimum):
    """Each time: neither the alert nor the end of the connection may be taken for a registry that is down."""
    server = Elsewhere(
        tmp_path / "data",
        environment={
            "REGISTRY_HTTP_TLS_CERTIFICATE": str(certificates / "server.pem"),
            "REGISTRY_HTTP_TLS_KEY": str(certificates / "server.key"),
            "REGISTRY_HTTP_TLS_CLIENTCAS": f"[{certificates / 'server.pem'}]",
            "REGISTRY_HTTP_TLS_MINIMUMTLS": minimum,
        },
    )
    with server:
        wait_until(lambda: answers(server.address, tls=True), 10, "it answers")
        for _ in range(50):
            ask(server.address, tls=True)


def test_nobody_listens():
    with pytest.raises(ConnectionRefusedError):
        ask(f"127.0.0.1:{free_port()}")


def test_a_port_that_answers_rubbish():
    with listener(rubbish) as address, pytest.raises(ConnectionError, match="no HTTP answer"):
        ask(address)


def test_a_port_that_answers_rubbish_to_tls():
    with listener(rubbish) as address, pytest.raises(ConnectionError, match="no TLS"):
        ask(address, tls=True)


def test_a_port_that_closes_at_once():
    def close(connection: socket.socket) -> None:
        connection.recv(65536)

    with listener(close) as address:
        with pytest.raises(OSError):
            ask(address)
        with pytest.raises(OSError):
            ask(address, tls=True)


@pytest.mark.parametrize("tls", [False, True])
def test_a_silent_port_is_given_up_in_time(tls):
    with listener(silence) as address:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(address, tls=tls, timeout=0.3)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(("status", "good"), [(200, True), (401, True), (404, False), (500, False), (503, False)])
def test_the_statuses_of_a_registry_that_serves(status, good):
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 %d Reason\r\nContent-Length: 0\r\n\r\n" % status)

    with listener(answer) as address:
        if good:
            ask(address)
        else:
            with pytest.raises(ConnectionError, match=f"it answered {status} Reason"):
                ask(address)


# registry ping


def test_ping_says_nothing_where_all_is_well(tmp_path):
    with Elsewhere(tmp_path / "data", environment={"REGISTRY_HTTP_PREFIX": "/below/"}) as server:
        ended = ping(REGISTRY_HTTP_ADDR=server.address, REGISTRY_HTTP_PREFIX="/below/")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_ping_of_one_that_asks_for_passwords_needs_none(tmp_path):
    with Guarded(tmp_path / "data") as server:
        ended = ping(REGISTRY_HTTP_ADDR=server.address, **server.environment)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert "login failed" not in server.log()


def test_ping_of_nobody_is_status_1():
    address = f"127.0.0.1:{free_port()}"
    fails(ping(REGISTRY_HTTP_ADDR=address), 1, f"no answer at {address}", "refused")


def test_ping_of_a_silent_port_is_status_1():
    with listener(silence) as address:
        fails(ping("--timeout", "0.3", REGISTRY_HTTP_ADDR=address), 1, "timed out")


def test_ping_of_rubbish_is_status_1():
    with listener(rubbish) as address:
        fails(ping(REGISTRY_HTTP_ADDR=address), 1, "no HTTP answer")


def test_ping_of_a_port_without_tls_says_so(certificates):
    tls = {
        "REGISTRY_HTTP_TLS_CERTIFICATE": str(certificates / "server.pem"),
        "REGISTRY_HTTP_TLS_KEY": str(certificates / "server.key"),
    }
    with listener(rubbish) as address:
        fails(ping(REGISTRY_HTTP_ADDR=address, **tls), 1, "no TLS")


def test_ping_with_a_wrong_configuration_is_status_2(tmp_path):
    missing = str(tmp_path / "missing.yml")
    fails(ping(missing), 2, missing)
    fails(ping(REGISTRY_HTTP_ADDR="nonsense"), 2, "http.addr")
