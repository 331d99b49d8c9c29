"""The image, built and run as people build and run it, in place of registry:2's."""

import contextlib
import http.client
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from engines import Docker, Tool
from images import noise, tar
from serving import PeerRegistry, free_port, wait_until

from registry import __version__

# The first test to run makes the base image.
pytestmark = [pytest.mark.client, pytest.mark.timeout(700)]

USER = 65532
VOLUME = "/var/lib/registry"
CONFIG = "/etc/docker/registry/config.yml"


class Container:
    """A running one that serves, or should, on a port of the host."""

    def __init__(self, docker: Docker, name: str, port: int) -> None:
        self.docker = docker
        self.name = name
        self.address = f"127.0.0.1:{port}"

    def status(self, path: str = "/v2/") -> int:
        """What a GET is answered with; 0 where nobody answers."""
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def state(self) -> dict[str, Any]:
        found = json.loads(self.docker("inspect", "--format", "{{json .State}}", self.name))
        assert isinstance(found, dict)
        return found

    def log(self) -> str:
        return self.docker("logs", self.name)

    def ready(self, path: str) -> None:
        def there() -> bool:
            if self.status(path) == 200:
                return True
            assert self.state()["Running"], f"it ended:\n{self.log()}"
            return False

        try:
            wait_until(there, 60, f"{path} answers 200", interval=0.1)
        except TimeoutError as error:
            raise AssertionError(f"{error}:\n{self.log()}") from None

    def uid(self) -> int:
        """Of the first process."""
        text = Path(f"/proc/{self.state()['Pid']}/status").read_text()
        uids = set(re.findall(r"^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$", text, re.MULTILINE)[0])
        assert len(uids) == 1, uids
        return int(uids.pop())

    def exec(self, *command: str) -> str:
        return self.docker("exec", self.name, *command)

    def stop(self) -> None:
        """As Swarm ends it: it goes by itself, in time, and well."""
        self.docker("stop", "--time", "30", self.name)
        state = self.state()
        assert state["ExitCode"] == 0, self.log()
        assert self.log().splitlines()[-1].endswith("stopped"), self.log()
        assert "Traceback" not in self.log()


Start = Callable[..., AbstractContextManager[Container]]


@pytest.fixture
def start(docker: Docker, image: str) -> Start:
    """Runs the image as a server; `command` is the container's, `path` what has to answer."""

    @contextlib.contextmanager
    def start(*options: object, command: tuple[str, ...] = (), path: str = "/v2/") -> Iterator[Container]:
        container = Container(docker, f"test-{uuid.uuid4().hex[:12]}", free_port())
        try:
            docker(
                *("run", "--detach", "--name", container.name, "--network", "host"),
                *("--env", f"REGISTRY_HTTP_ADDR={container.address}", *options, image, *command),
            )
            container.ready(path)
            yield container
        finally:
            docker.run("rm", "--force", "--volumes", container.name)

    return start


def once(docker: Docker, image: str, *command: str) -> tuple[int, str]:
    """Run the image to its end; its exit code, and what it printed."""
    ended = docker.run("run", "--rm", "--network", "none", image, *command)
    return ended.returncode, ended.stdout


def push(docker: Docker, directory: Path, address: str) -> str:
    """A small image of its own; returns its name."""
    archive = directory / "layer.tar"
    archive.write_bytes(tar({"file": noise(address, 200_000)}))
    name = f"{address}/some/image:{uuid.uuid4().hex[:8]}"
    docker("import", archive, name)
    docker("push", name)
    docker("rmi", name)
    return name


# What it says of itself


def test_what_docker_inspect_says(docker: Docker, image: str):
    config = json.loads(docker("image", "inspect", image))[0]["Config"]
    assert config["ExposedPorts"] == {"5000/tcp": {}}
    assert config["Volumes"] == {VOLUME: {}}
    assert config["Entrypoint"] == ["/entrypoint.sh"]
    assert config["Cmd"] == [CONFIG]
    assert config["Healthcheck"]["Test"] == ["CMD", "/bin/registry", "ping"]


def test_buildkit_builds_the_same(docker: Docker, image: str, context: Path):
    """Its metadata, that is; and what is in it runs."""
    buildkit: Tool = Tool(docker.command, docker.environment | {"DOCKER_BUILDKIT": "1"})
    ended = buildkit.run(
        *("build", "--network", "none", "--build-arg", "BASE=stand-in-base", "--tag", "by-buildkit", context),
        seconds=180,
    )
    if "buildx component is missing" in ended.stdout:
        pytest.skip("this docker has no BuildKit: its buildx is not installed")
    assert ended.returncode == 0, ended.stdout
    classic, other = (json.loads(docker("image", "inspect", name))[0]["Config"] for name in (image, "by-buildkit"))
    for key in "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "Volumes":
        assert other[key] == classic[key], key
    assert once(docker, "by-buildkit", "--version") == (0, f"registry (swarm-registry) {__version__}\n")


# Command lines


def test_other_command_lines(docker: Docker, image: str):
    version = f"registry (swarm-registry) {__version__}\n"
    assert once(docker, image, "--version") == (0, version)
    assert once(docker, image, "/bin/registry", "--version") == (0, version)
    code, said = once(docker, image, "help")
    assert (code, said.split()[:2]) == (0, ["Usage:", "registry"])
    code, said = once(docker, image, "sh", "-c", "id -u; exit 3")
    assert (code, said) == (3, "0\n")


