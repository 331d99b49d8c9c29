"""The two-node swarm that the tests in here share. They run by `make test-swarm` alone, never by plain pytest."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

RUNS = os.environ.get("SWARM_TEST") == "1"
collect_ignore_glob = [] if RUNS else ["*"]

if RUNS:
    pytest.register_assert_rewrite("guide", "nodes")

    from guide import Guide
    from making import BASE, Maker
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
    def guide() -> Guide:
        return Guide()

    @pytest.fixture(scope="session")
    def swarm(work: Path) -> Iterator[Swarm]:
        """Two nodes: the clone and the base image are on server01. Whatever happens, they are gone afterwards."""
        # Ended from outside, it still takes the nodes down.
        signal.signal(signal.SIGTERM, _interrupt)
        swarm = Swarm(Path(os.environ["RIG"]) / "rig", Path(os.environ.get("RIG_DIR") or work / "rig"))
        try:
            Maker.install()
            began = time.monotonic()
            booting = swarm.begin_up()
            with tempfile.TemporaryDirectory(prefix="swarm-") as made:
                maker = Maker(work, Path(made))
                with timed("make the base image, where it is not kept (the nodes boot meanwhile)"):
                    base = maker.base()
                with timed("make the wheels of our image"):
                    clone = maker.clone()
                with timed("wait for the nodes"):
                    swarm.end_up(booting)
                print(f"the nodes were ready {time.monotonic() - began:.1f} s after the start", flush=True)
                swarm.let_in("server01", "server02")
                swarm.let_in("server02", "server01")
                with timed("bring the clone and the base image to server01"):
                    swarm.copy("server01", clone, "/root/clone.tar")
                    swarm.run("server01", "tar -xf /root/clone.tar && rm /root/clone.tar")
                    swarm.copy("server01", base, "/root/base.tar.gz")
                    swarm.run("server01", f"docker import /root/base.tar.gz {BASE}", seconds=180)
                with timed("docker import of docker-registry 2.8.2 on server02"):
                    maker.import_peer(swarm, "server02")
            yield swarm
        finally:
            with timed("take the nodes down"):
                swarm.down()
