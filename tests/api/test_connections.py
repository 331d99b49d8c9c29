"""HTTP itself: what connections carry, and what must not confuse them."""

import contextlib

import pytest
from answers import error
from images import OCI_MANIFEST, digest_of
from rawhttp import Connection, ask

HELLO_OF_TLS = bytes.fromhex("16030100c8010000c40303") + bytes(194)
H2C = "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


def test_one_connection_serves_many_requests(connection):
    for _ in range(3):
        assert connection.request("GET", "/v2/").answer().json() == {}


def test_requests_sent_ahead_are_answered_in_order(connection, repository):
    connection.request("GET", "/v2/")
    connection.request("GET", f"/v2/{repository}/tags/list")
    connection.request("GET", "/")
    assert [connection.answer().status_code for _ in range(3)] == [200, 404, 200]


@pytest.mark.parametrize("target", ["/v2/{repository}/blobs/uploads/6d2e5f4c-0000-4000-8000-000000000000", "/v2/no"])
def test_a_body_that_nobody_reads_does_not_run_into_the_next_request(connection, repository, target):
    connection.request("PATCH", target.format(repository=repository), b"GET / HTTP/1.1\r\n\r\n" * 50_000)
    assert connection.answer().status_code == 404
    assert connection.request("GET", "/v2/").answer().json() == {}


def test_a_client_that_waits_for_100_continue_gets_it_before_it_sends(connection, remote, repository):
    """curl waits so before it sends more than a megabyte."""
    data = b"sent only when asked for"
    target = f"/v2/{repository}/blobs/uploads/?digest={digest_of(data)}"
    connection.request("POST", target, Content_Length=len(data), Expect="100-continue")
    assert connection.head()[0] == 100
    assert connection.send(data).answer().status_code == 201
    assert remote.blob(repository, digest_of(data)) == data


def test_a_manifest_that_is_too_large_is_refused_before_its_body_is_sent(connection, repository):
    headers = {"Content_Type": OCI_MANIFEST, "Content_Length": 2**40, "Expect": "100-continue"}
    connection.request("PUT", f"/v2/{repository}/manifests/latest", **headers)
    assert connection.answer().status_code == 413


def test_an_http_1_0_client_is_answered_and_the_connection_closed(connection):
    """Health checks of load balancers speak it."""
    answer = connection.send(b"GET /v2/ HTTP/1.0\r\n\r\n").answer()
    assert answer.json() == {}
    assert connection.is_closed_by_server()


def test_a_whole_address_as_the_target_of_a_request_is_taken(shared_server):
    """RFC 9112 section 3.2.2: a server must accept it."""
    assert ask(shared_server, "GET", "http://registry.example:5000/v2/").json() == {}


def test_tls_on_the_plain_port_is_refused_at_once(shared_server):
    """docker tries https first on 127.0.0.1; a port that kept silent would cost it its time limit."""
    with Connection(shared_server) as connection:
        connection.send(HELLO_OF_TLS)
        assert connection.answer().status_code == 400
        assert connection.is_closed_by_server()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET\r\n\r\n",
        b"GET /v2/ HTTP/9.9\r\n\r\n",
        b"GET v2/ HTTP/1.1\r\n\r\n",
        b"BREW /v2/ HTTP/1.1\r\n\r\n",
        b"GET /v2/\x00 HTTP/1.1\r\n\r\n",
        b"GET /v2/\xff/tags/list HTTP/1.1\r\n\r\n",
        b"GET /" + b"a/" * 50_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"CONNECT registry:80 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_what_is_no_http_request_is_refused_and_the_server_goes_on(shared_server, request_):
    """Two lengths for one body are refused too: a proxy in front might have believed the other one."""
    with Connection(shared_server) as connection:
        connection.send(request_)
        assert connection.answer().status_code == 400
        assert connection.is_closed_by_server()
    assert ask(shared_server, "GET", "/v2/").status_code == 200


def test_a_client_that_leaves_in_the_middle_of_a_request_leaves_the_server_well(shared_server):
    for part in b"", b"GET /v2/ HT", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n", b"PUT /v2/a/manifests/b HTTP/1.1\r\n":
        for leave in Connection.close, Connection.half_close, Connection.reset:
            with Connection(shared_server) as connection:
                connection.send(part)
                leave(connection)
    assert ask(shared_server, "GET", "/v2/").status_code == 200


def test_a_manifest_of_which_the_end_never_came_is_not_stored(shared_server, http, repository):
    with Connection(shared_server) as connection:
        connection.request("PUT", f"/v2/{repository}/manifests/latest", b"{}", Content_Length=100)
        connection.half_close()
        assert connection.is_closed_by_server()
    error(http.get(f"/v2/{repository}/manifests/latest"), 404, "MANIFEST_UNKNOWN")


def test_an_offer_of_http_2_is_declined_without_a_word(connection):
    """Java's HttpClient makes it in its first request to an http:// server. RFC 9110 section 7.8."""
    connection.send(f"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n{H2C}\r\n".encode())
    assert connection.answer().json() == {}
    for _ in range(3):
        assert connection.request("GET", "/v2/").answer().json() == {}


def test_a_body_that_comes_with_an_offer_of_http_2_is_taken_whole_or_refused(shared_server, remote, repository):
    """It is never left out, nor read as the next request."""
    data = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = f"POST /v2/{repository}/blobs/uploads/?digest={digest_of(data)} HTTP/1.1\r\nHost: localhost\r\n{H2C}"
    with Connection(shared_server) as connection:
        connection.send(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        status = connection.answer().status_code
        if status == 400:
            assert connection.is_closed_by_server()
    assert status in {201, 400}
    assert remote.has_blob(repository, digest_of(data)) == (status == 201)


def test_a_head_without_an_end_is_refused_before_it_fills_the_memory(shared_server):
    """By an answer, or by a reset where that overtakes what is still sent."""
    with Connection(shared_server) as connection, contextlib.suppress(ConnectionError):
        connection.send(b"GET /v2/ HTTP/1.1\r\nX: " + b"a" * 8_000_000 + b"\r\n\r\n")
        answer = connection.answer()
        assert answer.status_code == 431
        assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"


def test_a_long_body_before_a_request_does_not_count_as_its_head(connection, repository):
    """Both may come in one piece."""
    session = f"/v2/{repository}/blobs/uploads/6d2e5f4c-0000-4000-8000-000000000000"
    for _ in range(3):
        connection.request("PATCH", session, bytes(3_000_000))
    for _ in range(3):
        assert connection.answer().status_code == 404
    assert connection.request("GET", "/v2/").answer().json() == {}
