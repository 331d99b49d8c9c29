"""`registry read-only`: switched while registries serve, for all of them on a storage, also after a start."""

import json
import os
import subprocess
import sys

import pytest
from answers import error
from images import digest_of, image
from serving import Server, let_others_in

IMAGE = image("read-only", size=100)
SESSION = "6d2e5f4c-0000-4000-8000-000000000000"


def read_only(server: Server, command: str, *flags: str, code: int = 0, **settings: str) -> str:
    """Run the command on a server's storage, with its settings, as in its container."""
    ended = subprocess.run(
        [sys.executable, "-m", "registry", "read-only", command, *flags],
        env=server.variables() | settings,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout + ended.stderr


def tree(server: Server) -> dict[str, tuple[int, int]]:
    """Every file of registry:2's tree, with its size and when it was changed."""
    found = {}
    for path in (server.root / "docker").rglob("*"):
        stat = path.stat()
        found[str(path)] = (stat.st_size, stat.st_mtime_ns)
    return found


def test_clients_change_nothing_while_it_is_on_and_pull_as_before(serve, connect):
    server = serve()
    remote = connect(server)
    remote.push("some/name", IMAGE, "latest")
    session = remote.begin("some/name")
    assert remote.http.patch(session, content=b"01234").status_code == 202
    assert read_only(server, "status") == "read-only: off\n"
    assert read_only(server, "on").startswith("read-only: on, since 2")
    before = tree(server)
    layer = IMAGE.layers[0].digest
    for method, path, content in (
        ("POST", "/v2/some/name/blobs/uploads/", None),
        ("POST", f"/v2/some/name/blobs/uploads/?digest={digest_of(b'x')}", b"x"),
        ("POST", f"/v2/other/name/blobs/uploads/?mount={layer}&from=some/name", None),
        ("GET", session, None),
        ("PATCH", session, b"56789"),
        ("PUT", f"{session}?digest={digest_of(b'01234')}", None),
        ("DELETE", session, None),
        ("PUT", "/v2/some/name/manifests/other", IMAGE.manifest.data),
        ("DELETE", "/v2/some/name/manifests/latest", None),
        ("DELETE", f"/v2/some/name/manifests/{IMAGE.digest}", None),
        ("DELETE", f"/v2/some/name/blobs/{layer}", None),
    ):
        answer = remote.http.request(method, path, content=content)
        assert "registry read-only on" in error(answer, 405, "UNSUPPORTED")["message"], (method, path)
    assert tree(server) == before
    remote.holds("some/name", IMAGE, "latest")
    assert remote.tags("some/name") == ["latest"]
    assert read_only(server, "off") == "read-only: off\n"
    closed = remote.http.put(session, params={"digest": digest_of(b"0123456789")}, content=b"56789")
    assert closed.status_code == 201  # the upload goes on where it was
    remote.delete_manifest("some/name", "latest")


def test_the_request_that_is_being_answered_comes_to_its_end(serve, connect):
    server = serve()
    remote = connect(server)
    session = remote.begin("some/name")

    def body():
        yield b"a" * 100_000
        read_only(server, "on")
        yield b"b" * 100_000

    assert remote.http.patch(session, content=body()).headers["Range"] == "0-199999"
    assert remote.http.patch(session, content=b"c").status_code == 405
    read_only(server, "off")
    assert remote.http.patch(session, content=b"c").headers["Range"] == "0-200000"


def test_it_holds_for_every_registry_on_the_storage_and_after_a_start(serve, connect):
    first, second = serve(), serve()
    connect(first).push_blob("some/name", b"a blob")
    read_only(first, "on")
    for server in first, second:
        assert connect(server).http.post("/v2/some/name/blobs/uploads/").status_code == 405
    second.restart()
    assert "read-only, since 2" in second.log()
    assert connect(second).http.post("/v2/some/name/blobs/uploads/").status_code == 405
    read_only(second, "off")
    for server in first, second:
        connect(server).push_blob("some/name", b"another")
    second.kill()


def test_on_twice_keeps_its_time_and_off_twice_is_no_error(serve):
    server = serve()
    once = read_only(server, "on")
    mark = server.root / "swarm-registry" / "read-only"
    mark.write_text("2020-01-01T00:00:00Z\n")
    assert read_only(server, "on") == read_only(server, "status") != once
    assert [read_only(server, "off") for _ in range(2)] == ["read-only: off\n"] * 2
    assert not mark.exists()


def test_json_for_scripts(serve):
    server = serve()
    switched = json.loads(read_only(server, "on", "--json"))
    assert switched == {"read_only": True, "switched_on": switched["switched_on"], "configured": False}
    assert switched["switched_on"].endswith("Z")
    off = {"read_only": False, "switched_on": None, "configured": False}
    assert json.loads(read_only(server, "off", "--json")) == json.loads(read_only(server, "status", "--json")) == off


def test_the_setting_still_counts_when_the_switch_is_off(serve):
    """Exit status 1: a script that wants to push next must not go on."""
    server = serve()
    setting = {"REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED": "true"}
    told = read_only(server, "off", code=1, **setting)
    assert "read-only: on, by storage.maintenance.readonly.enabled" in told
    assert "SIGHUP" in told
    status = json.loads(read_only(server, "status", "--json", **setting))
    assert status == {"read_only": True, "switched_on": None, "configured": True}


def test_garbage_is_collected_all_the_same(serve, connect):
    """It is the administrator's own doing, and read-only mode is what registry:2 wants for it."""
    server = serve()
    connect(server).push("some/name", IMAGE, "latest")
    read_only(server, "on")
    ended = subprocess.run(
        [sys.executable, "-m", "registry", "garbage-collect"],
        env=server.variables(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_a_mark_without_content_counts_too(serve, connect):
    """What a power cut can leave of it must not let anybody write."""
    server = serve()
    read_only(server, "on")
    (server.root / "swarm-registry" / "read-only").write_text("")
    assert connect(server).http.post("/v2/some/name/blobs/uploads/").status_code == 405
    assert read_only(server, "status").startswith("read-only: on, since an unknown time")


def test_a_mark_that_cannot_be_read_lets_nobody_write(serve, connect):
    """In doubt, no."""
    server = serve()
    mark = server.root / "swarm-registry" / "read-only"
    mark.symlink_to("read-only")
    assert connect(server).http.post("/v2/some/name/blobs/uploads/").status_code == 500


def test_where_no_registry_was_served_from_it_is_an_error(tmp_path):
    server = Server(tmp_path / "data")
    server.root.mkdir()
    for command in "on", "off", "status":
        assert "no registry was served from" in read_only(server, command, code=1)
    assert list(server.root.iterdir()) == []


def test_what_is_in_memory_cannot_be_switched_from_outside(tmp_path):
    server = Server(tmp_path / "data", environment={"REGISTRY_STORAGE": "inmemory"})
    variables = server.variables()
    del variables["REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"]
    server.variables = lambda: variables
    assert "SIGHUP" in read_only(server, "on", code=2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_run_by_root_in_a_container_the_mark_belongs_to_the_owner_of_the_storage(serve):
    server = serve()
    for path in (server.root, *server.root.rglob("*")):
        os.chown(path, 1234, 1234)
    let_others_in(server.root.parent)
    read_only(server, "on", SWARM_REGISTRY_USER="65532")
    found = (server.root / "swarm-registry" / "read-only").stat()
    assert (found.st_uid, found.st_gid) == (1234, 1234)
    read_only(server, "off", SWARM_REGISTRY_USER="65532")
