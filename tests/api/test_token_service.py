"""Tokens of our own: how they are asked for, what they allow, when they end."""

import json
import re
import stat
import time
from pathlib import Path

import httpx
import jwt
import passwords
import pytest
from answers import error
from images import image
from passwords import Guarded
from rawhttp import Connection
from remote import Remote
from serving import Server, wait_until

from registry.auth.jws import SigningKey
from registry.auth.service import SERVICE

ENABLED = {"REGISTRY_AUTH_TOKENS_ENABLED": "true"}
LOOK = 10
"""Seconds in which a change of a file is seen for sure; it takes about one."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with Guarded(tmp_path_factory.mktemp("tokens") / "data", environment=ENABLED) as server:
        yield server
    assert "Traceback" not in server.log()
    assert "secret" not in server.log()


@pytest.fixture
def http(guarded):
    with httpx.Client(base_url=guarded.url) as client:
        yield client


ALICE = ("alice", "secret")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def ask(http, *scopes: str, auth=ALICE, **query: str) -> httpx.Response:
    return http.get("/auth/token", params={"service": SERVICE, "scope": list(scopes), **query}, auth=auth)


def token(http, *scopes: str) -> str:
    return ask(http, *scopes).json()["token"]


def said(text: str) -> dict:
    """A token's claims."""
    return jwt.decode(text, options={"verify_signature": False})


def access(answer: httpx.Response) -> dict[str, list[str]]:
    assert answer.status_code == 200, answer.text
    return {entry["name"]: entry["actions"] for entry in said(answer.json()["token"])["access"]}


# The challenge


def challenge(answer: httpx.Response) -> dict[str, str]:
    error(answer, 401, "UNAUTHORIZED")
    scheme, _, members = answer.headers["WWW-Authenticate"].partition(" ")
    assert scheme == "Bearer"
    return dict(re.findall(r'(\w+)="([^"]*)"', members))


def test_who_has_no_token_is_told_where_to_get_one(guarded, http):
    assert challenge(http.get("/v2/")) == {"realm": f"{guarded.url}/auth/token", "service": SERVICE}


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/some/name/manifests/latest", "repository:some/name:pull"),
        ("GET", "/v2/some/name/tags/list", "repository:some/name:pull"),
        ("PUT", "/v2/some/name/manifests/latest", "repository:some/name:pull,push"),
        ("POST", "/v2/some/name/blobs/uploads/", "repository:some/name:pull,push"),
        ("DELETE", "/v2/some/name/manifests/latest", "repository:some/name:delete"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
    ],
)
def test_the_challenge_names_what_the_request_needs(http, method, path, scope):
    found = challenge(http.request(method, path))
    assert found["scope"] == scope
    assert "error" not in found


def test_what_the_challenge_names_is_enough(http):
    """As a client does it: word by word from the challenge to the token to the request."""
    for method, path in ("GET", "/v2/some/name/tags/list"), ("POST", "/v2/some/name/blobs/uploads/"), ("GET", "/v2/"):
        found = challenge(http.request(method, path))
        wanted = {name: found[name] for name in ("service", "scope") if name in found}
        given = http.get(found["realm"], params=wanted, auth=ALICE).json()["token"]
        assert http.request(method, path, headers=bearer(given)).status_code in {200, 202, 404}


def test_the_realm_is_the_registry_as_the_client_sees_it(http, tmp_path):
    for headers, origin in [
        ({"Host": "registry.example.com"}, "http://registry.example.com"),
        ({"Host": "registry.example.com:5000"}, "http://registry.example.com:5000"),
    ]:
        assert challenge(http.get("/v2/", headers=headers))["realm"] == f"{origin}/auth/token"
    settings = {"REGISTRY_HTTP_HOST": "https://hub.example.com/", **ENABLED}
    with Guarded(tmp_path / "data", environment=settings) as server:
        found = challenge(httpx.get(server.url + "/v2/", headers={"Host": "evil.example.com"}))
        assert found["realm"] == "https://hub.example.com/auth/token"


