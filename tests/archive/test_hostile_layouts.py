"""What a layout that is wrong, or means no good, cannot do to `registry import`."""

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from archived import APP, MULTI
from copying import blobs, copy, edit_index, files_of, is_refused, packed, spoil, succeed
from images import Content, Image, index, write_layout
from remote import Remote
from serving import Server


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
