"""Who gets in, at what cost, and what guessing is answered with. bcrypt is counted, never timed."""

import asyncio
import base64
import os
import threading

import pytest

from registry.auth.htpasswd import hash_of, matches
from registry.auth.limits import Failures, Notes, Verdict, Verdicts, network
from registry.auth.passwordfile import PasswordFile
from registry.auth.passwords import _MOST_WAITING, Passwords
from registry.oci.errors import TooManyRequests, Unauthorized, Unavailable

ALICE = hash_of("secret", 4)
MESH = "10.0.0.2"


def basic(user: str, password: str) -> list[bytes]:
    return [b"Basic " + base64.b64encode(f"{user}:{password}".encode())]


class Door:
    """Passwords, asked with what a test has at hand."""

    def __init__(self, path, clock, check):
        self.clock = clock
        self.passwords = Passwords(PasswordFile(path, clock), "Registry", check, clock)

    async def asks(self, user: str, password: str, address: str = MESH) -> str:
        """The name of whom it lets in; else the class of what it raises."""
        try:
            return (await self.passwords.check(basic(user, password), address)).name
        except (Unauthorized, TooManyRequests, Unavailable) as error:
            return type(error).__name__

    def ask(self, user: str, password: str, address: str = MESH) -> str:
        return asyncio.run(self.asks(user, password, address))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(Failures, "SLOWEST", 0.0)


@pytest.fixture
def door(path, clock, counting):
    path.write_bytes(b"alice:" + ALICE + b"\n")
    door = Door(path, clock, counting)
    yield door
    door.passwords.close()


def test_the_right_password_gets_in_and_any_other_does_not(door):
    assert door.ask("alice", "secret") == "alice"
    for user, password in ("alice", "Secret"), ("alice", ""), ("Alice", "secret"), ("", "secret"), ("bob", "secret"):
        assert door.ask(user, password) == "Unauthorized"


def test_who_sends_nothing_is_challenged_without_a_word_in_the_log(door, caplog, counting):
    with pytest.raises(Unauthorized) as raised:
        asyncio.run(door.passwords.check([], MESH))
    assert raised.value.headers == {"WWW-Authenticate": 'Basic realm="Registry"'}
    assert (caplog.records, counting.checked) == ([], [])


def test_utf_8_passwords(path, clock, counting):
    path.write_bytes("josé:".encode() + hash_of("contraseña €", 4) + b"\n")
    assert Door(path, clock, counting).ask("josé", "contraseña €") == "josé"


# What it costs


def test_a_remembered_password_costs_no_bcrypt_and_is_checked_again_after_some_minutes(door, counting, clock):
    for _ in range(100):
        assert door.ask("alice", "secret") == "alice"
        assert door.ask("alice", "secret", "192.0.2.1") == "alice"
    assert len(counting.checked) == 1
    clock.now += Verdicts.FRESH
    assert door.ask("alice", "secret") == "alice"
    assert len(counting.checked) == 2


def test_a_remembered_password_needs_no_thread(door, monkeypatch):
    assert door.ask("alice", "secret") == "alice"
    monkeypatch.setattr(asyncio.BaseEventLoop, "run_in_executor", None)
    monkeypatch.setattr(asyncio, "to_thread", None)
    check = door.passwords.check(basic("alice", "secret"), MESH)
    with pytest.raises(StopIteration) as ended:
        check.send(None)  # to its end, without an event loop
    assert ended.value.value.name == "alice"


def test_the_same_wrong_password_again_costs_no_bcrypt_and_is_no_guess(door, counting):
    """A job with an old password hammers, behind the address that all have on the mesh: it must lock out nobody."""
    for _ in range(100):
        assert door.ask("alice", "of last year") == "Unauthorized"
    assert len(counting.checked) == 1
    assert door.ask("alice", "secret") == "alice"


def test_many_that_ask_the_same_at_once_cost_one_bcrypt(door, counting):
    async def many():
        return await asyncio.gather(*(door.asks("alice", "secret") for _ in range(30)))

    assert asyncio.run(many()) == ["alice"] * 30
    assert len(counting.checked) == 1


def test_a_client_that_leaves_does_not_stop_the_check_that_others_wait_for(door, counting):
    async def leave_and_stay():
        leaver = asyncio.create_task(door.asks("alice", "secret"))
        stayer = asyncio.create_task(door.asks("alice", "secret"))
        await asyncio.sleep(0)
        leaver.cancel()
        return await stayer

    assert asyncio.run(leave_and_stay()) == "alice"
    assert len(counting.checked) == 1


def test_an_unknown_user_costs_a_bcrypt_of_the_same_cost(path, clock, counting):
    path.write_bytes(b"alice:" + hash_of("secret", 5) + b"\n")
    door = Door(path, clock, counting)
    assert door.ask("alice", "wrong") == door.ask("nobody", "wrong") == "Unauthorized"
    assert [hashed[4:6] for hashed in counting.against] == [b"05", b"05"]
    assert door.ask("nobody", "wrong") == "Unauthorized"
    assert len(counting.checked) == 2


