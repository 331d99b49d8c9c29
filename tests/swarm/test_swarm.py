"""The guide of docs/swarm.md on two real nodes, and then the hard days. Each step stands on the one before it."""

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from guide import CLONE, Guide
from nodes import NODES, Swarm
from serving import executable

pytestmark = pytest.mark.timeout(900)

REPOSITORY = Path(__file__).parent.parent.parent
DEPLOY = "REGISTRY_NODE=server02 docker stack deploy --compose-file stack.yml --resolve-image never registry"
DEPLOY_PREPARED = (
    "REGISTRY_NODE=server02 REGISTRY_REQUIRE_VOLUME=true docker stack deploy "
    "--compose-file stack.yml --resolve-image never registry"
)
HELLO = "127.0.0.1:5000/helloworld:v1"

UPDATE = "docker service update --force --no-resolve-image registry_registry"
BUSY = "127.0.0.1:5000/busy:1"
KEPT = (HELLO, "127.0.0.1:5000/swarm-registry:0.1.0", BUSY)
"""What was pushed before the hard days."""

HELLO_DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox mkdir /www && echo 'Hello, World!' > /www/index.html"]
CMD ["/bin/busybox", "sh", "-c", "/bin/busybox hostname > /www/host.txt; exec /bin/busybox httpd -f -p 8080 -h /www"]
"""

OLD_STACK = """\
version: "3"
services:
  registry:
    image: %s
    volumes: ["data:/var/lib/registry"]
    ports: ["5000:5000"]
    deploy:
      placement:
        constraints: ["node.hostname == server02"]
volumes:
  data:
"""
"""A stack of registry:2, as they are: moving is to change the image in it, and no more."""


def catalog(swarm: Swarm, *repositories: str) -> None:
    """Both nodes list exactly these, at their own 127.0.0.1."""
    expected = json.dumps({"repositories": sorted(repositories)}).replace(" ", "")
    for node in NODES:
        line = "curl -sS -m 10 http://127.0.0.1:5000/v2/_catalog | tr -d ' \\n'"
        swarm.expect(node, line, f"^{re.escape(expected)}$", 60)


def answers(swarm: Swarm) -> None:
    for node in NODES:
        line = "curl -sS -m 10 -o /dev/null -w '%{http_code}' http://127.0.0.1:5000/v2/"
        swarm.expect(node, line, "^200$", 60)


def build(swarm: Swarm, name: str, layers: int, megabytes: int) -> None:
    """An image of random bytes on server01: no layer of it can be known, or compressed away."""
    swarm.run(
        "server01",
        f"rm -rf /root/random && mkdir /root/random && cd /root/random && echo FROM scratch > Dockerfile && "
        f"for i in $(seq {layers}); do dd if=/dev/urandom of=layer$i bs=1M count={megabytes} status=none && "
        f"echo COPY layer$i / >> Dockerfile; done && docker build --quiet --tag {name} . && rm -rf /root/random",
        seconds=180,
    )


def push(swarm: Swarm, name: str) -> None:
    swarm.run("server01", f"docker push {name}", seconds=240)


def pulls_whole(swarm: Swarm, name: str) -> None:
    """The other node, which does not have it, pulls the image that server01 built."""
    swarm.run("server02", f"docker image rm --force {name} >/dev/null 2>&1; docker pull --quiet {name}", seconds=240)
    image = f"docker image inspect --format '{{{{.Id}}}} {{{{json .RootFS.Layers}}}}' {name}"
    assert swarm.run("server02", image) == swarm.run("server01", image)


def container(swarm: Swarm, service: str = "registry_registry") -> str:
    """The one container of a service, on server02."""
    return swarm.expect("server02", f"docker ps --quiet --filter name={service}", "^[0-9a-f]{12}$", 60)


def another_container(swarm: Swarm, than: str) -> None:
    """Swarm has put another container in that one's place, and the service runs."""
    line = "docker ps --quiet --filter name=registry_registry --filter health=healthy"
    swarm.expect("server02", line, f"^(?!{than})[0-9a-f]{{12}}$", 180)
    swarm.runs("registry_registry")
    answers(swarm)