def test_a_host_cannot_get_out_of_the_realm(guarded):
    with Connection(guarded) as connection:
        connection.send(b'GET /v2/ HTTP/1.1\r\nHost: a";scope="x\r\n\r\n')
        answer = connection.answer()
    assert answer.headers["WWW-Authenticate"].startswith(r'Bearer realm="http://a\";scope=\"x/auth/token",service=')


class BelowHub(Guarded):
    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/hub/v2/").status_code == 401
        except httpx.TransportError:
            return False


def test_with_a_prefix_the_endpoint_is_below_it(tmp_path):
    with BelowHub(tmp_path / "data", environment={"REGISTRY_HTTP_PREFIX": "/hub/", **ENABLED}) as server:
        realm = challenge(httpx.get(server.url + "/hub/v2/"))["realm"]
        assert realm == server.url + "/hub/auth/token"
        given = httpx.get(realm, auth=ALICE).json()["token"]
        assert httpx.get(server.url + "/hub/v2/", headers=bearer(given)).status_code == 200


def test_without_the_setting_it_is_as_in_registry_2(tmp_path):
    with Guarded(tmp_path / "data") as server:
        assert httpx.get(server.url + "/v2/").headers["WWW-Authenticate"].startswith("Basic ")
        for method in "GET", "POST":
            assert (
                "auth.tokens.enabled"
                in error(httpx.request(method, server.url + "/auth/token"), 404, "UNSUPPORTED")["message"]
            )
        assert not (server.root / "swarm-registry/signing-key.pem").exists()


# Asking with a password


