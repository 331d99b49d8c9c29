"""What a power cut, a full disk, registry:2 or an administrator may do to the tree, and what we make of it."""

import errno
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from registry.oci.digest import Digest
from registry.oci.errors import Denied, DigestInvalid
from registry.storage import durable, layout
from registry.storage.base import Key, LocalFile, Missing
from registry.storage.draft import Progress
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.root import Filesystem

UPLOADS = "docker/registry/v2/repositories/a/b/_uploads"
KEY = Key(f"{UPLOADS}/00000000-0000-4000-8000-000000000000")
LINK = Key("docker/registry/v2/repositories/a/_manifests/tags/latest/current/link")
DATA = b"content" * 1000
DIGEST = Digest.of(DATA)
MIB = 1024 * 1024

Opened = Callable[..., Filesystem]


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


# Torn files


def test_a_blob_without_bytes_is_absent(blobs: FilesystemBlobs, root: Path) -> None:
    """registry:2 renames without fsync, so a power cut leaves names without content."""
    blobs.put(DIGEST, DATA)
    path = root / layout.blob(DIGEST)
    path.write_bytes(b"")
    readers: list[Callable[[], Any]] = [
        lambda: blobs.size(DIGEST),
        lambda: blobs.open(DIGEST),
        lambda: blobs.read(DIGEST, MIB),
        lambda: blobs.promise(DIGEST),
        lambda: blobs.promise(DIGEST, lease=60),
    ]
    for read in readers:
        with pytest.raises(Missing):
            read()
    blobs.put(DIGEST, DATA)
    assert blobs.read(DIGEST, MIB) == DATA


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_blob_of_nothing_is_there(blobs: FilesystemBlobs, algorithm: str) -> None:
    digest = Digest.of(b"", algorithm)
    blobs.put(digest, b"")
    assert blobs.size(digest) == blobs.promise(digest) == 0
    assert blobs.read(digest, 0) == b""
    source = blobs.open(digest)
    assert isinstance(source, LocalFile)
    source.close()


@pytest.mark.parametrize("size", [0, 1, 6999])
def test_a_commit_replaces_a_torn_blob(blobs: FilesystemBlobs, root: Path, size: int) -> None:
    blobs.put(DIGEST, DATA)
    os.truncate(root / layout.blob(DIGEST), size)
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA])
    draft.commit(DIGEST)
    draft.close()
    assert blobs.read(DIGEST, MIB) == DATA


@pytest.mark.parametrize(
    "torn",
    [
        b"",
        b"\0" * 76,
        b"sha256:",
        DIGEST.encode(),
        DIGEST.encode() + b" ",
        DIGEST.encode() + b" x",
        DIGEST.encode() + b" -5",
        DIGEST.encode() + b" 1 2",
        b"sha256:abc 5",
        b"\xff\xfe",
        b"x" * 10_000,
    ],
)
def test_with_a_torn_progress_every_byte_counts_and_the_digest_decides(
    blobs: FilesystemBlobs, other_blobs: FilesystemBlobs, root: Path, torn: bytes
) -> None:
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA[:100]])
    draft.checkpoint()
    draft.close()
    (root / KEY / "progress").write_bytes(torn)
    assert other_blobs.offset(KEY) == 100
    draft = other_blobs.resume(KEY)
    assert draft.offset == 100
    draft.write([DATA[100:]])
    with pytest.raises(DigestInvalid):
        draft.commit(Digest.of(b"other"))
    assert draft.commit(DIGEST) == len(DATA)
    draft.close()


def test_a_session_that_lost_bytes_that_counted_is_missing(blobs: FilesystemBlobs, root: Path) -> None:
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA])
    draft.checkpoint()
    draft.close()
    os.truncate(root / KEY / "data", 10)
    with pytest.raises(Missing):
        blobs.offset(KEY)
    with pytest.raises(Missing):
        blobs.resume(KEY)
    blobs.discard(KEY)


# Sessions of registry:2


