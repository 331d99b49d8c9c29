"""The file is read again when it changes; a slip leaves the users of before, and one line in the log."""

import asyncio
import logging
import os
import tempfile
from pathlib import Path

import pytest

from registry.auth import rereading
from registry.auth.htpasswd import hash_of
from registry.auth.passwordfile import PasswordFile

SECRET = hash_of("secret", 4)


def users(*names: str) -> bytes:
    return b"".join(name.encode() + b":" + SECRET + b"\n" for name in names)


@pytest.fixture
def names(path, clock):
    """The names, one look later each time."""
    path.write_bytes(users("alice"))
    opened = PasswordFile(path, clock)

    def look() -> list[str]:
        clock.now += 1.1
        return [name.decode() for name in asyncio.run(opened.entries()).users]

    look.file = opened
    return look


def test_a_change_is_seen_however_it_is_made(names, path, tmp_path):
    assert names() == ["alice"]
    path.write_bytes(users("alice", "bob"))
    assert names() == ["alice", "bob"]
    (tmp_path / "new").write_bytes(users("carol"))
    (tmp_path / "new").rename(path)
    assert names() == ["carol"]
    path.write_bytes(users("dorca"))  # of the same size
    assert names() == ["dorca"]


def test_it_is_looked_at_once_a_second_at_most_and_not_read_unless_it_changed(names, path, clock, monkeypatch):
    reads, looks = [], []
    read, changed = rereading._read, rereading._read_if_changed
    monkeypatch.setattr(rereading, "_read", lambda *given: reads.append(1) or read(*given))
    monkeypatch.setattr(rereading, "_read_if_changed", lambda *given: looks.append(1) or changed(*given))
    names()
    for _ in range(50):
        asyncio.run(names.file.entries())
    assert (len(looks), reads) == (1, [])


def test_many_that_ask_at_once_wait_for_one_look(names, path, clock, monkeypatch):
    looks = []
    changed = rereading._read_if_changed
    monkeypatch.setattr(rereading, "_read_if_changed", lambda *given: looks.append(1) or changed(*given))
    path.write_bytes(users("bob"))
    clock.now += 5

    async def ask():
        return await asyncio.gather(*(names.file.entries() for _ in range(20)))

    assert all(list(found.users) == [b"bob"] for found in asyncio.run(ask()))
    assert len(looks) == 1


def test_a_filesystem_that_hangs_does_not_hold_up_logins_for_ever(names, clock, monkeypatch):
    monkeypatch.setattr(rereading, "_PATIENCE", 0.05)

    async def ask():
        released = asyncio.Event()

        async def hang(*_):
            await released.wait()

        monkeypatch.setattr(asyncio, "to_thread", hang)
        clock.now += 5
        found = await asyncio.wait_for(names.file.entries(), 2)
        released.set()
        return found

    assert list(asyncio.run(ask()).users) == [b"alice"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(users("bob") + b"carol:$apr1$x$y\n"),
        lambda path: path.write_bytes(users("bob")[:-9]),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_file_that_became_wrong_keeps_its_users_and_is_named_once(names, path, caplog, spoil):
    caplog.set_level(logging.INFO)
    spoil(path)
    for _ in range(5):
        assert names() == ["alice"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert str(path) in record.getMessage()
    assert "$apr1$" not in record.getMessage()


def test_a_file_that_is_mended_counts_again(names, path, caplog):
    path.unlink()
    assert names() == ["alice"]
    path.write_bytes(users("bob"))
    assert names() == ["bob"]
    path.unlink()
    assert names() == ["bob"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_wrong_lines_from_the_start_are_named_and_passed_over_also_when_another_line_changes(path, clock, caplog):
    """registry:2 starts with such a file; whoever has that line never got in there either."""
    path.write_bytes(users("alice") + b"old:$apr1$x$y\n")
    opened = PasswordFile(path, clock)
    (record,) = caplog.records
    assert "line 2" in record.getMessage()
    assert "'old'" in record.getMessage()
    path.write_bytes(users("bob", "alice") + b"old:$apr1$x$y\n")
    clock.now += 2
    assert list(asyncio.run(opened.entries()).users) == [b"bob", b"alice"]
    assert len(caplog.records) == 1


def test_a_file_that_lets_nobody_in_says_so(path, caplog):
    path.write_bytes(b"")
    PasswordFile(path)
    assert "registry user add" in caplog.text


def test_a_file_that_cannot_be_read_is_an_error_at_the_start(path):
    with pytest.raises(FileNotFoundError):
        PasswordFile(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_of_root_s_is_served_on_after_root_is_given_up(clock, caplog):
    """A swarm secret of mode 0400: read before, and never changed."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory) / "htpasswd"
        path.write_bytes(users("alice"))
        path.chmod(0o400)
        opened = PasswordFile(path, clock)
        os.seteuid(65532)
        try:
            clock.now += 2
            assert list(asyncio.run(opened.entries()).users) == [b"alice"]
        finally:
            os.seteuid(0)
    assert caplog.records == []