@pytest.mark.parametrize("command", [(), (CONFIG,), ("serve", CONFIG)], ids=["none", "config", "serve"])
def test_command_lines_that_serve(start: Start, command):
    with start(command=command) as container:
        assert container.uid() == USER
        container.stop()


@pytest.mark.parametrize("place", ["/etc/distribution/config.yml", CONFIG])
@pytest.mark.parametrize("command", [(), ("/etc/distribution/config.yml",)], ids=["none", "config"])
def test_a_mounted_configuration_is_honoured(start: Start, tmp_path, place, command):
    mine = tmp_path / "mine.yml"
    mine.write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {VOLUME}}}}}\nhttp: {{prefix: /mine/}}\n")
    with start("--volume", f"{mine}:{place}:ro", command=command, path="/mine/v2/") as container:
        assert container.status("/v2/") == 404
        container.exec("registry", "ping")


# Volumes


def test_a_fresh_volume(start: Start, docker: Docker, tmp_path):
    """As a stack runs it: not as root, and the root filesystem read-only."""
    volume = f"fresh-{uuid.uuid4().hex[:8]}"
    options = ("--read-only", "--volume", f"{volume}:{VOLUME}", "--health-interval", "1s")
    with start(*options) as container:
        assert container.uid() == USER
        name = push(docker, tmp_path, container.address)
        docker("pull", name)
        assert container.exec("stat", "-c", "%u %g", f"{VOLUME}/docker/registry/v2") == f"{USER} {USER}\n"
        assert container.exec("registry", "ping") == ""
        collected = container.exec("registry", "garbage-collect", "/etc/docker/registry/config.yml")
        assert "0 blobs and 0 manifests eligible for deletion" in collected
        owners = container.exec("find", VOLUME, "!", "-uid", str(USER))
        assert owners == "", "run by root, it leaves files of root's that the server cannot change"
        wait_until(lambda: container.state()["Health"]["Status"] == "healthy", 60, "healthy", interval=0.2)
        container.stop()
    with start(*options) as again:
        assert again.uid() == USER
        docker("pull", f"{again.address}/{name.split('/', 1)[1]}")
    docker("volume", "rm", volume)


def test_a_volume_that_registry_2_wrote_as_root(start: Start, docker: Docker, image: str, tmp_path):
    """Served as root, and the log says how to change that; after that, as the image's user."""
    theirs = tmp_path / "theirs"
    with PeerRegistry(theirs) as peer:
        name = push(docker, tmp_path, peer.address)
        peer.stop()
    name = name.split("/", 1)[1]
    mounted = ("--volume", f"{theirs}:{VOLUME}")
    with start(*mounted) as container:
        assert container.uid() == 0
        command = f"chown -R {USER}:{USER} {VOLUME}"
        assert f"serving as root. To serve as another user, stop the registry, and run: {command}" in container.log()
        docker("pull", f"{container.address}/{name}")
        push(docker, tmp_path, container.address)
        container.stop()
    docker("run", "--rm", "--network", "none", *mounted, image, *command.split())
    with start(*mounted) as container:
        assert container.uid() == USER
        docker("pull", f"{container.address}/{name}")
        push(docker, tmp_path, container.address)
        container.stop()


def test_a_user_of_the_stack_s_own(start: Start, tmp_path):
    """Then there is no root to give up, and the directory is as it is."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    with start("--user", "1234:1234", "--volume", f"{data}:{VOLUME}") as container:
        assert container.uid() == 1234
        assert "started without root" in container.log()
        container.stop()


# Passwords


def test_a_file_of_users_is_made_with_the_image_and_asked_for(start: Start, docker: Docker, image: str, tmp_path):
    """As docs/swarm.md has it. What root makes in the container belongs to whoever the directory belongs to."""
    work = tmp_path / "work"
    work.mkdir()
    os.chown(work, 1234, 4321)
    (work / "ci.txt").write_text("secret\n")
    mounted = ("--volume", f"{work}:/work")
    command = "registry user add ci --file /work/htpasswd --password-stdin < /work/ci.txt"
    docker("run", "--rm", "--network", "none", *mounted, image, "sh", "-c", command)
    users = work / "htpasswd"
    assert (users.stat().st_uid, users.stat().st_gid, users.stat().st_mode & 0o777) == (1234, 4321, 0o600)
    assert docker("run", "--rm", *mounted, image, "user", "list", "--file", "/work/htpasswd") == "ci\n"

    os.chown(users, 0, 0)
    settings = {"": "htpasswd", "_HTPASSWD_REALM": "Registry", "_HTPASSWD_PATH": "/run/secrets/htpasswd"}
    options = [f"--env=REGISTRY_AUTH{name}={value}" for name, value in settings.items()]
    secret = ("--volume", f"{users}:/run/secrets/htpasswd:ro", "--health-interval", "1s")
    with start(*options, *secret, path="/") as container:
        assert container.uid() == USER
        assert container.status("/v2/") == 401
        wait_until(lambda: container.state()["Health"]["Status"] == "healthy", 60, "healthy", interval=0.2)
        docker("login", "--username", "ci", "--password", "secret", container.address)
        push(docker, tmp_path, container.address)
        docker("logout", container.address)
        container.stop()