def session_of_registry_2(root: Path, data: bytes) -> None:
    directory = root / KEY
    (directory / "hashstates/sha256").mkdir(parents=True)
    (directory / "hashstates/sha256/0").write_bytes(b"go's own")
    (directory / "startedat").write_bytes(b"2024-01-02T03:04:05Z")
    (directory / "data").write_bytes(data)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_session_that_registry_2_began_goes_on_where_it_stopped(
    blobs: FilesystemBlobs, root: Path, algorithm: str
) -> None:
    session_of_registry_2(root, DATA[:5000])
    assert blobs.offset(KEY) == 5000
    draft = blobs.resume(KEY)
    draft.write([DATA[5000:6000]])
    draft.checkpoint()
    draft.close()
    draft = blobs.resume(KEY)
    assert draft.offset == 6000
    draft.write([DATA[6000:]])
    digest = Digest.of(DATA, algorithm)
    assert draft.commit(digest) == len(DATA)
    draft.close()
    assert blobs.read(digest, MIB) == DATA


def test_a_whole_session_of_registry_2_is_closed_without_another_byte(blobs: FilesystemBlobs, root: Path) -> None:
    session_of_registry_2(root, DATA)
    draft = blobs.resume(KEY)
    assert draft.commit(DIGEST) == len(DATA)
    draft.close()
    blobs.discard(KEY)
    assert not (root / KEY).exists()


def test_an_unfinished_write_to_registry_2_s_session_does_not_count(blobs: FilesystemBlobs, root: Path) -> None:
    session_of_registry_2(root, DATA[:5000])
    draft = blobs.resume(KEY)
    draft.write([b"lost"])
    draft.close()
    assert (root / KEY / "data").stat().st_size == 5000
    assert blobs.offset(KEY) == 5000


# Room


def test_bytes_beyond_the_checkpoint_are_given_back_when_it_is_closed(blobs: FilesystemBlobs, root: Path) -> None:
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA])
    draft.checkpoint()
    draft.write([b"x" * MIB])
    assert (root / KEY / "data").stat().st_size == len(DATA) + MIB
    draft.close()
    assert (root / KEY / "data").stat().st_size == len(DATA)


def test_bytes_of_a_killed_writer_are_cut_off_by_the_next(
    blobs: FilesystemBlobs, other_blobs: FilesystemBlobs, root: Path
) -> None:
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA])
    draft.checkpoint()
    draft.write([b"x" * MIB])
    os.close(draft._descriptor)  # gone, without a word
    draft = other_blobs.resume(KEY)
    assert draft.offset == len(DATA)
    draft.write([b"y"])
    assert (root / KEY / "data").stat().st_size == len(DATA) + 1
    assert draft.commit(Digest.of(DATA + b"y")) == len(DATA) + 1
    draft.close()


