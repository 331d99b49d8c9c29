"""A swarm of two nodes, by the commands of the rig: server01 is the manager, server02 keeps the images."""

import os
import re
import subprocess
import time
from pathlib import Path

NODES = ("server01", "server02")


class Swarm:
    def __init__(self, rig: Path, directory: Path) -> None:
        self.rig = str(rig)
        self.directory = directory
        self.environment = os.environ | {"RIG_DIR": str(directory)}

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
        print(f"{node}$ {line}", flush=True)
        ended = self.try_run(node, line, seconds=seconds, text=text)
        assert ended.returncode == 0, f"{node}$ {line}\nended with {ended.returncode}:\n{ended.stdout}"
        return ended.stdout.strip()

    def expect(self, node: str, line: str, pattern: str, seconds: float) -> str:
        """Run a shell line on a node until what it prints matches; bounded."""
        print(f"{node}$ {line}   # until {pattern}", flush=True)
        deadline = time.monotonic() + seconds
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

    def load(self, node: str, archive: Path) -> None:
        """`docker save`d on this machine, `docker load`ed there."""
        self.copy(node, archive, "/root/image.tar.gz")
        self.run(node, "docker load --quiet --input /root/image.tar.gz && rm /root/image.tar.gz", seconds=240)

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
