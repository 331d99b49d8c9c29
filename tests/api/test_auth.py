"""Passwords: every endpoint asks for them, at once; whoever has one may do everything, as in registry:2."""

import base64
import os
import re
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import passwords
import pytest
from answers import API_VERSION, error
from images import digest_of, image
from passwords import REALM, Guarded
from rawhttp import Connection, ask
from remote import Remote
from serving import executable, wait_until

from registry.api.routes import ENDPOINTS, Access

CHALLENGE = f'Basic realm="{REALM}"'
VALUES = {
    "repository": "some/name",
    "digest": digest_of(b"x"),
    "reference": "latest",
    "session": "6d2e5f4c-0000-4000-8000-000000000000",
}
ROWS = [
    (endpoint.method, re.sub(r"\{(\w+)\}", lambda found: VALUES[found[1]], endpoint.path), endpoint.access)
    for endpoint in ENDPOINTS
]
ASKING = [(method, path) for method, path, access in ROWS if access is not Access.NONE]
LOOK = 10
"""Seconds in which a change of the file is seen for sure; it takes about one."""


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with Guarded(tmp_path_factory.mktemp("guarded") / "data") as server:
        yield server
    assert "Traceback" not in server.log()


@pytest.fixture
def stranger(guarded):
    with httpx.Client(base_url=guarded.url) as client:
        yield client


@pytest.fixture
def alice(guarded):
    with Remote(guarded.url) as client:
        client.http.auth = ("alice", "secret")
        yield client


def is_challenged(answer) -> None:
    error(answer, 401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == CHALLENGE


# Every endpoint


@pytest.mark.parametrize(("method", "path"), ASKING)
def test_every_endpoint_asks_who_is_there(stranger, method, path):
    for headers in {}, {"Authorization": basic("alice", "wrong")}, {"Authorization": "Bearer x"}:
        answer = stranger.request(method, path, headers=headers)
        if method == "HEAD":
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, CHALLENGE)
            assert answer.headers[API_VERSION] == "registry/2.0"
        else:
            is_challenged(answer)


@pytest.mark.parametrize(("method", "path"), ASKING)
def test_no_endpoint_asks_whoever_has_the_password(guarded, method, path):
    with httpx.Client(base_url=guarded.url, auth=("alice", "secret")) as client:
        assert client.request(method, path).status_code not in {401, 403, 429}


def test_head_asks_wherever_get_does(stranger):
    for method, path in ASKING:
        if method == "GET":
            assert stranger.head(path).status_code == 401


OPEN = {"/", "/auth/token", "/healthz", "/readyz"}


def test_only_health_and_the_way_to_a_token_are_open():
    assert {path for _, path, access in ROWS if access is Access.NONE} == OPEN


@pytest.mark.parametrize("path", sorted(OPEN - {"/auth/token"}))
def test_health_is_open_to_probes(stranger, path):
    assert stranger.get(path).status_code == stranger.head(path).status_code == 200


@pytest.mark.parametrize("path", sorted({path for _, path in ASKING}))
def test_options_is_open_for_browsers(stranger, path):
    """A preflight never has credentials."""
    assert stranger.options(path).status_code == 204


class BelowHub(Guarded):
    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/hub/v2/").status_code == 401
        except httpx.TransportError:
            return False


def test_with_a_prefix_it_is_the_same(tmp_path):
    with BelowHub(tmp_path / "data", environment={"REGISTRY_HTTP_PREFIX": "/hub/"}) as server:
        for method, path in ASKING:
            assert httpx.request(method, f"{server.url}/hub{path}").status_code == 401


# What is sent


def test_an_image_is_pushed_and_pulled_with_the_password(alice):
    pushed = image("auth", size=1000)
    alice.push("some/image", pushed, "latest")
    alice.holds("some/image", pushed, "latest")
    alice.delete_manifest("some/image", "latest")


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Basic YQ==", "Digest x", "Basic " + "A" * 100_000, "\xff"])
def test_a_malformed_header_is_challenged(guarded, header):
    with Connection(guarded) as connection:
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: " + header.encode("latin-1") + b"\r\n\r\n")
        is_challenged(connection.answer())