def with_room(monkeypatch: pytest.MonkeyPatch, free: int, total: int) -> None:
    """A disk of `total` MiB with `free` MiB for everybody; a tenth more for root alone does not count."""
    block = 4096
    blocks = MIB // block
    answer = os.statvfs_result(
        (block, block, total * blocks, (free + total // 10) * blocks, free * blocks, 9, 9, 9, 0, 255)
    )
    monkeypatch.setattr(os, "statvfs", lambda path: answer)


def test_a_new_upload_is_refused_below_the_floor_with_the_figures(
    opened: Opened, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = FilesystemBlobs(opened(floor=100 * MIB))
    with_room(monkeypatch, free=99, total=1000)
    with pytest.raises(Denied) as refused:
        blobs.begin(KEY, "sha256")
    assert refused.value.detail == {"free": 99 * MIB, "total": 1000 * MIB, "wanted": 0, "floor": 100 * MIB}
    for figure in ("99.0 MiB", "1000.0 MiB", "100.0 MiB", "minfreespace"):
        assert figure in refused.value.message
    assert not (root / KEY).exists()


def test_a_body_that_would_not_fit_is_refused_before_it_comes(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FilesystemBlobs(opened(floor=100 * MIB))
    with_room(monkeypatch, free=150, total=1000)
    draft = blobs.begin(KEY, "sha256")
    draft.expect(50 * MIB)
    with pytest.raises(Denied) as refused:
        draft.expect(50 * MIB + 1)
    assert refused.value.detail == {
        "free": 150 * MIB,
        "total": 1000 * MIB,
        "wanted": 50 * MIB + 1,
        "floor": 100 * MIB,
    }
    draft.close()


def test_a_body_of_unknown_length_is_stopped_at_the_floor(
    opened: Opened, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = FilesystemBlobs(opened(floor=100 * MIB))
    with_room(monkeypatch, free=100, total=1000)
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA])
    with_room(monkeypatch, free=99, total=1000)
    with pytest.raises(Denied):
        draft.write([DATA])
    draft.close()
    assert (root / KEY / "data").stat().st_size == 0


def test_what_is_there_can_be_read_finished_and_deleted_below_the_floor(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened(floor=100 * MIB)
    blobs, records = FilesystemBlobs(files), FilesystemRecords(files)
    records.write(LINK, b"x")
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA])
    draft.checkpoint()
    draft.close()
    with_room(monkeypatch, free=0, total=1000)
    assert blobs.offset(KEY) == len(DATA)
    draft = blobs.resume(KEY)
    assert draft.commit(DIGEST) == len(DATA)
    draft.close()
    assert blobs.read(DIGEST, MIB) == DATA
    records.delete(LINK)
    blobs.discard(KEY)


def test_without_a_floor_nobody_looks_at_the_room(blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "statvfs")
    draft = blobs.begin(KEY, "sha256")
    draft.expect(2**60)
    draft.write([DATA])
    draft.close()


# A full disk


def full_disk(monkeypatch: pytest.MonkeyPatch, room: int = 0) -> None:
    """After `room` more bytes the disk is full; the last write is a short one, as the kernel does it."""
    real = os.writev

    def writev(descriptor: int, parts: Iterable[bytes]) -> int:
        nonlocal room
        data = b"".join(parts)
        if data and not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, [data[:room]])
        room -= written
        return written

    monkeypatch.setattr(os, "writev", writev)


def test_a_write_to_a_full_disk_fails_and_gives_back_what_it_wrote(
    blobs: FilesystemBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA[:1000]])
    draft.checkpoint()
    full_disk(monkeypatch, room=500)
    with pytest.raises(OSError, match="No space left"):
        draft.write([DATA[1000:]])
    draft.close()
    assert (root / KEY / "data").stat().st_size == 1000
    monkeypatch.undo()
    draft = blobs.resume(KEY)
    assert draft.offset == 1000
    draft.write([DATA[1000:]])
    assert draft.commit(DIGEST) == len(DATA)
    draft.close()