def listed(swarm: Swarm, images: Iterable[str]) -> None:
    """Both nodes list what was pushed."""
    catalog(swarm, *{each.removeprefix("127.0.0.1:5000/").partition(":")[0] for each in images})


def held(swarm: Swarm, images: Iterable[str]) -> None:
    """All that was pushed is still there, and pulls whole."""
    images = list(images)
    listed(swarm, images)
    for each in images:
        pulls_whole(swarm, each)


def test_image(swarm: Swarm, guide: Guide) -> None:
    """docker build of our image on server01, without a network, and docker save | ssh docker load to server02"""
    guide.run(swarm, "server01", "docker build -t swarm-registry .", seconds=400)
    guide.run(swarm, "server01", "docker save swarm-registry | ssh server02 docker load", seconds=240)


def test_wrong_node(swarm: Swarm, guide: Guide) -> None:
    """A task that lands on a node without the prepared volume does not serve, and says why"""
    refused = swarm.try_run("server01", f"cd {CLONE} && {DEPLOY.removeprefix('REGISTRY_NODE=server02 ')}")
    assert refused.returncode != 0
    assert "set REGISTRY_NODE" in refused.stdout
    guide.run(swarm, "server01", DEPLOY_PREPARED, seconds=120)
    log = "docker service logs registry_registry 2>&1"
    swarm.expect("server01", log, "prepare it once with: registry volume init", 120)
    assert swarm.try_run("server01", "curl -sS -m 5 http://127.0.0.1:5000/v2/").returncode != 0


def test_deploy(swarm: Swarm, guide: Guide) -> None:
    """Prepare the volume: stack.yml now runs on server02, and both nodes reach it"""
    prepare = "docker run --rm -v registry_registry_data:/var/lib/registry swarm-registry volume init"
    name = guide.run(swarm, "server02", prepare, seconds=120).splitlines()[-1]
    assert re.fullmatch(r"[0-9a-f-]{36}", name)
    swarm.runs("registry_registry")
    answers(swarm)
    guide.run(swarm, "server01", DEPLOY, seconds=120)
    swarm.runs("registry_registry")
    answers(swarm)
    print(guide.run(swarm, "server01", "docker stack ps --no-trunc registry"))
    logs = guide.run(swarm, "server01", "docker service logs --tail 50 registry_registry")
    assert "serving http://" in logs


def test_catalog_is_empty(swarm: Swarm) -> None:
    """The catalog is empty on both nodes"""
    catalog(swarm)


def test_push(swarm: Swarm, guide: Guide) -> None:
    """Build a stand-in for helloworld on server01, and push it to 127.0.0.1:5000"""
    swarm.run("server01", "mkdir -p /root/hello")
    swarm.copy("server01", Path(executable("busybox")), "/root/hello/busybox")
    swarm.write("server01", "/root/hello/Dockerfile", HELLO_DOCKERFILE)
    swarm.run("server01", "chmod 755 /root/hello/busybox && docker build --quiet --tag helloworld:v1 /root/hello")
    guide.run(swarm, "server01", f"docker tag helloworld:v1 {HELLO}", f"docker push {HELLO}", seconds=240)


def test_catalog(swarm: Swarm, guide: Guide) -> None:
    """Both nodes list helloworld"""
    catalog(swarm, "helloworld")
    for node in NODES:
        line = guide.told("curl http://127.0.0.1:5000/v2/_catalog")
        assert swarm.run(node, f"{line} 2>/dev/null") == '{"repositories":["helloworld"]}'


