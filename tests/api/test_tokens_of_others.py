"""Tokens of another server, as registry:2 and registry:3 take them: what they say decides alone."""

import json
import time

import httpx
import issuing
import pytest
from answers import error
from images import image
from issuing import ISSUER, KEYS, SERVICE, TokenServer, certificate, chain, claims, jwk, on, pem, sign
from remote import Remote
from serving import PeerRegistry, Server, executable, wait_until
from test_token_service import bearer, challenge

from registry.auth.jws import fingerprint, thumbprint

KID = fingerprint(KEYS["ES256"].public_key())
REALM = "https://auth.example.com/token"
LOOK = 10


def variables(**files) -> dict[str, str]:
    return {
        "REGISTRY_AUTH": "token",
        "REGISTRY_AUTH_TOKEN_REALM": REALM,
        "REGISTRY_AUTH_TOKEN_SERVICE": SERVICE,
        "REGISTRY_AUTH_TOKEN_ISSUER": ISSUER,
        **{f"REGISTRY_AUTH_TOKEN_{name.upper()}": str(path) for name, path in files.items()},
    }


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """With a bundle and a key set at once."""
    directory = tmp_path_factory.mktemp("others")
    (directory / "bundle.pem").write_bytes(pem(*(certificate(KEYS[name], name) for name in ("RS256", "ES256"))))
    (directory / "jwks.json").write_text(json.dumps({"keys": [jwk("ES384", "key-1"), jwk("EdDSA", "key-2")]}))
    settings = variables(rootcertbundle=directory / "bundle.pem", jwks=directory / "jwks.json")
    with Server(directory / "data", environment=settings) as server:
        yield server
    assert "Traceback" not in server.log()


@pytest.fixture
def http(served):
    with httpx.Client(base_url=served.url) as client:
        yield client


def status(http, text: str, path: str = "/v2/some/name/tags/list", method: str = "GET") -> int:
    return http.request(method, path, headers=bearer(text)).status_code


def test_clients_are_sent_to_the_other_server(http):
    assert challenge(http.get("/v2/")) == {"realm": REALM, "service": SERVICE}
    assert challenge(http.post("/v2/a/blobs/uploads/"))["scope"] == "repository:a:pull,push"
    error(http.get("/auth/token"), 404, "UNSUPPORTED")


@pytest.mark.parametrize(
    ("algorithm", "header"),
    [
        ("ES256", {"kid": KID}),
        ("RS256", {"kid": fingerprint(KEYS["RS256"].public_key())}),
        ("RS512", {"kid": thumbprint(KEYS["RS256"].public_key())}),
        ("PS256", {"kid": fingerprint(KEYS["RS256"].public_key())}),
        ("ES384", {"kid": "key-1"}),
        ("EdDSA", {"kid": "key-2"}),
    ],
)
def test_a_token_of_a_known_key_counts(http, algorithm, header):
    assert status(http, sign(claims(on("some/name", "pull")), algorithm, **header)) == 404


def test_a_token_with_a_chain_counts(tmp_path):
    root = certificate(KEYS["RS256"], "root", authority=True)
    leaf = certificate(KEYS["ES256"], "leaf", by=KEYS["RS256"], issuer="root")
    (tmp_path / "bundle.pem").write_bytes(pem(root))
    settings = variables(rootcertbundle=tmp_path / "bundle.pem")
    with Server(tmp_path / "data", environment=settings) as server, httpx.Client(base_url=server.url) as http:
        assert status(http, sign(claims(on("some/name", "pull")), x5c=chain(leaf))) == 404
        assert status(http, sign(claims(on("some/name", "pull")), x5c=chain(certificate(KEYS["ES256"])))) == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "somebody"}, {"aud": "another"}, {"exp": time.time() - 100}, {"nbf": time.time() + 1000}, {"exp": None},
    ],
)  # fmt: skip
def test_a_token_that_does_not_count_is_challenged(http, wrong):
    given = sign(claims(on("some/name", "pull"), **wrong), kid=KID)
    assert challenge(http.get("/v2/", headers=bearer(given)))["error"] == "invalid_token"


