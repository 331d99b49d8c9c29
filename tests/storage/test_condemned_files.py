"""What condemning leaves on disk: nothing; and what a killed collection leaves: nothing that is not put back."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.oci.digest import Digest
from registry.storage import durable, layout
from registry.storage.base import Key, Missing
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.root import Filesystem

DATA = b"content" * 1000
DIGEST = Digest.of(DATA)
LINK = Key(f"docker/registry/v2/repositories/a/b/_layers/sha256/{DIGEST.hex}/link")
LONG_AGO = 1_000_000

Opened = Callable[..., Filesystem]


def age(path: Path) -> None:
    os.utime(path, (LONG_AGO, LONG_AGO))


def in_trash(root: Path) -> list[Path]:
    return [path for path in (root / layout.TRASH).rglob("*") if path.is_file()]


@pytest.fixture
def blob(blobs: FilesystemBlobs, root: Path) -> Path:
    """An old blob."""
    blobs.put(DIGEST, DATA)
    path = root / layout.blob(DIGEST)
    age(path)
    return path


def throw_away(root: Path, key: Key) -> Path:
    """As a collector does that is killed right after."""
    trashed = root / f"{layout.condemned(key)}.0123456789abcdef"
    trashed.parent.mkdir(parents=True, exist_ok=True)
    (root / key).rename(trashed)
    return trashed


def test_the_directory_of_a_condemned_blob_goes_with_it(blobs: FilesystemBlobs, blob: Path, root: Path) -> None:
    assert blobs.condemn(DIGEST, time.time()) == len(DATA)
    assert not blob.parent.exists()
    assert blob.parent.parent.is_dir()
    assert in_trash(root) == []


def test_a_file_beside_a_condemned_blob_stays_where_it_is(blobs: FilesystemBlobs, blob: Path) -> None:
    (blob.parent / "data.md5").write_text("somebody's")
    assert blobs.condemn(DIGEST, time.time()) == len(DATA)
    assert [path.name for path in blob.parent.iterdir()] == ["data.md5"]
    assert list(blobs.walk()) == []


def test_the_directory_of_a_condemned_link_goes_with_it(records: FilesystemRecords, root: Path) -> None:
    records.write(LINK, DIGEST.encode())
    age(root / LINK)
    assert records.condemn(LINK, time.time())
    assert not (root / LINK).parent.exists()
    assert (root / LINK).parent.parent.is_dir()
    assert in_trash(root) == []


def test_who_knew_the_directory_publishes_into_it_again(
    blobs: FilesystemBlobs, other_blobs: FilesystemBlobs, blob: Path
) -> None:
    for _ in range(3):
        assert other_blobs.condemn(DIGEST, time.time()) == len(DATA)
        blobs.put(DIGEST, DATA)
        assert other_blobs.read(DIGEST, 10_000) == DATA
        age(blob)


def test_a_blob_that_is_replaced_while_it_is_condemned_stays(
    blobs: FilesystemBlobs, blob: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = durable._move

    def push_first(directories: durable.Directories, source: str, target: str) -> None:
        blobs.put(DIGEST, DATA)
        real(directories, source, target)

    monkeypatch.setattr(durable, "_move", push_first)
    assert blobs.condemn(DIGEST, time.time() - 5) is None
    assert blob.read_bytes() == DATA
    assert in_trash(root) == []


def test_a_blob_that_is_pushed_while_a_fresh_one_is_put_back_is_not_replaced(
    blobs: FilesystemBlobs, other_blobs: FilesystemBlobs, blob: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = durable._move
    pushed: list[int] = []

    def promised_and_pushed(directories: durable.Directories, source: str, target: str) -> None:
        blobs.promise(DIGEST)
        real(directories, source, target)
        other_blobs.put(DIGEST, DATA)
        pushed.append(blob.stat().st_ino)

    monkeypatch.setattr(durable, "_move", promised_and_pushed)
    assert blobs.condemn(DIGEST, time.time() - 5) is None
    assert [blob.stat().st_ino] == pushed
    assert in_trash(root) == []


def test_a_file_that_another_process_put_back_meanwhile_is_let_alone(
    blobs: FilesystemBlobs, opened: Opened, blob: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that starts beside a collection finds its trash."""
    real = durable._move

    def and_a_server_starts(directories: durable.Directories, source: str, target: str) -> None:
        real(directories, source, target)
        opened()

    monkeypatch.setattr(durable, "_move", and_a_server_starts)
    assert blobs.condemn(DIGEST, time.time()) is None
    assert blob.read_bytes() == DATA
    assert in_trash(root) == []
    monkeypatch.undo()
    assert blobs.condemn(DIGEST, time.time()) == len(DATA)  # although the trash was tidied


