"""`registry import`: where images go, what is not copied twice, and what a hostile layout cannot do."""

import fcntl
import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collecting import age, collect
from copying import begin, blobs, content_of, copy, files_of, packed, succeed
from images import Content, Image, artifact, image, index, multi_platform, write_layout
from remote import Remote
from serving import Server, wait_until

from registry.archive import importing
from registry.oci.imagelayout import blob_at
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.root import Filesystem
from registry.store.threads import Threads

APP = image("app", size=3_000)
MULTI = multi_platform("multi", size=3_000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Of two images: `app` and `multi` of one repository."""
    with Server(tmp_path / "from") as server, Remote(server.url) as remote:
        remote.push("team/app", APP, "app")
        remote.push("team/app", MULTI, "multi")
    succeed(tmp_path / "from", "export", tmp_path / "layout")
    return tmp_path / "layout"


def edit_index(layout: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    document = json.loads((layout / "index.json").read_bytes())
    change(document["manifests"])
    (layout / "index.json").write_text(json.dumps(document))


def is_refused(root: Path, source: object, *words: str, stdin: bytes | None = None) -> None:
    """Fail unless an import says so in one line, and leaves neither a repository nor a half-made file."""
    ended = copy(root, "import", source, "--repository", "app", stdin=stdin)
    told = ended.stderr.decode()
    assert ended.returncode == 1, told
    assert "Traceback" not in told
    for word in words:
        assert word in told
    assert not (root / "docker/registry/v2/repositories").exists() or not list(
        (root / "docker/registry/v2/repositories").rglob("_manifests")
    )
    assert list((root / "swarm-registry").glob("incoming/*")) == []


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
        if (digest := blob_at(name)) is not None:
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


# What a hostile layout cannot do


def spoil(layout: Path, blob: Content) -> None:
    (layout / "blobs/sha256" / blob.hex).write_bytes(blob.data[:-1] + b"?")


@pytest.mark.parametrize("kind", ["directory", "tar", "stream"])
@pytest.mark.parametrize("what", ["layer", "config", "manifest", "missing"])
def test_an_image_with_wrong_content_is_left_out_and_the_rest_goes_on(
    root: Path, layout: Path, tmp_path: Path, kind: str, what: str
) -> None:
    blob = {"layer": APP.layers[0], "config": APP.config, "manifest": APP.manifest, "missing": APP.layers[1]}[what]
    if what == "missing":
        (layout / "blobs/sha256" / blob.hex).unlink()
    else:
        spoil(layout, blob)
    source, stdin = {
        "directory": (layout, None),
        "tar": (tmp_path / "layout.tar", None),
        "stream": (Path("-"), packed(files_of(layout))),
    }[kind]
    (tmp_path / "layout.tar").write_bytes(packed(files_of(layout)))
    ended = copy(root, "import", source, stdin=stdin)
    told = ended.stderr.decode()
    assert ended.returncode == 1
    assert f"registry: left out: team/app:app: {blob.digest} " in told
    assert "Traceback" not in told
    with Server(root) as server, Remote(server.url) as remote:
        assert remote.tags("team/app") == ["multi"]
        remote.holds("team/app", MULTI, "multi")
        assert not remote.has_manifest("team/app", APP.digest)
        assert not remote.has_blob("team/app", blob.digest)


def test_the_index_may_come_first_in_a_stream(root: Path, layout: Path) -> None:
    files = files_of(layout)
    succeed(root, "import", "-", stdin=packed(dict(reversed(files.items()))))
    with Server(root) as server, Remote(server.url) as remote:
        remote.holds("team/app", APP, "app")


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_tar_that_means_no_good_is_refused(root: Path, layout: Path, tmp_path: Path, kind: str) -> None:
    files = files_of(layout)
    tar = packed(files)
    wrong: dict[str, tuple[bytes, str]] = {
        "leads out": (packed(files, member("../../etc/cron.d/x")), "leads out of it"),
        "absolute": (packed(files, member("/etc/cron.d/x")), "leads out of it"),
        "cut off": (tar[: len(tar) // 2], "ends in the middle"),
        "empty": (b"", "ends in the middle"),
        "no tar": (b"x" * 2000, "no tar file"),
        "compressed": (b"\x1f\x8b" + bytes(2000), "it is compressed"),
        "no layout": (packed({"cat.jpg": b"meow"}), "there is no index.json"),
        "docker's": (packed({"manifest.json": b"[]"}), "docker before 25"),
        "large header": (_large_header(2 * 1024 * 1024), "a header of 2097152 bytes"),
        "absurd header": (_large_header(2**60), "a header of 1152921504606846976 bytes"),
        "absurd size": (_absurd_size(), "a damaged tar" if kind == "file" else "the registry's disk is nearly full"),
        "no JSON": (packed(files | {"index.json": b"{"}), "index.json: "),
        "no list": (packed(files | {"index.json": b'{"schemaVersion": 2}'}), "index.json: manifests"),
        "wrong digest": (packed(files | {"index.json": _index("sha256:../../x")}), "index.json: manifests.0.digest"),
        "other version": (packed(files | {"oci-layout": b'{"imageLayoutVersion": "2.0"}'}), "the version is '2.0'"),
    }
    for what, (data, words) in wrong.items():
        if kind == "file" and what not in {"leads out", "cut off", "compressed", "absurd header", "absurd size"}:
            continue
        (tmp_path / "layout.tar").write_bytes(data)
        source, stdin = (tmp_path / "layout.tar", None) if kind == "file" else (Path("-"), data)
        try:
            is_refused(root, source, words, stdin=stdin)
        except AssertionError as error:
            raise AssertionError(what) from error
    assert not (tmp_path / "etc").exists()


def _large_header(size: int) -> bytes:
    made = member("x", tarfile.XHDTYPE)
    made.size = size
    return made.tobuf(tarfile.GNU_FORMAT) + bytes(min(size, 3 * 1024 * 1024))


def _absurd_size() -> bytes:
    made = member("blobs/sha256/" + "a" * 64)
    made.size = 2**62
    return made.tobuf(tarfile.GNU_FORMAT) + bytes(4096)


def _index(digest: str) -> bytes:
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}
    return json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()


def test_links_are_not_followed(root: Path, layout: Path, tmp_path: Path) -> None:
    """In a directory, and in a tar: what they lead to may be any file that root can read."""
    path = layout / "blobs/sha256" / APP.layers[0].hex
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    files = files_of(layout)
    path.symlink_to(tmp_path / "elsewhere")
    for source, stdin in (
        (layout, None),
        (Path("-"), packed(files, member(f"blobs/sha256/{path.name}", tarfile.SYMTYPE, str(tmp_path / "elsewhere")))),
    ):
        ended = copy(root, "import", source, stdin=stdin)
        assert ended.returncode == 1
        assert f"left out: team/app:app: {APP.layers[0].digest} is missing in the layout" in ended.stderr.decode()
    (layout / "index.json").unlink()
    (layout / "index.json").symlink_to("/etc/passwd")
    is_refused(tmp_path / "another", layout, "cannot read")


def test_a_pipe_in_a_directory_does_not_hang_it(root: Path, layout: Path) -> None:
    (layout / "index.json").unlink()
    os.mkfifo(layout / "index.json")
    is_refused(root, layout, "is no regular file")


def test_a_manifest_of_a_gigabyte_is_not_read(root: Path, layout: Path) -> None:
    with (layout / "blobs/sha256" / APP.manifest.hex).open("wb") as file:
        file.truncate(2**30)
    ended = copy(root, "import", layout)
    assert ended.returncode == 1
    assert b"has 1073741824 bytes, at most 4194304 are taken" in ended.stderr


def test_indexes_in_indexes_end_whatever_their_number(root: Path, tmp_path: Path) -> None:
    """A chain of two thousand, and a tower in which each lists the one below twice: 2^40 ways down."""
    chain = tower = APP
    for number in range(2000):
        chain = index(chain, annotations={"n": str(number)})
    for number in range(40):
        tower = _twice(tower, number)
    with_all = write_layout(tmp_path / "layout", _flat(chain), "chain")
    write_layout(with_all, _flat(tower), "tower")
    edit_index(with_all, lambda entries: entries.append(_named(chain, "chain")))
    assert succeed(root, "import", with_all, "-r", "deep")["tags"] == 2
    with Server(root) as server, Remote(server.url) as remote:
        assert remote.digest("deep", "chain") == chain.digest
        assert remote.digest("deep", "tower") == tower.digest
        remote.holds("deep", APP)
    again = succeed(root, "export", tmp_path / "again")
    assert again["tags"] == 2
    assert blobs(tmp_path / "again") == blobs(with_all)


def _twice(below: Image, number: int) -> Image:
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [below.manifest.descriptor()] * 2,
        "annotations": {"tower": str(number)},
    }
    return Image(Content(document["mediaType"], json.dumps(document).encode()), children=(below,))


def _flat(top: Image) -> Image:
    """With all below as children of one level, for what walks them recursively."""
    below, each = [], top
    while each.children:
        (each,) = each.children
        below.append(Image(each.manifest, each.blobs))
    return Image(top.manifest, children=tuple(reversed(below)))


def _named(top: Image, name: str) -> dict[str, Any]:
    return top.manifest.descriptor(annotations={"org.opencontainers.image.ref.name": name})


def test_signatures_are_there_before_the_tag_that_they_are_for(root: Path, tmp_path: Path) -> None:
    signature = artifact("signature", "x/y", subject=APP.manifest)
    with Server(tmp_path / "from") as server, Remote(server.url) as remote:
        remote.push("app", APP, "v1")
        remote.push("app", signature)
    succeed(tmp_path / "from", "export", tmp_path / "layout")
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
