"""`registry usage`: known trees, known numbers."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from collecting import age, collect, environment
from images import Image, artifact, image, index
from remote import Remote
from serving import PeerRegistry, Process, Server

SHARED = image("shared", size=3000, layers=2)
OWN = image("own", size=5000, layers=1)
UNTAGGED = image("untagged", size=700, layers=1)


def run(root: Path | None, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "registry", "usage", *arguments],
        env=environment(root, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def usage(root: Path, *arguments: str, **variables: str) -> Any:
    ended = run(root, "--json", *arguments, **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def of(document: Any, repository: str) -> dict[str, Any]:
    found = [each for each in document["repositories"] if each["repository"] == repository]
    assert len(found) == 1, document
    return dict(found[0])


def weight(*images: Image) -> int:
    """Bytes of all that the images need, each blob once."""
    blobs = {
        each.digest: len(each.data)
        for top in images
        for element in top.walk()
        for each in (element.manifest, *element.blobs)
    }
    return sum(blobs.values())


def fill(remote: Remote) -> None:
    """Two repositories that share an image; one has another one, untagged content and a referrer."""
    remote.push("team/a", SHARED, "v1", "v2")
    for blob in SHARED.blobs:
        assert remote.mount("team/b", blob.digest, "team/a") in {201, 202}
        remote.push_blob("team/b", blob.data)
    remote.push_manifest("team/b", SHARED.manifest, "v1")
    remote.push("team/b", OWN, "own")
    remote.push("team/b", UNTAGGED)


def test_what_repositories_share_is_logical_in_each_and_unique_in_none(server: Process) -> None:
    with Remote(server.url) as remote:
        fill(remote)
    document = usage(server.root)
    a, b = of(document, "team/a"), of(document, "team/b")
    assert (a["tags"], a["manifests"], a["uploads"]) == (2, 1, 0)
    assert (a["bytes_logical"], a["bytes_unique"]) == (weight(SHARED), 0)
    assert (b["tags"], b["manifests"]) == (2, 3)
    assert b["bytes_logical"] == weight(SHARED, OWN, UNTAGGED)
    assert b["bytes_unique"] == weight(OWN, UNTAGGED)
    total = document["total"]
    assert total["repositories"] == 2
    assert total["bytes_stored"] == weight(SHARED, OWN, UNTAGGED)
    assert total["bytes_logical"] == a["bytes_logical"] + b["bytes_logical"]
    assert total["bytes_shared"] == weight(SHARED)
    assert total["bytes_of_disk"] > total["bytes_free_on_disk"] > 0
    assert document["problems"] == []


def test_it_tells_what_a_collection_then_frees(server: Process) -> None:
    garbage = b"no manifest needs this" * 100
    with Remote(server.url) as remote:
        fill(remote)
        remote.push_blob("team/a", garbage)
    young = usage(server.root)["total"]
    assert (young["bytes_freeable"], young["bytes_young"]) == (0, len(garbage))
    age(server.root)
    plain, untagged = usage(server.root), usage(server.root, "--delete-untagged")
    assert usage(server.root, REGISTRY_GC_DELETEUNTAGGED="true")["repositories"] == untagged["repositories"]
    assert of(plain, "team/a")["bytes_freeable"] == len(garbage)
    assert of(plain, "team/b")["bytes_freeable"] == 0
    assert of(untagged, "team/b")["bytes_freeable"] == weight(UNTAGGED)
    for document, flags in (plain, []), (untagged, ["--delete-untagged"]):
        freed = json.loads(collect(server.root, "--json", *flags).stdout)["bytes_freed"]
        assert freed == document["total"]["bytes_freeable"] - (0 if document is plain else len(garbage))
    assert usage(server.root, "-m")["total"]["bytes_freeable"] == 0


def test_referrers_and_the_parts_of_an_index_count(server: Process) -> None:
    parts = index(image("one", size=100), image("two", size=200))
    signature = artifact("signed", "application/vnd.example.signature", subject=parts.manifest)
    with Remote(server.url) as remote:
        remote.push("app", parts, "latest")
        remote.push("app", signature)
    found = of(usage(server.root, "--delete-untagged"), "app")
    assert (found["tags"], found["manifests"]) == (1, 4)
    assert found["bytes_logical"] == found["bytes_unique"] == weight(parts, signature)
    assert found["bytes_freeable"] == 0


def test_uploads_in_progress_are_told_also_where_nothing_else_is(server: Process) -> None:
    with Remote(server.url) as remote:
        remote.push("app", OWN, "latest")
        for size in 1000, 500:
            assert remote.http.patch(remote.begin("new/app"), content=bytes(size)).status_code == 202
        document = usage(server.root)
    found = of(document, "new/app")
    assert (found["uploads"], found["bytes_uploading"], found["bytes_logical"]) == (2, 1500, 0)
    assert document["total"]["bytes_uploading"] == 1500
    assert document["total"]["bytes_stored"] == weight(OWN)


def test_a_repository_without_anything_is_not_told(server: Process) -> None:
    with Remote(server.url) as remote:
        remote.push("app", OWN, "latest")
        remote.delete_manifest("app", OWN.digest)
    age(server.root)
    document = usage(server.root)
    assert document["total"]["bytes_freeable"] == weight(OWN)
    assert of(document, "app")["bytes_freeable"] == weight(OWN) - len(OWN.manifest.data)  # nobody links the manifest
    collect(server.root)
    assert usage(server.root)["repositories"] == []


def test_the_same_figures_on_a_tree_of_registry_2(tmp_path: Path) -> None:
    trees = {}
    for kind in Server, PeerRegistry:
        with kind(tmp_path / kind.__name__) as running, Remote(running.url) as remote:
            fill(remote)
        trees[kind] = usage(running.root)
        for name in "bytes_free_on_disk", "bytes_of_disk":
            del trees[kind]["total"][name]
    assert trees[Server] == trees[PeerRegistry]


def test_it_changes_nothing(server: Process) -> None:
    with Remote(server.url) as remote:
        fill(remote)
    age(server.root)
    before = {path: path.stat().st_mtime_ns for path in server.root.rglob("*")}
    usage(server.root, "--delete-untagged")
    assert {path: path.stat().st_mtime_ns for path in server.root.rglob("*")} == before


def test_patterns_choose_and_the_order_is_by_size_or_name(server: Process) -> None:
    with Remote(server.url) as remote:
        fill(remote)
        remote.push("other", image("small", size=10), "v1")

    def names(*flags: str) -> list[str]:
        return [each["repository"] for each in usage(server.root, *flags)["repositories"]]

    assert names() == ["team/b", "team/a", "other"]
    assert names("--sort", "name") == ["other", "team/a", "team/b"]
    assert names("--repository", "team/**") == ["team/b", "team/a"]
    assert names("--repository", "team/a", "--repository", "oth*", "--sort=name") == ["other", "team/a"]
    assert names("--repository", "nobody") == []


def test_a_manifest_that_cannot_be_read_leaves_only_open_what_would_go(server: Process) -> None:
    with Remote(server.url) as remote:
        fill(remote)
    hexadecimal = OWN.digest.partition(":")[2]
    data = server.root / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"
    data.write_bytes(b"[]")
    document = usage(server.root)
    assert document["total"]["bytes_freeable"] is None
    assert of(document, "team/a")["bytes_freeable"] is None
    assert of(document, "team/a")["bytes_logical"] == weight(SHARED)
    assert any(OWN.digest in problem for problem in document["problems"])
    assert "not known" in run(server.root).stdout


def test_the_table_says_the_same_as_the_document(server: Process) -> None:
    with Remote(server.url) as remote:
        fill(remote)
    ended = run(server.root, "--sort", "name")
    assert (ended.returncode, ended.stderr) == (0, "")
    head, first, second, *rest = ended.stdout.splitlines()
    assert head.split() == ["REPOSITORY", "TAGS", "MANIFESTS", "LOGICAL", "UNIQUE", "FREEABLE", "UPLOADING"]
    assert first.split()[:3] == ["team/a", "2", "1"]
    assert second.split()[:3] == ["team/b", "2", "3"]
    assert len(head) == len(first) == len(second)
    assert any(line.startswith("  free on the disk ") for line in rest)


def test_on_a_terminal_there_is_a_bar(server: Process) -> None:
    with Remote(server.url) as remote:
        fill(remote)
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "registry", "usage"],
        env=environment(server.root) | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    )
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(main, 4096):
            shown += part
    except OSError:  # the terminal is gone with the process
        pass
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"manifests" in shown
    assert b"100%" in shown
    assert "team/a" in told


@pytest.mark.parametrize(
    ("arguments", "variables", "status", "words"),
    [
        (["--repository", "Team/*"], {}, 2, "--repository: expected a repository or a pattern"),
        (["--sort", "age"], {}, 2, "--sort"),
        ([], {"REGISTRY_STORAGE": "inmemory"}, 2, "storage.inmemory"),
        ([], {}, 1, "no registry was served from"),
    ],
)
def test_mistakes_are_told(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], status: int, words: str
) -> None:
    ended = run(tmp_path if not variables else None, *arguments, **variables)
    assert ended.returncode == status, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
