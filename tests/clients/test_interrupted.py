"""Transfers that break: whoever goes away in the middle, doing it again succeeds, and the image is whole.

Each client pushes an image of two layers over a wire that is slow enough to be interrupted in the middle of a layer.
"""

import contextlib
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from engines import Docker, Tool
from images import Image, files_of_layers, image, write_layout
from remote import Remote
from serving import Process, wait_until
from wire import Wire

pytestmark = [pytest.mark.client, pytest.mark.timeout(240)]

LAYER = 3_000_000
SLOW = 1_500_000
"""Bytes per second: a layer takes two seconds."""
MIDDLE = 1_000_000
"""Bytes after which a layer is under way, and far from its end."""
ATTEMPTS = 4


@dataclass
class Transfer:
    """How one client pushes and pulls one image."""

    tool: Tool
    push: list[str]
    pull: list[str]
    clean: list[str]
    """Removes the image, so that a pull has to fetch it all."""
    made: Image
    repository: str

    def push_again(self) -> None:
        """Push until it succeeds, as a person or a CI job does."""
        self._repeat(self.push)

    def pull_again(self) -> None:
        self._repeat(self.pull)

    def _repeat(self, arguments: list[str]) -> None:
        said = []
        for _ in range(ATTEMPTS):
            ended = self.tool.run(*arguments)
            if ended.returncode == 0:
                return
            said.append(ended.stdout)
        pytest.fail(f"{ATTEMPTS} attempts of {arguments} failed:\n" + "\n".join(said))

    def whole(self, url: str) -> None:
        """Fail unless the registry has the image: a manifest, all it names, and in it the files that were pushed."""
        with Remote(url) as remote:
            manifest = remote.manifest(self.repository, "v1").json
            remote.blob(self.repository, manifest["config"]["digest"])
            layers = [remote.blob(self.repository, layer["digest"]) for layer in manifest["layers"]]
            assert files_of_layers(layers) == self.made.files
            assert remote.tags(self.repository) == ["v1"]


def _docker(docker: Docker, name: str, layout: Path, made: Image, repository: str) -> Transfer:
    context = layout.parent / "context"
    context.mkdir()
    for file, data in made.files.items():
        (context / file).write_bytes(data)
    lines = ["FROM scratch", *(f"COPY {file} /" for file in made.files)]
    (context / "Dockerfile").write_text("\n".join(lines))
    docker("build", "--tag", name, context)
    return Transfer(docker, ["push", name], ["pull", name], ["rmi", "--force", name], made, repository)


def _podman(podman: Tool, name: str, layout: Path, made: Image, repository: str) -> Transfer:
    """And buildah, which takes the same words."""
    identity = podman("pull", f"oci:{layout}:v1").split()[-1]
    podman("tag", identity, name)
    plain = "--tls-verify=false"
    clean = ["rmi", "--all", "--force"]
    return Transfer(podman, ["push", plain, name], ["pull", plain, name], clean, made, repository)


def _skopeo(skopeo: Tool, name: str, layout: Path, made: Image, repository: str) -> Transfer:
    target = layout.parent / "pulled"
    push = ["copy", "--dest-tls-verify=false", f"oci:{layout}:v1", f"docker://{name}"]
    pull = ["copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{target}"]
    return Transfer(skopeo, push, pull, ["--version"], made, repository)


def _ctr(ctr: Tool, name: str, layout: Path, made: Image, repository: str) -> Transfer:
    with tarfile.open(layout.parent / "image.tar", "w") as archive:
        archive.add(layout, ".")
    base = name.removesuffix(":v1")
    ctr("images", "import", "--no-unpack", "--base-name", base, layout.parent / "image.tar")
    plain = "--plain-http"
    push = ["images", "push", plain, name]
    return Transfer(ctr, push, ["images", "pull", plain, name], ["images", "rm", "--sync", name], made, repository)


CLIENTS: dict[str, Callable[..., Transfer]] = {
    "docker": _docker,
    "podman": _podman,
    "buildah": _podman,
    "skopeo": _skopeo,
    "ctr": _ctr,
}


@pytest.fixture(params=CLIENTS)
def transfer(request: pytest.FixtureRequest, wire: Wire, repository: str, tmp_path: Path) -> Transfer:
    """An image that one client has and the registry does not."""
    tool: Tool = request.getfixturevalue(request.param)
    made = image(repository, size=LAYER)
    layout = write_layout(tmp_path / "layout", made, tag="v1")
    return CLIENTS[request.param](tool, f"{wire.address}/{repository}:v1", layout, made, repository)


