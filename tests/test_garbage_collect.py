"""`registry garbage-collect`: what scripts and people see of it, and what cron jobs for registry:2 say to it."""

import fcntl
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from collecting import age, collect, environment
from images import image, multi_platform
from pydantic import ValidationError
from remote import Remote
from serving import Server

from registry.config.settings import Gc
from registry.store.local import LEASE

UNUSED = b"no manifest names this"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A storage with a tagged image, an untagged one, and a blob that nothing needs; all of it old."""
    with Server(tmp_path / "data") as server, Remote(server.url) as remote:
        remote.push("library/app", multi_platform("tagged", size=1000), "latest")
        remote.push("library/app", image("untagged", size=1000))
        remote.push_blob("library/app", UNUSED)
    age(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def configured(root: Path) -> str:
    path = root.with_name("config.yml")
    path.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{root}'}}, delete: {{enabled: false}}}}\n")
    return str(path)


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def lines_about(what: str, ended: subprocess.CompletedProcess[str]) -> set[str]:
    return {line for line in ended.stdout.splitlines() if line.startswith(f"{what} eligible for deletion: sha256:")}


def test_it_tells_what_it_did_in_the_words_that_scripts_look_for(root: Path) -> None:
    ended = collect(root)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(lines_about("blob", ended)) == 1
    assert "13 blobs marked, 1 blobs and 0 manifests eligible for deletion" in ended.stdout.splitlines()
    assert "\x1b" not in ended.stdout
    for words in ("repositories         1", "blobs removed        1, 22 bytes", "manifests read       4"):
        assert words in ended.stdout, ended.stdout


@pytest.mark.parametrize(
    "flags", [["--delete-untagged", "-d"], ["-m", "--dry-run"], ["-d", "-m"], ["--delete-untagged=true", "-d=true"]]
)
def test_a_dry_run_says_the_same_and_changes_nothing(root: Path, configured: str, flags: list[str]) -> None:
    before = files(root)
    told = collect(root, *flags, configured)
    assert (told.returncode, told.stderr) == (0, "")
    assert files(root) == before
    done = collect(root, "-m", configured)
    for what, count in (("blob", 4), ("manifest", 1)):
        assert lines_about(what, told) == lines_about(what, done)
        assert len(lines_about(what, told)) == count + (what == "blob")


def test_a_flag_that_is_false_is_none(root: Path, configured: str) -> None:
    ended = collect(root, "--delete-untagged=false", "--dry-run=true", configured)
    assert lines_about("manifest", ended) == set()
    assert collect(root, "--dry-run=perhaps", configured).returncode == 2


def test_quiet_is_silent(root: Path) -> None:
    for flags in (["-q", "-d"], ["--quiet"]):
        ended = collect(root, *flags)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_the_document_says_the_same_as_the_text(root: Path) -> None:
    ended = collect(root, "--json", "-m")
    assert (ended.returncode, ended.stderr) == (0, "")
    document = json.loads(ended.stdout)
    assert document["aborted"] is None
    assert document["dry_run"] is False
    assert (document["repositories"], document["manifests_removed"], document["problems"]) == (1, 1, [])
    assert document["blobs_removed"] == len(document["removed"]["blobs"]) == 5
    assert document["removed"]["manifests"][0]["repository"] == "library/app"
    assert document["bytes_freed"] > 2000


def test_on_a_terminal_there_is_a_bar(root: Path) -> None:
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "registry", "garbage-collect"],
        env=environment(root) | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    seen = b""
    try:
        while part := os.read(main, 65536):
            seen += part
    except OSError:  # the terminal is closed
        pass
    os.close(main)
    assert process.wait(30) == 0
    assert b"100%" in seen
    assert b"blob eligible for deletion: sha256:" in seen
    assert b"repositories         1" in seen


def test_it_gives_way_to_the_server(root: Path) -> None:
    script = "import os; from registry.cli import cli; cli(['garbage-collect', '-q'], standalone_mode=False); "
    ended = subprocess.run(
        [sys.executable, "-c", script + "print(os.nice(0))"],
        env=environment(root),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(ended.stdout) >= min(os.nice(0) + 10, 19)


def test_a_damaged_manifest_is_exit_status_1_and_named(root: Path) -> None:
    data = image("untagged", size=1000).manifest
    path = root / "docker/registry/v2/blobs/sha256" / data.hex[:2] / data.hex / "data"
    path.write_bytes(data.data[:-10])
    before = files(root)
    ended = collect(root, "-m")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert all(line.startswith("registry: ") for line in ended.stderr.splitlines())
    assert f"library/app: the manifest {data.digest} is damaged" in ended.stderr
    assert {name: kept for name, kept in files(root).items() if "/locks/" not in name} == {
        name: kept for name, kept in before.items() if "/locks/" not in name
    }
    document = json.loads(collect(root, "-m", "--json").stdout)
    assert data.digest in document["aborted"]
    assert document["blobs_removed"] == 0


def test_a_second_collector_is_exit_status_1(root: Path) -> None:
    with (root / "swarm-registry/locks/collector").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = collect(root)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == ["registry: another garbage collection is at work on this storage"]
    assert collect(root).returncode == 0


def test_a_directory_without_a_registry_is_exit_status_1_and_is_not_made(tmp_path: Path) -> None:
    for root in (tmp_path / "missing", tmp_path):
        ended = collect(root)
        assert ended.returncode == 1
        assert f"no registry was served from {root} before" in ended.stderr
    assert not (tmp_path / "missing").exists()
    assert list(tmp_path.iterdir()) == []


def test_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("version: 0.1\nstorage: inmemory\n")
    ended = collect(None, str(path))
    assert ended.returncode == 2
    assert ended.stderr.startswith("registry: storage.inmemory: ")


def test_a_wrong_configuration_is_exit_status_2(tmp_path: Path) -> None:
    for variables, words in (({"REGISTRY_HTTP_ADDR": "x"}, "http.addr"), ({"REGISTRY_GC_GRACE": "5m"}, "gc.grace")):
        ended = collect(tmp_path, **variables)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert words in ended.stderr


def test_the_grace_is_the_configured_one(root: Path) -> None:
    day_old = root / "docker/registry/v2/blobs/sha256"
    for path in day_old.rglob("data"):
        os.utime(path, (path.stat().st_atime, path.parent.stat().st_ctime - 24 * 3600))
    kept = json.loads(collect(root, "--json", "-m", REGISTRY_GC_GRACE="48h").stdout)
    assert (kept["blobs_removed"], kept["manifests_removed"], kept["manifests_young"]) == (0, 0, 1)
    assert json.loads(collect(root, "--json", REGISTRY_GC_GRACE="12h").stdout)["blobs_removed"] == 1


def test_a_read_only_registry_is_collected_all_the_same(root: Path) -> None:
    """It is the administrator's command, as in registry:2."""
    ended = collect(root, "--json", REGISTRY_STORAGE_MAINTENANCE_READONLY='{"enabled": true}')
    assert json.loads(ended.stdout)["blobs_removed"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_as_root_it_makes_no_files_of_root_s_in_a_volume_of_somebody_else(root: Path) -> None:
    """As `docker exec` runs it beside a server that gave up root."""
    with tempfile.TemporaryDirectory() as directory:  # pytest's own is closed to others
        Path(directory).chmod(0o755)
        volume = Path(directory) / "data"
        shutil.copytree(root, volume)
        for path in (volume, *volume.rglob("*")):
            os.chown(path, 65532, 65532)
        age(volume)
        ended = collect(volume, "--json", "-m", SWARM_REGISTRY_USER="65532")
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["blobs_removed"] == 5
        assert (volume / "swarm-registry/locks/collector").exists()
        assert {path.stat().st_uid for path in (volume, *volume.rglob("*"))} == {65532}


def test_a_running_server_has_nothing_stale_after_it(root: Path) -> None:
    """Field report P2: no "Layer already exists" for what is gone."""
    with Server(root) as server, Remote(server.url) as remote:
        untagged = image("untagged", size=1000)
        remote.holds("library/app", untagged)
        age(root)
        assert collect(root, "-m").returncode == 0
        assert not remote.has_manifest("library/app", untagged.digest)
        assert not any(remote.has_blob("library/app", blob.digest) for blob in untagged.blobs)
        assert remote.mount("elsewhere", untagged.blobs[1].digest, "library/app") == 202
        remote.holds("library/app", multi_platform("tagged", size=1000), "latest")
        remote.push("library/app", untagged, "again")
        remote.holds("library/app", untagged, "again")
        assert "Traceback" not in server.log()


def test_the_shortest_grace_is_twice_the_lease_that_a_server_relies_on() -> None:
    """Whatever the server's own configuration says: the two may have different files."""
    shortest = timedelta(seconds=2 * LEASE)
    assert Gc(grace=shortest).grace == shortest
    with pytest.raises(ValidationError):
        Gc(grace=shortest - timedelta(seconds=1))


def test_a_cron_job_of_registry_2_runs_it_through_the_image_s_entrypoint(root: Path, configured: str) -> None:
    enter = "from registry.entrypoint import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", enter, "garbage-collect", "--delete-untagged", "-d", configured],
        env=environment(None),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(lines_about("manifest", ended)) == 1
