"""The table, the head that says how it came about, and the same as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from results import Cell, Result, ratio
from rows import Row
from source import Amounts


@dataclass
class Line:
    """One row on one medium: a cell for each contender, and what the client alone reaches."""

    row: Row
    medium: str
    cells: dict[str, Cell]
    ceiling: Cell = field(default_factory=Cell)

    @property
    def key(self) -> str:
        return f"{self.row.name}@{self.medium}"


@dataclass
class Report:
    """`names`: the contenders, ours first; each ratio is the first one's to another's."""

    head: list[str]
    names: Sequence[str]
    amounts: Amounts
    lines: list[Line]

    def ratios(self, line: Line, peer: str) -> dict[str, float | None]:
        """Of the value, of CPU per GB or request (of all CPU where nothing was counted), of p99, of memory."""
        ours, theirs = line.cells[self.names[0]], line.cells[peer]
        return {name: ratio(ours, theirs, of) for name, of in _RATIOS.items()}

    def document(self) -> dict[str, Any]:
        rows = [
            {
                "name": line.row.name,
                "medium": line.medium,
                "title": line.row.text(self.amounts),
                "unit": line.row.unit,
                "more_is_better": line.row.more_is_better,
                "servers": {name: cell.document() for name, cell in line.cells.items()},
                "ratios": {peer: self.ratios(line, peer) for peer in self.names[1:]},
                "ceiling": line.ceiling.document() if line.row.has_ceiling else None,
            }
            for line in self.lines
        ]
        return {"head": self.head, "contenders": list(self.names), "amounts": vars(self.amounts), "rows": rows}

    def text(self) -> str:
        parts = [*self.head, ""]
        for medium in dict.fromkeys(line.medium for line in self.lines):
            lines = [line for line in self.lines if line.medium == medium]
            parts += [f"On {medium}", "", *_aligned(self._table(lines)), ""]
            parts += [*self._peaks(lines), ""]
        return "\n".join([*parts, *self._remarks()])

    def _table(self, lines: list[Line]) -> list[list[str]]:
        table = [list(_COLUMNS)]
        for line in lines:
            title = f"{line.row.text(self.amounts)} [{line.row.unit}]"
            for name, cell in line.cells.items():
                ratios = self.ratios(line, name) if name != self.names[0] else {}
                table.append([title, name, *_numbers(cell), *(_times(ratios.get(each)) for each in _RATIOS)])
                title = ""
            if line.ceiling.values():
                table.append(["", "(client alone)", *_numbers(line.ceiling), *([""] * len(_RATIOS))])
        return table

    def _peaks(self, lines: list[Line]) -> list[str]:
        peaks = []
        for name in self.names:
            found = [run.rss for line in lines for run in line.cells[name].runs if run is not None and run.rss]
            if found:
                peaks.append(f"{name} {max(found):.0f} MiB")
        return ["Peak memory over all rows: " + ", ".join(peaks)] if peaks else []

    def _remarks(self) -> list[str]:
        """Why numbers are missing, and what a row noted beside them."""
        said: dict[str, list[str]] = {}
        for line in self.lines:
            for name, cell in {**line.cells, "client alone": line.ceiling}.items():
                kind = "no such thing" if cell.is_missing else "FAILED"
                if cell.reason:
                    said.setdefault(f"{name}: {kind}: {cell.reason}", []).append(line.key)
                if cell.note:
                    said.setdefault(f"{name}: {cell.note}", []).append(line.key)
        return [f"{', '.join(keys)}: {what}" for what, keys in said.items()]


def _cpu(run: Result) -> float | None:
    return run.cpu if run.cpu_per is None else run.cpu_per


_RATIOS = {
    "value": lambda run: run.value,
    "cpu": _cpu,
    "p99": lambda run: run.p99,
    "rss": lambda run: run.rss,
}

_COLUMNS = (
    "row", "server", "median", "min", "max", "p50 ms", "p99 ms", "first ms",
    "CPU s", "CPU per", "client CPU", "peak MiB", "ratio", "CPU x", "p99 x", "MiB x",
)  # fmt: skip


def _numbers(cell: Cell) -> list[str]:
    values = cell.values()
    if not values:
        return ["-" if cell.is_missing or not cell.reason else "failed", *([""] * 9)]
    of = cell.document()
    spread = [number(of["value"]), number(min(values)), number(max(values))]
    some = [number(of[name]) for name in ("p50", "p99", "first", "cpu", "cpu_per", "client_cpu", "rss")]
    if cell.reason:
        spread[0] += "!"
    return spread + some


def number(value: float | None) -> str:
    """Three digits that count, and no more."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.01 or not value else f"{value:.4f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{number(value)} x"


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        words = [
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(words).rstrip())
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
