"""Registries side by side: the same work against each in turn, several rounds. `make bench BENCH=--help`."""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from chart import chart
from options import parse
from processes import Job, forget_peak, memory_mib
from report import Line, Report
from responder import Responder
from results import Cell, Result
from rows import Group, Row, size
from servers import Contender, Refused, Server, Setting, certificate
from source import Amounts, Source
from transfer import Target
from trees import Tree
from work import Work, allow_many_files


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Bench:
    """All contenders, all rows, all rounds, on one medium after the other."""

    def __init__(self, options: argparse.Namespace, contenders: list[Contender], scratch: dict[str, Path]) -> None:
        self._options, self._contenders, self._scratch = options, contenders, scratch
        self._amounts: Amounts = options.amounts
        self._core: int | None = options.cores[0] if options.pin else None
        self._home = scratch["memory"]
        self._tls = certificate(self._home)
        say(f"making {size(self._amounts.size)} of random bytes")
        self._source = Source(self._home / "source", self._amounts)
        self._trees: dict[tuple[str, str], Tree] = {}
        self._ceiling = {row.name: Cell() for row in options.rows}
        self.lines = [
            Line(row, medium, {each.name: Cell() for each in contenders}, self._ceiling[row.name])
            for medium in scratch
            for row in options.rows
        ]

    def run(self) -> None:
        for round_ in range(self._options.rounds):
            if not self._options.no_ceiling:
                self._ceilings()
            for medium in self._scratch:
                for group in dict.fromkeys(row.group for row in self._options.rows):
                    lines = [line for line in self.lines if line.medium == medium and line.row.group == group]
                    for each in self._contenders:
                        self._life(each, group, medium, lines, round_)

    def _life(self, each: Contender, group: Group, medium: str, lines: list[Line], round_: int) -> None:
        """Start a server fresh, do the rows of a group, end it, and remove what it wrote."""
        beside = self._scratch[medium] / each.name
        shutil.rmtree(beside, ignore_errors=True)
        if medium != "memory":
            os.sync()  # what the one before has left to be written is not this one's burden
        cells = {line.row.name: line.cells[each.name] for line in lines}
        try:
            setting = Setting(self._tls if group.tls else None, group.htpasswd)
            root = self._tree(each, group, medium) if group.tree else beside / "data"
            with Server(each, root, beside, setting, self._core) as server:
                for line in lines:
                    self._row(
                        line.row, server, cells[line.row.name], f"round {round_ + 1}, {medium}, {each.name}", round_
                    )
        except (Refused, RuntimeError, TimeoutError, OSError) as error:
            for cell in cells.values():
                if len(cell.runs) <= round_:
                    cell.runs.append(None)
                    cell.reason = cell.reason or str(error)
                    cell.is_missing = isinstance(error, Refused) and (group.tls or group.htpasswd or bool(each.url))
            say(f"round {round_ + 1}, {medium}, {each.name}, {group.name}: {error}")
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _row(self, row: Row, server: Server, cell: Cell, where: str, round_: int) -> None:
        work = Work(server.target, self._source, self._amounts, round_ == 0, server.start_seconds, server.start_cpu)
        if server.pid:
            forget_peak(server.pid)
        result = self._do(row, work, cell, where)
        if result is not None and server.pid:
            result = replace(result, rss=memory_mib(server.pid))
        cell.runs.append(result)
        if server.has_ended:
            raise RuntimeError(f"the server ended during {row.name}: {server.last_words()}")

    def _do(self, row: Row, work: Work, cell: Cell, where: str) -> Result | None:
        """Run a row in a process of its own, for no longer than a row may take."""
        try:
            result: Result = Job(row.do, work, leads=True).result(self._options.limit)
        except NotImplementedError as error:
            cell.reason, cell.is_missing = str(error), True
        except (RuntimeError, TimeoutError) as error:
            cell.reason = cell.reason or str(error)
        else:
            say(f"{where}, {row.name}: {result.value:,.4g} {row.unit} {result.note}".rstrip())
            return result
        say(f"{where}, {row.name}: {cell.reason}")
        return None

    def _tree(self, each: Contender, group: Group, medium: str) -> Path:
        """Made once for all; it stays until the end, and each server finds it as it was made."""
        if each.url:
            raise Refused("runs already, without the tree that this needs")
        key = (medium, group.name)
        if key not in self._trees:
            tree = Tree(self._scratch[medium] / f"tree-{group.name}")
            say(f"making the tree of {group.name} on {medium}")
            assert group.tree
            group.tree(tree, self._amounts)
            if medium != "memory":
                os.sync()
            self._trees[key] = tree
        self._trees[key].clear()
        return self._trees[key].root

    def _ceilings(self) -> None:
        """The same rows against a server that does nothing, once in each round: the machine changes its mind."""
        amounts = self._amounts
        sizes = {"bench/bulk": amounts.size, "bench/app": 0}
        sizes |= {f"bench/image{number}": amounts.layer for number in range(amounts.images)}
        done: set[str] = set()
        for line in self.lines:
            if line.row.has_ceiling and line.row.name not in done:
                of = dict(sizes)
                if line.row.name == "push-4":
                    of["bench/bulk"] = amounts.quarter
                responder = Responder(self._source, of, self._tls if line.row.group.tls else None)
                job = Job(_serve, responder, self._core)
                responder.listener.close()
                try:
                    target = Target("127.0.0.1", responder.port, tls=line.row.group.tls)
                    cell = self._ceiling[line.row.name]
                    cell.runs.append(self._do(line.row, Work(target, self._source, amounts), cell, "client alone"))
                    done.add(line.row.name)
                finally:
                    job.kill()


