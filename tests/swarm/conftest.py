"""The two-node swarm that the tests in here share. They run by `make test-swarm` alone, never by plain pytest."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

RUNS = os.environ.get("SWARM_TEST") == "1"
collect_ignore_glob = [] if RUNS else ["*"]

if RUNS:
    # The dockerd that builds our image is the one of the tests with clients.
    sys.path.append(str(Path(__file__).parent.parent / "clients"))
    pytest.register_assert_rewrite("engines", "nodes")

    from engines import Docker
    from making import Maker
    from nodes import Swarm

    timings: list[tuple[str, float, str]] = []
    """What was done, how long it took, and how it ended."""

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        began = time.monotonic()
        ended = "FAILED"
        print(f"\n== {what}", flush=True)
        try:
            yield
            ended = "ok"
        except pytest.skip.Exception:
            ended = "not run"
            raise
        finally:
            timings.append((what, time.monotonic() - began, ended))

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
        with timed((pyfuncitem.function.__doc__ or pyfuncitem.name).splitlines()[0].rstrip(".")):
            return (yield)

    def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("a swarm of two nodes: timings")
        for what, seconds, ended in timings:
            terminalreporter.write_line(f"{seconds:7.1f} s  {ended:8}{what}")
        terminalreporter.write_line(f"{sum(seconds for _, seconds, _ in timings):7.1f} s  in all")

    def _interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    @pytest.fixture(scope="session")
    def work() -> Path:
        """Where the images of the nodes and the base of ours are kept for the next run."""
        work = Path(os.environ.get("SWARM_WORK") or Path(tempfile.gettempdir()) / "swarm-registry-rig").resolve()
        work.mkdir(parents=True, exist_ok=True)
        return work

    @pytest.fixture(scope="session")
    def swarm(work: Path) -> Iterator[Swarm]:
        """Two nodes, with all the images on them that a test needs. Whatever happens, they are gone afterwards."""
        # Ended from outside, it still takes the nodes down.
        signal.signal(signal.SIGTERM, _interrupt)
        swarm = Swarm(Path(os.environ["RIG"]) / "rig", Path(os.environ.get("RIG_DIR") or work / "rig"))
        try:
            began = time.monotonic()
            booting = swarm.begin_up()
            with tempfile.TemporaryDirectory(prefix="swarm-") as made:
                docker = Docker(Path(made))
                try:
                    maker = Maker(work, Path(made), docker)
                    with timed("make the base image, where it is not kept (the nodes boot meanwhile)"):
                        base = maker.base()
                    with timed("make the wheels, and build our image without a network"):
                        image = maker.image(base)
                finally:
                    docker.stop()
                with timed("wait for the nodes"):
                    swarm.end_up(booting)
                print(f"the nodes were ready {time.monotonic() - began:.1f} s after the start", flush=True)
                with timed(f"docker load of our image on server02 ({image.stat().st_size / 1e6:.0f} MB)"):
                    swarm.load("server02", image)
                with timed("docker import of docker-registry 2.8.2 on server02"):
                    maker.import_peer(swarm, "server02")
            yield swarm
        finally:
            with timed("take the nodes down"):
                swarm.down()
