"""The addresses that answers carry, by `http.host`, `http.relativeurls` and `http.prefix`."""

import http.client
from urllib.parse import urlsplit

import pytest
from answers import error
from images import digest_of, index
from remote import Remote
from serving import Server

DATA = b"a small blob"
DIGEST = digest_of(DATA)
TOP = index()  # of nothing: the smallest thing that can be tagged


class BelowHub(Server):
    """A registry that must be asked below /hub."""

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request("GET", "/hub/v2/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def locations(remote, prefix="", **headers):
    """The Location of each answer that has one: of a session (begun, patched, asked), a blob and a manifest."""
    begun = remote.http.post(f"{prefix}/v2/some/name/blobs/uploads/", headers=headers)
    here = urlsplit(begun.headers["Location"]).path
    patched = remote.http.patch(here, content=DATA, headers=headers)
    asked = remote.http.get(here, headers=headers)
    closed = remote.http.put(here, params={"digest": DIGEST}, headers=headers)
    mounted = remote.http.post(
        f"{prefix}/v2/some/other/blobs/uploads/", params={"mount": DIGEST, "from": "some/name"}, headers=headers
    )
    tagged = remote.http.put(
        f"{prefix}/v2/some/name/manifests/latest",
        content=TOP.manifest.data,
        headers={**headers, "Content-Type": TOP.manifest.media_type},
    )
    answers = [begun, patched, asked, closed, mounted, tagged]
    assert [answer.status_code for answer in answers] == [202, 202, 204, 201, 201, 201]
    return [answer.headers["Location"] for answer in answers]


def are_below(found: list[str], start: str) -> bool:
    session, same, again, blob, mounted, manifest = found
    assert session == same == again
    assert blob == f"{start}/v2/some/name/blobs/{DIGEST}"
    assert mounted == f"{start}/v2/some/other/blobs/{DIGEST}"
    assert manifest == f"{start}/v2/some/name/manifests/{TOP.digest}"
    return session.startswith(f"{start}/v2/some/name/blobs/uploads/")


def test_locations_are_paths_so_that_they_are_right_behind_every_proxy(serve, connect):
    """Whatever the client or a proxy says of hosts and schemes."""
    lies = {"Host": "elsewhere", "X-Forwarded-Host": "elsewhere", "X-Forwarded-Proto": "https"}
    assert are_below(locations(connect(serve()), **lies), "")


def test_with_a_host_set_locations_begin_with_it(serve, connect):
    remote = connect(serve(REGISTRY_HTTP_HOST="https://registry.example.com:8443/"))
    assert are_below(locations(remote, Host="elsewhere"), "https://registry.example.com:8443")


def test_with_a_host_and_a_prefix_set_locations_begin_with_both(serve, connect):
    remote = connect(serve(BelowHub, REGISTRY_HTTP_PREFIX="/hub/", REGISTRY_HTTP_HOST="https://registry.example.com"))
    assert are_below(locations(remote, "/hub"), "https://registry.example.com/hub")


@pytest.mark.parametrize(
    ("headers", "start"),
    [
        ({}, "{url}"),
        ({"Host": "registry.example:5000"}, "http://registry.example:5000"),
        ({"X-Forwarded-Proto": "https"}, "https://{address}"),
        ({"X-Forwarded-Host": "registry.example"}, "http://registry.example"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "outer.example"}, "https://outer.example"),
        ({"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "outer.example, inner"}, "https://outer.example"),
    ],
)
def test_without_relative_urls_locations_begin_as_the_client_sees_the_registry(absolute, headers, start):
    """The first of several proxies is the one that the client spoke to."""
    server, remote = absolute
    assert are_below(locations(remote, **headers), start.format(url=server.url, address=server.address))


@pytest.fixture(scope="module")
def absolute(tmp_path_factory):
    root = tmp_path_factory.mktemp("absolute") / "data"
    with Server(root, environment={"REGISTRY_HTTP_RELATIVEURLS": "false"}) as server, Remote(server.url) as remote:
        yield server, remote


@pytest.mark.parametrize("prefix", ["/hub/", "hub", "/hub"])
def test_with_a_prefix_everything_is_below_it_and_nothing_beside_it(serve, connect, prefix):
    remote = connect(serve(BelowHub, REGISTRY_HTTP_PREFIX=prefix))
    assert remote.http.get("/hub/v2/").status_code == 200
    assert are_below(locations(remote, "/hub"), "/hub")
    for path in "/v2/", "/v2/_catalog", "/v2/some/name/tags/list", "/hubv2/", "/v2/hub/v2/":
        error(remote.http.get(path), 404, "UNSUPPORTED")


def test_with_a_prefix_the_root_still_answers_health_checks(serve, connect):
    """As registry:2's does."""
    remote = connect(serve(BelowHub, REGISTRY_HTTP_PREFIX="/hub/"))
    assert (remote.http.get("/").status_code, remote.http.get("/").content) == (200, b"")


def test_with_a_prefix_the_root_still_says_whether_it_is_alive_and_ready(serve, connect):
    remote = connect(serve(BelowHub, REGISTRY_HTTP_PREFIX="/hub/"))
    assert remote.http.get("/healthz").json() == {"status": "alive"}
    assert remote.http.get("/readyz").json() == {"status": "ready"}


def test_with_a_prefix_links_to_the_next_page_have_it(serve, connect):
    remote = connect(serve(BelowHub, REGISTRY_HTTP_PREFIX="/hub/"))
    locations(remote, "/hub")
    for name in "some/name", "some/second":
        content, kind = TOP.manifest.data, TOP.manifest.media_type
        for tag in "one", "two":
            path = f"/hub/v2/{name}/manifests/{tag}"
            assert remote.http.put(path, content=content, headers={"Content-Type": kind}).status_code == 201
    for path in "/hub/v2/_catalog", "/hub/v2/some/name/tags/list":
        answer = remote.http.get(path, params={"n": 1})
        following = answer.links["next"]["url"]
        assert following.startswith(f"{path}?")
        assert remote.http.get(following).status_code == 200
