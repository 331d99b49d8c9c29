"""The images of the test, made on this machine: nothing is pulled from any registry."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from nodes import Swarm
from serving import executable

REPOSITORY = Path(__file__).parent.parent.parent
BASE = "python:3.13-slim"
"""The name in the Dockerfile; what has it here is a stand-in, for nothing can be pulled."""

NOT_IN_IT = ("usr/share/perl", "usr/lib/*/perl", "usr/lib/*/libperl.so*", "usr/lib/*/gconv")
"""What Debian's packages bring and the official image has not: a third of it, carried from node to node for nothing."""

SUITES = {"3.11": "bookworm", "3.13": "trixie"}
"""The Debian whose Python is this one's: the wheels are made by this Python, for that one."""

PEER_CONFIGURATION = """\
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}
http: {addr: ":5000"}
"""


class Maker:
    """Makes what the nodes cannot fetch.

    Args:
        kept: where the base image stays for the next run.
        made: a temporary directory.
    """

    def __init__(self, kept: Path, made: Path) -> None:
        self.kept = kept
        self.made = made

    @staticmethod
    def install() -> None:
        """What making needs. Before the rig installs what it needs: two apt-gets shut each other out."""
        if not shutil.which("mmdebstrap"):
            _run("apt-get", "update", seconds=180)
            _run("apt-get", "install", "--yes", "--no-install-recommends", "mmdebstrap", seconds=180)

    def base(self) -> Path:
        """A root file system with Python, in place of `python:3.13-slim`; kept for the next run."""
        version = ".".join(platform.python_version_tuple()[:2])
        assert version in SUITES, f"the stand-in base image has Python {' or '.join(SUITES)}, but this is {version}"
        base = self.kept / f"slim-{SUITES[version]}.tar.gz"
        if base.exists():
            return base
        unfinished = base.with_name(f"part-{base.name}")
        left_out = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("man", "locale", "doc")]
        _run(
            *(executable("mmdebstrap"), "--mode=root", "--variant=minbase", "--include=python3,python3-venv"),
            *(*left_out, "--aptopt=APT::Install-Recommends false"),
            "--customize-hook=" + f'cd "$1" && rm -rf {" ".join(NOT_IN_IT)}',
            *(SUITES[version], unfinished),
            seconds=400,
        )
        return unfinished.rename(base)

    def clone(self) -> Path:
        """This repository as an administrator has it, with the wheels in it that a node without a way out needs."""
        source = self.made / "swarm-registry"
        left_out = shutil.ignore_patterns("__pycache__", "node_modules")
        for each in ("registry", "docs"):
            shutil.copytree(REPOSITORY / each, source / each, ignore=left_out)
        for each in ("pyproject.toml", "README.md", "LICENSE", "Dockerfile", ".dockerignore", "stack.yml"):
            shutil.copy(REPOSITORY / each, source / each)
        _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", source / "wheels", source, seconds=240)
        archive = self.made / "clone.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(source, source.name)
        return archive

    def import_peer(self, swarm: Swarm, node: str) -> None:
        """Debian's docker-registry as the image `registry:2`, with the command line of the official one."""
        root = self.made / "peer"
        program = Path(executable("docker-registry"))
        shell = Path(executable("busybox"))
        (root / "bin").mkdir(parents=True)
        shutil.copy(program, root / "bin" / "registry")
        shutil.copy(shell, root / "bin" / "busybox")
        (root / "bin" / "sh").symlink_to("busybox")
        libraries = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=False).stdout
        for line in libraries.splitlines():
            for word in line.split():
                if word.startswith("/"):
                    (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(word, root / word[1:])
        for each in ("tmp", "etc/docker/registry", "var/lib/registry"):
            (root / each).mkdir(parents=True)
        (root / "etc/docker/registry/config.yml").write_text(PEER_CONFIGURATION)
        archive = self.made / "peer.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(root, ".")
        swarm.copy(node, archive, "/root/peer.tar.gz")
        command = json.dumps(["/bin/registry", "serve", "/etc/docker/registry/config.yml"])
        swarm.run(
            node,
            f"docker import --change 'CMD {command}' --change 'EXPOSE 5000' --change 'VOLUME /var/lib/registry' "
            "/root/peer.tar.gz registry:2",
            seconds=120,
        )


def _run(*command: object, seconds: float) -> None:
    ended = subprocess.run(
        list(map(str, command)),
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.args} ended with {ended.returncode}:\n{ended.stdout[-4000:]}"
