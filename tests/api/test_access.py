"""Who may do what: every row of the table, for whoever has no name, some rights, or all of them."""

import uuid

import httpx
import passwords
import pytest
from answers import error
from images import image
from passwords import Guarded
from remote import Remote

from registry.api.routes import ENDPOINTS, Access

RULES = """[
  {users: anonymous, repositories: "public/**", actions: pull},
  {users: alice, repositories: "**", actions: [pull, push, delete]},
  {groups: builders, repositories: "team/**", actions: [pull, push]},
]"""

MAY = {
    ("nobody", "public/app"): {"pull"},
    ("bob", "public/app"): {"pull"},
    ("bob", "team/app"): {"pull", "push"},
    ("alice", "public/app"): {"pull", "push", "delete"},
    ("alice", "team/app"): {"pull", "push", "delete"},
    ("alice", "other/app"): {"pull", "push", "delete"},
}
CREDENTIALS = {"nobody": None, "bob": ("bob", "builder"), "alice": ("alice", "secret")}
REPOSITORIES = ("public/app", "team/app", "other/app")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("access") / "data"
    variables = {"REGISTRY_AUTH_ACCESS": RULES, "REGISTRY_AUTH_GROUPS": "{builders: [bob, carol]}"}
    server = Guarded(root, environment=variables)
    passwords.write(server.users, alice="secret", bob="builder")
    with server:
        with Remote(server.url) as alice:
            alice.http.auth = CREDENTIALS["alice"]
            for name in REPOSITORIES:
                alice.push(name, image(name, size=1000), "v1")
        yield server
    print(server.log())


def ask(server, who: str, method: str, path: str, **more) -> httpx.Response:
    return httpx.request(method, server.url + path, auth=CREDENTIALS[who], timeout=30, **more)


def is_refused(answer: httpx.Response, who: str) -> bool:
    """With the error and the challenge that clients need."""
    if answer.status_code not in {401, 403}:
        return False
    if who == "nobody":
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="http://')
    elif answer.request.method != "HEAD":
        assert error(answer, 403, "DENIED")
    return True


def filled(path: str, repository: str) -> str:
    digest = "sha256:" + "0" * 64
    return path.format(repository=repository, reference="none", digest=digest, session=uuid.uuid4())


@pytest.mark.parametrize("who", CREDENTIALS)
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
def test_every_row_of_the_table_lets_in_whom_the_rules_name_and_nobody_else(server, endpoint, who):
    for repository in REPOSITORIES if "{repository}" in endpoint.path else ("",):
        allowed = {Access.NONE: True, Access.BASE: who != "nobody", Access.CATALOG: True}
        if repository:
            wanted = {Access.PULL: "pull", Access.PUSH: "push", Access.DELETE: "delete"}[endpoint.access]
            may = wanted in MAY.get((who, repository), set())
        else:
            may = allowed[endpoint.access]
        answer = ask(server, who, endpoint.method, filled(endpoint.path, repository))
        if endpoint.path == "/auth/token":
            assert answer.status_code in {200, 400}
        else:
            assert is_refused(answer, who) is not may, (repository, answer.status_code)


@pytest.mark.parametrize(("who", "hidden"), [("nobody", "team/app"), ("nobody", "other/app"), ("bob", "other/app")])
def test_what_may_not_be_pulled_answers_like_what_is_not_there(server, who, hidden):
    for kind, last in (("manifests", "v1"), ("tags", "list"), ("blobs", "sha256:" + "0" * 64)):
        there = ask(server, who, "GET", f"/v2/{hidden}/{kind}/{last}")
        missing = ask(server, who, "GET", f"/v2/{hidden[:-1]}x/{kind}/{last}")
        assert there.status_code == missing.status_code
        assert there.json() == missing.json()
        assert there.headers.get("WWW-Authenticate", "").replace(hidden, "") == missing.headers.get(
            "WWW-Authenticate", ""
        ).replace(f"{hidden[:-1]}x", "")


