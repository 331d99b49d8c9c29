"""Promise and condemn: whatever the order of their steps, a promise that was given is kept.

Twice: as a model, in which even a single `utime` has two steps (the kernel finds the file, then touches it), with
killed collectors and starting servers; and with the real code on a real filesystem, stopped before each system call.
"""

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from registry.storage import durable

OLD, FRESH = 0, 1


# The model


@dataclass(frozen=True)
class State:
    """One file system, as far as it matters.

    Attributes:
        place: the file under the blob's name, by number; None = none.
        trash: the file that each collector has in the trash.
        touched: the modification time of each file.
        at: where each actor is in its steps; -1 = at its end.
        held: the file that each actor's path led to.
        promised: whether somebody was told that the blob is there.
    """

    place: int | None
    trash: tuple[int | None, ...]
    touched: tuple[int, ...]
    at: tuple[int, ...]
    held: tuple[int | None, ...]
    promised: bool = False

    def go(self, actor: int, to: int, **changes: Any) -> "State":
        at = (*self.at[:actor], to, *self.at[actor + 1 :])
        return replace(self, at=at, **changes)

    def hold(self, actor: int, file: int | None) -> tuple[int | None, ...]:
        return (*self.held[:actor], file, *self.held[actor + 1 :])

    def throw(self, name: int, file: int | None) -> tuple[int | None, ...]:
        return (*self.trash[:name], file, *self.trash[name + 1 :])

    def touch(self, file: int) -> tuple[int, ...]:
        return (*self.touched[:file], FRESH, *self.touched[file + 1 :])


@dataclass(frozen=True)
class Rules:
    """What can be left out, to see that it is missed."""

    confirms: bool = True
    looks_again: bool = True
    restores_all: bool = True
    names_of_their_own: bool = True


Actor = Callable[[State, int, Rules], Iterator[State]]
END = -1


def promiser(state: State, me: int, rules: Rules) -> Iterator[State]:
    match state.at[me]:
        case 0 if state.place is None:
            yield state.go(me, END)
        case 0:
            yield state.go(me, 1, held=state.hold(me, state.place))
        case 1:
            file = state.held[me]
            assert file is not None
            touched = state.touch(file)
            yield (
                state.go(me, 2, touched=touched)
                if rules.confirms
                else state.go(me, END, touched=touched, promised=True)
            )
        case 2:
            yield state.go(me, END, promised=state.promised or state.place is not None)


def pusher(state: State, me: int, rules: Rules) -> Iterator[State]:
    """Renames a new file to the name, and is told that it is there."""
    file = len(state.touched)
    yield state.go(me, END, place=file, touched=(*state.touched, FRESH), promised=True)


def collector(state: State, me: int, rules: Rules) -> Iterator[State]:
    """May be killed before each of its steps."""
    yield state.go(me, END)
    name = me if rules.names_of_their_own else 0
    mine = state.trash[name]
    match state.at[me]:
        case 0 if state.place is not None and state.touched[state.place] == OLD:
            yield state.go(me, 1)
        case 1 if state.place is not None and state.place == mine:
            yield state.go(me, 2)  # a rename between two names of one file does nothing
        case 1 if state.place is not None:
            yield state.go(me, 2 if rules.looks_again else 4, place=None, trash=state.throw(name, state.place))
        case 2 if mine is not None:
            yield state.go(me, 4 if state.touched[mine] == OLD else 3)
        case 3 if mine is not None:
            yield state.go(me, 4, place=mine if state.place is None else state.place)
        case 4:
            yield state.go(me, END, trash=state.throw(name, None))


def starter(state: State, me: int, rules: Rules) -> Iterator[State]:
    """A server, or the next collector, that finds something in the trash."""
    if state.at[me] == 0:
        yield state.go(me, END)
        for name, file in enumerate(state.trash):
            if file is not None:
                # If not all is restored: it is much later, and what was fresh is old.
                restored = file if rules.restores_all and state.place is None else state.place
                yield state.go(me, 1, place=restored, held=state.hold(me, name))
    else:
        name = state.held[me]
        assert name is not None
        yield state.go(me, 0, trash=state.throw(name, None))


def lost(actors: list[Actor], rules: Rules) -> int:
    """In how many of all ends is nothing there, although it was promised? Another start follows each end."""
    nothing = (None,) * len(actors)
    first = State(0, nothing, (OLD,), (0,) * len(actors), nothing)
    seen, pending, count, ends = {first}, [first], 0, 0
    while pending:
        state = pending.pop()
        if all(at == END for at in state.at):
            ends += 1
            left = (state.place, *(state.trash if rules.restores_all else ()))
            count += state.promised and all(file is None for file in left)
            continue
        for me, actor in enumerate(actors):
            if state.at[me] != END:
                for after in actor(state, me, rules):
                    if after not in seen:
                        seen.add(after)
                        pending.append(after)
    assert ends > 3
    return count


