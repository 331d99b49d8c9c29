"""Requests made to hurt: they are answered, cheaply, and nobody else waits."""

import json
import threading
import time

import pytest
from answers import error
from images import OCI_INDEX
from rawhttp import Connection

MIB = 1 << 20


def slowest_ping(server, during) -> float:
    """The longest that another client waits for `GET /v2/` while `during()` runs, in seconds."""
    worst, done = 0.0, threading.Event()

    def ping() -> None:
        nonlocal worst
        with Connection(server) as other:
            while not done.is_set():
                begun = time.monotonic()
                assert other.request("GET", "/v2/").answer().status_code == 200
                worst = max(worst, time.monotonic() - begun)
                time.sleep(0.01)

    pinging = threading.Thread(target=ping)
    pinging.start()
    try:
        during()
    finally:
        done.set()
        pinging.join()
    return worst


@pytest.mark.parametrize(
    "document",
    [
        b'{"schemaVersion":2,"manifests":[' + b"{}," * 1_300_000 + b"{}]}",
        json.dumps({"schemaVersion": 2, "annotations": {str(n): n for n in range(200_000)}}).encode(),
        b'{"a":' * 300_000 + b"1" + b"}" * 300_000,
    ],
    ids=["a million mistakes", "annotations that are no text", "nested deeply"],
)
def test_a_manifest_full_of_mistakes_is_refused_without_delay_for_others(http, shared_server, repository, document):
    def push() -> None:
        headers = {"Content-Type": OCI_INDEX}
        answer = http.put(f"/v2/{repository}/manifests/x", content=document, headers=headers)
        error(answer, 400, "MANIFEST_INVALID")
        assert len(answer.content) < 1000

    assert slowest_ping(shared_server, push) < 3


def test_headers_without_end_are_cut_off(shared_server):
    with Connection(shared_server) as connection:
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Endless: ")
        with pytest.raises((ConnectionError, TimeoutError)):
            for _ in range(64):
                connection.send(b"a" * MIB)
                time.sleep(0.01)


def test_a_million_ranges_cost_no_more_than_one(http, shared_server, remote, repository):
    """Fewer than the limit of headers, more than the limit of ranges: the whole blob is sent."""
    digest = remote.push_blob(repository, b"0123456789")
    ranges = "bytes=" + ",".join(["0-0"] * 200_000)

    def pull() -> None:
        answer = http.get(f"/v2/{repository}/blobs/{digest}", headers={"Range": ranges})
        assert (answer.status_code, answer.content) == (200, b"0123456789")

    assert slowest_ping(shared_server, pull) < 1


@pytest.mark.parametrize("coding", [{}, {"Transfer_Encoding": "chunked"}], ids=["with a length", "chunked"])
def test_a_body_behind_an_offer_to_change_the_protocol_is_never_read_as_a_request(
    connection, http, remote, repository, coding
):
    """The parser leaves such a body out; what followed would be the next request, past a proxy's rules."""
    location = remote.begin(repository)
    hidden = b"GET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden) if coding else hidden

    connection.request("PATCH", location, body, Connection="Upgrade", Upgrade="h2c", **coding)

    answer = connection.answer()
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"
    assert connection.is_closed_by_server()
    assert http.get(location).headers["Range"] == "0-0"


def test_many_conditional_pushes_to_one_repository_do_not_hold_up_another(http, shared_server, remote, repository):
    """They wait for one lock; whoever pulls elsewhere does not."""
    other = remote.push_blob(f"{repository}-other", b"elsewhere")
    document = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    headers = {"Content-Type": OCI_INDEX, "If-None-Match": "*"}
    statuses: list[int] = []

    def push(number: int) -> None:
        with Connection(shared_server) as connection:
            named = {name.replace("-", "_"): value for name, value in headers.items()}
            connection.request("PUT", f"/v2/{repository}/manifests/t{number % 5}", document, **named)
            statuses.append(connection.answer().status_code)

    pushers = [threading.Thread(target=push, args=(number,)) for number in range(120)]
    for pusher in pushers:
        pusher.start()
    begun = time.monotonic()
    assert http.head(f"/v2/{repository}-other/blobs/{other}").status_code == 200
    waited = time.monotonic() - begun
    for pusher in pushers:
        pusher.join()
    assert sorted(statuses) == [201] * 5 + [412] * 115
    assert waited < 3