@pytest.mark.parametrize(
    ("who", "seen"),
    [("nobody", ["public/app"]), ("bob", ["public/app", "team/app"]), ("alice", sorted(REPOSITORIES))],
)
def test_the_catalog_lists_what_may_be_pulled_in_full_pages(server, who, seen):
    assert ask(server, who, "GET", "/v2/_catalog").json()["repositories"] == seen
    found, path = [], "/v2/_catalog?n=1"
    while path:
        answer = ask(server, who, "GET", path)
        found.append(answer.json()["repositories"])
        path = answer.links["next"]["url"] if "next" in answer.links else ""
    assert found == [[name] for name in seen]


def blob_of(server, repository: str) -> str:
    manifest = ask(server, "alice", "GET", f"/v2/{repository}/manifests/v1", headers={"Accept": "*/*"}).json()
    return str(manifest["layers"][0]["digest"])


@pytest.mark.parametrize(
    ("source", "status"), [("public/app", 201), ("team/app", 201), ("other/app", 202), (None, 202)]
)
def test_a_blob_is_mounted_only_from_where_it_may_be_pulled(server, source, status):
    digest = blob_of(server, source or "other/app")
    query = {"mount": digest} | ({"from": source} if source else {})
    answer = ask(server, "bob", "POST", f"/v2/team/{uuid.uuid4()}/blobs/uploads/", params=query)
    assert answer.status_code == status


def test_a_token_says_what_its_user_may_and_was_asked_for(server):
    def token(who: str, *scopes: str) -> dict[str, str]:
        answer = ask(server, who, "GET", "/auth/token", params={"service": "swarm-registry", "scope": list(scopes)})
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    def status(method: str, path: str, headers: dict[str, str]) -> int:
        return httpx.request(method, server.url + path, headers=headers).status_code

    pushes = token("bob", "repository:team/app:pull,push", "repository:other/app:pull,push")
    assert status("POST", "/v2/team/app/blobs/uploads/", pushes) == 202
    assert status("POST", "/v2/other/app/blobs/uploads/", pushes) == 401
    assert status("GET", "/v2/public/app/manifests/v1", pushes) == 401, "it was not asked for"
    nobody = token("nobody", "repository:public/app:pull,push", "repository:team/app:pull")
    assert status("GET", "/v2/public/app/manifests/v1", nobody) == 200
    assert status("POST", "/v2/public/app/blobs/uploads/", nobody) == 401
    assert status("GET", "/v2/team/app/manifests/v1", nobody) == 401
    catalog = token("bob", "registry:catalog:*")
    listed = httpx.get(server.url + "/v2/_catalog", headers=catalog).json()["repositories"]
    assert listed == ["public/app", "team/app"]


def test_a_wrong_password_is_refused_also_where_none_is_needed(server):
    path = "/v2/public/app/manifests/v1"
    assert httpx.get(server.url + path, auth=("bob", "guess")).status_code == 401
    assert httpx.get(server.url + path).status_code == 200


def test_who_pushes_and_deletes_is_in_the_log_whatever_came_of_it(server):
    with Remote(server.url) as alice:
        alice.http.auth = CREDENTIALS["alice"]
        alice.push("team/audited", image("audited", size=1000), "v1")
    assert ask(server, "bob", "DELETE", "/v2/team/audited/manifests/v1").status_code == 403
    assert ask(server, "alice", "DELETE", "/v2/team/audited/manifests/v1").status_code == 202
    assert ask(server, "nobody", "PUT", "/v2/team/audited/manifests/v1", content=b"{}").status_code == 401
    lines = [line.partition("registry.audit: ")[2] for line in server.log().splitlines() if "team/audited" in line]
    assert [line for line in lines if line] == [
        "push user=alice address=127.0.0.1 repository=team/audited reference=v1 status=201",
        "delete user=bob address=127.0.0.1 repository=team/audited reference=v1 status=403",
        "delete user=alice address=127.0.0.1 repository=team/audited reference=v1 status=202",
        "push user=- address=127.0.0.1 repository=team/audited reference=v1 status=401",
    ]