def test_a_writer_that_goes_on_after_a_failed_write_never_commits_what_is_not_its_content(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it, "nothing after the last checkpoint counts"."""
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA[:1000]])
    draft.checkpoint()
    full_disk(monkeypatch, room=500)
    with pytest.raises(OSError, match="No space left"):
        draft.write([DATA[1000:]])
    monkeypatch.undo()
    assert draft.offset == 1000
    draft.write([DATA[1000:]])
    assert draft.commit(DIGEST) == len(DATA)
    draft.close()
    assert blobs.read(DIGEST, MIB) == DATA


def test_a_draft_cannot_begin_on_a_full_disk_and_leaves_nothing(
    blobs: FilesystemBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in (0, 5, 20, 30, 90):
        with monkeypatch.context() as fault:
            full_disk(fault, room)
            with pytest.raises(OSError, match="No space left"):
                blobs.begin(KEY, "sha256")
        assert not (root / KEY).exists(), f"with room for {room} bytes"


def test_a_checkpoint_on_a_full_disk_fails_and_leaves_no_parts(
    blobs: FilesystemBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA[:1000]])
    draft.checkpoint()
    draft.write([DATA[1000:]])
    full_disk(monkeypatch, room=10)
    with pytest.raises(OSError, match="No space left"):
        draft.checkpoint()
    draft.close()
    monkeypatch.undo()
    assert files_below(root / KEY) == {"data", "progress", "startedat"}
    assert files_below(root / layout.TEMPORARY) == set()
    assert blobs.offset(KEY) == 1000
    assert (root / KEY / "data").stat().st_size == 1000


@pytest.mark.parametrize("room", [0, 3])
def test_a_value_that_cannot_be_written_leaves_the_old_one_and_no_parts(
    records: FilesystemRecords, root: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    records.write(LINK, b"old value")
    full_disk(monkeypatch, room)
    with pytest.raises(OSError, match="No space left"):
        records.write(LINK, b"new value")
    monkeypatch.undo()
    assert records.read(LINK) == b"old value"
    assert files_below(root / layout.TEMPORARY) == set()


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir"])
def test_whatever_call_fails_no_parts_are_left_and_nothing_is_visible(
    blobs: FilesystemBlobs, root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as fault:
        fault.setattr(os, call, fail)
        with pytest.raises(OSError, match="Input/output"):
            blobs.put(DIGEST, DATA)
    assert files_below(root / layout.TEMPORARY) == set()
    with pytest.raises(Missing):
        blobs.size(DIGEST)
    blobs.put(DIGEST, DATA)


def test_a_draft_of_an_unknown_algorithm_is_refused_and_leaves_nothing(blobs: FilesystemBlobs, root: Path) -> None:
    with pytest.raises(DigestInvalid):
        blobs.begin(KEY, "md5")
    assert not (root / UPLOADS).exists()


# Leases


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_promise_renews_the_lease(blobs: FilesystemBlobs, root: Path) -> None:
    blobs.put(DIGEST, DATA)
    path = root / layout.blob(DIGEST)
    age(path, 3600)
    blobs.promise(DIGEST)
    assert time.time() - path.stat().st_mtime < 60


def test_a_lease_that_is_young_enough_is_left_alone(blobs: FilesystemBlobs, root: Path) -> None:
    blobs.put(DIGEST, DATA)
    path = root / layout.blob(DIGEST)
    age(path, 100)
    blobs.promise(DIGEST, lease=200)
    assert time.time() - path.stat().st_mtime > 90
    blobs.promise(DIGEST, lease=50)
    assert time.time() - path.stat().st_mtime < 60


def test_reading_renews_nothing(blobs: FilesystemBlobs, root: Path) -> None:
    blobs.put(DIGEST, DATA)
    path = root / layout.blob(DIGEST)
    age(path, 100)
    blobs.size(DIGEST)
    blobs.read(DIGEST, MIB)
    blobs.open(DIGEST).close()
    assert time.time() - path.stat().st_mtime > 90


def test_a_blob_has_a_lease_from_its_commit_on_however_long_its_upload_took(blobs: FilesystemBlobs, root: Path) -> None:
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA])
    draft.checkpoint()
    draft.close()
    age(root / KEY / "data", 10**6)
    draft = blobs.resume(KEY)
    draft.commit(DIGEST)
    draft.close()
    assert time.time() - (root / layout.blob(DIGEST)).stat().st_mtime < 60


def test_a_blob_that_is_pushed_again_has_a_new_lease(blobs: FilesystemBlobs, root: Path) -> None:
    blobs.put(DIGEST, DATA)
    age(root / layout.blob(DIGEST), 10**6)
    blobs.put(DIGEST, DATA)
    assert time.time() - (root / layout.blob(DIGEST)).stat().st_mtime < 60


@pytest.mark.parametrize("reason", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_promise_on_a_medium_that_takes_no_writes_only_looks(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    blobs.put(DIGEST, DATA)
    monkeypatch.setattr(os, "utime", refuse)
    assert blobs.promise(DIGEST) == len(DATA)
    with pytest.raises(Missing):
        blobs.promise(Digest.of(b"other"))


def test_a_blob_that_goes_between_touch_and_look_is_missing(
    blobs: FilesystemBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put(DIGEST, DATA)
    real = os.utime

    def touch_and_lose(path: str) -> None:
        real(path)
        Path(path).unlink()

    monkeypatch.setattr(os, "utime", touch_and_lose)
    with pytest.raises(Missing):
        blobs.promise(DIGEST)


# Work that is not done twice


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """Every call of a system call from now on."""
    calls: list[object] = []
    real = getattr(os, name)

    def count(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(os, name, count)
    return calls


def test_a_session_of_this_process_is_never_read_again(blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = counted(monkeypatch, "pread")
    blobs.begin(KEY, "sha256").close()
    for number in range(7):
        draft = blobs.resume(KEY)
        draft.write([DATA[number * 1000 : (number + 1) * 1000]])
        draft.checkpoint()
        draft.close()
    draft = blobs.resume(KEY)
    draft.commit(DIGEST)
    draft.close()
    assert reads == []


def test_another_process_closes_a_session_without_reading_it(
    blobs: FilesystemBlobs, other_blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA])
    draft.checkpoint()
    draft.close()
    reads = counted(monkeypatch, "pread")
    draft = other_blobs.resume(KEY)
    draft.commit(DIGEST)
    draft.close()
    assert reads == []


def test_another_process_that_adds_to_a_session_reads_it_once(
    blobs: FilesystemBlobs, other_blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA[:6000]])
    draft.checkpoint()
    draft.close()
    reads = counted(monkeypatch, "pread")
    draft = other_blobs.resume(KEY)
    for number in range(10):
        draft.write([DATA[6000 + number * 100 : 6000 + (number + 1) * 100]])
        draft.checkpoint()
    draft.close()
    draft = other_blobs.resume(KEY)
    assert draft.commit(DIGEST) == len(DATA)
    draft.close()
    assert len(reads) == 1


def test_a_directory_is_synced_once_and_not_for_every_link_below_it(
    records: FilesystemRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.write(LINK, b"first")
    syncs = counted(monkeypatch, "fsync")
    records.write(LINK, b"second")
    assert len(syncs) == 2  # the file, and its directory


# Other hands


@pytest.mark.parametrize("depth", [0, 1, 5, 20])
@pytest.mark.parametrize("remembered", [False, True])
def test_a_repository_that_was_removed_by_hand_takes_the_next_push_at_once(
    opened: Opened,
    root: Path,
    depth: int,
    remembered: bool,  # noqa: FBT001
) -> None:
    files = opened()
    records = FilesystemRecords(files)
    key = Key("/".join(["docker/registry/v2/repositories/top", *map(str, range(depth)), "_layers/sha256/abc/link"]))
    records.write(key, b"first")
    if not remembered:
        records = FilesystemRecords(opened())
    durable.remove_tree(opened().directories, str(root / "docker/registry/v2/repositories/top"))
    assert not (root / "docker/registry/v2/repositories/top").exists()
    records.write(key, b"second")
    assert records.read(key) == b"second"


@pytest.mark.parametrize("removed", ["_layers", "", ".."])
def test_a_collection_that_was_removed_by_hand_is_kept_again(
    records: FilesystemRecords, opened: Opened, root: Path, removed: str
) -> None:
    layers = Key("docker/registry/v2/repositories/a/_layers")
    records.keep(layers)
    durable.remove_tree(opened().directories, os.path.normpath(root / "docker/registry/v2/repositories/a" / removed))
    records.keep(layers)
    assert (root / layers).is_dir()


def test_the_blobs_can_be_removed_by_hand_and_pushed_again(blobs: FilesystemBlobs, opened: Opened, root: Path) -> None:
    blobs.put(DIGEST, DATA)
    durable.remove_tree(opened().directories, str(root / "docker"))
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA])
    draft.commit(DIGEST)
    draft.close()
    assert blobs.read(DIGEST, MIB) == DATA


def test_our_own_directory_can_be_removed_while_we_run(
    blobs: FilesystemBlobs, records: FilesystemRecords, opened: Opened, root: Path
) -> None:
    durable.remove_tree(opened().directories, str(root / "swarm-registry"))
    blobs.put(DIGEST, DATA)
    records.write(LINK, b"x")
    with records.exclusive(Key("swarm-registry/locks/aa")):
        pass
    draft = blobs.begin(KEY, "sha256")
    draft.write([DATA])
    draft.checkpoint()
    draft.close()
    assert blobs.offset(KEY) == len(DATA)


def test_names_that_are_no_text_are_listed_and_do_no_harm(records: FilesystemRecords, root: Path) -> None:
    tags = root / "docker/registry/v2/repositories/a/_manifests/tags"
    records.write(LINK, b"x")
    (Path(os.fsdecode(os.fsencode(tags) + b"/\xff"))).mkdir()
    assert len(records.list(Key("docker/registry/v2/repositories/a/_manifests/tags"))) == 2


def test_a_symbolic_link_is_removed_and_not_followed(records: FilesystemRecords, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    records.write(LINK, b"x")
    tag = (root / LINK).parent.parent
    (tag / "away").symlink_to(outside)
    records.clear(Key("docker/registry/v2/repositories/a/_manifests/tags/latest"))
    assert not tag.exists()
    assert (outside / "precious").read_bytes() == b"x"


# Versions of a collection


def test_a_collection_that_changed_a_moment_ago_is_looked_at_again(records: FilesystemRecords) -> None:
    records.write(LINK, b"x")
    assert records.version(Key(LINK.removesuffix("/link"))) is None


def test_a_collection_that_has_been_quiet_has_a_version(records: FilesystemRecords, root: Path) -> None:
    collection = Key("docker/registry/v2/repositories/a/_manifests/tags")
    records.write(LINK, b"x")
    age(root / collection, 10)
    version = records.version(collection)
    assert version is not None
    assert records.version(collection) == version
    (root / collection / "other").mkdir()
    age(root / collection, 5)
    assert records.version(collection) not in (None, version)


def test_a_collection_that_is_not_there_has_a_version_too(records: FilesystemRecords, root: Path) -> None:
    """Hardly a repository has sha512 revisions; without this the whole of it was listed at every question."""
    collection = Key("docker/registry/v2/repositories/a/_manifests/revisions/sha512")
    version = records.version(collection)
    assert version is not None
    assert records.version(collection) == version
    (root / collection).mkdir(parents=True)
    age(root / collection, 10)
    assert records.version(collection) not in (None, version)


# Opening


def test_a_root_that_is_missing_is_made(tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet"
    Filesystem(root).require_writable()
    assert root.is_dir()


def test_a_root_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        Filesystem(root).require_writable()


def test_opening_leaves_no_trace_in_registry_2_s_tree(opened: Opened, root: Path) -> None:
    opened()
    assert files_below(root) == set()
    assert not (root / "docker").exists()


def test_old_leftovers_are_removed_when_it_is_opened_and_young_ones_are_another_writer_s(
    opened: Opened, root: Path
) -> None:
    opened()
    old, young = root / layout.TEMPORARY / "old", root / layout.TEMPORARY / "young"
    for path in (old, young):
        path.write_bytes(b"part")
    age(old, 10**6)
    opened()
    assert not old.exists()
    assert young.exists()


def test_removing_leftovers_goes_on_where_a_file_is_renamed_meanwhile(
    opened: Opened, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()
    directory = root / layout.TEMPORARY
    for number in range(10):
        (directory / str(number)).write_bytes(b"part")
        age(directory / str(number), 10**6)
    real = os.unlink

    def unlink(path: str) -> None:
        """Another process takes all that was listed."""
        for number in range(0, 10, 2):
            with suppress(FileNotFoundError):
                real(directory / str(number))
        real(path)

    monkeypatch.setattr(os, "unlink", unlink)
    durable.remove_older(str(directory), 60)
    assert files_below(directory) == set()


def test_progress_is_one_line_that_reads_back() -> None:
    for progress in (Progress(DIGEST, 0), Progress(Digest.of(b"", "sha512"), 2**50)):
        again = Progress.parse(progress.render().decode())
        assert (again.digest, again.size) == (progress.digest, progress.size)
        assert progress.render().count(b"\n") == 1