def test_an_unknown_user_has_one_cost_and_it_is_one_of_those_in_the_file(path, clock, counting):
    path.write_bytes(b"a:" + hash_of("x", 4) + b"\nb:" + hash_of("x", 5) + b"\n")
    door = Door(path, clock, counting)
    for password in "pqrs":
        door.ask("nobody", password)
    assert len({hashed[4:6] for hashed in counting.against}) == 1
    for number in range(30):
        door.ask(f"nobody-{number}", "x")
    assert {hashed[4:6] for hashed in counting.against} == {b"04", b"05"}


def test_a_file_without_users_takes_time_too(path, clock, counting):
    path.write_bytes(b"")
    assert Door(path, clock, counting).ask("nobody", "x") == "Unauthorized"
    assert [hashed[4:6] for hashed in counting.against] == [b"10"]


# Changes


def test_a_changed_password_is_out_at_the_next_look(door, path, clock):
    assert door.ask("alice", "secret") == "alice"
    path.write_bytes(b"alice:" + hash_of("new", 4) + b"\n")
    clock.now += 1.1
    assert door.ask("alice", "secret") == "Unauthorized"
    assert door.ask("alice", "new") == "alice"


def test_a_removed_user_is_out_at_the_next_look_and_back_when_added_again(door, path, clock):
    assert door.ask("alice", "secret") == "alice"
    path.write_bytes(b"")
    clock.now += 1.1
    assert door.ask("alice", "secret") == "Unauthorized"
    path.write_bytes(b"alice:" + ALICE + b"\n")
    clock.now += 1.1
    assert door.ask("alice", "secret") == "alice"


def test_a_user_who_was_tried_before_it_was_added_gets_in_afterwards(door, path, clock):
    assert door.ask("bob", "secret") == "Unauthorized"
    path.write_bytes(b"bob:" + ALICE + b"\n")
    clock.now += 1.1
    assert door.ask("bob", "secret") == "bob"


# Guessing


def guess(door, times, user="alice", address=MESH):
    return [door.ask(user, f"guess {number}", address) for number in range(times)]


def test_after_some_wrong_passwords_there_is_429_without_bcrypt_until_the_window_has_passed(door, counting, clock):
    assert guess(door, Failures.MOST) == ["Unauthorized"] * Failures.MOST
    with pytest.raises(TooManyRequests) as raised:
        asyncio.run(door.passwords.check(basic("alice", "one more"), MESH))
    assert 1 <= int(raised.value.headers["Retry-After"]) <= Failures.WINDOW
    assert len(counting.checked) == Failures.MOST
    clock.now += Failures.WINDOW
    assert door.ask("alice", "secret") == "alice"


def test_many_guesses_at_once_are_counted_before_they_are_answered(door, counting):
    async def many():
        return await asyncio.gather(*(door.asks("alice", f"guess {number}") for number in range(25)))

    answers = asyncio.run(many())
    assert answers.count("Unauthorized") == len(counting.checked) == Failures.MOST
    assert answers.count("TooManyRequests") == 25 - Failures.MOST


def test_unknown_users_are_limited_alike(door):
    assert guess(door, Failures.MOST + 1, "nobody")[-1] == guess(door, Failures.MOST + 1)[-1] == "TooManyRequests"


def test_other_users_and_other_addresses_go_on(door, path, clock):
    path.write_bytes(b"alice:" + ALICE + b"\nbob:" + ALICE + b"\n")
    clock.now += 2
    guess(door, Failures.MOST + 5)
    assert door.ask("alice", "secret") == "TooManyRequests"
    assert door.ask("bob", "secret") == "bob"
    assert door.ask("alice", "secret", "192.0.2.7") == "alice"


def test_a_remembered_password_gets_in_whatever_others_guess_behind_the_same_address(door, clock, counting):
    """Behind the mesh, all clients have one address. Also after the minutes in which no bcrypt is needed."""
    assert door.ask("alice", "secret") == "alice"
    clock.now += Verdicts.FRESH + 1
    guess(door, Failures.MOST + 5)
    assert door.ask("alice", "another guess") == "TooManyRequests"
    assert door.ask("alice", "secret") == "alice"
    assert counting.checked.count(b"secret") == 2
    clock.now += Verdicts.KNOWN + 1
    guess(door, Failures.MOST + 5)
    assert door.ask("alice", "secret") == "TooManyRequests"


def test_right_passwords_are_no_failures(door, path, clock):
    for number in range(Failures.MOST + 5):
        path.write_bytes(b"alice:" + hash_of("secret", 4) + b"\n")
        clock.now += 1.1
        assert door.ask("alice", "secret") == "alice", number