def test_a_token_has_what_the_specification_says(http):
    before = int(time.time())
    answer = ask(http, "repository:some/name:pull,push", account="alice", client_id="docker")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    found = answer.json()
    assert found["token"] == found["access_token"]
    assert found["expires_in"] == 300
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["issued_at"])
    assert "refresh_token" not in found
    claims = said(found["token"])
    assert claims.keys() == {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access"}
    assert (claims["iss"], claims["aud"], claims["sub"]) == (SERVICE, SERVICE, "alice")
    assert before <= claims["iat"] == claims["nbf"] == claims["exp"] - 300 <= time.time()
    assert claims["access"] == [{"type": "repository", "name": "some/name", "actions": ["pull", "push"]}]
    assert claims["jti"] != said(token(http))["jti"]


def test_several_scopes_are_granted_in_one_token(http):
    """docker asks for a second one where it would mount a layer from another repository."""
    wanted = {"a/b": ["pull", "push"], "c": ["pull"]}
    assert access(ask(http, "repository:a/b:pull,push", "repository:c:pull")) == wanted
    assert access(ask(http, "repository:a/b:pull,push repository:c:pull")) == wanted


def test_a_token_for_everything_says_what_that_is(http):
    assert access(ask(http, "repository:a:*")) == {"a": ["pull", "push", "delete"]}
    assert access(ask(http, "registry:catalog:*")) == {"catalog": ["*"]}


@pytest.mark.parametrize(
    "scope",
    ["other:thing:pull", "registry:other:*", "registry:catalog:pull", "repository:UPPER:pull", "repository:a:other",
     "repository:host:5000/a:pull", "repository:a/../b:pull", "repository:a:", "repository:" + "a" * 256 + ":pull"],
)  # fmt: skip
def test_what_this_registry_does_not_have_is_not_granted(http, scope):
    assert access(ask(http, scope, "repository:b:pull")) == {"b": ["pull"]}


@pytest.mark.parametrize("scope", ["x", "repository:a", "repository:a:PULL", "repository:a:b:pull"])
def test_what_is_no_scope_is_400(http, scope):
    assert "expected TYPE:NAME:ACTIONS" in refused(ask(http, scope), 400, "invalid_scope")


def test_a_wrong_password_is_401_and_asks_for_a_right_one(http):
    for auth in ("alice", "wrong"), ("nobody", "secret"):
        answer = ask(http, "repository:a:pull", auth=auth)
        error(answer, 401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    for header in "Basic !", "Bearer x", "Basic " + "A" * 10_000:
        error(http.get("/auth/token", headers={"Authorization": header}), 401, "UNAUTHORIZED")


def test_nobody_gets_a_token_for_nothing_where_nobody_may_do_anything(http):
    """With it, docker is told at once that access is denied; without one, it would try again for a minute."""
    answer = ask(http, "repository:a:pull", "registry:catalog:*", auth=None, offline_token="true")
    assert access(answer) == {}
    assert said(answer.json()["token"])["sub"] == ""
    assert "refresh_token" not in answer.json()
    found = challenge(http.get("/v2/a/tags/list", headers=bearer(answer.json()["token"])))
    assert found["error"] == "insufficient_scope"


# With a token


def test_a_token_allows_what_it_says_and_nothing_else(http):
    pull, push = token(http, "repository:a:pull"), token(http, "repository:a:pull,push")
    assert http.get("/v2/", headers=bearer(pull)).status_code == 200
    assert http.get("/v2/a/tags/list", headers=bearer(pull)).status_code == 404
    assert http.post("/v2/a/blobs/uploads/", headers=bearer(push)).status_code == 202
    for method, path, given in [
        ("POST", "/v2/a/blobs/uploads/", pull),
        ("GET", "/v2/b/tags/list", pull),
        ("GET", "/v2/a/b/tags/list", pull),
        ("DELETE", "/v2/a/manifests/latest", push),
        ("GET", "/v2/_catalog", push),
        ("GET", "/v2/a/tags/list", token(http)),
    ]:
        found = challenge(http.request(method, path, headers=bearer(given)))
        assert found["error"] == "insufficient_scope"
        assert found["scope"]


def test_an_image_is_pushed_pulled_and_deleted_with_tokens(guarded, http):
    pushed = image("tokens", size=1000)
    with Remote(guarded.url) as remote:
        remote.http.headers.update(bearer(token(http, "repository:some/image:pull,push")))
        remote.push("some/image", pushed, "latest")
        remote.http.headers.update(bearer(token(http, "repository:some/image:pull")))
        remote.holds("some/image", pushed, "latest")
        remote.http.headers.update(bearer(token(http, "repository:some/image:delete")))
        remote.delete_manifest("some/image", "latest")


def test_a_password_is_still_taken(http):
    assert http.get("/v2/", auth=ALICE).status_code == 200
    assert http.get("/v2/_catalog", auth=ALICE).status_code == 200
    assert challenge(http.get("/v2/", auth=("alice", "wrong")))["service"] == SERVICE


@pytest.mark.parametrize("text", ["x", "a.b.c", "", "é", "A" * 20_000])
def test_what_is_no_token_is_401(guarded, text):
    with Connection(guarded) as connection:
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + text.encode("utf-8") + b"\r\n\r\n")
        answer = connection.answer()
    found = challenge(answer)
    assert found.get("error") == ("invalid_token" if text else None)


def test_two_headers_are_401(guarded, http):
    line = f"Authorization: Bearer {token(http)}\r\n".encode()
    with Connection(guarded) as connection:
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + line + line + b"\r\n")
        assert challenge(connection.answer())["error"] == "invalid_token"


def test_tokens_of_another_registry_do_not_count(http, tmp_path):
    with Guarded(tmp_path / "data", environment=ENABLED) as other:
        given = httpx.get(other.url + "/auth/token", auth=ALICE).json()["token"]
        assert httpx.get(other.url + "/v2/", headers=bearer(given)).status_code == 200
    assert challenge(http.get("/v2/", headers=bearer(given)))["error"] == "invalid_token"


# Logins that last


def post(http, **form) -> httpx.Response:
    return http.post("/auth/token", data={"service": SERVICE, "client_id": "tests", **form})


def refused(answer: httpx.Response, status: int, word: str) -> str:
    """RFC 6749's form of an error, with registry:2's in it, since docker prints that."""
    assert answer.status_code == status, answer.text
    found = answer.json()
    assert found["error"] == word
    assert found["errors"][0]["message"] == found["error_description"]
    return found["error_description"]


