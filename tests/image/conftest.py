"""A daemon, a stand-in for a base image that cannot be pulled, and the image that is built upon it."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# The clients are next door.
sys.path.append(str(Path(__file__).parents[1] / "clients"))

from engines import Docker
from serving import executable

REPOSITORY = Path(__file__).parents[2]
BASE = "stand-in-base"
IMAGE = "swarm-registry"
PYTHON = "3.11"
"""That of the base, Debian 12."""


def run(*command: object, seconds: float = 120) -> None:
    """Run it; it must end well and in time."""
    ended = subprocess.run(
        [*map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.args} ended with {ended.returncode}:\n{ended.stdout[-4000:]}"


def unmount(directory: Path) -> None:
    """Take back what debootstrap mounted and a broken run left."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        point = line.split()[1]
        if Path(point).is_relative_to(directory):
            subprocess.run([executable("umount"), "--lazy", point], timeout=30, check=True)


def debian(directory: Path) -> None:
    """A small Debian 12 with Python. Without the mirror: skipped, or failed where clients are required."""
    command = [
        *(executable("debootstrap"), "--variant=minbase", "--include=python3,python3-venv,ca-certificates"),
        *("bookworm", str(directory)),
    ]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    log = directory.with_name("debootstrap.log")
    for _ in range(2):  # a mirror may be out of step for a moment
        with log.open("wb") as output, contextlib.suppress(subprocess.TimeoutExpired):
            ended = subprocess.run(
                command,
                env=os.environ | {"PATH": path, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=240,
                check=False,
            )
            if ended.returncode == 0:
                return
        unmount(directory)
        shutil.rmtree(directory, ignore_errors=True)
    reason = f"debootstrap made no base image; the end of its log:\n{log.read_text(errors='replace')[-3000:]}"
    if os.environ.get("CI") == "true" or os.environ.get("REQUIRE_CLIENTS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A temporary directory whose path leaves room for the name of a socket."""
    made = Path(tempfile.mkdtemp(prefix="image-"))
    yield made
    unmount(made)
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def docker(directory: Path) -> Iterator[Docker]:
    """A daemon of these tests' own."""
    (directory / "docker").mkdir()
    engine = Docker(directory / "docker")
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="module")
def base(docker: Docker, directory: Path) -> str:
    """The base image: what debootstrap makes, without what nobody reads in a container."""
    tree, archive = directory / "base", directory / "base.tar"
    try:
        debian(tree)
        unwanted = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache", "var/lib/apt/lists", "dev/*")
        run(
            *("tar", "--directory", tree, "--one-file-system"),
            *(f"--exclude=./{each}" for each in unwanted),
            *("--create", "--file", archive, "."),
        )
        docker("import", archive, BASE)
    finally:
        unmount(tree)
        shutil.rmtree(tree, ignore_errors=True)
        archive.unlink(missing_ok=True)
    return BASE


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image is built from, and all that it needs in ./wheels, as `make wheels` leaves it there."""
    made = tmp_path_factory.mktemp("image") / "context"
    made.mkdir()
    for name in "Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE":
        shutil.copy(REPOSITORY / name, made)
    shutil.copytree(REPOSITORY / "registry", made / "registry", ignore=shutil.ignore_patterns("__pycache__"))
    wheels = made / "wheels"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", wheels, made)
    # Not `pip wheel` for the rest: the base's Python may be another one than that which runs the tests.
    (ours,) = wheels.glob("*.whl")
    run(*pip, "download", "--python-version", PYTHON, "--only-binary", ":all:", "--dest", wheels, ours)
    return made


@pytest.fixture(scope="module")
def image(docker: Docker, base: str, context: Path) -> str:
    """The image, built without a network by the classic builder."""
    docker("build", "--network", "none", "--build-arg", f"BASE={base}", "--tag", IMAGE, context, seconds=180)
    return IMAGE
