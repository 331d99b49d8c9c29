"""The bench runs, every row of it: it is used seldom, and must not be found broken when somebody wants a number."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from serving import executable

BENCH = Path(__file__).parent
TINY = ["--rounds", "1", "--size", str(2 * 1024 * 1024), "--scale", "0.005", "--seconds", "0.05"]
NUMBERS = ("value", "low", "high", "client_cpu", "rss")


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH), *options], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.client
@pytest.mark.timeout(300)
def test_every_row_is_measured_on_ours_and_on_registry_2(tmp_path):
    executable("docker-registry")
    report, picture, root = tmp_path / "out.json", tmp_path / "out.svg", tmp_path / "root"
    root.mkdir()
    ended = bench(*TINY, "--root", str(root), "--json", str(report), "--chart", str(picture))
    assert not ended.returncode, ended.stderr
    assert not list(root.iterdir()), "what it made is gone"

    document = json.loads(report.read_text())
    names = [line.split()[0] for line in bench("--list").stdout.splitlines()]
    assert [row["name"] for row in document["rows"]] == names
    for row in document["rows"]:
        for server, cell in row["servers"].items():
            where = f"{row['name']} on {server}: {cell['reason']}"
            if cell["missing"]:
                assert (row["name"], server) in {("referrers", "docker-registry"), ("htpasswd-get-16", "ours")}, where
                continue
            assert not cell["reason"], where
            assert all(cell[number] is not None for number in NUMBERS), where
            assert cell["value"] > 0, where
        if not any(cell["missing"] for cell in row["servers"].values()):
            assert row["ratios"]["docker-registry"]["value"] > 0
        if row["ceiling"]:
            assert row["ceiling"]["value"] > 0, row["ceiling"]["reason"]
        assert row["title"] in ended.stdout
    assert ET.parse(picture).getroot().tag.endswith("svg")


def test_a_server_that_does_not_start_fails_its_rows_and_no_others(tmp_path):
    options = [*TINY, "--no-debian", "--no-ceiling", "--rows", "start", "--root", str(tmp_path)]
    ended = bench(*options, "--peer", "broken=false {port} {root}", "--json", str(tmp_path / "out.json"))
    assert not ended.returncode, ended.stderr
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert row["servers"]["ours"]["value"] > 0
    assert row["servers"]["broken"]["value"] is None
    assert "ended at once" in row["servers"]["broken"]["reason"]
    assert "failed" in ended.stdout


def test_two_of_ours_are_compared_and_one_that_runs_already(tmp_path, shared_server):
    command = f"{Path(sys.executable).with_name('registry')} serve"
    options = [*TINY, "--no-debian", "--no-ceiling", "--rows", "push-chunked,start,tags", "--root", str(tmp_path)]
    peers = ["--ours-too", f"before={command}", "--peer", f"running={shared_server.url}"]
    ended = bench(*options, *peers, "--json", str(tmp_path / "out.json"))
    assert not ended.returncode, ended.stderr
    rows = {row["name"]: row for row in json.loads((tmp_path / "out.json").read_text())["rows"]}
    assert all(cell["value"] > 0 for cell in rows["push-chunked"]["servers"].values())
    assert rows["tags"]["servers"]["before"]["value"] > 0
    assert rows["tags"]["servers"]["running"]["missing"]
    assert rows["push-chunked"]["servers"]["running"]["cpu"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rows", "no-such"], "no row is called 'no-such'"),
        (["--peer", "zot=zot serve"], "needs {port} and {root}"),
        (["--peer", "ours=http://127.0.0.1:1"], "the same name"),
        (["--size", "1"], "at least"),
    ],
)
def test_what_cannot_be_meant_is_said_at_once(options, said):
    ended = bench(*options)
    assert ended.returncode == 2
    assert said in ended.stderr


def test_no_process_is_left_when_it_is_told_to_stop(tmp_path):
    """Nor a directory; and what was measured until then is printed."""
    options = [*TINY, "--no-debian", "--rows", "get-tag-*", "--root", str(tmp_path), "--seconds", "60", "--no-ceiling"]
    with subprocess.Popen(
        [sys.executable, str(BENCH), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        while not list(tmp_path.glob("*/ours/data/docker")):
            assert running.poll() is None
        running.terminate()
        said, _ = running.communicate(timeout=90)
    assert "manifest GET by tag, 16 connections" in said
    assert not list(tmp_path.iterdir())
    for entry in Path("/proc").glob("[0-9]*/environ"):
        if os.access(entry, os.R_OK):
            try:
                assert str(tmp_path) not in entry.read_text(errors="replace"), entry
            except OSError:
                continue


def test_a_collection_is_measured_with_pulls_beside_it(tmp_path):
    report = tmp_path / "out.json"
    command = [sys.executable, str(BENCH / "collection.py"), "--repositories", "40", "--seconds", "0.2"]
    ended = subprocess.run(
        [*command, "--root", str(tmp_path), "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert not ended.returncode, ended.stderr
    found = json.loads(report.read_text())
    assert (found["blobs"], found["blobs_removed"], found["blobs_kept"]) == (40 * 55, 40 * 5, 40 * 50)
    assert min(found["pulls_beside"], found["p99_beside_ms"], found["rss_mib"]) > 0
    assert list(tmp_path.iterdir()) == [report], "what it made is gone"
