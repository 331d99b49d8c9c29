"""HTTPS with certificates of our own making."""

import http.client
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from images import digest_of, noise
from serving import Server

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `server.pem`, which is its own authority, and `client.pem` with the same for a client."""
    directory = tmp_path_factory.mktemp("certificates")
    for name in "server", "client":
        openssl(
            directory,
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
        )
    return directory


class Https(Server):
    """A registry that serves HTTPS; ready when it shakes hands."""

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    def is_ready(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection((self.host, self.port), timeout=5) as plain,
                context.wrap_socket(plain),
            ):
                return True
        except OSError:
            return False


def client(server: Server, certificates: Path, certificate: str = "") -> httpx.Client:
    """A client that trusts the server's certificate, and nothing else."""
    context = ssl.create_default_context(cafile=certificates / "server.pem")
    if certificate:
        context.load_cert_chain(certificates / f"{certificate}.pem", certificates / f"{certificate}.key")
    return httpx.Client(base_url=server.url, verify=context, timeout=15, trust_env=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Https]:
    settings = {
        "REGISTRY_HTTP_TLS_CERTIFICATE": str(certificates / "server.pem"),
        "REGISTRY_HTTP_TLS_KEY": str(certificates / "server.key"),
        "REGISTRY_HTTP_RELATIVEURLS": "false",
    }
    with Https(tmp_path_factory.mktemp("tls") / "data", environment=settings) as running:
        yield running
    print(running.log())


def test_blobs_are_pushed_and_pulled_over_https(server, certificates):
    data = noise("tls", 12 * 1024 * 1024)
    digest = digest_of(data)
    with client(server, certificates) as http:
        answer = http.post("/v2/some/name/blobs/uploads/", params={"digest": digest}, content=data)
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"{server.url}/v2/some/name/blobs/{digest}"
        assert http.get(answer.headers["Location"]).content == data
        part = http.get(answer.headers["Location"], headers={"Range": "bytes=5000000-"})
        assert part.content == data[5_000_000:]


def test_a_client_that_trusts_nobody_refuses_the_certificate(server):
    with httpx.Client(verify=True, trust_env=False) as http, pytest.raises(httpx.ConnectError, match="certificate"):
        http.get(f"{server.url}/v2/")


def test_plain_http_on_the_tls_port_is_refused_at_once(server):
    """It must not hang: docker would wait for its time limit."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            connection.getresponse()
    finally:
        connection.close()


def test_clients_that_never_shake_hands_do_not_hold_up_the_others(server, certificates):
    silent = [socket.create_connection((server.host, server.port), timeout=5) for _ in range(20)]
    try:
        with client(server, certificates) as http:
            assert http.get("/v2/").status_code == 200
    finally:
        for connection in silent:
            connection.close()


def test_tls_1_1_is_refused(server):
    """The least version is 1.2 unless the settings say otherwise."""
    address = f"{server.host}:{server.port}"
    for version, code in ("-tls1_2", 0), ("-tls1_1", 1):
        asked = ["openssl", "s_client", "-connect", address, version, "-cipher", "DEFAULT@SECLEVEL=0"]
        ended = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=15, check=False)
        assert ended.returncode == code, ended.stderr


def test_with_authorities_for_clients_only_their_certificates_get_in(serve, certificates):
    server = serve(
        Https,
        REGISTRY_HTTP_TLS_CERTIFICATE=str(certificates / "server.pem"),
        REGISTRY_HTTP_TLS_KEY=str(certificates / "server.key"),
        REGISTRY_HTTP_TLS_CLIENTCAS=f"[{certificates / 'client.pem'}]",
    )
    with client(server, certificates, "client") as http:
        assert http.get("/v2/").status_code == 200
    for certificate in "", "server":
        with client(server, certificates, certificate) as http, pytest.raises(httpx.TransportError):
            http.get("/v2/")


def test_transfers_over_https_end_well_when_the_server_stops(serve, certificates):
    server = serve(
        Https,
        REGISTRY_HTTP_TLS_CERTIFICATE=str(certificates / "server.pem"),
        REGISTRY_HTTP_TLS_KEY=str(certificates / "server.key"),
    )
    data = noise("tls, slow", 32 * 1024 * 1024)
    with client(server, certificates) as http:
        path = f"/v2/some/name/blobs/{digest_of(data)}"
        uploads = "/v2/some/name/blobs/uploads/"
        assert http.post(uploads, params={"digest": digest_of(data)}, content=data).status_code == 201
        with http.stream("GET", path) as answer:
            parts = answer.iter_raw()
            got = next(parts)
            server.terminate()
            got += b"".join(parts)
    assert got == data
    assert server.wait() == 0


@pytest.mark.parametrize("wrong", ["another key", "no PEM", "a key with a password"])
def test_a_certificate_that_cannot_be_used_is_one_line_that_names_the_key(tmp_path, certificates, wrong):
    """Nobody is there to type a password."""
    key = certificates / "client.key"
    if wrong == "no PEM":
        key = tmp_path / "key"
        key.write_text("not PEM")
    if wrong == "a key with a password":
        key = tmp_path / "key"
        openssl(
            tmp_path, "ec", "-in", str(certificates / "server.key"), "-aes256", "-passout", "pass:x", "-out", str(key)
        )
    settings = {
        "REGISTRY_HTTP_TLS_CERTIFICATE": str(certificates / "server.pem"),
        "REGISTRY_HTTP_TLS_KEY": str(key),
    }
    with pytest.raises(RuntimeError, match=r"registry: http\.tls: cannot use") as failed:
        Https(tmp_path / "data", environment=settings).start()
    assert "Traceback" not in str(failed.value)
    assert "code 2" in str(failed.value)
