"""`registry import`: where images go, what is not copied twice, and what goes on beside it."""

import fcntl
import io
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from archived import APP, MULTI
from collecting import age, collect
from copying import begin, content_of, copy, edit_index, files_of, is_refused, packed, spoil, succeed
from images import artifact, image, write_layout
from remote import Remote
from serving import Server, wait_until

from registry.archive import importing
from registry.oci import imagelayout
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.root import Filesystem
from registry.store.threads import Threads

# Where images go


def test_images_keep_their_names_or_go_below_a_prefix_or_into_one_repository(root: Path, layout: Path) -> None:
    with Server(root) as server, Remote(server.url) as remote:
        succeed(root, "import", layout)
        succeed(root, "import", "--prefix", "copies/of", layout)
        succeed(root, "import", "--repository", "mine", layout)
        assert remote.catalog() == ["copies/of/team/app", "mine", "team/app"]
        for name in remote.catalog():
            remote.holds(name, APP, "app")
            remote.holds(name, MULTI, "multi")


def test_a_layout_of_tags_alone_needs_a_repository(root: Path, tmp_path: Path) -> None:
    """As skopeo writes them."""
    other = write_layout(tmp_path / "skopeo", APP, "v1")
    ended = copy(root, "import", other)
    assert ended.returncode == 1
    assert b"name it with --repository" in ended.stderr
    assert succeed(root, "import", other, "--repository", "app")["tags"] == 1


def test_two_images_do_not_get_one_name(root: Path, layout: Path) -> None:
    def rename(entries: list[dict[str, Any]]) -> None:
        for number, entry in enumerate(entries):
            entry["annotations"] = {"org.opencontainers.image.ref.name": f"app-{number}:v1"}

    edit_index(layout, rename)
    is_refused(root, layout, "two images would have the name app:v1")
    assert succeed(root, "import", layout)["repositories"] == 2


def test_an_image_without_a_tag_is_there_by_its_digest(root: Path, layout: Path) -> None:
    edit_index(layout, lambda entries: [entry.pop("annotations") for entry in entries])
    assert succeed(root, "import", layout, "-r", "app")["untagged"] == 2
    with Server(root) as server, Remote(server.url) as remote:
        remote.holds("app", APP)
        remote.holds("app", MULTI)


def test_what_is_wrong_on_the_command_line_is_exit_status_2(root: Path, layout: Path) -> None:
    for arguments in (["-r", "A"], ["--prefix", "a//b"], ["-r", "a", "--prefix", "b"]):
        ended = copy(root, "import", *arguments, layout)
        assert ended.returncode == 2, ended
        assert ended.stderr.startswith(b"registry: ")
    assert not root.exists()


def test_a_source_that_is_not_there_is_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, words in ((tmp_path / "nothing", b"No such file"), (tmp_path / "empty", b"is no image layout")):
        ended = copy(root, "import", source)
        assert ended.returncode == 1
        assert words in ended.stderr


# What is there already


def test_what_is_there_is_not_copied_again(root: Path, layout: Path) -> None:
    first = succeed(root, "import", layout)
    again = succeed(root, "import", layout)
    assert (again["blobs_copied"], again["blobs_present"]) == (0, first["blobs_copied"])
    elsewhere = succeed(root, "import", layout, "-r", "elsewhere")
    assert (elsewhere["blobs_copied"], elsewhere["tags"]) == (0, 2)
    streamed = succeed(root, "import", "-", stdin=packed(files_of(layout)))
    assert (streamed["blobs_copied"], streamed["blobs_present"]) == (0, first["blobs_copied"])


def test_damaged_content_of_the_storage_is_replaced(root: Path, layout: Path) -> None:
    """Of another size always, of the same size with --verify."""
    succeed(root, "import", layout)
    before = content_of(root)
    short, other = APP.layers
    for blob, data in ((short, b"short"), (other, bytes(len(other.data))), (APP.manifest, b"{}")):
        (root / f"docker/registry/v2/blobs/sha256/{blob.hex[:2]}/{blob.hex}/data").write_bytes(data)
    assert succeed(root, "import", layout)["blobs_copied"] == 2
    assert succeed(root, "import", "--verify", layout)["blobs_copied"] == 1
    assert content_of(root) == before


def test_a_tag_moves_to_the_image_of_the_layout(root: Path, layout: Path) -> None:
    with Server(root) as server, Remote(server.url) as remote:
        remote.push("team/app", image("another"), "app")
        succeed(root, "import", layout)
        remote.holds("team/app", APP, "app")


# Beside other work


def test_a_read_only_registry_takes_none(root: Path, layout: Path) -> None:
    assert copy(root, "volume", "init").returncode == 0
    configured = copy(root, "import", layout, REGISTRY_STORAGE_MAINTENANCE_READONLY='{"enabled": true}')
    assert copy(root, "read-only", "on").returncode == 0
    for ended in (configured, copy(root, "import", layout), copy(root, "import", "-", stdin=packed(files_of(layout)))):
        assert ended.returncode == 1
        assert b"the registry is read-only" in ended.stderr
        assert not (root / "docker").exists()


def test_a_full_disk_ends_it_with_the_reason(root: Path, layout: Path) -> None:
    ended = copy(root, "import", layout, REGISTRY_STORAGE_FILESYSTEM_MINFREESPACE="900TiB")
    assert ended.returncode == 1
    assert b"storage.filesystem.minfreespace" in ended.stderr
    assert content_of(root) == {}


