"""Settings that forbid or change something: what is refused names the setting."""

import socket

import httpx
import pytest
from answers import error
from images import artifact, digest_of, image, noise
from remote import Remote
from serving import Server

IMAGE = image("policies", size=100)
REFERRER = artifact("policies", "application/vnd.example.sbom", subject=IMAGE.manifest)
LAYER = IMAGE.layers[0].digest
SESSION = "6d2e5f4c-0000-4000-8000-000000000000"


def is_refused(answer: httpx.Response, setting: str) -> None:
    assert setting in error(answer, 405, "UNSUPPORTED")["message"]
    assert answer.request.method not in answer.headers["Allow"].split(", ")


def pulls(remote: Remote) -> None:
    """Whatever reads still works."""
    remote.holds("some/name", IMAGE, "latest")
    assert remote.tags("some/name") == ["latest"]
    assert remote.catalog() == ["some/name"]
    assert [entry["digest"] for entry in remote.referrers("some/name", IMAGE.digest)] == [REFERRER.digest]


# Deletes


def test_deletes_are_on_unless_the_settings_say_otherwise(http, remote, repository):
    """registry:2 has them off, and its users wonder why."""
    remote.push(repository, IMAGE, "latest")
    remote.delete_manifest(repository, "latest")


def test_with_deletes_off_they_are_405_and_everything_else_works(serve, connect):
    remote = connect(serve(REGISTRY_STORAGE_DELETE_ENABLED="false"))
    remote.push("some/name", IMAGE, "latest")
    remote.push("some/name", REFERRER)
    for path in f"manifests/{IMAGE.digest}", "manifests/latest", f"blobs/{LAYER}":
        is_refused(remote.http.delete(f"/v2/some/name/{path}"), "storage.delete.enabled")
    pulls(remote)
    assert remote.mount("other/name", LAYER, "some/name") == 201
    location = remote.begin("some/name")
    assert remote.http.get(location).status_code == 204
    assert remote.http.delete(location).status_code == 204  # what was never pushed may be given up


# Read-only


@pytest.fixture
def readonly(serve, connect):
    server = serve()
    remote = connect(server)
    remote.push("some/name", IMAGE, "latest")
    remote.push("some/name", REFERRER)
    server.stop()
    server.environment["REGISTRY_STORAGE_MAINTENANCE_READONLY"] = "{enabled: true}"
    server.start()
    return remote


def test_read_only_refuses_whatever_writes_and_answers_whatever_reads(readonly):
    pulls(readonly)
    body = IMAGE.manifest.data
    for method, path, content in (
        ("POST", "blobs/uploads/", None),
        ("POST", f"blobs/uploads/?digest={digest_of(b'x')}", b"x"),
        ("POST", f"blobs/uploads/?mount={LAYER}", None),
        ("GET", f"blobs/uploads/{SESSION}", None),
        ("PATCH", f"blobs/uploads/{SESSION}", b"x"),
        ("PUT", f"blobs/uploads/{SESSION}?digest={LAYER}", b"x"),
        ("DELETE", f"blobs/uploads/{SESSION}", None),
        ("PUT", "manifests/latest", body),
        ("PUT", f"manifests/{IMAGE.digest}?tag=other", body),
        ("DELETE", "manifests/latest", None),
        ("DELETE", f"manifests/{IMAGE.digest}", None),
        ("DELETE", f"blobs/{LAYER}", None),
    ):
        answer = readonly.http.request(method, f"/v2/some/name/{path}", content=content)
        is_refused(answer, "storage.maintenance.readonly")
    pulls(readonly)


# Room


def test_a_disk_below_its_floor_refuses_pushes_and_serves_pulls(serve, connect):
    """403 DENIED: docker prints the text, and does not try again."""
    server = serve()
    remote = connect(server)
    remote.push("some/name", IMAGE, "latest")
    remote.push("some/name", REFERRER)
    session = remote.begin("some/name")
    server.stop()
    server.environment["REGISTRY_STORAGE_FILESYSTEM_MINFREESPACE"] = "1000000TiB"
    server.start()
    for answer in (
        remote.http.post("/v2/some/name/blobs/uploads/"),
        remote.http.post(f"/v2/some/name/blobs/uploads/?digest={digest_of(b'x')}", content=b"x"),
        remote.http.patch(session, content=b"x"),
        remote.http.put(session, params={"digest": digest_of(b"x")}, content=b"x"),
    ):
        told = error(answer, 403, "DENIED")
        assert "storage.filesystem.minfreespace" in told["message"]
        assert told["detail"].keys() >= {"free", "floor"}
    pulls(remote)
    remote.delete_manifest("some/name", "latest")  # so that there is a way out


# Memory