CROWDS: dict[str, list[Actor]] = {
    "three promises, two collectors": [promiser, promiser, promiser, collector, collector],
    "promises, a push, two collectors": [promiser, promiser, pusher, collector, collector],
    "promises, two collectors, a server starts": [promiser, promiser, collector, collector, starter],
    "two pushes, a promise, a collector, a server starts": [pusher, pusher, promiser, collector, starter],
}


@pytest.mark.parametrize("crowd", CROWDS.values(), ids=CROWDS)
def test_no_order_of_steps_loses_what_was_promised(crowd: list[Actor]) -> None:
    assert lost(crowd, Rules()) == 0


def test_without_the_confirming_look_a_promise_is_lost() -> None:
    assert lost([promiser, collector], Rules(confirms=False)) > 0


def test_without_looking_again_in_the_trash_a_promise_is_lost() -> None:
    assert lost([promiser, collector], Rules(looks_again=False)) > 0


def test_if_only_what_is_fresh_were_restored_a_killed_collector_would_lose_a_promise() -> None:
    """By the time of the next start, what was promised may be referenced, and its lease over."""
    assert lost([promiser, collector, starter], Rules(restores_all=False)) > 0


def test_with_one_name_in_the_trash_for_all_a_promise_is_lost() -> None:
    assert lost([promiser, pusher, collector, collector], Rules(names_of_their_own=False)) > 0
    assert lost([promiser, collector, collector, starter], Rules(names_of_their_own=False)) > 0


# The real code


class Turns:
    """Stands in for `os` in `durable`: each thread waits before each call until it is its turn.

    Args:
        order: whose turn it is, again and again; a turn of one that has ended is passed over.
    """

    CALLS = frozenset({"utime", "stat", "rename", "link", "unlink", "rmdir", "mkdir", "makedirs", "fsync"})

    def __init__(self, order: tuple[int, ...]) -> None:
        self._order = list(order)
        self._changed = threading.Condition()
        self._me = threading.local()
        self._ended: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self.CALLS:
            return real

        def call(*arguments: Any, **more: Any) -> Any:
            with self._changed:
                self._changed.wait_for(self._is_my_turn, 10)
                try:
                    return real(*arguments, **more)
                finally:
                    if self._order:
                        self._order.pop(0)
                    self._changed.notify_all()

        return call

    def _is_my_turn(self) -> bool:
        while self._order and self._order[0] in self._ended:
            self._order.pop(0)
        return not self._order or self._order[0] == self._me.number

    @contextmanager
    def actor(self, number: int) -> Iterator[None]:
        self._me.number = number
        try:
            yield
        finally:
            with self._changed:
                self._ended.add(number)
                self._changed.notify_all()


def play(root: Path, order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, *, pushes: bool) -> list[bool]:
    """One collector (0), and two promises or a promise and a push; who was told that the blob is there."""
    place, trash, new = root / "blobs/aa/data", root / "trash/blobs/aa,data", root / "new"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"content")
    os.utime(place, (1_000_000, 1_000_000))
    new.write_bytes(b"content")
    made = durable.Directories(str(root))
    made.make(str(trash.parent))
    turns = Turns(order)
    told = [False, False, False]

    def promise(number: int) -> None:
        with turns.actor(number):
            try:
                durable.promise(str(place))
                told[number] = True
            except FileNotFoundError:
                pass

    def push(number: int) -> None:
        with turns.actor(number):
            durable.publish(durable.Directories(str(root)), str(new), str(place))
            told[number] = True

    def condemn(number: int) -> None:
        with turns.actor(number):
            durable.condemn(made, str(place), str(trash), 2_000_000)

    with monkeypatch.context() as patched:
        patched.setattr(durable, "os", turns)
        second = push if pushes else promise
        threads = [threading.Thread(target=act, args=[n]) for n, act in enumerate((condemn, promise, second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    assert not [path for path in trash.parents[1].rglob("*") if path.is_file()]
    assert place.exists() or not any(told)
    return told


@pytest.mark.parametrize("pushes", [False, True], ids=["two promises", "a promise and a push"])
def test_the_code_keeps_its_promises_in_every_order_of_its_first_calls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pushes: bool,  # noqa: FBT001
) -> None:
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    root = base / f"turns-{os.getpid()}-{pushes}"
    outcomes = set()
    try:
        for order in sorted(set(itertools.permutations([0] * 5 + [1] * 2 + [2] * 2))):
            outcomes.add(tuple(play(root, order, monkeypatch, pushes=pushes)))
    finally:
        durable.remove_tree(durable.Directories(str(root)), str(root))
    assert len(outcomes) > 1, "the orders made no difference"