@pytest.mark.parametrize("when", [LONG_AGO, None], ids=["old", "fresh"])
def test_what_a_killed_collection_had_in_its_hands_is_put_back_when_a_server_starts(
    opened: Opened, blob: Path, root: Path, when: int | None
) -> None:
    trashed = throw_away(root, layout.blob(DIGEST))
    os.utime(trashed, None if when is None else (when, when))
    before = trashed.stat()
    opened()
    assert blob.read_bytes() == DATA
    assert (blob.stat().st_mtime, blob.stat().st_ino) == (before.st_mtime, before.st_ino)
    assert in_trash(root) == []


def test_a_link_of_a_killed_collection_is_put_back(records: FilesystemRecords, opened: Opened, root: Path) -> None:
    records.write(LINK, DIGEST.encode())
    throw_away(root, LINK)
    (root / LINK).parent.rmdir()
    opened()
    assert records.read(LINK) == DIGEST.encode()
    assert in_trash(root) == []


def test_each_medium_restores_its_own(
    blobs: FilesystemBlobs, records: FilesystemRecords, blob: Path, root: Path
) -> None:
    records.write(LINK, DIGEST.encode())
    throw_away(root, LINK)
    throw_away(root, layout.blob(DIGEST))
    blobs.restore()
    assert blob.exists()
    with pytest.raises(Missing):
        records.read(LINK)
    records.restore()
    assert records.read(LINK) == DIGEST.encode()


def test_what_was_pushed_again_since_is_not_replaced_by_the_trash(
    blobs: FilesystemBlobs, opened: Opened, blob: Path, root: Path
) -> None:
    throw_away(root, layout.blob(DIGEST)).write_bytes(b"rotten")
    blobs.put(DIGEST, DATA)
    opened()
    assert blob.read_bytes() == DATA
    assert in_trash(root) == []


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_hard_links_it_is_put_back_too(
    opened: Opened, blob: Path, root: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def no_links(source: str, target: str) -> None:
        raise OSError(refusal, os.strerror(refusal))

    throw_away(root, layout.blob(DIGEST))
    monkeypatch.setattr(os, "link", no_links)
    opened()
    assert blob.read_bytes() == DATA
    assert in_trash(root) == []
    blob.write_bytes(b"newer")
    throw_away(root, layout.blob(DIGEST)).write_bytes(DATA)
    blob.write_bytes(b"newer")
    opened()
    assert blob.read_bytes() == b"newer"
    assert in_trash(root) == []


def test_a_walk_passes_over_what_is_no_blob(blobs: FilesystemBlobs, blob: Path, root: Path) -> None:
    top = root / layout.BLOBS
    (top / "sha256" / "zz" / "not hex").mkdir(parents=True)
    (top / "sha256" / "00" / DIGEST.hex).mkdir(parents=True)
    (top / "sha256" / "00" / DIGEST.hex / "data").write_bytes(DATA)  # at a place where nobody looks
    (top / "sha256" / "file").write_bytes(b"")
    (top / "md5").mkdir()
    (top / "sha256" / "aa" / ("a" * 64)).mkdir(parents=True)  # without data
    assert [found.digest for found in blobs.walk()] == [DIGEST]
