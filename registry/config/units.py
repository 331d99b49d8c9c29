"""Durations and sizes as people write them: `1m30s`, `256MiB`. Parser and printer undo one another."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction

_NANOSECONDS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "\u00b5s": 1_000,  # the micro sign
    "\u03bcs": 1_000,  # the Greek letter, which Go takes as well
    "ns": 1,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")

_BYTES = {
    "TiB": 1 << 40,
    "TB": 10**12,
    "GiB": 1 << 30,
    "GB": 10**9,
    "MiB": 1 << 20,
    "MB": 10**6,
    "KiB": 1 << 10,
    "KB": 10**3,
    "B": 1,
}
_BYTES_BY_LOWER_CASE = {unit.lower(): size for unit, size in _BYTES.items()}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def parse_duration(text: str) -> timedelta:
    """Reads a duration in Go's notation: `30s`, `1m30s`, `1.5h`, `-5ms`; a bare whole number is nanoseconds.

    What is finer than a microsecond is cut off.

    Raises:
        ValueError: not a duration, or longer than a timedelta can hold (about 2.7 million years).
    """
    unsigned = text[1:] if text[:1] in {"+", "-"} else text
    if re.fullmatch(r"[0-9]+", unsigned):
        nanoseconds = Fraction(unsigned)
    elif _DURATION.fullmatch(unsigned):
        nanoseconds = sum((Fraction(n) * _NANOSECONDS[unit] for n, unit in _PART.findall(unsigned)), Fraction())
    else:
        raise ValueError("expected a duration such as 30s or 5m")
    microseconds = int(nanoseconds // 1000)
    try:
        return timedelta(microseconds=-microseconds if text.startswith("-") else microseconds)
    except OverflowError:
        raise ValueError("expected a shorter duration") from None


def parse_age(text: str) -> timedelta:
    """Reads a duration that may be in whole days, as `30d`, which Go does not know. Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,6}d", text):
        return timedelta(days=int(text[:-1]))
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError("expected a time such as 30d or 12h") from None


def format_duration(duration: timedelta) -> str:
    """Writes a duration in Go's notation, without its zeros: `168h`, `1m30s`, `500ms`, `0s`."""
    rest = abs(duration) // timedelta(microseconds=1)
    written = ""
    for unit in ("h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _NANOSECONDS[unit] // 1000)
        written += f"{count}{unit}" if count else ""
    return ("-" if duration < timedelta() else "") + (written or "0s")


def parse_size(text: str) -> int:
    """Reads a number of bytes: `512MiB` and `2GiB` count in 1024s, `1GB` in 1000s, `4096` and `0` in bytes.

    Raises:
        ValueError: not a size.
    """
    parts = _SIZE.fullmatch(text.strip())
    factor = _BYTES_BY_LOWER_CASE.get((parts[2] or "B").lower()) if parts else None
    if parts is None or factor is None:
        raise ValueError("expected a size such as 512MiB or 2GiB")
    return int(Fraction(parts[1]) * factor)


def format_size(size: int) -> str:
    """Writes a number of bytes in the largest unit that leaves no remainder: `256MiB`, `1GB`, `4097`, `0`."""
    for unit, factor in _BYTES.items():
        if size and factor > 1 and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
