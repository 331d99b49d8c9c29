"""The container clients, each with state of its own in a temporary directory, away from the machine's."""

import contextlib
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from serving import executable, wait_until

SECONDS = 90.0
"""What one command of a client may take: they retry a failed transfer several times, with pauses."""


@dataclass
class Tool:
    """A program with the arguments that every call of it begins with."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: object, seconds: float = SECONDS, directory: Path | None = None) -> str:
        """Run it; it must end well and in time. Returns what it printed."""
        ended = self.run(*arguments, seconds=seconds, directory=directory)
        assert ended.returncode == 0, f"{ended.args} ended with {ended.returncode}:\n{ended.stdout}"
        return ended.stdout

    def fails(self, *arguments: object, seconds: float = SECONDS) -> str:
        """Run it; it must end badly, but in time. Returns what it printed."""
        ended = self.run(*arguments, seconds=seconds)
        assert ended.returncode > 0, f"{ended.args} was expected to fail, and did not:\n{ended.stdout}"
        return ended.stdout

    def run(
        self, *arguments: object, seconds: float = SECONDS, directory: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=directory,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )

    def begin(self, *arguments: object) -> subprocess.Popen[str]:
        """Start it and return at once; the caller waits for it."""
        return subprocess.Popen(
            [*self.command, *map(str, arguments)],
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


class Docker(Tool):
    """A docker client, and the daemon that it speaks to."""

    def __init__(self, directory: Path) -> None:
        """`directory` must have a short path: the sockets are in it."""
        self.daemon_program = executable("dockerd")
        self.directory = directory
        self.daemon: subprocess.Popen[bytes] | None = None
        socket = f"unix://{directory}/docker.sock"
        super().__init__(
            [executable("docker"), "--config", str(directory / "config"), "--host", socket],
            {"DOCKER_CLI_EXPERIMENTAL": "enabled", "DOCKER_BUILDKIT": "0"},
        )

    @property
    def containerd_socket(self) -> Path:
        """Of the containerd that the daemon started for itself."""
        return self.directory / "exec" / "containerd" / "containerd.sock"

    def start(self) -> None:
        """Start the daemon and wait until it answers. It needs root, and neither network nor containers."""
        assert self.daemon is None, "already started"
        command = [
            *(self.daemon_program, "--host", self.command[-1]),
            *("--data-root", self.directory / "data", "--exec-root", self.directory / "exec"),
            *("--pidfile", self.directory / "pid"),
            *("--bridge", "none", "--iptables=false"),
        ]
        with (self.directory / "log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [*map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_until(self._answers, 60, "dockerd answers", interval=0.1)
        except (TimeoutError, AssertionError) as error:
            self.kill()
            raise RuntimeError(f"{error}; the end of its log:\n{self.log()[-4000:]}") from None

    def _answers(self) -> bool:
        assert self.daemon is not None
        assert self.daemon.poll() is None, f"dockerd ended with {self.daemon.returncode}"
        return self.run("version", seconds=20).returncode == 0

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def stop(self) -> None:
        """End the daemon, by force if it does not go in time."""
        if self.daemon is None:
            return
        self.daemon.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.daemon.wait(30)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the daemon, and then to its containerd, which would live on."""
        if self.daemon is None:
            return
        self.daemon.kill()
        self.daemon.wait(30)
        self.daemon = None
        self._kill_containerd()
        self._unmount()

    def _kill_containerd(self) -> None:
        pid_file = self.directory / "exec" / "containerd" / "containerd.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text())
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), 30, "containerd ended")
            pid_file.unlink()

    def _unmount(self) -> None:
        """Take back the mounts of a daemon that could not: its data directory could never be removed."""
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            point = line.split()[1]
            if Path(point).is_relative_to(self.directory):
                subprocess.run([executable("umount"), "--lazy", point], timeout=30, check=True)


def podman(directory: Path) -> Tool:
    return Tool(
        [
            *(executable("podman"), "--root", str(directory / "root"), "--runroot", str(directory / "run")),
            *("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"),
        ],
        {"TMPDIR": str(directory), "XDG_RUNTIME_DIR": str(directory)},
    )


def buildah(directory: Path) -> Tool:
    return Tool(
        [
            *(executable("buildah"), "--root", str(directory / "root"), "--runroot", str(directory / "run")),
            *("--storage-driver", "vfs"),
        ],
        {"TMPDIR": str(directory), "XDG_RUNTIME_DIR": str(directory)},
    )


def skopeo(directory: Path) -> Tool:
    return Tool([executable("skopeo")], {"TMPDIR": str(directory), "XDG_RUNTIME_DIR": str(directory)})


def ctr(docker: Docker) -> Tool:
    """containerd's own client. Its namespace keeps it apart from what the daemon does there."""
    return Tool([executable("ctr"), "--address", str(docker.containerd_socket), "--namespace", "tests"])


def printed_digest(output: str) -> str:
    """The one digest that a push or pull prints after the word `digest:`."""
    found = set(re.findall(r"\b[Dd]igest: (sha256:[0-9a-f]{64})", output))
    assert len(found) == 1, f"not one digest in:\n{output}"
    return str(found.pop())