def test_failures_are_slowed_more_and_more(clock):
    failures = Failures()
    failures.SLOWEST = 2.0
    slowed = []
    for _ in range(8):
        failures.begin(b"k", clock.now)
        slowed.append(failures.delay(b"k", clock.now))
    assert slowed == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_a_flood_waits_in_a_line_of_bounded_length_and_who_is_known_passes_it_by(path, clock):
    """All threads for strangers are taken, the line is full; whoever was right before gets in, by the other thread."""
    path.write_bytes(b"alice:" + ALICE + b"\nbob:" + ALICE + b"\n")
    go = threading.Event()

    def check(password: bytes, hashed: bytes) -> bool:
        if password != b"secret":
            go.wait(10)
        return matches(password, hashed)

    door = Door(path, clock, check)

    async def flood():
        assert await door.asks("alice", "secret") == "alice"
        clock.now += Verdicts.FRESH + 1
        strangers = [asyncio.create_task(door.asks(f"user-{n}", "x")) for n in range(_MOST_WAITING + 20)]
        await asyncio.sleep(0.1)
        known = await asyncio.wait_for(door.asks("alice", "secret"), 5)
        fresh = await asyncio.wait_for(door.asks("alice", "secret"), 5)
        go.set()
        return known, fresh, await asyncio.gather(*strangers)

    known, fresh, answers = asyncio.run(flood())
    assert (known, fresh) == ("alice", "alice")
    assert answers.count("Unavailable") == 20
    assert answers.count("Unauthorized") == _MOST_WAITING


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("registry.auth.limits._MOST", 100)
    verdicts = Verdicts()
    for number in range(1000):
        verdicts.note(b"%d" % number, 0.0, right=False)
    assert len(verdicts._wrong) == 100


def test_what_was_right_has_so_many_places_and_is_known_in_all_processes(monkeypatch):
    monkeypatch.setattr("registry.auth.limits._PLACES", 8)
    verdicts = Verdicts()
    marks = [bytes([number]) * 16 + number.to_bytes(16, "little") for number in range(10)]
    if not (pid := os.fork()):
        try:
            verdicts.note(marks[1], 1.0, right=True)
            verdicts.note(marks[2], 1.0, right=True)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert [verdicts.of(marks[number], 2.0) for number in (1, 2)] == [Verdict.RIGHT, Verdict.RIGHT]
    assert verdicts.of(marks[9], 2.0) is Verdict.UNKNOWN
    verdicts.note(marks[9], 2.0, right=True)
    assert [verdicts.of(marks[number], 3.0) for number in (1, 2, 9)] == [
        Verdict.UNKNOWN,
        Verdict.RIGHT,
        Verdict.RIGHT,
    ]


def test_failures_have_so_many_places_and_no_more(monkeypatch):
    """A key whose place another one has taken begins anew; all others are as they were."""
    monkeypatch.setattr("registry.auth.limits._PLACES", 8)
    failures = Failures()
    keys = [number.to_bytes(32, "little") for number in range(10)]
    for key in keys[1:3] * Failures.MOST:
        assert failures.begin(key, 1.0) == 0
    assert failures.begin(keys[9], 1.0) == 0
    assert failures.begin(keys[1], 1.0) == 0
    assert failures.begin(keys[2], 1.0) == 60


def test_processes_count_failures_together():
    """Forks of one, at the same time: of all their attempts so many are let through as of one process."""
    failures, key = Failures(), bytes(range(32))
    results = []
    for _ in range(4):
        reader, writer = os.pipe()
        if not (pid := os.fork()):
            try:
                os.write(writer, bytes(not failures.begin(key, 1.0 + number / 100) for number in range(8)))
            finally:
                os._exit(0)
        os.close(writer)
        results.append((pid, reader))
    allowed = 0
    for pid, reader in results:
        with os.fdopen(reader, "rb") as pipe:
            allowed += sum(pipe.read())
        os.waitpid(pid, 0)
    assert allowed == Failures.MOST
    failures.forgive(key, 1.0)
    assert failures.begin(key, 1.5) == 0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_of_ipv6_the_network_counts(address, counted):
    assert network(address) == counted


# The log


def test_a_failed_login_is_one_line_with_the_user_the_address_and_the_reason(door, caplog):
    door.ask("alice", "hunter2")
    door.ask("eve\u2028", "hunter2")
    with pytest.raises(Unauthorized):
        asyncio.run(door.passwords.check([b"Bearer hunter2"], MESH))
    assert [record.getMessage() for record in caplog.records] == [
        "login failed: user='alice' address=10.0.0.2 reason=wrong-password",
        "login failed: user='eve\\u2028' address=10.0.0.2 reason=unknown-user",
        "login failed: user='' address=10.0.0.2 reason=malformed",
    ]
    assert "hunter2" not in caplog.text


def test_the_log_is_not_flooded_and_says_how_many_lines_were_left_out(caplog):
    notes = Notes()
    for number in range(1000):
        notes.note(b"alice", MESH, "wrong-password", number / 100)
    assert len(caplog.records) == Notes.MOST
    notes.note(b"alice", MESH, "wrong-password", 61.0)
    assert caplog.records[-2].getMessage() == f"login failed: and {1000 - Notes.MOST} more within a minute"
