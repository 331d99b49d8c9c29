"""Medians, ratios, the table and the chart, from numbers that are known."""

import pytest
from chart import bars, chart
from load import Sample, is_whole
from report import Line, Report, number
from responder import framed
from results import Cell, Result, ratio
from rows import ROWS, chosen, size
from source import Amounts

ROW = {row.name: row for row in ROWS}


def cell(*values: float | None) -> Cell:
    return Cell([None if value is None else Result(value, 1.0, cpu=value / 10, gigabytes=2.0) for value in values])


def report(name: str, ours: Cell, theirs: Cell) -> Report:
    return Report(
        ["head"], ["ours", "theirs"], Amounts(), [Line(ROW[name], "memory", {"ours": ours, "theirs": theirs})]
    )


def test_the_ratio_is_the_median_of_each_rounds_own():
    """A round in which the whole machine was slow changes the medians, and no ratio."""
    assert ratio(cell(10, 100, 30), cell(5, 50, 10), lambda run: run.value) == 2
    assert ratio(cell(10, None, 30), cell(5, 50, None), lambda run: run.value) == 2
    assert ratio(cell(None), cell(1), lambda run: run.value) is None
    assert ratio(cell(1), cell(1), lambda run: run.p99) is None


def test_a_cell_says_median_and_spread_of_the_rounds_that_were_measured():
    document = cell(3, None, 1, 2).document()
    assert (document["value"], document["low"], document["high"]) == (2, 1, 3)
    assert document["cpu_per"] == pytest.approx(0.1)
    assert len(document["runs"]) == 4


def test_percentiles_are_of_the_ordered_latencies():
    sample = Sample([float(number) for number in range(100, 0, -1)], 50.0)
    assert (sample.rate, sample.percentile(50), sample.percentile(99)) == (2, 51, 100)


def test_the_table_has_a_line_for_each_server_and_says_why_one_is_missing():
    missing = Cell([None], "no such endpoint", is_missing=True)
    text = report("referrers", cell(10.0), missing).text()
    assert "referrers, 1,000 of one image [req/s]" in text
    assert "referrers@memory: theirs: no such thing: no such endpoint" in text
    failed = report("pull", cell(10.0), Cell([None], "closed the connection")).text()
    assert "failed" in failed
    assert "pull@memory: theirs: FAILED: closed the connection" in failed


def test_the_table_shows_ratios_beside_the_peer():
    (line,) = [line for line in report("pull", cell(300.0), cell(100.0)).text().splitlines() if "theirs" in line]
    assert line.split()[-4:] == ["3", "x", "3", "x"]


def test_a_bar_is_longer_where_ours_is_better_also_where_less_is_better():
    (faster,) = bars(report("push-put", cell(300.0), cell(100.0)))
    assert faster.times == {"theirs": 3}
    (quicker,) = bars(report("start", cell(1.0), cell(4.0)))
    assert quicker.times == {"theirs": 4}
    rate, cpu = bars(report("pull", cell(300.0), cell(100.0)))
    assert (rate.times["theirs"], cpu.times["theirs"]) == (3, pytest.approx(1 / 3))
    assert chart(report("pull", cell(), cell())).endswith("</svg>\n"), "nothing to draw is no error"


def test_rows_have_names_of_their_own_and_titles_without_gaps():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all("{" not in row.text(Amounts()) for row in ROWS)
    assert [row.name for row in chosen("pull*, start")] == ["pull", "pull-16", "start"]
    with pytest.raises(ValueError, match="nothing-"):
        chosen("pull,nothing-*")


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length:3\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", True),
    ],
)
def test_an_answer_is_whole_when_its_body_is_there(data, whole):
    assert is_whole(data) is whole


def test_an_answer_to_head_ends_with_its_headers():
    assert is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", has_body=False)


@pytest.mark.parametrize("length", [0, 1, 32 * 1024, 32 * 1024 + 1, 100_000])
def test_the_responder_knows_how_long_a_body_in_chunks_is(length):
    body = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part)
        for part in (bytes(length)[at : at + 32 * 1024] for at in range(0, length, 32 * 1024))
    )
    assert framed(length) == len(body + b"0\r\n\r\n")


def test_numbers_and_sizes_are_short():
    assert [number(value) for value in (1234.5, 99.95, 0.5, 0.00123, 0, None)] == [
        "1,234", "100", "0.5", "0.0012", "0", "",
    ]  # fmt: skip
    assert [size(count) for count in (2**30, 2**28, 64 * 1024, 10)] == ["1 GiB", "256 MiB", "64 KiB", "10 B"]