def test_a_password_is_not_taken(http):
    assert challenge(http.get("/v2/", auth=("alice", "secret"))) == {"realm": REALM, "service": SERVICE}


def test_what_the_token_says_decides_alone(http):
    given = sign(claims(on("a", "pull"), on("b", "pull", "push"), on("c", "delete"), on("d", "*")), kid=KID)
    missing = "sha256:" + "0" * 64
    for method, path, expected in [
        ("GET", "/v2/", 200),
        ("GET", "/v2/a/tags/list", 404),
        ("POST", "/v2/a/blobs/uploads/", 401),
        ("POST", "/v2/b/blobs/uploads/", 202),
        ("DELETE", f"/v2/b/blobs/{missing}", 401),
        ("DELETE", f"/v2/c/blobs/{missing}", 404),
        ("GET", "/v2/c/tags/list", 401),
        ("DELETE", f"/v2/d/blobs/{missing}", 404),
        ("POST", "/v2/d/blobs/uploads/", 202),
        ("GET", "/v2/_catalog", 401),
    ]:
        assert status(http, given, path, method) == expected, (method, path)
    assert challenge(http.get("/v2/_catalog", headers=bearer(given)))["error"] == "insufficient_scope"
    listing = sign(claims(on("catalog", "*", kind="registry")), kid=KID)
    assert status(http, listing, "/v2/_catalog") == 200


def test_an_image_is_pushed_and_pulled(served):
    pushed = image("others", size=1000)
    with Remote(served.url) as remote:
        remote.http.headers.update(bearer(sign(claims(on("some/image", "pull", "push")), kid=KID)))
        remote.push("some/image", pushed, "latest")
        remote.holds("some/image", pushed, "latest")


def test_a_blob_is_mounted_only_from_where_the_token_may_pull(served):
    """Otherwise whoever knows a digest could have the blob of any repository."""
    pushed = image("mounted", size=1000)
    digest = pushed.blobs[0].digest
    with Remote(served.url) as remote:
        remote.http.headers.update(bearer(sign(claims(on("theirs", "pull", "push")), kid=KID)))
        remote.push("theirs", pushed, "latest")
    mine = bearer(sign(claims(on("mine", "pull", "push"), on("catalog", "*", kind="registry")), kid=KID))
    both = bearer(sign(claims(on("mine", "pull", "push"), on("theirs", "pull")), kid=KID))
    with httpx.Client(base_url=served.url) as http:
        for query, headers, expected in [
            ({"from": "theirs"}, mine, 202),
            ({}, mine, 202),
            ({}, both, 202),
            ({"from": "theirs"}, both, 201),
        ]:
            answer = http.post("/v2/mine/blobs/uploads/", params={"mount": digest, **query}, headers=headers)
            assert answer.status_code == expected, (query, answer.text)


def test_only_the_configured_algorithms_count(tmp_path):
    (tmp_path / "bundle.pem").write_bytes(pem(certificate(KEYS["RS256"]), certificate(KEYS["ES256"])))
    settings = variables(rootcertbundle=tmp_path / "bundle.pem", signingalgorithms="[ES256]")
    with Server(tmp_path / "data", environment=settings) as server, httpx.Client(base_url=server.url) as http:
        assert status(http, sign(claims(), kid=KID), "/v2/") == 200
        assert status(http, sign(claims(), "RS256", kid=fingerprint(KEYS["RS256"].public_key())), "/v2/") == 401