def test_helloworld(swarm: Swarm, guide: Guide) -> None:
    """Four replicas of helloworld, reached on both nodes"""
    deploy = "docker stack deploy --compose-file docs/examples/helloworld/stack.yml helloworld"
    guide.run(swarm, "server01", deploy, seconds=120)
    swarm.runs("helloworld_web", 4)
    for node in NODES:
        swarm.expect(node, "docker ps --quiet --filter name=helloworld_web | wc -l", "^2$", 30)
        line = guide.told("curl http://127.0.0.1:8080/")
        swarm.expect(node, f"{line} 2>/dev/null", "^Hello, World!$", 60)
        hosts = "for i in 1 2 3 4 5 6 7 8; do curl -sS -m 10 http://127.0.0.1:8080/host.txt; done | sort -u | wc -l"
        swarm.expect(node, hosts, "^4$", 60)
    swarm.remove("helloworld")


def test_its_own_image(swarm: Swarm, guide: Guide) -> None:
    """The registry keeps its own image"""
    own = "127.0.0.1:5000/swarm-registry:0.1.0"
    guide.run(swarm, "server01", f"docker tag swarm-registry {own}", f"docker push {own}", seconds=240)
    pulls_whole(swarm, own)


def test_update_during_a_push(swarm: Swarm, guide: Guide) -> None:
    """docker service update --force in the middle of a push: the client's retry ends well"""
    name = BUSY
    build(swarm, name, layers=4, megabytes=32)
    before = container(swarm)
    uploads = (
        "find $(docker volume inspect --format '{{.Mountpoint}}' registry_registry_data) -path '*/_uploads/*/data'"
    )
    pushing = swarm.begin("server01", f"docker push {name}; echo ended with $?")
    try:
        swarm.expect("server02", f"{uploads} -size +0 | head -n 1", "data", 60)
        assert pushing.poll() is None, "the push was too quick to be disturbed"
        began = time.monotonic()
        guide.run(swarm, "server01", UPDATE, seconds=240)
        output, _ = pushing.communicate(timeout=300)
        retries = output.count("Retrying in 1 second")
        ending = "\n".join(output.splitlines()[-3:])
        print(f"{time.monotonic() - began:.1f} s after the update began, {retries} blobs were tried again:\n{ending}")
    finally:
        pushing.kill()
    another_container(swarm, before)
    if "ended with 0" not in output:
        print("the push failed; a second one must not")
        push(swarm, name)
    pulls_whole(swarm, name)


def test_kill(swarm: Swarm) -> None:
    """kill -9 of the registry: swarm starts it again, and all is still there"""
    before = container(swarm)
    swarm.run("server02", f"kill -9 $(docker inspect --format '{{{{.State.Pid}}}}' {before})")
    another_container(swarm, before)
    listed(swarm, KEPT)
    pulls_whole(swarm, HELLO)


def test_daemon_is_killed(swarm: Swarm) -> None:
    """kill -9 of docker and all its containers on the node with the volume, and docker started again"""
    before = container(swarm)
    # First the daemon, so that it cannot put right what follows, then containerd, its shims and what they run.
    swarm.run(
        "server02",
        "daemon=$(cat /run/docker.pid) containerd=$(cat /run/docker/containerd/containerd.pid) && "
        "tr '\\0' '\\n' < /proc/$daemon/cmdline > /root/dockerd.line && "
        "tasks=$(cat /sys/fs/cgroup/docker/*/cgroup.procs; cat /run/docker/containerd/daemon/*/moby/*/init.pid) ; "
        "shims=$(for task in $tasks; do awk '/^PPid/ { print $2 }' /proc/$task/status; done | sort -u | grep -vx 1) ; "
        "kill -9 $daemon $containerd $shims $tasks 2>/dev/null; sleep 1; rm -f /run/docker.pid; "
        "! kill -0 $daemon 2>/dev/null || ! grep -q dockerd /proc/$daemon/cmdline",
    )
    assert swarm.try_run("server02", "docker version").returncode != 0
    swarm.run("server02", "xargs -d '\\n' setsid < /root/dockerd.line >> /var/log/dockerd.log 2>&1 &")
    swarm.expect("server02", "docker info --format '{{.Swarm.LocalNodeState}}'", "^active$", 120)
    another_container(swarm, before)
    listed(swarm, KEPT)
    pulls_whole(swarm, HELLO)


