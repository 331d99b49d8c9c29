"""`registry export`: what it takes, how it names it, what it leaves out, and what it never leaves behind."""

import fcntl
import json
import os
import pty
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from collecting import environment
from copying import begin, blobs, content_of, copy, files_of, has, is_sound, names, succeed, unpack
from images import Image, artifact, digest_of, image, index, multi_platform
from remote import Remote
from serving import Server

from registry.archive.exporting import Exporter
from registry.archive.plan import Choice
from registry.archive.targets import DirectoryTarget
from registry.commands.reports import Silent
from registry.oci.digest import Digest
from registry.oci.patterns import RepositoryPattern
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.root import Filesystem

APP = image("app", size=3_000)
OLD = image("old", size=3_000)
DOCKER = image("docker", flavour="docker", size=3_000)
MULTI = multi_platform("multi", size=3_000)
SIGNATURE = artifact("signature", "application/vnd.example.signature", subject=APP.manifest)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage that no test changes."""
    root = tmp_path_factory.mktemp("stored") / "data"
    with Server(root) as server, Remote(server.url) as remote:
        remote.push("team/app", OLD)
        remote.push("team/app", APP, "v1", "latest")
        remote.push("team/app", DOCKER, "v2")
        remote.push("team/app", SIGNATURE)
        remote.push("app", MULTI, "multi")
    return root


@pytest.fixture
def root(stored: Path, tmp_path: Path) -> Path:
    """A storage to tamper with."""
    shutil.copytree(stored, tmp_path / "data")
    return tmp_path / "data"


def data(root: Path, digest: str) -> Path:
    algorithm, _, hexadecimal = digest.partition(":")
    return root / "docker/registry/v2/blobs" / algorithm / hexadecimal[:2] / hexadecimal / "data"


def test_one_repository_is_named_by_its_tags_and_several_by_both(stored: Path, tmp_path: Path) -> None:
    succeed(stored, "export", "--repository", "team/*", tmp_path / "one")
    assert names(tmp_path / "one") == ["latest", "v1", "v2", None]
    succeed(stored, "export", tmp_path / "several")
    assert names(tmp_path / "several") == ["app:multi", "team/app:latest", "team/app:v1", "team/app:v2", None]
    has(tmp_path / "several", APP, DOCKER, MULTI, SIGNATURE)
    assert OLD.digest not in blobs(tmp_path / "several")


def test_patterns_choose_repositories_and_tags_and_bring_signatures_along(stored: Path, tmp_path: Path) -> None:
    report = succeed(stored, "export", "-r", "team/app", "-r", "nobody/**", "-t", "v1*", "-t", "lat?st", tmp_path / "a")
    assert (report["repositories"], report["tags"], report["untagged"]) == (1, 2, 1)
    has(tmp_path / "a", APP, SIGNATURE)
    assert DOCKER.digest not in blobs(tmp_path / "a")
    succeed(stored, "export", "-t", "v2", tmp_path / "b")
    assert SIGNATURE.digest not in blobs(tmp_path / "b")


def test_with_all_what_has_no_tag_comes_too(stored: Path, tmp_path: Path) -> None:
    report = succeed(stored, "export", "--all", "-r", "team/app", tmp_path / "layout")
    assert report["untagged"] == 2
    has(tmp_path / "layout", OLD, APP, SIGNATURE)


def test_nothing_to_export_is_exit_status_1_and_leaves_nothing(stored: Path, tmp_path: Path) -> None:
    for where in (tmp_path / "layout", tmp_path / "layout.tar"):
        ended = copy(stored, "export", "--tag", "v9", where)
        assert (ended.returncode, ended.stdout) == (1, b"")
        assert b"nothing to export" in ended.stderr
        assert not where.exists()


def test_what_is_wrong_on_the_command_line_is_exit_status_2(stored: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (["--repository", "A B", "x"], b"--repository: expected"),
        (["a", "b", "c"], b"got 3 names"),
        (["--all", "--tag", "v1", "x"], b"give one of the two"),
        ([], b"Missing argument"),
    ):
        ended = copy(stored, "export", *arguments)
        assert ended.returncode == 2, ended
        assert words in ended.stderr
    assert copy(tmp_path / "nowhere", "export", tmp_path / "x").returncode == 1
    assert b"storage.inmemory" in copy(stored, "export", "x", REGISTRY_STORAGE_INMEMORY="true").stderr


def test_a_configuration_may_stand_before_the_place(stored: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{stored}'}}}}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "registry", "export", str(path), str(tmp_path / "layout")],
        env=environment(None),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert b"tags                 4" in ended.stdout
    has(tmp_path / "layout", APP)


def test_a_second_run_into_a_directory_copies_what_is_new(root: Path, tmp_path: Path) -> None:
    first = succeed(root, "export", tmp_path / "layout")
    again = succeed(root, "export", tmp_path / "layout")
    assert (again["blobs_copied"], again["blobs_present"]) == (0, first["blobs_copied"])
    with Server(root) as server, Remote(server.url) as remote:
        new = image("new", size=3_000)
        remote.push("app", new, "new")
        third = succeed(root, "export", tmp_path / "layout")
    assert third["blobs_copied"] == 4
    has(tmp_path / "layout", new, APP, MULTI)


def test_verify_mends_what_is_damaged_in_the_directory(stored: Path, tmp_path: Path) -> None:
    succeed(stored, "export", tmp_path / "layout")
    layer = APP.layers[0]
    path = tmp_path / "layout/blobs/sha256" / layer.hex
    path.write_bytes(bytes(len(layer.data)))
    assert succeed(stored, "export", tmp_path / "layout")["blobs_copied"] == 0
    assert succeed(stored, "export", "--verify", tmp_path / "layout")["blobs_copied"] == 1
    has(tmp_path / "layout", APP)


def _damage(root: Path, how: str) -> str:
    """Spoil the last layer of `APP`; its digest."""
    layer = APP.layers[-1]
    path = data(root, layer.digest)
    match how:
        case "other bytes":
            path.write_bytes(layer.data[:-1] + b"?")
        case "cut off":
            path.write_bytes(layer.data[:-100])
        case "missing":
            path.unlink()
    return layer.digest


@pytest.mark.parametrize("kind", ["directory", "tar", "stream"])
@pytest.mark.parametrize("how", ["other bytes", "cut off", "missing"])
def test_an_image_with_damaged_content_is_left_out_and_the_rest_goes_on(
    root: Path, tmp_path: Path, kind: str, how: str
) -> None:
    damaged = _damage(root, how)
    place = {"directory": tmp_path / "layout", "tar": tmp_path / "layout.tar", "stream": Path("-")}[kind]
    ended = copy(root, "export", "--json", place)
    told = ended.stderr.decode()
    assert ended.returncode == 1
    assert f"registry: left out: team/app:latest,v1: {damaged} is " in told
    layout = tmp_path / "layout"
    if kind != "directory":
        unpack(ended.stdout if kind == "stream" else place.read_bytes(), layout)
    assert names(layout) == ["app:multi", "team/app:v2", None]
    has(layout, DOCKER, MULTI, SIGNATURE)
    assert damaged not in blobs(layout)
    if kind == "directory":
        assert APP.digest not in blobs(layout)
    assert not list(tmp_path.glob(".*partial"))


def test_where_no_image_is_whole_there_is_no_layout(root: Path, tmp_path: Path) -> None:
    _damage(root, "other bytes")
    for place in (tmp_path / "layout", tmp_path / "layout.tar"):
        ended = copy(root, "export", "--tag", "v1", "--tag", "latest", "-r", "team/app", place)
        assert ended.returncode == 1
    assert SIGNATURE.digest in blobs(tmp_path / "layout")
    data(root, SIGNATURE.layers[0].digest).unlink()
    ended = copy(root, "export", "--tag", "v1", "-r", "team/app", tmp_path / "none")
    assert ended.returncode == 1
    assert b"no image could be exported" in ended.stderr
    assert [path.name for path in (tmp_path / "none").rglob("*") if path.is_file()] == ["oci-layout"]


def test_a_damaged_manifest_leaves_its_image_out(root: Path, tmp_path: Path) -> None:
    child = MULTI.children[0]
    data(root, child.digest).write_bytes(child.manifest.data.replace(b"linux", b"Linux") + b" ")
    ended = copy(root, "export", tmp_path / "layout")
    assert ended.returncode == 1
    assert f"left out: app:multi: the manifest {child.digest} is damaged" in ended.stderr.decode()
    assert "app:multi" not in names(tmp_path / "layout")
    is_sound(tmp_path / "layout")


def test_what_is_deleted_while_it_is_copied_is_told_and_left_out(root: Path, tmp_path: Path) -> None:
    """A collection beside an export: after the plan was made, a tag and its content go."""
    files = Filesystem(root)
    exporter = Exporter(FilesystemBlobs(files), FilesystemRecords(files), Choice(), _Watch())
    images = exporter.plan()
    gone = next(layer for layer in DOCKER.layers)
    data(root, gone.digest).unlink()
    target = DirectoryTarget(tmp_path / "layout")
    report = exporter.copy(images, target)
    target.close()
    assert [(each.repository, each.tags) for each in report.left_out] == [("team/app", ("v2",))]
    assert "deleted meanwhile" in report.left_out[0].reason
    has(tmp_path / "layout", APP, MULTI)


class _Watch(Silent):
    def advance(self, steps: int = 1) -> None:
        pass


def test_a_directory_with_something_else_in_it_is_left_alone(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"meow")
    ended = copy(stored, "export", tmp_path / "photos")
    assert ended.returncode == 1
    assert b"holds something else" in ended.stderr
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_two_exports_do_not_write_to_one_place(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "layout").mkdir()
    (tmp_path / ".layout.tar.partial").write_bytes(b"")
    for held, place in (("layout", "layout"), (".layout.tar.partial", "layout.tar")):
        descriptor = os.open(tmp_path / held, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        ended = copy(stored, "export", tmp_path / place)
        assert ended.returncode == 1
        assert b"another export writes to" in ended.stderr
        os.close(descriptor)
        succeed(stored, "export", tmp_path / place)


def test_a_tar_is_the_same_each_time_and_replaces_the_old_one_at_once(stored: Path, tmp_path: Path) -> None:
    place = tmp_path / "layout.tar"
    place.write_bytes(b"the old one")
    succeed(stored, "export", place)
    once = place.read_bytes()
    assert copy(stored, "export", "-").stdout == once
    has(unpack(once, tmp_path / "layout"), APP, MULTI)
    with tarfile.open(place) as archive:
        assert archive.getnames()[0] == "oci-layout"
        assert archive.getnames()[-1] == "index.json"


def test_a_long_name_of_sha512_stands_in_a_tar(tmp_path: Path) -> None:
    strong = image("sha512", algorithm="sha512", size=100)
    with Server(tmp_path / "data") as server, Remote(server.url) as remote:
        remote.push("app", strong)
        exported = copy(tmp_path / "data", "export", "--all", "-").stdout
    has(unpack(exported, tmp_path / "layout"), strong)


def test_nothing_is_changed_in_the_storage(stored: Path, tmp_path: Path) -> None:
    def files() -> list[tuple[str, int, int]]:
        return [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(stored.rglob("*"))]

    before = files()
    succeed(stored, "export", "--all", tmp_path / "layout")
    assert files() == before


def test_what_the_disk_refuses_is_told_without_a_traceback(stored: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "registry", "export", "-"],
            env=environment(stored),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, b"registry: cannot read or write -: No space left on device\n")


def test_a_reader_that_leaves_ends_it_quietly(root: Path) -> None:
    with Server(root) as server, Remote(server.url) as remote:
        remote.push("large", image("large", size=2_000_000), "latest")
    with begin(root, "export", "-") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1000)
        process.stdout.close()
        assert process.stderr.read() == b"registry: cannot read or write -: Broken pipe\n"
        assert process.wait(30) == 1


def test_docker_s_list_has_the_images_that_docker_can_load(tmp_path: Path) -> None:
    """Also the one image that BuildKit puts into an index, beside its attestation."""
    layer = digest_of(b"statement")
    attestation = artifact("attestation", "application/vnd.in-toto+json")
    built = index(image("built", size=100), attestation)
    foreign = _with_a_foreign_layer()
    with Server(tmp_path / "data") as server, Remote(server.url) as remote:
        remote.push("built", built, "latest")
        remote.push("plain", image("plain", size=100), "a", "b")
        remote.push("several", multi_platform("several", size=100), "latest")
        remote.push("artifact", artifact("alone", "x/y"), "latest")
        remote.push("foreign", foreign, "latest")
        succeed(tmp_path / "data", "export", tmp_path / "layout")
    assert layer not in blobs(tmp_path / "layout")
    has(tmp_path / "layout", built, foreign)
    listed = json.loads((tmp_path / "layout/manifest.json").read_bytes())
    assert [each["RepoTags"] for each in listed] == [["built:latest"], ["plain:a", "plain:b"]]
    for each in listed:
        assert all((tmp_path / "layout" / path).exists() for path in [each["Config"], *each["Layers"]])


def _with_a_foreign_layer() -> Image:
    """An image of Windows: its base layer is elsewhere."""
    made = image("windows", size=100)
    document = made.manifest.json
    document["layers"].append(
        {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": digest_of(b"elsewhere"),
            "size": 9,
            "urls": ["https://example.com/layer"],
        }
    )
    content = type(made.manifest)(made.manifest.media_type, json.dumps(document).encode())
    return Image(content, made.blobs)


def test_an_index_that_lacks_a_part_is_copied_without_it(tmp_path: Path) -> None:
    """As it is served, where the rules allow that; an import keeps the rules of the registry that it goes into."""
    allowed = {"REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMS": "none"}
    part, lacking = MULTI.children
    with Server(tmp_path / "data", environment=allowed) as server, Remote(server.url) as remote:
        remote.push("app", part)
        remote.push_manifest("app", MULTI.manifest, "latest")
    succeed(tmp_path / "data", "export", tmp_path / "layout")
    has(tmp_path / "layout", part)
    assert MULTI.digest in blobs(tmp_path / "layout")
    refused = copy(tmp_path / "strict", "import", tmp_path / "layout")
    assert refused.returncode == 1
    assert f"left out: app:latest: manifest references a blob unknown to registry: {lacking.digest}" in (
        refused.stderr.decode()
    )
    assert copy(tmp_path / "other", "import", tmp_path / "layout", **allowed).returncode == 0
    here = content_of(tmp_path / "other")
    assert {path: here.get(path) for path in content_of(tmp_path / "data")} == content_of(tmp_path / "data")


def test_on_a_terminal_there_is_a_bar_and_no_tar(stored: Path, tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    seen = b""
    for place in (str(tmp_path / "layout"), "-"):
        process = subprocess.Popen(
            [sys.executable, "-m", "registry", "export", place],
            env=environment(stored) | {"TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        )
        assert process.wait(30) == (0 if place != "-" else 2)
        seen += os.read(main, 65536)
    os.close(terminal)
    os.close(main)
    assert b"100%" in seen
    assert b"a tar is no text for a terminal" in seen


def test_a_layout_that_somebody_moved_is_still_one(stored: Path, tmp_path: Path) -> None:
    """Nothing in it names the place where it was made."""
    succeed(stored, "export", tmp_path / "layout")
    assert str(tmp_path).encode() not in b"".join(files_of(tmp_path / "layout").values())


def test_the_choice_of_a_pattern() -> None:
    choice = Choice([RepositoryPattern("team/**")], ["v*"])
    assert choice.has_repository("team/a/b")
    assert not choice.has_repository("team")
    assert choice.has_tag("v1")
    assert not choice.has_tag("1v")
    assert Choice().has_repository("x")
    assert Digest.of(b"") not in blobs(Path("nowhere"))