def test_two_headers_are_challenged(guarded):
    line = f"Authorization: {basic('alice', 'secret')}\r\n".encode()
    with Connection(guarded) as connection:
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + line + line + b"\r\n")
        is_challenged(connection.answer())


def test_a_refused_push_is_answered_before_its_body_comes(guarded):
    """Also where the client waits for 100 Continue: it hears 401 instead."""
    for method, path in ("PATCH", ASKING[10][1]), ("PUT", "/v2/some/name/manifests/latest"), ("POST", ASKING[6][1]):
        with Connection(guarded) as connection:
            connection.request(method, path, Content_Length=10_000_000, Expect="100-continue")
            is_challenged(connection.answer())
        with Connection(guarded) as connection:
            connection.request(method, path, Transfer_Encoding="chunked")
            is_challenged(connection.answer())


def test_nothing_of_a_refused_push_reaches_the_disk(guarded, stranger):
    stranger.post("/v2/no/entry/blobs/uploads/")
    stranger.post(f"/v2/no/entry/blobs/uploads/?digest={digest_of(b'x')}", content=b"x")
    assert not list(guarded.root.rglob("entry"))


def test_without_passwords_credentials_change_nothing(http):
    assert http.get("/v2/", headers={"Authorization": basic("who", "ever")}).status_code == 200


# The file


def status(server, user: str, password: str) -> int:
    return httpx.get(server.url + "/v2/", auth=(user, password)).status_code


def test_changes_of_the_file_count_without_a_restart(tmp_path):
    with Guarded(tmp_path / "data") as server:
        assert status(server, "alice", "secret") == 200
        passwords.write(server.users, alice="new", bob="builder")
        wait_until(lambda: status(server, "bob", "builder") == 200, LOOK, "bob is let in")
        assert status(server, "alice", "secret") == 401
        assert status(server, "alice", "new") == 200
        server.users.unlink()
        wait_until(
            lambda: status(server, "bob", "builder") == 200 and "No such file" in server.log(), LOOK, "it is missed"
        )
        passwords.write(server.users, bob="builder")
        wait_until(lambda: status(server, "alice", "new") == 401, LOOK, "alice is out")
        assert server.log().count("No such file") == 1


def test_the_file_of_registry_2_works_unchanged(tmp_path):
    """One that its users made with `htpasswd -B`, comments and an old line of another kind included."""
    users = tmp_path / "as.it.was"
    users.write_text("# made by hand\n\n" + passwords.line("ana", "contraseña", 10) + "old:$apr1$xyz$abcdefghij\n")
    assert "$2y$10$" in users.read_text()
    with Guarded(tmp_path / "data", environment={"REGISTRY_AUTH_HTPASSWD_PATH": str(users)}) as server:
        assert status(server, "ana", "contraseña") == 200
        assert status(server, "old", "x") == 401
        assert f"{users}, line 4: the password of 'old' is not hashed with bcrypt" in server.log()
        assert "$apr1$" not in server.log()