class InMemory(Server):
    """A registry that forgets everything when it stops."""

    def variables(self) -> dict[str, str]:
        variables = super().variables() | {"REGISTRY_STORAGE": "inmemory"}
        del variables["REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"]
        return variables


def test_in_memory_everything_works_and_nothing_is_written(serve, connect):
    server = serve(InMemory)
    remote = connect(server)
    data = noise("in memory", 3 * 1024 * 1024)
    digest = remote.push_blob("some/name", data)
    remote.push("some/name", IMAGE, "latest")
    remote.push("some/name", REFERRER)
    pulls(remote)
    assert remote.blob("some/name", digest) == data
    path = f"/v2/some/name/blobs/{digest}"
    assert remote.http.get(path, headers={"Range": "bytes=-5"}).content == data[-5:]
    assert remote.http.get(path, headers={"Range": "bytes=0-4,9-9"}).status_code == 206
    session = remote.begin("some/name")
    assert remote.http.patch(session, content=b"01234").headers["Range"] == "0-4"
    assert remote.http.put(session, params={"digest": digest_of(b"0123456789")}, content=b"56789").status_code == 201
    assert remote.mount("other/name", LAYER, "some/name") == 201
    for path in f"manifests/{REFERRER.digest}", f"blobs/{digest}", "manifests/latest":
        assert remote.http.delete(f"/v2/some/name/{path}").status_code == 202
    assert remote.referrers("some/name", IMAGE.digest) == []
    assert list(server.root.iterdir()) == []
    server.restart()
    assert remote.catalog() == []


# HTTP


def test_configured_headers_are_on_every_answer(serve, connect):
    """What a page of another origin, such as a registry browser, needs (CORS)."""
    settings = {
        "Access-Control-Allow-Origin": "['https://ui.example']",
        "Access-Control-Allow-Methods": "[HEAD, GET, OPTIONS, DELETE]",
        "Access-Control-Expose-Headers": "[Docker-Content-Digest]",
    }
    remote = connect(serve(**{f"REGISTRY_HTTP_HEADERS_{name}": value for name, value in settings.items()}))
    for method, path in ("GET", "/v2/"), ("OPTIONS", "/v2/_catalog"), ("GET", "/v2/no"), ("POST", "/v2/"):
        headers = remote.http.request(method, path).headers
        assert headers["Access-Control-Allow-Origin"] == "https://ui.example"
        assert headers.get_list("Access-Control-Allow-Methods") == ["HEAD", "GET", "OPTIONS", "DELETE"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Docker-Distribution-Api-Version"] == "registry/2.0"


class OnASocket(Server):
    """A registry on a unix socket beside its tree."""

    @property
    def socket(self) -> str:
        return str(self.root.with_name("s"))

    def variables(self) -> dict[str, str]:
        return super().variables() | {"REGISTRY_HTTP_NET": "unix", "REGISTRY_HTTP_ADDR": self.socket}

    def is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.socket)
            except OSError:
                return False
        return True


def test_a_unix_socket_serves_like_a_port(tmp_path_factory):
    """And one that a killed server left behind is no obstacle."""
    with OnASocket(tmp_path_factory.mktemp("u") / "data") as server:
        server.kill()
        server.start()
        with httpx.Client(transport=httpx.HTTPTransport(uds=server.socket), base_url="http://registry") as client:
            data = noise("socket", 2 * 1024 * 1024)
            answer = client.post("/v2/some/name/blobs/uploads/", params={"digest": digest_of(data)}, content=data)
            assert answer.status_code == 201
            assert client.get(answer.headers["Location"]).content == data
        assert server.stop() == 0


def test_a_unix_socket_on_which_a_server_answers_is_left_to_it(tmp_path_factory):
    directory = tmp_path_factory.mktemp("u")
    with OnASocket(directory / "data") as first:
        second = OnASocket(directory / "data")
        second.is_ready = lambda: False
        with pytest.raises(RuntimeError, match=r"http\.addr: cannot listen on .*: Address already in use"):
            second.start()
        with httpx.Client(transport=httpx.HTTPTransport(uds=first.socket), base_url="http://registry") as client:
            assert client.get("/v2/").status_code == 200


def test_the_access_log_has_a_line_for_each_request_unless_it_is_off(serve, connect):
    server = serve()
    assert connect(server).http.get("/v2/some/name/tags/list").status_code == 404
    assert '"GET /v2/some/name/tags/list HTTP/1.1" 404' in server.log()
    server.stop()
    server.environment["REGISTRY_LOG_ACCESSLOG_DISABLED"] = "true"
    server.start()
    assert connect(server).http.get("/v2/quiet/name/tags/list").status_code == 404
    assert "quiet/name" not in server.log()