def test_docker_s_login_gets_a_refresh_token_and_goes_on_with_it(http):
    refresh = ask(http, offline_token="true").json()["refresh_token"]
    answer = post(http, grant_type="refresh_token", refresh_token=refresh, scope="repository:a:pull repository:b:push")
    found = answer.json()
    assert found["scope"] == "repository:a:pull repository:b:push"
    assert answer.headers["Cache-Control"] == "no-store"
    assert said(found["access_token"])["sub"] == "alice"
    assert http.get("/v2/a/tags/list", headers=bearer(found["access_token"])).status_code == 404


def test_a_password_in_a_form_is_as_good_as_in_a_header(http):
    form = {"grant_type": "password", "username": "alice", "password": "secret"}
    found = post(http, **form, scope="repository:a:pull,push").json()
    assert "refresh_token" not in found
    assert http.post("/v2/a/blobs/uploads/", headers=bearer(found["access_token"])).status_code == 202
    assert post(http, **form, access_type="offline").json()["refresh_token"]


def test_neither_token_does_for_the_other(http):
    found = ask(http, offline_token="true").json()
    assert challenge(http.get("/v2/", headers=bearer(found["refresh_token"])))["error"] == "invalid_token"
    refused(post(http, grant_type="refresh_token", refresh_token=found["token"]), 401, "invalid_grant")


