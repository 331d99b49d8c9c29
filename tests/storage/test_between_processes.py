"""Locks and drafts between processes that share a root: one writer, and no lock outlives its holder."""

import fcntl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry.oci.digest import Digest
from registry.storage.base import Busy, Key, Missing
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords

KEY = Key("docker/registry/v2/repositories/a/b/_uploads/00000000-0000-4000-8000-000000000000")
LOCK = Key("swarm-registry/locks/aa")
DATA = b"content" * 1000

PROLOGUE = """
import sys
from pathlib import Path
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.root import Filesystem
files = Filesystem(Path(sys.argv[1]))
files.require_writable()
blobs, records = FilesystemBlobs(files), FilesystemRecords(files)
def say(word):
    print(word, flush=True)
    sys.stdin.readline()
"""


class Child:
    """A process that runs a few lines, and stops at each `say` until it is told to go on."""

    def __init__(self, root: Path, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROLOGUE + code, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> str:
        assert self.process.stdout is not None
        timer = threading.Timer(30, self.process.kill)
        timer.start()
        try:
            return self.process.stdout.readline().strip()
        finally:
            timer.cancel()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@contextmanager
def child(root: Path, code: str, *, ready: str) -> Iterator[Child]:
    running = Child(root, code)
    try:
        assert running.hear() == ready
        yield running
    finally:
        running.kill()


def takes_at_least(seconds: float, records: FilesystemRecords, kind: str, until: Child) -> None:
    """Wanting a lock waits until the child, which is told to after `seconds`, lets it go."""
    timer = threading.Timer(seconds, until.go_on)
    begun = time.monotonic()
    timer.start()
    with getattr(records, kind)(LOCK):
        assert time.monotonic() - begun >= seconds
    timer.join(10)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("exclusive", "exclusive"), ("exclusive", "shared"), ("shared", "exclusive")]
)
def test_a_lock_of_another_process_is_waited_for(
    records: FilesystemRecords, root: Path, theirs: str, ours: str
) -> None:
    with child(root, f"with records.{theirs}('{LOCK}'): say('held')\nsay('gone')", ready="held") as other:
        takes_at_least(0.2, records, ours, other)


def test_a_shared_lock_is_held_together(records: FilesystemRecords, root: Path) -> None:
    with child(root, f"with records.shared('{LOCK}'): say('held')", ready="held"):
        begun = time.monotonic()
        with records.shared(LOCK), records.shared(LOCK):
            assert time.monotonic() - begun < 5


def test_a_shared_lock_is_held_together_by_threads(records: FilesystemRecords) -> None:
    together = threading.Barrier(4)
    met: list[int] = []

    def hold() -> None:
        with records.shared(LOCK):
            met.append(together.wait(10))

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(met) == [0, 1, 2, 3]


@pytest.mark.parametrize("theirs", ["exclusive", "shared"])
def test_the_lock_of_a_killed_process_is_gone_with_it(records: FilesystemRecords, root: Path, theirs: str) -> None:
    with child(root, f"with records.{theirs}('{LOCK}'): say('held')", ready="held") as other:
        other.kill()
        with records.exclusive(LOCK):
            pass


def test_another_process_s_writer_keeps_us_out_until_it_closes(blobs: FilesystemBlobs, root: Path) -> None:
    code = f"""
draft = blobs.begin('{KEY}', 'sha256')
draft.write([{DATA[:5000]!r}])
say('written')
draft.checkpoint()
say('checkpointed')
draft.close()
say('closed')
"""
    with child(root, code, ready="written") as other:
        with pytest.raises(Busy):
            blobs.resume(KEY)
        assert blobs.offset(KEY) == 0
        other.go_on()
        assert other.hear() == "checkpointed"
        with pytest.raises(Busy):
            blobs.resume(KEY)
        assert blobs.offset(KEY) == 5000
        other.go_on()
        assert other.hear() == "closed"
        draft = blobs.resume(KEY)
        draft.write([DATA[5000:]])
        assert draft.commit(Digest.of(DATA)) == len(DATA)
        draft.close()


def test_a_killed_writer_s_draft_goes_on_at_its_checkpoint(blobs: FilesystemBlobs, root: Path) -> None:
    code = f"""
draft = blobs.begin('{KEY}', 'sha256')
draft.write([{DATA[:5000]!r}])
draft.checkpoint()
draft.write([b'lost' * 10_000])
say('written')
"""
    with child(root, code, ready="written") as other:
        other.kill()
        assert blobs.offset(KEY) == 5000
        draft = blobs.resume(KEY)
        assert draft.offset == 5000
        draft.write([DATA[5000:]])
        assert draft.commit(Digest.of(DATA)) == len(DATA)
        draft.close()
        assert blobs.read(Digest.of(DATA), len(DATA)) == DATA


def test_a_draft_that_is_committed_just_before_we_lock_it_is_missing_and_the_blob_untouched(
    blobs: FilesystemBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that was opened as a draft is the published blob by the time its lock is had."""
    code = f"""
from registry.oci.digest import Digest
draft = blobs.begin('{KEY}', 'sha256')
draft.write([{DATA!r}])
say('written')
draft.commit(Digest.of({DATA!r}))
draft.close()
say('committed')
"""
    real = fcntl.flock
    with child(root, code, ready="written") as other:

        def flock_after_the_commit(descriptor: int, how: int) -> None:
            other.go_on()
            assert other.hear() == "committed"
            real(descriptor, how)

        monkeypatch.setattr(fcntl, "flock", flock_after_the_commit)
        with pytest.raises(Missing):
            blobs.resume(KEY)
    assert blobs.read(Digest.of(DATA), len(DATA)) == DATA
