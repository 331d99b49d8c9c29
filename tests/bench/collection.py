"""A garbage collection of a large tree, and pulls beside it: how long, how much memory, how much slower they are."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from load import Sample, run
from processes import Job
from servers import Contender, Server
from source import MANIFEST, descriptor
from transfer import Target
from trees import Tree, repository_name
from work import allow_many_files

_OURS = Path(sys.executable).with_name("registry")
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONNECTIONS = 4
_LONG_AGO = 1_000_000_000


@dataclass(frozen=True)
class Shape:
    """Of the tree: repositories, images in each, layers of each image; and one unneeded blob to so many others."""

    repositories: int
    images: int = 5
    layers: int = 8
    garbage: int = 10


class OldTree(Tree):
    """A tree whose blobs were pushed long ago, so that no lease keeps them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.blobs = 0

    def blob(self, data: bytes) -> str:
        self.blobs += 1
        return super().blob(data)

    def _write(self, key: str, data: bytes) -> None:
        super()._write(key, data)
        os.utime(self._v2 / key, (_LONG_AGO, _LONG_AGO))


def fill(tree: OldTree, shape: Shape) -> list[bytes]:
    """Returns requests for what images need: a manifest by its tag, its config and a layer."""
    requests = []
    for number in range(shape.repositories):
        name = repository_name(number)
        for each in range(shape.images):
            layers = [f"{name} {each} {layer}".encode() for layer in range(shape.layers)]
            config = json.dumps({"architecture": "amd64", "os": "linux", "of": f"{name}:{each}"}).encode()
            document = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": descriptor(_CONFIG, config),
                "layers": [descriptor(_LAYER, layer) for layer in layers],
            }
            for blob in (config, *layers):
                tree.layer(name, tree.blob(blob))
            manifest = tree.blob(json.dumps(document).encode())
            tree.revision(name, manifest)
            tree.tag(name, f"v{each}", manifest)
            requests += [
                _get(f"/v2/{name}/manifests/v{each}", f"Accept: {MANIFEST}\r\n"),
                _get(f"/v2/{name}/blobs/{descriptor(_CONFIG, config)['digest']}"),
                _get(f"/v2/{name}/blobs/{descriptor(_LAYER, layers[0])['digest']}"),
            ]
        for each in range(shape.images * (shape.layers + 2) // shape.garbage):
            tree.layer(name, tree.blob(f"garbage {name} {each}".encode()))
    return requests


def _get(path: str, header: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n".encode()


def measure(server: Server, root: Path, requests: list[bytes], seconds: float) -> dict[str, object]:
    """Pull alone, then beside a collection, then alone again."""
    before = _pulled(server, requests, seconds)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")} | {
        "REGISTRY_CONFIGURATION_PATH": "",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(root),
    }
    began = time.perf_counter()
    collecting = subprocess.Popen(
        [str(_OURS), "garbage-collect", "--json"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert collecting.stdout
    reading = Job(_until_its_end, server.target, requests, collecting.pid)
    report = json.loads(collecting.stdout.read())
    _, status, usage = os.wait4(collecting.pid, 0)
    took = time.perf_counter() - began
    beside: list[float] = reading.result(60)
    after = _pulled(server, requests, seconds)
    assert not os.waitstatus_to_exitcode(status), report
    alone = before + after
    return {
        "seconds": took,
        "rss_mib": usage.ru_maxrss / 1024,
        "blobs_removed": report["blobs_removed"],
        "blobs_kept": report["blobs_kept"],
        "pulls_alone": len(alone),
        "pulls_beside": len(beside),
        "p99_alone_ms": Sample(alone, 1).percentile(99) * 1000,
        "p99_beside_ms": Sample(beside, 1).percentile(99) * 1000,
        "p50_alone_ms": Sample(alone, 1).percentile(50) * 1000,
        "p50_beside_ms": Sample(beside, 1).percentile(50) * 1000,
    }


def _pulled(server: Server, requests: list[bytes], seconds: float) -> list[float]:
    return Job(_latencies, server.target, requests, seconds).result(seconds + 60)


def _latencies(target: Target, requests: list[bytes], seconds: float) -> list[float]:
    return run(target, requests, _CONNECTIONS, seconds).latencies


def _until_its_end(target: Target, requests: list[bytes], pid: int) -> list[float]:
    """Pull for as long as the collection runs: what it did not see of it does not count."""
    found: list[float] = []
    at = 0
    while _runs(pid):
        part = run(target, requests[at:] + requests[:at], _CONNECTIONS, 0.25).latencies
        found += part
        at = (at + len(part)) % len(requests)
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python tests/bench/collection.py", description=__doc__)
    parser.add_argument("--repositories", type=int, default=2000, help="of 55 blobs each (2000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of pulls before and after (10)")
    parser.add_argument("--root", type=Path, default=Path("/dev/shm"), help="where the tree is made (/dev/shm)")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args(arguments)
    allow_many_files()
    made = Path(tempfile.mkdtemp(prefix="collection-", dir=options.root))
    try:
        tree = OldTree(made / "data")
        requests = fill(tree, Shape(options.repositories))
        with Server(Contender("ours", command=f"{_OURS} serve", is_ours=True), tree.root, made / "beside") as server:
            found = measure(server, tree.root, requests, options.seconds)
    finally:
        shutil.rmtree(made)
    found = {"repositories": options.repositories, "blobs": tree.blobs, **found}
    for name, value in found.items():
        print(f"{name:16}{value:,.2f}" if isinstance(value, float) else f"{name:16}{value:,}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