def test_content_of_a_stream_outlives_a_collection_before_its_index_comes(
    root: Path, layout: Path, tmp_path: Path
) -> None:
    """It is in no repository yet, as a blob between its upload and its manifest; also what was there before, unused."""
    succeed(root, "import", layout, "-r", "old")
    shutil.rmtree(root / "docker/registry/v2/repositories/old")
    succeed(root, "import", write_layout(tmp_path / "other", image("other"), "v1"), "-r", "other")
    age(root)
    files = files_of(layout)
    data = packed({**files, "pad": bytes(100_000), "index.json": files.pop("index.json")})
    before = data.index(b"index.json\0")
    with begin(root, "import", "-") as process:
        assert process.stdin is not None
        process.stdin.write(data[:before])
        process.stdin.flush()
        wait_until(lambda: _renewed(root) == 13, 30, "leases are renewed")
        collected = json.loads(collect(root, "--json").stdout)
        assert (collected["aborted"], collected["blobs_removed"], collected["blobs_young"]) == (None, 0, 13)
        process.stdin.write(data[before:])
        process.stdin.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(30) == 0
    with Server(root) as server, Remote(server.url) as remote:
        remote.holds("team/app", APP, "app")
        remote.holds("team/app", MULTI, "multi")


def _renewed(root: Path) -> int:
    """How many blobs have a lease."""
    leases = [path.stat().st_mtime for path in (root / "docker/registry/v2/blobs").rglob("data")]
    return sum(lease > time.time() - 600 for lease in leases)


def test_a_long_import_renews_the_leases_of_what_it_took(
    root: Path, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Filesystem(root)
    blobs = FilesystemBlobs(files)
    taken = []
    monkeypatch.setattr(importing, "_RENEW", 0)
    importer = importing.Importer(_NoStore(), blobs, FilesystemRecords(files), Threads(1), importing.Naming(), _Watch())
    for name, data in files_of(layout).items():
        if (digest := imagelayout.blob_at(name)) is not None:
            importer.receive(io.BytesIO(packed({name: data})))
            assert _renewed(root) == len(taken) + 1
            taken.append(digest)
            age(root)


class _NoStore:
    """A store that nobody asks for anything."""


class _Watch:
    def begin(self, task: str, steps: int) -> None:
        pass

    def advance(self, steps: int = 1) -> None:
        pass


def test_what_a_killed_import_left_goes_with_the_next_and_what_another_writes_stays(root: Path, layout: Path) -> None:
    incoming = root / "swarm-registry/incoming"
    for name in ("killed", "running"):
        (incoming / name).mkdir(parents=True)
        (incoming / name / "data").write_bytes(b"half")
    with (incoming / "running/data").open("rb") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        succeed(root, "import", layout)
    assert [path.name for path in incoming.iterdir()] == ["running"]


def test_the_index_may_come_first_in_a_stream(root: Path, layout: Path) -> None:
    files = files_of(layout)
    succeed(root, "import", "-", stdin=packed(dict(reversed(files.items()))))
    with Server(root) as server, Remote(server.url) as remote:
        remote.holds("team/app", APP, "app")


def test_signatures_are_there_before_the_tag_that_they_are_for(root: Path, tmp_path: Path) -> None:
    """Who pulls by the tag, and wants a signature, finds it; whatever the order of the index is."""
    signature = artifact("signature", "x/y", subject=APP.manifest)
    with Server(tmp_path / "from") as server, Remote(server.url) as remote:
        remote.push("app", APP, "v1")
        remote.push("app", signature)
    succeed(tmp_path / "from", "export", tmp_path / "layout")
    entries = imagelayout.entries((tmp_path / "layout/index.json").read_bytes())
    assert [entry.digest for entry in entries] == [APP.digest, signature.digest]
    images = importing.Naming().images(entries)
    assert [image.digest for image in images] == [signature.digest, APP.digest]
    spoil(tmp_path / "layout", APP.layers[0])
    assert copy(root, "import", tmp_path / "layout").returncode == 1
    with Server(root) as server, Remote(server.url) as remote:
        remote.holds("app", signature)
        assert remote.tags("app") == []
        assert [each["digest"] for each in remote.referrers("app", APP.digest)] == [signature.digest]


def test_it_is_told_how_it_goes(root: Path, layout: Path) -> None:
    process = begin(root, "import", layout)
    told, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    for words in (b"imported:", b"repositories         1", b"tags                 2", b"left out             0"):
        assert words in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_as_root_it_makes_no_files_of_root_s_in_a_volume_of_somebody_else(layout: Path) -> None:
    """As `docker exec` runs it beside a server that gave up root; the file is opened before that."""
    with tempfile.TemporaryDirectory() as directory:  # pytest's own is closed to others
        Path(directory).chmod(0o755)
        volume = Path(directory) / "data"
        source = Path(directory) / "layout.tar"
        source.write_bytes(packed(files_of(layout)))
        source.chmod(0o600)
        ended = copy(volume, "import", source, SWARM_REGISTRY_USER="65532")
        assert ended.returncode == 0, ended.stderr
        assert (volume / "docker/registry/v2/repositories/team/app").exists()
        assert {path.stat().st_uid for path in (volume, *volume.rglob("*"))} == {65532}
