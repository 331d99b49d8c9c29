"""Real registries as processes: our server, and the registry:2 binary it replaces, behind one interface.

`Server` runs what this repository holds; `PeerRegistry` runs Debian's `docker-registry`. Both keep their tree
under `root`, listen on 127.0.0.1, write their log beside it, and are gone when their `with` block ends:

    with Server(tmp_path / "data") as server:
        httpx.get(server.url + "/v2/")
        server.kill()       # as a power cut would
        server.start()      # the same tree, the same port
        assert server.stop() == 0
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

READY_SECONDS = 30.0
STOP_SECONDS = 30.0


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], seconds: float, what: str, interval: float = 0.02) -> None:
    """Poll until `condition()` is true; after `seconds` fail, naming what never came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:g} s still not: {what}")
        time.sleep(interval)


def let_others_in(directory: Path) -> None:
    """pytest's directories are for its user alone, up to the one for temporary files: open them to who is not root."""
    top = Path(tempfile.gettempdir())
    for each in (directory, *directory.parents)[: len(directory.relative_to(top).parts)]:
        each.chmod(0o755)


def executable(program: str) -> str:
    """Where the program is. Without it the test is skipped, or fails where clients are required."""
    # What the distribution packaged, that is, what .ci/run installed, goes before what else this machine has.
    found = shutil.which(program, path=os.pathsep.join([os.defpath, "/usr/sbin", os.environ.get("PATH", "")]))
    if found:
        return found
    reason = f"{program} is not installed"
    if os.environ.get("CI") == "true" or os.environ.get("REQUIRE_CLIENTS") == "1":
        pytest.fail(f"{reason}, and this run requires every client", pytrace=False)
    pytest.skip(reason)


def _is_group(leader: int) -> bool:
    """Whether a process of a group is left; the kernel ends the last of them a moment after the signal."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


class Process:
    """A registry under test. Subclasses say what to run."""

    def __init__(self, root: Path, *, environment: dict[str, str] | None = None, port: int = 0) -> None:
        self.root = root
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.environment = environment or {}
        """Variables on top of the inherited ones; may be changed between two starts."""
        self.log_path = root.with_name(f"{root.name}.{type(self).__name__}.log")
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def variables(self) -> dict[str, str]:
        """What the process finds in its environment; settings of whoever runs the tests stay outside."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
        return inherited | self.environment

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        assert self.process is not None, "not started"
        return self.process.pid

    def processes(self) -> list[int]:
        """The pids of the process and its children, which serve where there are several."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def log(self) -> str:
        """All that it has written since it was first started."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self) -> Self:
        """Start, and return once `GET /v2/` is answered; a server that cannot says why in the exception."""
        assert self.process is None, "already started"
        self.root.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                env=self.variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        try:
            wait_until(lambda: self.has_ended() or self.is_ready(), READY_SECONDS, "GET /v2/ answered")
        except TimeoutError as error:
            self.kill()
            raise RuntimeError(self._failure(str(error))) from None
        if self.has_ended():
            code = self.kill()
            raise RuntimeError(self._failure(f"ended at once with code {code}"))
        return self

    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def is_ready(self) -> bool:
        """True once `/v2/` answers: 200, or 401 where access needs credentials."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in {200, 401}
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def terminate(self) -> None:
        """Send SIGTERM as `docker stop` does, and do not wait."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end, which must come in time, and return the exit code."""
        assert self.process is not None, "not started"
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(self._failure(f"still runs {seconds:g} s after it was told to end")) from None
        self._forget()
        return code

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, wait, return the exit code."""
        self.terminate()
        return self.wait(seconds)

    def kill(self) -> int:
        """SIGKILL to the process and its children: nothing gets to say goodbye."""
        assert self.process is not None, "not started"
        process = self.process
        self._forget()
        code = process.wait(STOP_SECONDS)
        wait_until(lambda: not _is_group(process.pid), STOP_SECONDS, "the end of its children")
        return code

    def restart(self) -> Self:
        """End and start again: the same tree, the same port, nothing kept in memory."""
        self.stop()
        return self.start()

    def _forget(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process = None

    def _failure(self, what: str) -> str:
        tail = "\n".join(self.log().splitlines()[-40:])
        return f"{' '.join(self.command())}: {what}; the end of its log:\n{tail}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.kill()


class Server(Process):
    """Our registry, as `registry serve` starts it, in the interpreter that runs the tests."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "registry", "serve"]

    def variables(self) -> dict[str, str]:
        ours = {
            "PYTHONUNBUFFERED": "1",
            "REGISTRY_CONFIGURATION_PATH": "",  # a package of the peer may have left its file on the machine
            "REGISTRY_HTTP_ADDR": self.address,
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(self.root),
        }
        return ours | super().variables()


class PeerRegistry(Process):
    """registry:2 as Debian builds it, with deletion enabled and without authentication."""

    def command(self) -> list[str]:
        return [executable("docker-registry"), "serve", str(self.configuration())]

    def configuration(self) -> Path:
        path = self.root.with_name(self.root.name + ".yml")
        path.write_text(
            "version: 0.1\n"
            "log: {level: info}\n"
            f"storage: {{filesystem: {{rootdirectory: '{self.root}'}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.address}', secret: the-same-after-each-start}}\n"
        )
        return path

    def garbage_collect(self, *flags: str) -> str:
        """Run its `garbage-collect` over the tree and return what it said."""
        assert self.process is None, "its garbage collection wants the registry stopped"
        return self.run("garbage-collect", *flags)

    def run(self, command: str, *flags: str, timeout: float = 60) -> str:
        arguments: Iterable[str] = [self.command()[0], command, *flags, str(self.configuration())]
        ended = subprocess.run(
            [*arguments], env=self.variables(), capture_output=True, text=True, timeout=timeout, check=False
        )
        output = ended.stdout + ended.stderr
        assert ended.returncode == 0, f"{command} {flags} ended with {ended.returncode}:\n{output}"
        return output
