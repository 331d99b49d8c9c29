"""Large trees in registry:2's layout, written straight to the disk: every server finds the same, and at once."""

import json
import shutil
from pathlib import Path

from source import MANIFEST, Amounts, descriptor, digest_of

_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


def repository_name(number: int) -> str:
    return f"team{number // 100:03}/app{number:05}"


def tag_name(number: int) -> str:
    return f"v{number:05}"


def subject() -> bytes:
    return _manifest(0)


def _manifest(number: int, subject: bytes | None = None) -> bytes:
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example.sbom",
        "config": descriptor(_EMPTY_TYPE, _EMPTY),
        "layers": [descriptor(_EMPTY_TYPE, _EMPTY)],
        "annotations": {"org.example.number": str(number)},
    }
    if subject is not None:
        document["subject"] = descriptor(MANIFEST, subject)
    return json.dumps(document).encode()


class Tree:
    """A volume; `clear` takes off it what a server has added beside registry:2's tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._v2 = root / "docker" / "registry" / "v2"

    def clear(self) -> None:
        for entry in self.root.iterdir():
            if entry.name != "docker":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def blob(self, data: bytes) -> str:
        digest = digest_of(data)
        hexadecimal = digest.partition(":")[2]
        self._write(f"blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data", data)
        return digest

    def layer(self, repository: str, digest: str) -> None:
        self._write(f"repositories/{repository}/_layers/{digest.replace(':', '/')}/link", digest.encode())

    def revision(self, repository: str, digest: str) -> None:
        self._write(f"repositories/{repository}/_manifests/revisions/{digest.replace(':', '/')}/link", digest.encode())

    def tag(self, repository: str, tag: str, digest: str) -> None:
        tags = f"repositories/{repository}/_manifests/tags/{tag}"
        self._write(f"{tags}/index/{digest.replace(':', '/')}/link", digest.encode())
        self._write(f"{tags}/current/link", digest.encode())

    def _write(self, key: str, data: bytes) -> None:
        path = self._v2 / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def with_repositories(tree: Tree, amounts: Amounts) -> None:
    """Many repositories of one small image each."""
    config, manifest = tree.blob(_EMPTY), tree.blob(_manifest(0))
    for number in range(amounts.repositories):
        name = repository_name(number)
        tree.layer(name, config)
        tree.revision(name, manifest)
        tree.tag(name, "latest", manifest)


def with_tags(tree: Tree, amounts: Amounts) -> None:
    """One repository with many tags."""
    config, manifest = tree.blob(_EMPTY), tree.blob(_manifest(0))
    tree.layer("bench/tags", config)
    tree.revision("bench/tags", manifest)
    for number in range(amounts.tags):
        tree.tag("bench/tags", tag_name(number), manifest)


def with_referrers(tree: Tree, amounts: Amounts) -> None:
    """One image with many artifacts that refer to it."""
    tree.layer("bench/referrers", tree.blob(_EMPTY))
    tree.revision("bench/referrers", tree.blob(subject()))
    for number in range(amounts.referrers):
        tree.revision("bench/referrers", tree.blob(_manifest(number + 1, subject())))
    tree.tag("bench/referrers", "latest", digest_of(subject()))
