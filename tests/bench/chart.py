"""The ratios as bars in an SVG that reads well on a light page and on a dark one."""

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

from report import Line, Report

_WITH_CPU = {"pull"}
"""Rows whose CPU per GB has a bar of its own."""

_WIDTH, _LEFT, _RIGHT = 960, 370, 70
_BAR, _GAP, _TOP = 13, 7, 62
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)

# Without a stylesheet of the page around it: an image has only its own. Bars have enough contrast on both.
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.faint { fill: #59636e }
.page { fill: #ffffff }
.grid { stroke: #d1d9e0 }
.one { stroke: #59636e; stroke-width: 1.5 }
.bar0 { fill: #2f81f7 } .bar1 { fill: #bc6c00 } .bar2 { fill: #2c974b } .bar3 { fill: #a475f9 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .faint { fill: #9198a1 } .page { fill: #0d1117 }
.grid { stroke: #30363d } .one { stroke: #9198a1 }
}
"""


@dataclass(frozen=True)
class Bar:
    """How many times better ours is in something than each peer; None where there is nothing to compare."""

    title: str
    times: dict[str, float | None]


def bars(report: Report) -> list[Bar]:
    media = {line.medium for line in report.lines}
    found = []
    for line in report.lines:
        place = f", {line.medium}" if len(media) > 1 else ""
        title = line.row.text(report.amounts) + place
        found.append(Bar(title, _times(report, line, "value", more_is_better=line.row.more_is_better)))
        if line.row.name in _WITH_CPU:
            found.append(Bar(f"{title}: server CPU per GB", _times(report, line, "cpu", more_is_better=False)))
    return [bar for bar in found if any(bar.times.values())]


def _times(report: Report, line: Line, what: str, *, more_is_better: bool) -> dict[str, float | None]:
    ratios = {peer: report.ratios(line, peer)[what] for peer in report.names[1:]}
    return {peer: (value if more_is_better else 1 / value) if value else None for peer, value in ratios.items()}


def chart(report: Report) -> str:
    """A bar to the right of the line at 1 where ours is better, to the left of it where it is worse; logarithmic."""
    shown, peers = bars(report), list(report.names[1:])
    values = [value for bar in shown for value in bar.times.values() if value] or [1.0]
    scale = _Scale(min(values), max(values))
    step = len(peers) * _BAR + _GAP
    height = _TOP + len(shown) * step + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}" rx="6"/>',
        _text(16, 26, f"How many times better {report.names[0]} is than", "title"),
        *_legend(peers),
        *_grid(scale, height),
    ]
    for number, bar in enumerate(shown):
        parts += _drawn(bar, peers, scale, _TOP + number * step)
    parts.append(f'<line class="one" x1="{scale.x(1):.1f}" y1="{_TOP - 6}" x2="{scale.x(1):.1f}" y2="{height - 26}"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    def __init__(self, low: float, high: float) -> None:
        self.low = max((tick for tick in _TICKS if tick <= min(low, 0.5)), default=_TICKS[0])
        self.high = min((tick for tick in _TICKS if tick >= max(high, 2)), default=_TICKS[-1])

    def x(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        share = math.log(inside / self.low) / math.log(self.high / self.low)
        return _LEFT + 40 + share * (_WIDTH - _LEFT - _RIGHT - 40)

    @property
    def ticks(self) -> list[float]:
        return [tick for tick in _TICKS if self.low <= tick <= self.high]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named} text-anchor="{anchor}">{escape(text)}</text>'


def _legend(peers: list[str]) -> list[str]:
    parts, x = [], 16.0
    for number, peer in enumerate(peers):
        parts.append(f'<rect class="bar{number % 4}" x="{x:.1f}" y="36" width="11" height="11" rx="2"/>')
        parts.append(_text(x + 16, 46, peer))
        x += 40 + 7 * len(peer)
    return parts


def _grid(scale: _Scale, height: int) -> list[str]:
    parts = []
    for tick in scale.ticks:
        x = scale.x(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height - 26}"/>')
        parts.append(_text(x, height - 10, f"{tick:g} x", "faint", "middle"))
    return parts


def _drawn(bar: Bar, peers: list[str], scale: _Scale, y: int) -> list[str]:
    parts = [_text(_LEFT, y + len(peers) * _BAR / 2 + 4, bar.title, anchor="end")]
    for number, peer in enumerate(peers):
        top, value = y + number * _BAR, bar.times[peer]
        if value is None:
            parts.append(_text(scale.x(1) + 5, top + 10, "-", "faint"))
            continue
        begin, end = sorted((scale.x(1), scale.x(value)))
        box = f'x="{begin:.1f}" y="{top + 1}" width="{max(end - begin, 1):.1f}" height="{_BAR - 2}"'
        parts.append(f'<rect class="bar{number % 4}" {box} rx="2"/>')
        label = f"{value:.0f}" if value >= 10 else f"{value:.2g}"
        parts.append(_text(end + 5, top + 11, label, "faint"))
    return parts
