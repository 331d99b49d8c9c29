"""What was measured, and the numbers that are said of it: medians, spreads, ratios."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from load import Sample
from processes import Meter


@dataclass(frozen=True)
class Result:
    """One row on one server in one round. `value` is in the row's own unit."""

    value: float
    seconds: float
    cpu: float | None = None
    """Seconds of the server's processes; None where they cannot be seen."""
    client_cpu: float = 0.0
    gigabytes: float = 0.0
    requests: int = 0
    p50: float | None = None
    p99: float | None = None
    first: float | None = None
    rss: float | None = None
    note: str = ""

    @property
    def cpu_per(self) -> float | None:
        """CPU seconds per GB that was moved, or per 1,000 requests; None where neither was counted."""
        if self.cpu is None:
            return None
        if self.gigabytes:
            return self.cpu / self.gigabytes
        return self.cpu / self.requests * 1000 if self.requests else None

    @classmethod
    def bulk(cls, meter: Meter, size: int) -> "Result":
        """MB/s."""
        return cls(size / meter.seconds / 1e6, meter.seconds, meter.cpu, meter.client_cpu, gigabytes=size / 1e9)

    @classmethod
    def each(cls, meter: Meter, count: int) -> "Result":
        """Seconds for one of `count`."""
        return cls(meter.seconds / count, meter.seconds, meter.cpu, meter.client_cpu)

    @classmethod
    def rate(cls, meter: Meter, count: int) -> "Result":
        """So many a second."""
        return cls(count / meter.seconds, meter.seconds, meter.cpu, meter.client_cpu, requests=count)

    @classmethod
    def sampled(cls, meter: Meter, sample: Sample, first: float | None = None) -> "Result":
        """Requests a second, and milliseconds that they took."""
        return cls(
            sample.rate,
            meter.seconds,
            meter.cpu,
            meter.client_cpu,
            requests=len(sample.latencies),
            p50=sample.percentile(50) * 1000,
            p99=sample.percentile(99) * 1000,
            first=None if first is None else first * 1000,
        )

    @classmethod
    def slowest(cls, meter: Meter, sample: Sample, note: str) -> "Result":
        """Milliseconds in which 99 of 100 were answered. CPU is left out: it went into whatever moved beside them."""
        p50, p99 = sample.percentile(50) * 1000, sample.percentile(99) * 1000
        told = f"{sample.rate:.0f}/s {note}"
        return cls(p99, meter.seconds, client_cpu=meter.client_cpu, p50=p50, p99=p99, note=told)


@dataclass
class Cell:
    """One row on one server, over all rounds. A round that gave nothing is None, and `reason` says why."""

    runs: list[Result | None] = field(default_factory=list)
    reason: str = ""
    is_missing: bool = False
    """The server does not have what the row asks for: no failure."""

    def median(self, of: Callable[[Result], float | None]) -> float | None:
        found = [value for run in self.runs if run is not None and (value := of(run)) is not None]
        return statistics.median(found) if found else None

    def values(self) -> list[float]:
        return [run.value for run in self.runs if run is not None]

    @property
    def note(self) -> str:
        """Of the round in the middle, whose value is the median's."""
        ordered = sorted((run for run in self.runs if run is not None), key=lambda run: run.value)
        return ordered[len(ordered) // 2].note if ordered else ""

    def document(self) -> dict[str, Any]:
        values = self.values()
        numbers = {
            name: self.median(lambda run, name=name: getattr(run, name))
            for name in ("value", "cpu", "cpu_per", "client_cpu", "p50", "p99", "first", "rss")
        }
        spread = {"low": min(values, default=None), "high": max(values, default=None)}
        said = {"reason": self.reason, "missing": self.is_missing, "note": self.note}
        return numbers | spread | said | {"runs": [run and asdict(run) for run in self.runs]}


def ratio(ours: Cell, theirs: Cell, of: Callable[[Result], float | None]) -> float | None:
    """Median of the ratios of each round: what slows both of a round down is in neither."""
    ratios = []
    for one, other in zip(ours.runs, theirs.runs, strict=False):
        if one is not None and other is not None:
            mine, yours = of(one), of(other)
            if mine is not None and yours:
                ratios.append(mine / yours)
    return statistics.median(ratios) if ratios else None
