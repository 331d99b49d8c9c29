"""HTTPS with certificates of our own making."""

import http.client
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from https import Https, Pair, client, openssl, pair
from images import digest_of, noise
from rawhttp import Connection

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def own(directory: Path) -> Pair:
    """The server's, which is its own authority."""
    return pair(directory, "server")


@pytest.fixture(scope="module")
def ours(directory: Path) -> Pair:
    """A client's, the same."""
    return pair(directory, "client")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, own: Pair) -> Iterator[Https]:
    settings = own.settings | {"REGISTRY_HTTP_RELATIVEURLS": "false"}
    with Https(tmp_path_factory.mktemp("tls") / "data", environment=settings) as running:
        yield running
    print(running.log())


def test_blobs_are_pushed_and_pulled_over_https(server, own):
    data = noise("tls", 12 * 1024 * 1024)
    digest = digest_of(data)
    with client(server, own) as http:
        answer = http.post("/v2/some/name/blobs/uploads/", params={"digest": digest}, content=data)
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"{server.url}/v2/some/name/blobs/{digest}"
        assert http.get(answer.headers["Location"]).content == data
        part = http.get(answer.headers["Location"], headers={"Range": "bytes=5000000-"})
        assert part.content == data[5_000_000:]


def test_a_client_that_trusts_nobody_refuses_the_certificate(server):
    with httpx.Client(verify=True, trust_env=False) as http, pytest.raises(httpx.ConnectError, match="certificate"):
        http.get(f"{server.url}/v2/")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_plain_http_on_the_tls_port_is_told_so_at_once(server, method):
    """It must not hang: docker would wait for its time limit."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
    before = server.log()
    try:
        connection.request(method, "/v2/some/name/blobs/uploads/")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (400, "close")
        assert b"https://" in answer.read()
    finally:
        connection.close()
    assert server.log() == before


def test_what_is_neither_tls_nor_http_is_closed_without_a_line_of_the_log(server):
    before = server.log()
    with Connection(server) as connection:
        connection.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        assert connection.is_closed_by_server()
    assert server.log() == before


def test_clients_that_never_shake_hands_do_not_hold_up_the_others(server, own):
    silent = [socket.create_connection((server.host, server.port), timeout=5) for _ in range(20)]
    try:
        with client(server, own) as http:
            assert http.get("/v2/").status_code == 200
    finally:
        for connection in silent:
            connection.close()


def handshake(server: Https, *options: str) -> int:
    """How openssl's client ends that is willing to do anything."""
    asked = ["openssl", "s_client", "-connect", server.address, "-cipher", "ALL@SECLEVEL=0", *options]
    return subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=15, check=False).returncode


def test_tls_1_1_is_refused(server):
    """The least version is 1.2 unless the settings say otherwise."""
    assert [handshake(server, version) for version in ("-tls1_3", "-tls1_2", "-tls1_1")] == [0, 0, 1]


@pytest.mark.parametrize(
    ("minimum", "ends"), [("tls1.3", [0, 1, 1, 1]), ("tls1.1", [0, 0, 0, 1]), ("tls1.0", [0, 0, 0, 0])]
)
def test_the_least_version_is_what_the_settings_say(serve, own, minimum, ends):
    """Old ones, too: who asks for them has clients that know no other."""
    server = serve(Https, **own.settings, REGISTRY_HTTP_TLS_MINIMUMTLS=minimum)
    assert [handshake(server, version) for version in ("-tls1_3", "-tls1_2", "-tls1_1", "-tls1")] == ends


def test_only_cipher_suites_that_are_named_are_spoken(serve, own):
    named = "[TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]"
    server = serve(Https, **own.settings, REGISTRY_HTTP_TLS_CIPHERSUITES=named)
    for cipher, end in ("ECDHE-ECDSA-AES256-GCM-SHA384", 0), ("ECDHE-ECDSA-AES128-GCM-SHA256", 1):
        assert handshake(server, "-tls1_2", "-cipher", cipher) == end, cipher


def test_with_suites_of_tls_1_3_alone_there_is_no_other_version(serve, own):
    server = serve(Https, **own.settings, REGISTRY_HTTP_TLS_CIPHERSUITES="[TLS_AES_128_GCM_SHA256]")
    assert [handshake(server, version) for version in ("-tls1_3", "-tls1_2")] == [0, 1]


