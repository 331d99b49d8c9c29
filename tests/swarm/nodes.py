"""A swarm of two nodes, by the commands of the rig: server01 is the manager, server02 keeps the images."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MANAGER = "server01"
NODES = (MANAGER, "server02")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Print what is done, and then how long it took."""
    print(what, end=" ", flush=True)
    began = time.monotonic()
    try:
        yield
    finally:
        print(f"  [{time.monotonic() - began:.1f} s]", flush=True)


class Swarm:
    def __init__(self, rig: Path, directory: Path) -> None:
        self.rig = str(rig)
        self.directory = directory
        self.again: list[subprocess.Popen[bytes]] = []
        """Nodes that were switched off and on."""
        self.environment = os.environ | {"RIG_DIR": str(directory), "RIG_PACKAGES": "openssh-client rsync"}

    def begin_up(self) -> subprocess.Popen[bytes]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "up.log").open("wb") as log:
            return subprocess.Popen(
                [self.rig, "up"], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def end_up(self, booting: subprocess.Popen[bytes]) -> None:
        ended = booting.wait(600)
        assert ended == 0, f"rig up ended with {ended}:\n{(self.directory / 'up.log').read_text()[-4000:]}"

    def down(self) -> None:
        subprocess.run([self.rig, "down"], env=self.environment, stdin=subprocess.DEVNULL, timeout=60, check=True)
        for node in self.again:
            node.wait(30)

    def try_run(
        self, node: str, line: str, *, seconds: float = 60, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line on a node; the caller sees how it ended. 255 stands for a node that did not answer."""
        with self.begin(node, line, text) as process:
            try:
                output, _ = process.communicate(text, timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                return subprocess.CompletedProcess(line, 255, f"{output}\nstill running after {seconds:g} s")
            return subprocess.CompletedProcess(line, process.returncode, output)

    def begin(self, node: str, line: str, text: str | None = None) -> subprocess.Popen[str]:
        """Start a shell line on a node and return at once."""
        return subprocess.Popen(
            [self.rig, "run", node, line],
            env=self.environment,
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, node: str, line: str, *, seconds: float = 60, text: str | None = None) -> str:
        """Run a shell line on a node. It must end well, and in time. Returns what it printed."""
        with _told(f"{node}$ {line}"):
            ended = self.try_run(node, line, seconds=seconds, text=text)
        assert ended.returncode == 0, f"{node}$ {line}\nended with {ended.returncode}:\n{ended.stdout}"
        return ended.stdout.strip()

    def expect(self, node: str, line: str, pattern: str, seconds: float) -> str:
        """Run a shell line on a node until what it prints matches; bounded."""
        deadline = time.monotonic() + seconds
        with _told(f"{node}$ {line}   # until {pattern}"):
            while True:
                ended = self.try_run(node, line, seconds=min(30, seconds))
                if ended.returncode == 0 and re.search(pattern, ended.stdout):
                    return ended.stdout.strip()
                assert time.monotonic() < deadline, (
                    f"{node}$ {line}\ndoes not print {pattern!r} within {seconds:g} s, but (exit {ended.returncode}):\n"
                    f"{ended.stdout}\n{self.state()}"
                )
                time.sleep(0.5)

    def copy(self, node: str, source: Path, target: str) -> None:
        subprocess.run(
            [self.rig, "copy", node, str(source), target],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            timeout=240,
            check=True,
        )

    def write(self, node: str, target: str, text: str) -> None:
        self.run(node, f"cat > {target}", text=text)

    def let_in(self, client: str, server: str) -> None:
        """Let root of one node into the other by ssh, as administrators have it."""
        self.run(client, "mkdir -p -m 700 /root/.ssh")
        self.write(client, "/root/.ssh/config", "StrictHostKeyChecking no\nLogLevel ERROR\n")
        self.copy(client, self.directory / "ssh_key", "/root/.ssh/id_ed25519")
        self.run(client, f"chmod 600 /root/.ssh/* && ssh {server} true")

    def switch_off_and_on(self, node: str) -> None:
        """Switch a node off without a word to docker or its containers, and on again: its disk stays.

        The rig boots all nodes or none, each from a fresh disk. So the very process that the node is, is started again.
        """
        status = subprocess.run(
            [self.rig, "status"], env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        found = re.search(rf"^{node} up pid=(\d+) address=(\S+)", status.stdout, re.MULTILINE)
        namespace = re.search(r"^netns (\S+)", status.stdout, re.MULTILINE)
        assert found, status.stdout
        assert namespace, status.stdout
        process = Path("/proc", found[1])
        command = (process / "cmdline").read_bytes().split(b"\0")[:-1]
        environment = dict(each.split(b"=", 1) for each in (process / "environ").read_bytes().split(b"\0")[:-1])
        folder = (process / "cwd").resolve()
        cpus = os.sched_getaffinity(int(found[1]))
        # Its filesystem has no journal: what is written so far goes to the disk first.
        self.try_run(node, "sync; echo u > /proc/sysrq-trigger; (sleep 1; busybox poweroff -f) > /dev/null 2>&1 &")
        deadline = time.monotonic() + 60
        while process.exists():
            assert time.monotonic() < deadline, f"{node} does not go off"
            time.sleep(0.2)
        (folder / f"{found[2]}.ssh").unlink(missing_ok=True)
        with (folder / f"{node}.console").open("ab") as console:
            again = subprocess.Popen(
                [b"ip", b"netns", b"exec", namespace[1].encode(), *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.again.append(again)
        os.sched_setaffinity(again.pid, cpus)
        (folder / f"{node}.pid").write_text(f"{again.pid}\n")

    def deploy(self, stack: str, file: str, variables: str = "") -> None:
        self.run(
            "server01",
            f"{variables} docker stack deploy --resolve-image never --compose-file {file} {stack}".strip(),
            seconds=120,
        )

    def remove(self, stack: str) -> None:
        """Remove a stack, and wait until its containers have ended: until then they hold the volume."""
        self.run("server01", f"docker stack rm {stack}")
        for node in NODES:
            self.expect(node, f"docker ps --quiet --filter name={stack}_ | wc -l", "^0$", 150)

    def runs(self, service: str, replicas: int = 1, seconds: float = 180) -> None:
        """Wait until all replicas of a service run."""
        line = f"docker service ls --filter name={service} --format '{{{{.Replicas}}}}'"
        self.expect("server01", line, f"^{replicas}/{replicas}$", seconds)

    def state(self) -> str:
        """What an administrator would look at."""
        look = "docker service ls; docker service ps --no-trunc $(docker service ls --quiet)"
        logs = 'for c in $(docker ps --all --quiet); do echo "-- $c"; docker logs --tail 30 $c 2>&1; done'
        return "\n".join(
            f"-- {node}$ {line}\n{self.try_run(node, line).stdout[-6000:]}"
            for node, line in (("server01", look), ("server02", logs))
        )
