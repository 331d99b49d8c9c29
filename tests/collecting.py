"""`registry garbage-collect` as a process: run to its end, or killed."""

import os
import subprocess
import sys
from pathlib import Path

SHORT = """
import sys, time
from pathlib import Path
from registry import app, config, server
from registry.commands import reports
from registry.config import load
from registry.storage.base import Busy
from registry.store.gc import Options

def settings():
    import os
    return load(None, os.environ).settings
"""
"""Beginning of a program with leases and graces that no configuration can have."""

SERVE = """
wanted = settings()
application = app.build(wanted, lease=float(sys.argv[1]))
listeners = server.listen(wanted.http.addr, wanted.http.net, wanted.workers)
server.serve(server.Service(application.asgi, application.traffic, 1), listeners)
"""

COLLECT = """
print("begun", flush=True)
until = time.monotonic() + float(sys.argv[2])
runs = freed = 0
while time.monotonic() < until or not runs:
    options = Options(float(sys.argv[1]), delete_untagged=len(sys.argv) > 3)
    report = app.collector(settings(), options, reports.Silent()).collect()
    runs, freed = runs + 1, freed + report.blobs_removed
print(runs, freed)
"""


def environment(root: Path | None, **variables: str) -> dict[str, str]:
    """For a registry on a root, or where a configuration file says."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    ours = {"REGISTRY_CONFIGURATION_PATH": "", "COLUMNS": "200"}
    if root is not None:
        ours["REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"] = str(root)
    return inherited | ours | variables


def collect(root: Path | None, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `registry garbage-collect` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "registry", "garbage-collect", *arguments],
        env=environment(root, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def start_collecting(root: Path, grace: float, seconds: float, *flags: str) -> subprocess.Popen[str]:
    """Collect again and again for some seconds, with any grace.

    Prints a line when it begins, and at the end how many runs, and removed blobs, that were.
    """
    return subprocess.Popen(
        [sys.executable, "-c", SHORT + COLLECT, str(grace), str(seconds), *flags],
        env=environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def age(root: Path) -> None:
    """Let every lease on a tree be over, and every link be old."""
    for path in (root / "docker/registry/v2").rglob("*"):
        if path.name in ("data", "link") and "_uploads" not in path.parts:
            os.utime(path, (1_000_000_000, 1_000_000_000))