def test_with_authorities_for_clients_only_their_certificates_get_in(serve, own, ours):
    server = serve(Https, **own.settings, REGISTRY_HTTP_TLS_CLIENTCAS=f"[{ours.certificate}]")
    with client(server, own, ours) as http:
        assert http.get("/v2/").status_code == 200
    for given, alert in (None, "(?i)certificate.required"), (own, "(?i)unknown.ca|certificate"):
        with client(server, own, given) as http, pytest.raises(httpx.TransportError, match=alert):
            http.get("/v2/")
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("clientauth", ["verify-client-cert-if-given", "request-client-cert"])
def test_where_a_client_s_certificate_is_asked_for_only_a_wrong_one_is_refused(serve, own, ours, clientauth):
    cas = {"REGISTRY_HTTP_TLS_CLIENTCAS": f"[{ours.certificate}]", "REGISTRY_HTTP_TLS_CLIENTAUTH": clientauth}
    server = serve(Https, **own.settings, **cas)
    for given in None, ours:
        with client(server, own, given) as http:
            assert http.get("/v2/").status_code == 200
    with client(server, own, own) as http, pytest.raises(httpx.TransportError):
        http.get("/v2/")


def test_an_authority_for_clients_need_not_be_a_root(serve, own, directory):
    """Go's servers take any certificate of the file for an authority, and so did registry:2."""
    root = pair(directory, "root", authority=True)
    middle = pair(directory, "middle", issuer=root, authority=True)
    signed = pair(directory, "signed", issuer=middle)
    server = serve(Https, **own.settings, REGISTRY_HTTP_TLS_CLIENTCAS=str(middle.certificate))
    with client(server, own, signed) as http:
        assert http.get("/v2/").status_code == 200


def test_curl_with_a_certificate_gets_in_and_without_one_is_told_so(serve, own, ours):
    server = serve(Https, **own.settings, REGISTRY_HTTP_TLS_CLIENTCAS=f"[{ours.certificate}]")
    asked = ["curl", "-sS", "--max-time", "10", "--cacert", str(own.certificate), f"{server.url}/v2/"]
    with_one = [*asked, "--cert", str(ours.certificate), "--key", str(ours.key)]
    assert subprocess.run(with_one, capture_output=True, check=True, timeout=15).stdout == b"{}\n"
    refused = subprocess.run(asked, capture_output=True, check=False, timeout=15)
    assert refused.returncode != 0
    assert b"certificate required" in refused.stderr


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"REGISTRY_HTTP_TLS_CLIENTCAS": "/ca.pem"}, "http.tls.clientcas: expected certificate and key with it"),
        ({"REGISTRY_HTTP_TLS_CLIENTAUTH": "require-any-client-cert"}, "http.tls.clientauth: expected clientcas"),
        ({"REGISTRY_HTTP_TLS_CIPHERSUITES": "[TLS_RSA_WITH_NOTHING]"}, "there is no TLS_RSA_WITH_NOTHING here"),
    ],
)
def test_a_protection_that_cannot_be_given_stops_the_start(serve, own, settings, told):
    certified = {} if "CLIENTCAS" in str(settings) else own.settings
    with pytest.raises(RuntimeError, match=told) as failed:
        serve(Https, **certified, **settings)
    assert "Traceback" not in str(failed.value)


def test_transfers_over_https_end_well_when_the_server_stops(serve, own):
    server = serve(Https, **own.settings)
    data = noise("tls, slow", 32 * 1024 * 1024)
    with client(server, own) as http:
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
def test_a_certificate_that_cannot_be_used_is_one_line_that_names_the_key(tmp_path, own, ours, wrong):
    """Nobody is there to type a password."""
    key = ours.key
    if wrong == "no PEM":
        key = tmp_path / "key"
        key.write_text("not PEM")
    if wrong == "a key with a password":
        key = tmp_path / "key"
        openssl(tmp_path, "ec", "-in", str(own.key), "-aes256", "-passout", "pass:x", "-out", str(key))
    settings = Pair(own.certificate, key).settings
    with pytest.raises(RuntimeError, match=r"registry: http\.tls: cannot use") as failed:
        Https(tmp_path / "data", environment=settings).start()
    assert "Traceback" not in str(failed.value)
    assert "code 2" in str(failed.value)
