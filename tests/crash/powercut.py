"""What a power cut leaves of a recorded log: the disk's possible states after any part of it.

The model is that of POSIX and the journals in use. Bytes of a file are durable once it was synced. A name is durable
once the directory that has it was synced; names of one directory become durable in their order. A rename is one step:
the old name or the new one, never neither. What was not synced may be there, in part, as zeros, or not at all.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recording import ROOT, Acknowledged, Begun, Change, Cut, Made, Naming, Removed, Renamed, Synced, Written

Tree = dict[str, bytes | None]
"""Relative paths: bytes of files, None for directories."""


@dataclass
class _File:
    """What is known of a file's bytes: as of its last fsync, and the changes since."""

    synced: bytes = b""
    pending: list[Written | Cut] = field(default_factory=list)

    def now(self) -> bytes:
        return _applied(self.synced, self.pending)

    def some_of_it(self, chance: random.Random) -> bytes:
        match chance.randrange(4):
            case 0:
                return self.synced
            case 1:
                return self.now()
            case 2:
                zeros = [
                    Written(one.inode, one.offset, bytes(len(one.data))) if isinstance(one, Written) else one
                    for one in self.pending
                ]
                return _applied(self.synced, zeros)
            case _:
                part = _applied(self.synced, self.pending[: chance.randint(0, len(self.pending))])
                return part[: max(len(self.synced), chance.randint(0, len(part)))]


def _applied(data: bytes, changes: Sequence[Written | Cut]) -> bytes:
    content = bytearray(data)
    for change in changes:
        match change:
            case Written(offset=offset, data=written):
                content.extend(bytes(max(0, offset - len(content))))
                content[offset : offset + len(written)] = written
            case Cut(size=size):
                content.extend(bytes(max(0, size - len(content))))
                del content[size:]
    return bytes(content)


class Disk:
    """A disk as it is after the first changes of a log. `feed` it one after another."""

    def __init__(self) -> None:
        self._names: list[Naming] = []
        self._durable: set[int] = set()
        self._waiting: dict[int, list[int]] = {}
        self._files: dict[int, _File] = {}
        self.allowed: dict[object, set[object]] = {}
        """What may be true of each fact that was asked for: one value once it is acknowledged."""

    def feed(self, change: Change) -> None:
        match change:
            case Made() | Renamed() | Removed():
                self._waiting.setdefault(change.directory, []).append(len(self._names))
                self._names.append(change)
                if isinstance(change, Made) and not change.is_directory:
                    self._files.setdefault(change.inode, _File())
            case Written() | Cut():
                self._files[change.inode].pending.append(change)
            case Synced(inode=inode):
                if inode in self._files:
                    self._files[inode] = _File(self._files[inode].now())
                else:
                    self._durable.update(self._waiting.pop(inode, ()))
            case Begun(facts=facts):
                for fact, value in facts.items():
                    self.allowed.setdefault(fact, {None}).add(value)
            case Acknowledged(facts=facts):
                self.allowed.update({fact: {value} for fact, value in facts.items()})

    def only_what_was_synced(self) -> Tree:
        return self._tree(
            [change for number, change in enumerate(self._names) if number in self._durable],
            {inode: file.synced for inode, file in self._files.items()},
        )

    def everything(self) -> Tree:
        return self._tree(self._names, {inode: file.now() for inode, file in self._files.items()})

    def some(self, chance: random.Random) -> Tree:
        """What was synced, and of the rest what chance leaves, each directory in its order."""
        share: dict[int, float] = {}
        stopped: set[int] = set()
        kept = []
        for number, change in enumerate(self._names):
            if number in self._durable or (
                stopped.isdisjoint(change.directories)
                and all(
                    chance.random() < share.setdefault(directory, chance.choice((0, chance.random(), 1)))
                    for directory in change.directories
                )
            ):
                kept.append(change)
            else:
                stopped.update(change.directories)
        return self._tree(kept, {inode: file.some_of_it(chance) for inode, file in self._files.items()})

    def _tree(self, names: Sequence[Naming], contents: dict[int, bytes]) -> Tree:
        directories: dict[int, dict[str, int]] = {ROOT: {}}
        for change in names:
            match change:
                case Made(directory=directory, name=name, inode=inode, is_directory=is_directory):
                    directories.setdefault(directory, {})[name] = inode
                    if is_directory:
                        directories.setdefault(inode, {})
                case Renamed(source=source, source_name=source_name, directory=directory, name=name, inode=inode):
                    if directories.setdefault(source, {}).get(source_name) == inode:
                        del directories[source][source_name]
                    directories.setdefault(directory, {})[name] = inode
                case Removed(directory=directory, name=name, inode=inode):
                    if directories.setdefault(directory, {}).get(name) == inode:
                        del directories[directory][name]
        return dict(_walk(directories, contents, ROOT, ""))


def _walk(
    directories: dict[int, dict[str, int]], contents: dict[int, bytes], inode: int, path: str
) -> Iterator[tuple[str, bytes | None]]:
    for name, child in directories.get(inode, {}).items():
        if child in contents:
            yield f"{path}{name}", contents[child]
        else:
            yield f"{path}{name}", None
            yield from _walk(directories, contents, child, f"{path}{name}/")


def write_out(tree: Tree, root: Path) -> None:
    """Make a state real. Parents come before what is in them."""
    root.mkdir()
    for name, data in tree.items():
        if data is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(data)


def read_in(root: Path) -> Tree:
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in sorted(root.rglob("*"))
    }