@pytest.mark.parametrize(
    ("form", "status", "word"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
        ({"grant_type": ["password", "password"]}, 400, "invalid_request"),
        ({"grant_type": "password", "username": "alice"}, 400, "invalid_request"),
        ({"grant_type": "password", "username": "alice", "password": "wrong"}, 401, "invalid_grant"),
        ({"grant_type": "password", "username": "", "password": ""}, 401, "invalid_grant"),
        ({"grant_type": "password", "username": "alice\0", "password": "secret"}, 401, "invalid_grant"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 401, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x" * 20_000}, 401, "invalid_grant"),
        ({"grant_type": "password", "username": "alice", "password": "secret", "scope": "x"}, 400, "invalid_scope"),
    ],
)
def test_forms_that_give_nothing(http, form, status, word):
    assert refused(http.post("/auth/token", data=form), status, word)


def test_what_is_no_form_is_400_or_413(http):
    refused(http.post("/auth/token", json={"grant_type": "password"}), 400, "invalid_request")
    refused(http.post("/auth/token", data={"a": [str(n) for n in range(500)]}), 400, "invalid_request")
    error(http.post("/auth/token", data={"scope": "x" * 70_000}), 413, "SIZE_INVALID")
    error(http.put("/auth/token"), 405, "UNSUPPORTED")


def test_a_login_ends_when_the_password_changes_or_the_user_goes(tmp_path):
    with Guarded(tmp_path / "data", environment=ENABLED) as server, httpx.Client(base_url=server.url) as http:
        passwords.write(server.users, alice="secret", bob="builder")
        wait_until(lambda: ask(http, auth=("bob", "builder")).status_code == 200, LOOK, "bob is there")
        logins = [
            ask(http, auth=auth, offline_token="true").json()["refresh_token"] for auth in (ALICE, ("bob", "builder"))
        ]

        def count() -> list[int]:
            return [post(http, grant_type="refresh_token", refresh_token=login).status_code for login in logins]

        assert count() == [200, 200]
        passwords.write(server.users, alice="new")
        wait_until(lambda: count() == [401, 401], LOOK, "both have ended")
        answer = post(http, grant_type="refresh_token", refresh_token=logins[0])
        assert "log in again" in refused(answer, 401, "invalid_grant")


# The key


def test_the_key_is_made_once_and_is_its_owner_s_alone(tmp_path):
    with Guarded(tmp_path / "data", environment=ENABLED) as server:
        path = server.root / "swarm-registry/signing-key.pem"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content = path.read_bytes()
        given = httpx.get(server.url + "/auth/token", auth=ALICE).json()["token"]
        server.restart()
        assert path.read_bytes() == content
        assert httpx.get(server.url + "/v2/", headers=bearer(given)).status_code == 200


def test_replicas_on_one_volume_take_each_other_s_tokens(tmp_path):
    """Started at the same moment on an empty volume, and again and again."""
    for attempt in range(3):
        root = tmp_path / str(attempt) / "data"
        root.mkdir(parents=True)
        servers = [Guarded(root, environment=ENABLED) for _ in range(3)]
        for server in servers:
            server.log_path = root.with_name(f"{server.port}.log")
        begun = [_begin(server) for server in servers]
        try:
            for server in servers:
                wait_until(server.is_ready, 30, "it answers")
            given = [httpx.get(server.url + "/auth/token", auth=ALICE).json()["token"] for server in servers]
            for server in servers:
                for one in given:
                    assert httpx.get(server.url + "/v2/", headers=bearer(one)).status_code == 200
            assert not list((root / "swarm-registry/tmp").iterdir())
        finally:
            for process in begun:
                process.kill()
                process.wait()


def _begin(server: Server):
    import subprocess  # noqa: PLC0415

    with server.log_path.open("ab") as log:
        return subprocess.Popen(server.command(), env=server.variables(), stdout=log, stderr=log)


def test_a_key_of_a_secret_signs_and_none_is_made(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(SigningKey.generate().pem())
    path.chmod(0o400)
    settings = {**ENABLED, "REGISTRY_AUTH_TOKENS_KEY": str(path), "REGISTRY_AUTH_TOKENS_LIFETIME": "10m"}
    with Guarded(tmp_path / "data", environment=settings) as server:
        found = httpx.get(server.url + "/auth/token", auth=ALICE).json()
        assert found["expires_in"] == 600
        kid = jwt.get_unverified_header(found["token"])["kid"]
        assert kid == SigningKey.parse(path.read_bytes()).name
        assert not (server.root / "swarm-registry/signing-key.pem").exists()


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_cannot_be_used_stops_the_start_in_one_line(tmp_path, content):
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    settings = {**ENABLED, "REGISTRY_AUTH_TOKENS_KEY": str(path)}
    with pytest.raises(RuntimeError) as stopped:
        Guarded(tmp_path / "data", environment=settings).start()
    assert f"{path}" in str(stopped.value)
    assert "auth.tokens.key" in str(stopped.value)
    assert "Traceback" not in str(stopped.value)


def test_a_key_on_the_volume_that_is_none_stops_the_start(tmp_path):
    path = tmp_path / "data/swarm-registry/signing-key.pem"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"signing-key\.pem: expected the PEM text"):
        Guarded(tmp_path / "data", environment=ENABLED).start()


class InMemory(Guarded):
    def variables(self) -> dict[str, str]:
        found = super().variables() | {"REGISTRY_STORAGE": "inmemory"}
        del found["REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"]
        return found


def test_in_memory_tokens_work_too(tmp_path):
    with InMemory(tmp_path / "data", environment=ENABLED) as server:
        given = httpx.get(server.url + "/auth/token", auth=ALICE).json()["token"]
        assert httpx.get(server.url + "/v2/", headers=bearer(given)).status_code == 200
        assert not list(Path(server.root).iterdir())


def test_a_read_only_volume_without_a_key_is_served(tmp_path):
    settings = {**ENABLED, "REGISTRY_STORAGE_MAINTENANCE_READONLY": json.dumps({"enabled": True})}
    with Guarded(tmp_path / "data", environment=settings) as server:
        given = httpx.get(server.url + "/auth/token", auth=ALICE).json()["token"]
        assert httpx.get(server.url + "/v2/", headers=bearer(given)).status_code == 200
        assert "tokens end with this process" in server.log()


def test_all_workers_take_each_other_s_tokens(tmp_path):
    with Guarded(tmp_path / "data", environment={**ENABLED, "REGISTRY_HTTP_WORKERS": "3"}) as server:
        for _ in range(10):
            given = httpx.get(server.url + "/auth/token", auth=ALICE).json()["token"]
            assert {httpx.get(server.url + "/v2/", headers=bearer(given)).status_code for _ in range(5)} == {200}