def _serve(responder: Responder, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    responder.serve()


def head(options: argparse.Namespace) -> list[str]:
    """What a reader must know to judge the numbers, or to get them again."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    machine = f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}, Linux {platform.release()}"
    servers = [f"{each.name} ({each.version})" for each in options.contenders]
    cores = f", pinned to core {options.cores[1]}, servers to core {options.cores[0]}" if options.pin else ""
    return [
        f"{time.strftime('%Y-%m-%d')}, {machine}, Python {platform.python_version()}; load {os.getloadavg()[0]:.2f}.",
        f"Servers: {', '.join(servers)}; fresh for each group of rows, access log off, deletes on.",
        f"{options.rounds} rounds, interleaved. ratio: {servers[0]} to the other, median of each round's own.",
        "A ratio above 1 is better where the unit is something/s, below 1 for s, ms, MiB, CPU.",
        "fsync is included: ours syncs data, names and directories before it answers; registry:2 the data of blobs.",
        "CPU per: server CPU seconds per GB moved, or per 1,000 requests. Peak MiB: the server's, of that row alone.",
        "Client alone: the same client against a server, in Python too, that does nothing: what both reach together.",
        f"The client shares the machine{cores}.",
    ]


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    options = parse(arguments, __doc__ or "")
    if options.list:
        print("\n".join(f"{row.name:22}{row.text(options.amounts)} [{row.unit}]" for row in options.rows))
        return 0
    signal.signal(signal.SIGTERM, _stop)
    allow_many_files()
    text = head(options)
    if options.pin:
        os.sched_setaffinity(0, {options.cores[1]})
    with contextlib.ExitStack() as stack:
        scratch = {"memory": Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.root)))}
        if options.disk:
            scratch["disk"] = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.disk)))
        bench = Bench(options, options.contenders, scratch)
        with contextlib.suppress(KeyboardInterrupt):
            bench.run()
        report = Report(text, [each.name for each in options.contenders], options.amounts, bench.lines)
    print(report.text())
    if options.json:
        options.json.write_text(json.dumps(report.document(), indent=1) + "\n")
    if options.chart:
        options.chart.write_text(chart(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
