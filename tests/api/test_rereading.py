"""SIGHUP: what a registry takes over while it serves, and what it only tells of."""

import os
import pty
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from answers import error
from https import Https, Pair, client, pair
from serving import Server, let_others_in, wait_until

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


class Configured(Server):
    """A registry with a configuration file, at the place where `serve` looks for one first."""

    @property
    def file(self) -> Path:
        return self.root.with_name("config.yml")

    def command(self) -> list[str]:
        return [*super().command(), str(self.file)]

    def write(self, text: str) -> None:
        self.file.write_text(f"version: 0.1\n{text}")

    def hang_up(self, until: str) -> None:
        """Send SIGHUP, and wait until each process that serves has said so in the log."""
        enough = self.log().count(until) + self.workers()
        os.kill(self.pid, signal.SIGHUP)
        wait_until(lambda: self.log().count(until) >= enough, 10, f"{until!r} in the log:\n{self.log()}")

    def workers(self) -> int:
        return len(self.processes()) - 1 or 1


READ_ONLY = "storage: {maintenance: {readonly: {enabled: %s}}}\n"


@pytest.fixture
def configured(tmp_path):
    server = Configured(tmp_path / "data")
    server.write(READ_ONLY % "false")
    with server:
        yield server
    print(server.log())


def test_read_only_mode_goes_on_and_off_with_the_configuration(configured, connect):
    remote = connect(configured)
    digest = remote.push_blob("some/name", b"before")
    session = remote.begin("some/name")
    configured.write(READ_ONLY % "true")
    configured.hang_up("read-only: on")
    told = error(remote.http.post("/v2/some/name/blobs/uploads/"), 405, "UNSUPPORTED")
    assert "storage.maintenance.readonly" in told["message"]
    assert error(remote.http.patch(session, content=b"x"), 405, "UNSUPPORTED")
    assert remote.blob("some/name", digest) == b"before"
    configured.write(READ_ONLY % "false")
    configured.hang_up("read-only: off")
    assert remote.http.patch(session, content=b"x").status_code == 202
    remote.push_blob("some/name", b"after")


def test_a_registry_that_began_read_only_takes_pushes_once_it_may(tmp_path, connect):
    server = Configured(tmp_path / "data")
    server.write(READ_ONLY % "true")
    with server:
        remote = connect(server)
        assert remote.http.post("/v2/some/name/blobs/uploads/").status_code == 405
        assert list(server.root.iterdir()) == []
        server.write(READ_ONLY % "false")
        server.hang_up("read-only: off")
        remote.push_blob("some/name", b"a blob")
        assert (server.root / "swarm-registry" / "volume-id").exists()


def test_a_configuration_with_mistakes_changes_nothing(configured, connect):
    remote = connect(configured)
    configured.write(READ_ONLY % "true" + "http: {draintimout: 3s}\n")
    configured.hang_up("configuration: read again, and not taken over: http.draintimout: unknown key")
    remote.push_blob("some/name", b"a blob")
    configured.file.unlink()
    configured.hang_up("configuration: read again, and not taken over: ")
    remote.push_blob("some/name", b"another")
    assert "Traceback" not in configured.log()


def test_all_else_that_has_changed_is_named_and_waits_for_a_start(configured, connect):
    configured.write(READ_ONLY % "true" + "http: {secret: s3cret, prefix: /hub/}\nlog: {level: debug}\n")
    configured.hang_up("read-only: on")
    lines = [line for line in configured.log().splitlines() if "counts from the next start on" in line]
    assert len(lines) == configured.workers()
    assert all(line.endswith("from the next start on: log.level, http.prefix, http.secret") for line in lines)
    assert "s3cret" not in configured.log()
    assert connect(configured).http.get("/v2/").status_code == 200


def test_without_a_change_it_is_one_line_of_the_log_of_each_process(configured):
    before = len(configured.log().splitlines())
    configured.hang_up("configuration: read again")
    assert len(configured.log().splitlines()) == before + configured.workers()


def test_a_hang_up_while_a_process_starts_is_not_lost(tmp_path):
    server = Configured(tmp_path / "data", environment={"REGISTRY_HTTP_WORKERS": "2"})
    server.write(READ_ONLY % "false")
    with server:
        before = server.processes()
        os.kill(before[1], signal.SIGKILL)
        wait_until(lambda: set(server.processes()) - set(before), 10, "another worker is started", interval=0)
        server.hang_up("configuration: read again")


@needs_openssl
def test_a_certificate_is_read_again_at_once(tmp_path):
    place, old, new = Pair(tmp_path / "crt", tmp_path / "key"), pair(tmp_path, "old"), pair(tmp_path, "new")
    old.put(place)
    with Https(tmp_path / "data", environment=place.settings) as server:
        assert server.shows(old)
        new.put(place)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: server.shows(new), 1, "the new certificate is shown")


@needs_openssl
def test_a_certificate_is_noticed_within_seconds_and_running_connections_go_on(tmp_path):
    place, old, new = Pair(tmp_path / "crt", tmp_path / "key"), pair(tmp_path, "old"), pair(tmp_path, "new")
    old.put(place)
    with Https(tmp_path / "data", environment=place.settings) as server, client(server, old) as running:
        assert running.get("/v2/").status_code == 200
        new.put(place)
        wait_until(lambda: server.shows(new), 10, "the new certificate is shown")
        assert running.get("/v2/").status_code == 200  # a connection that was kept; a new one would not trust it
        with client(server, new) as fresh:
            assert fresh.get("/v2/").status_code == 200
        assert "Traceback" not in server.log()


@needs_openssl
def test_a_certificate_that_is_about_to_expire_is_a_line_of_the_log(tmp_path):
    with Https(tmp_path / "data", environment=pair(tmp_path, "brief", days=3).settings) as server:
        wait_until(lambda: "expires in 2 days" in server.log(), 10, "a warning")


@needs_openssl
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_a_key_that_root_alone_can_read_is_told_at_the_start_and_when_it_changes(tmp_path):
    place, new = pair(tmp_path, "old"), pair(tmp_path, "new")
    let_others_in(tmp_path)
    with Https(tmp_path / "data", environment=place.settings | {"SWARM_REGISTRY_USER": "65532"}) as server:
        assert f"{place.key} was read as root, and cannot be read again" in server.log()
        assert server.log().count("was read as root") == 1
        new.put(place)
        wait_until(lambda: "Permission denied. Going on with those of before" in server.log(), 10, "a line of the log")
        assert server.is_ready()


def test_a_registry_ends_with_the_terminal_that_it_was_started_from(tmp_path):
    """SIGHUP is also what a terminal sends when it is closed."""
    server = Server(tmp_path / "data")
    server.root.mkdir()
    ours, its = pty.openpty()
    with server.log_path.open("wb") as log:
        process = subprocess.Popen(
            ["setsid", "--ctty", *server.command()], env=server.variables(), stdin=its, stdout=log, stderr=log
        )
    os.close(its)
    try:
        wait_until(server.is_ready, 20, "it answers")
        os.close(ours)
        assert process.wait(10) == 0
        assert "stopped" in server.log()
    finally:
        process.kill()
        process.wait(10)