@contextlib.contextmanager
def under_way(transfer: Transfer, wire: Wire, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The client's command, from the moment when a layer is half on its way; afterwards the wire is quick again."""
    wire.slow(SLOW)
    before = wire.up.total + wire.down.total
    client = transfer.tool.begin(*arguments)
    try:
        wait_until(
            lambda: wire.up.total + wire.down.total - before > MIDDLE or client.poll() is not None,
            60,
            "in the middle of a layer",
        )
        assert client.poll() is None, "it ended before it could be interrupted"
        yield client
    finally:
        wire.slow(0)
        if client.poll() is None:
            client.kill()
        client.communicate(timeout=30)


def test_a_push_whose_connection_breaks_succeeds_at_last(transfer: Transfer, wire: Wire, server: Process) -> None:
    wire.up.cut_after(MIDDLE)
    transfer.push_again()
    assert wire.up.cuts == 1
    transfer.whole(server.url)


def test_a_push_whose_client_is_killed_is_repeated(transfer: Transfer, wire: Wire, server: Process) -> None:
    with under_way(transfer, wire, transfer.push) as client:
        client.kill()
    transfer.push_again()
    transfer.whole(server.url)


def test_a_push_whose_server_is_killed_is_repeated(transfer: Transfer, wire: Wire, server: Process) -> None:
    """SIGKILL in the middle of a layer; the same tree and port again; the client may try again by itself or not."""
    with under_way(transfer, wire, transfer.push) as client:
        server.kill()
        server.start()
        wire.slow(0)
        client.communicate(timeout=90)
    transfer.push_again()
    transfer.whole(server.url)
    server.restart()
    transfer.whole(server.url)


def test_a_push_whose_server_is_killed_again_and_again_is_repeated(
    docker: Docker, wire: Wire, server: Process, repository: str, tmp_path: Path
) -> None:
    """Every part of a push meets a killed server: requests, layers, config, manifest."""
    made = image(repository, layers=4, size=200_000)
    layout = write_layout(tmp_path / "layout", made)
    transfer = _docker(docker, f"{wire.address}/{repository}:v1", layout, made, repository)
    for count in range(50_000, 850_000, 100_000):
        wire.slow(SLOW)
        client = docker.begin(*transfer.push)
        goal = wire.up.total + count
        try:
            wait_until(lambda: wire.up.total > goal or client.poll() is not None, 60, "bytes sent")  # noqa: B023
            server.kill()
        finally:
            client.kill()
            client.communicate(timeout=30)
            wire.slow(0)
        server.start()
    transfer.push_again()
    transfer.whole(server.url)


def test_a_push_whose_daemon_is_killed_is_repeated(
    short_directory: Path, wire: Wire, server: Process, repository: str, tmp_path: Path
) -> None:
    """dockerd itself goes away without a word, comes back, and pushes again."""
    directory = short_directory / "killed"
    directory.mkdir()
    docker = Docker(directory)
    docker.start()
    try:
        made = image(repository, size=LAYER)
        layout = write_layout(tmp_path / "layout", made)
        transfer = _docker(docker, f"{wire.address}/{repository}:v1", layout, made, repository)
        with under_way(transfer, wire, transfer.push):
            docker.kill()
        docker.start()
        transfer.push_again()
        transfer.whole(server.url)
    finally:
        docker.kill()
        shutil.rmtree(directory, ignore_errors=True)


def test_a_pull_whose_connection_breaks_succeeds_at_last(transfer: Transfer, wire: Wire, server: Process) -> None:
    transfer.push_again()
    transfer.tool(*transfer.clean)
    wire.down.cut_after(MIDDLE)
    transfer.pull_again()
    assert wire.down.cuts == 1


def test_a_pull_whose_server_is_killed_is_repeated(transfer: Transfer, wire: Wire, server: Process) -> None:
    transfer.push_again()
    transfer.tool(*transfer.clean)
    with under_way(transfer, wire, transfer.pull) as client:
        server.kill()
        server.start()
        wire.slow(0)
        client.communicate(timeout=90)
    transfer.pull_again()
    transfer.whole(server.url)


def test_docker_resumes_a_broken_pull_where_it_ended(
    docker: Docker, wire: Wire, server: Process, repository: str
) -> None:
    """One command, one layer, one break: what had arrived is not sent again."""
    made = image(repository, layers=1, size=2 * LAYER)
    with Remote(server.url) as remote:
        remote.push(repository, made, "v1")
    wire.down.cut_after(LAYER)
    docker("pull", f"{wire.address}/{repository}:v1")
    assert wire.down.cuts == 1
    assert wire.down.total < 2.5 * LAYER
    docker("rmi", "--force", f"{wire.address}/{repository}:v1")


def test_a_push_through_a_restart_is_repeated(transfer: Transfer, wire: Wire, server: Process) -> None:
    """SIGTERM while a layer is sent, then the next task of the service, as at a rolling update."""
    with under_way(transfer, wire, transfer.push) as client:
        server.terminate()
        wire.slow(0)
        server.wait()
        server.start()
        client.communicate(timeout=90)
    transfer.push_again()
    transfer.whole(server.url)


@pytest.mark.parametrize("layers", [1, 2])
def test_docker_notices_nothing_of_a_restart(
    docker: Docker, wire: Wire, server: Process, repository: str, tmp_path: Path, layers: int
) -> None:
    """dockerd repeats a layer that was refused, but neither config nor manifest.

    A push that has begun, like one through registry:2, which just breaks the layers off, must get to its end.
    """
    made = image(repository, layers=layers, size=LAYER)
    layout = write_layout(tmp_path / "layout", made)
    transfer = _docker(docker, f"{wire.address}/{repository}:v1", layout, made, repository)
    with under_way(transfer, wire, transfer.push) as client:
        server.terminate()
        wire.slow(0)
        server.wait()
        server.start()
        output, _ = client.communicate(timeout=90)
    assert client.returncode == 0, output
    transfer.whole(server.url)
