"""`registry export` and `registry import` as processes, and layouts as they are on disk."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from collecting import environment
from images import Content, Image, digest_of


def copy(
    root: Path, *arguments: object, stdin: bytes | None = None, **variables: str
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command on a storage to its end."""
    return subprocess.run(
        [sys.executable, "-m", "registry", *map(str, arguments)],
        env=environment(root, **variables),
        input=stdin if stdin is not None else b"",
        capture_output=True,
        timeout=60,
        check=False,
    )


def succeed(root: Path, *arguments: object, stdin: bytes | None = None) -> dict[str, Any]:
    """Run a command that must do all that it was told; its report."""
    ended = copy(root, *arguments, "--json", stdin=stdin)
    assert ended.returncode == 0, ended.stderr.decode() + ended.stdout.decode(errors="replace")[-2000:]
    report = json.loads(ended.stderr if "-" in arguments and "export" in arguments else ended.stdout)
    assert (report["aborted"], report["left_out"]) == (None, [])
    return dict(report)


def begin(root: Path, *arguments: object) -> "subprocess.Popen[bytes]":
    """Start a command, and return at once."""
    return subprocess.Popen(
        [sys.executable, "-m", "registry", *map(str, arguments)],
        env=environment(root),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def names(layout: Path) -> list[str | None]:
    """How the entries of a layout's index are named for skopeo."""
    entries = json.loads((layout / "index.json").read_bytes())["manifests"]
    return [entry["annotations"].get("org.opencontainers.image.ref.name") for entry in entries]


def blobs(layout: Path) -> dict[str, bytes]:
    """What a layout has under each digest."""
    return {f"{path.parent.name}:{path.name}": path.read_bytes() for path in layout.glob("blobs/*/*")}


def is_sound(layout: Path) -> None:
    """Fail unless all that a layout has is what it is called, and nothing half-made is in it."""
    for digest, data in blobs(layout).items():
        assert digest_of(data, digest.partition(":")[0]) == digest
    assert {path.name for path in layout.iterdir()} <= {"oci-layout", "index.json", "manifest.json", "blobs"}


def has(layout: Path, *images: Image) -> None:
    """Fail unless a layout is sound and holds these images whole."""
    is_sound(layout)
    there = blobs(layout)
    for image in images:
        for each in image.walk():
            assert there[each.digest] == each.manifest.data
            assert all(there[blob.digest] == blob.data for blob in each.blobs)


def unpack(tar: bytes, directory: Path) -> Path:
    """A layout out of a tar."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        archive.extractall(directory, filter="data")
    return directory


def packed(files: dict[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """A tar of files in this order, and of members that are none."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for other in others:
            archive.addfile(other)
    return buffer.getvalue()


def files_of(layout: Path) -> dict[str, bytes]:
    """All files of a layout in a directory, blobs first."""
    found = {str(path.relative_to(layout)): path.read_bytes() for path in sorted(layout.rglob("*")) if path.is_file()}
    return dict(sorted(found.items(), key=lambda file: (not file[0].startswith("blobs/"), file[0])))


def content_of(root: Path) -> dict[str, bytes]:
    """All of registry:2's tree that is no upload session and no history: what a copy must have, too."""
    tree = root / "docker/registry/v2"
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in sorted(tree.rglob("*"))
        if path.is_file() and not {"_uploads", "index"} & set(path.parts)
    }


def edit_index(layout: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the entries of a layout's index."""
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


def spoil(layout: Path, blob: Content) -> None:
    """Change a byte of a blob in a layout."""
    (layout / "blobs/sha256" / blob.hex).write_bytes(blob.data[:-1] + b"?")