def test_a_key_that_is_taken_out_counts_no_more_without_a_restart(tmp_path):
    """Also for tokens that were right before."""
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps({"keys": [jwk("ES256", "old")]}))
    old, newer = sign(claims(), kid="old"), sign(claims(), "ES384", kid="newer")
    settings = variables(jwks=keys)
    with Server(tmp_path / "data", environment=settings) as server, httpx.Client(base_url=server.url) as http:
        assert (status(http, old, "/v2/"), status(http, newer, "/v2/")) == (200, 401)
        keys.write_text(json.dumps({"keys": [jwk("ES384", "newer")]}))
        wait_until(lambda: status(http, newer, "/v2/") == 200, LOOK, "the new key counts")
        assert status(http, old, "/v2/") == 401
        keys.write_text("{")
        wait_until(lambda: status(http, newer, "/v2/") and "keys of before" in server.log(), LOOK, "it is told")
        assert status(http, newer, "/v2/") == 200


@pytest.mark.parametrize("kind", ["rootcertbundle", "jwks"])
@pytest.mark.parametrize("content", [None, b"", b"x"])
def test_files_that_cannot_be_used_stop_the_start_in_one_line(tmp_path, kind, content):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RuntimeError) as stopped:
        Server(tmp_path / "data", environment=variables(**{kind: path})).start()
    assert f"auth.token: {'' if content is not None else 'cannot read '}{path}: " in str(stopped.value)
    assert "Traceback" not in str(stopped.value)


def test_registry_2_challenges_alike_and_takes_the_same_tokens(tmp_path):
    """Its configuration works unchanged: the same bundle, the same answers."""
    executable("docker-registry")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(pem(certificate(KEYS["ES256"])))
    tokens = [
        sign(claims(on("a", "pull")), kid=KID),
        sign(claims(on("a", "pull", "push")), kid=KID),
        sign(claims(on("a", "*")), kid=KID),
        sign(claims(on("b", "pull")), kid=KID),
        sign(claims(on("a", "pull"), iss="other"), kid=KID),
        sign(claims(on("a", "pull"), aud="other"), kid=KID),
        sign(claims(on("a", "pull"), exp=int(time.time()) - 30), kid=KID),
        sign(claims(on("a", "pull"), exp=int(time.time()) - 120), kid=KID),
        sign(claims(on("a", "pull")), kid="AAAA"),
        sign(claims(on("a", "pull")), "ES384", kid=KID),
    ]
    asked = [
        ("GET", "/v2/"),
        ("GET", "/v2/a/tags/list"),
        ("POST", "/v2/a/blobs/uploads/"),
        ("GET", "/v2/_catalog"),
        ("DELETE", "/v2/a/manifests/sha256:" + "0" * 64),
    ]
    answers = []
    for kind in PeerRegistry, Server:
        with kind(tmp_path / kind.__name__, environment=variables(rootcertbundle=bundle)) as server:
            found = {}
            for method, path in asked:
                for which, headers in enumerate([{}, *map(bearer, tokens)]):
                    answer = httpx.request(method, server.url + path, headers=headers)
                    shown = answer.headers.get("WWW-Authenticate", "").replace("push,pull", "pull,push")  # in any order
                    found[method, path, which] = (answer.status_code, shown)
            answers.append(found)
    assert answers[1] == answers[0]


def test_a_token_server_that_signs_is_asked_and_believed(tmp_path):
    """From the challenge to the answer, with a server that is one."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(pem(certificate(KEYS["RS256"])))
    header = {"kid": fingerprint(KEYS["RS256"].public_key())}
    allowed = {"alice": {"*": {"pull", "push"}}, "": {"open/image": {"pull"}}}
    with TokenServer(allowed, {"alice": "secret"}, "RS256", header) as issuer:
        settings = issuing.variables(issuer, rootcertbundle=bundle)
        with Server(tmp_path / "data", environment=settings) as server:
            for path, auth, expected in [
                ("/v2/open/image/tags/list", None, 404),
                ("/v2/other/image/tags/list", None, 401),
                ("/v2/other/image/tags/list", ("alice", "secret"), 404),
            ]:
                asked = challenge(httpx.get(server.url + path))
                wanted = {"service": asked["service"], "scope": asked["scope"]}
                given = httpx.get(asked["realm"], params=wanted, auth=auth).json()["token"]
                assert httpx.get(server.url + path, headers=bearer(given)).status_code == expected