def test_registry_2_takes_what_we_write_and_answers_alike(tmp_path):
    from serving import PeerRegistry  # noqa: PLC0415

    executable("docker-registry")
    users = passwords.write(tmp_path / "htpasswd", alice="secret")

    with PeerRegistry(tmp_path / "peer", environment=passwords.variables(users)) as peer:
        assert status(peer, "alice", "secret") == 200
        theirs = httpx.get(peer.url + "/v2/")
    with Guarded(tmp_path / "data") as server:
        ours = httpx.get(server.url + "/v2/")
    for name in "WWW-Authenticate", API_VERSION:
        assert ours.headers[name] == theirs.headers[name]
    assert ours.status_code == theirs.status_code == 401
    assert ours.json()["errors"][0]["code"] == theirs.json()["errors"][0]["code"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_a_secret_of_root_s_is_read_before_root_is_given_up():
    """Mode 0400, as the stack has it. It never changes; the log says that a change would not be seen."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        server = Guarded(Path(directory) / "data", environment={"SWARM_REGISTRY_USER": "65532"})
        server.users.chmod(0o400)
        with server:
            time.sleep(1.1)  # it is looked at again
            assert status(server, "alice", "secret") == 200
            assert "uid 65532" in server.log()
            assert f"{server.users} was read as root, and cannot be read again" in server.log()
            assert "ERROR" not in server.log()


# Guessing

SEVERAL = {"REGISTRY_HTTP_WORKERS": "2"}
"""They count and wait together."""


def test_too_many_guesses_are_429_and_who_is_known_goes_on(tmp_path):
    """All from one address, as on the mesh."""
    with Guarded(tmp_path / "data", environment=SEVERAL) as server:
        assert status(server, "alice", "secret") == 200
        found = {}

        def guess(number: int) -> None:
            found[number] = httpx.get(server.url + "/v2/", auth=("alice", f"Spring{number}"), timeout=30)

        threads = [threading.Thread(target=guess, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [answer for answer in found.values() if answer.status_code != 401]
        assert len(refused) == 10
        for answer in refused:
            assert "wrong passwords" in error(answer, 429, "TOOMANYREQUESTS")["message"]
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert status(server, "alice", "secret") == 200
        assert "user='alice' address=127.0.0.1 reason=too-many-failures" in server.log()
        assert "Spring" not in server.log()


def test_pulls_go_on_while_passwords_are_sprayed(tmp_path):
    """Names without end, real costs: the sprayers wait for their threads, the good user for nothing."""
    with Guarded(tmp_path / "data", environment=SEVERAL) as server:
        passwords.write(server.users, 10, alice="secret")
        pushed = image("sprayed", size=1000)
        ended = threading.Event()
        sprayed = []

        def spray(which: int) -> None:
            with httpx.Client(base_url=server.url, timeout=60) as client:
                while not ended.is_set():
                    answer = client.get("/v2/", auth=(f"user-{which}-{len(sprayed)}", "Summer2026!"))
                    sprayed.append(answer.status_code)

        with Remote(server.url) as alice:
            alice.http.auth = ("alice", "secret")
            wait_until(lambda: alice.http.get("/v2/").status_code == 200, LOOK, "alice is known")
            threads = [threading.Thread(target=spray, args=(which,)) for which in range(8)]
            for thread in threads:
                thread.start()
            try:
                wait_until(lambda: len(sprayed) > 5, 30, "it is sprayed")
                began = time.monotonic()
                for number in range(20):
                    alice.push(f"some/image-{number}", pushed, "latest")
                    alice.holds(f"some/image-{number}", pushed, "latest")
                took = time.monotonic() - began
            finally:
                ended.set()
                for thread in threads:
                    thread.join()
        assert set(sprayed) == {401}
        assert took < 30  # about two; a queue behind the sprayers would be minutes


def test_a_flood_of_logins_waits_in_a_line_of_bounded_length(tmp_path):
    """Who stands behind its end is told to come back, and is let in then."""
    with Guarded(tmp_path / "data", environment=SEVERAL) as server, ExitStack() as stack:
        passwords.write(server.users, 11, bob="builder")
        wait_until(lambda: "users: 1" in server.log() or status(server, "alice", "secret") == 401, LOOK, "it is read")
        connections = [stack.enter_context(Connection(server)) for _ in range(50)]
        for number, connection in enumerate(connections):
            connection.request("GET", "/v2/", Authorization=basic(f"user-{number}", "x"))
        answers = [connection.answer() for connection in connections]
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused
        for answer in refused:
            assert int(error(answer, 503, "UNAVAILABLE") and answer.headers["Retry-After"]) > 0
        assert {answer.status_code for answer in answers} == {401, 503}
        assert status(server, "bob", "builder") == 200


def test_a_failed_login_is_a_line_of_the_log(tmp_path):
    with Guarded(tmp_path / "data") as server:
        ask(server, "GET", "/v2/", Authorization=basic("mallory", "hunter2"))
        assert "login failed: user='mallory' address=127.0.0.1 reason=unknown-user" in server.log()
        assert "hunter2" not in server.log()