def test_node_restarts(swarm: Swarm) -> None:
    """The node with the volume is switched off, and on again"""
    before = container(swarm)
    swarm.switch_off_and_on("server02")
    swarm.expect("server01", "docker node ls --format '{{.Hostname}} {{.Status}}'", "server02 (Down|Unknown)", 120)
    swarm.expect("server02", "docker info --format '{{.Swarm.LocalNodeState}}'", "^active$", 120)
    another_container(swarm, before)
    listed(swarm, KEPT)
    pulls_whole(swarm, BUSY)


def test_node_is_lost(swarm: Swarm, guide: Guide) -> None:
    """Backup while it runs, exactly, and restored on another node"""
    data = "cd \"$(docker volume inspect --format '{{.Mountpoint}}' registry_registry_data)\""
    copy = "rsync --archive --relative --numeric-ids"
    names = f"{copy} --checksum --exclude=_uploads docker/registry/v2/repositories /backup/"
    content = f"{copy} docker/registry/v2/blobs swarm-registry/volume-id /backup/"
    swarm.run("server02", "mkdir /backup")
    guide.run(swarm, "server02", data, names, content, seconds=120)
    guide.run(swarm, "server01", "docker service scale registry_registry=0", seconds=120)
    swarm.expect("server02", "docker ps --quiet --filter name=registry_registry | wc -l", "^0$", 120)
    guide.run(swarm, "server02", data, names, content, seconds=120)
    guide.run(swarm, "server01", "docker service scale registry_registry=1", seconds=120)
    swarm.run("server02", "tar -C / -c backup | ssh server01 tar -C / -x", seconds=120)
    restore = (
        "docker volume create registry_registry_data",
        "data=$(docker volume inspect --format '{{.Mountpoint}}' registry_registry_data)",
        'rsync --archive --numeric-ids /backup/ "$data/"',
        'chown --reference="$data/docker" "$data"',
    )
    guide.run(swarm, "server01", *restore, seconds=120)
    there = DEPLOY_PREPARED.replace("server02", "server01")
    swarm.run("server01", f"cd {CLONE} && {there}", seconds=120)
    here = "docker ps --quiet --filter name=registry_registry --filter health=healthy"
    swarm.expect("server01", here, "^[0-9a-f]{12}$", 180)
    answers(swarm)
    held(swarm, KEPT)


def test_guide_is_run(guide: Guide) -> None:
    """Every command that the guide does not mark as not run was run"""
    assert not guide.left()


def test_there_and_back(swarm: Swarm) -> None:
    """A volume that docker-registry 2.8.2 filled: to ours by one line, and the way back"""
    swarm.remove("registry")
    filled = [f"127.0.0.1:5000/{name}:1" for name in ("theirs", "ours", "back")]
    for name, image in zip(filled, ("registry:2", "swarm-registry:latest", "registry:2"), strict=True):
        swarm.write("server01", "/root/old.yml", OLD_STACK % image)
        before = swarm.try_run("server02", "docker ps --quiet --filter name=old_registry").stdout.strip() or "none"
        swarm.deploy("old", "/root/old.yml")
        running = "docker ps --format '{{.ID}} {{.Image}}' --filter name=old_registry"
        swarm.expect("server02", running, f"^(?!{before})[0-9a-f]+ {image}$", 120)
        swarm.runs("old_registry")
        answers(swarm)
        held(swarm, filled[: filled.index(name)])
        build(swarm, name, layers=2, megabytes=2)
        push(swarm, name)
        listed(swarm, filled[: filled.index(name) + 1])
        pulls_whole(swarm, name)
    swarm.remove("old")
