"""Out of one registry and into another one, while both serve: everything arrives, whatever is killed on the way."""

import itertools
import json
import random
import threading
import time
import zlib
from pathlib import Path

import pytest
from copying import begin, content_of, copy, is_sound, succeed
from history import Holdings, Story, one_of_each, referrers, sign, signed
from images import OCI_INDEX, Content, Image, artifact, image, index, multi_platform
from remote import Remote
from serving import wait_until


def everything(remote: Remote, seed: object) -> Holdings:
    """One of each kind, a history of pushes and deletes, signatures on signatures, and content named by sha512."""
    holdings = one_of_each(remote, seed)
    story = Story(zlib.crc32(str(seed).encode()))
    story.holdings = holdings
    story.go_on(remote, 15)
    these = signed((seed, "signed"))
    sign(remote, holdings, "library/signed", these, with_fallback=True)
    of_signature = artifact((seed, "deeper"), "application/vnd.example.note", subject=these.signature.manifest)
    holdings.push(remote, "library/signed", of_signature)
    strong = index(image((seed, "sha512"), algorithm="sha512", size=3_000))
    holdings.push(remote, "library/strong", strong, "latest")
    part = image((seed, "part"), size=3_000)
    holdings.push(remote, "library/parts", index(part), "index")
    holdings.push(remote, "library/parts", artifact((seed, "of a part"), "x/y", subject=part.manifest))
    holdings.push(remote, "library/cache", build_cache(seed), "cache")
    return holdings


def build_cache(seed: object) -> Image:
    """As BuildKit made them before 0.21: an index that lists layers."""
    blobs = image((seed, "cache"), size=1_000).blobs
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [blob.descriptor() for blob in blobs]}
    return Image(Content(OCI_INDEX, json.dumps(document).encode()), blobs)


def is_the_same(source: Remote, target: Remote, holdings: Holdings) -> None:
    there = source.catalog()
    holdings.tags = {name: tags for name, tags in holdings.tags.items() if name in there}  # emptied, it is none
    holdings.are_served(target)
    assert target.catalog() == [name for name in there if name in {*holdings.tags, *holdings.untagged}]
    for repository, tags in holdings.tags.items():
        for each in tags.values():
            for part in each.walk():
                assert referrers(target, repository, part) == referrers(source, repository, part)


@pytest.mark.parametrize("kind", ["directory", "tar", "stream"])
def test_all_that_is_there_arrives(source: Remote, target: Remote, tmp_path: Path, kind: str) -> None:
    holdings = everything(source, kind)
    place = {"directory": tmp_path / "layout", "tar": tmp_path / "layout.tar", "stream": Path("-")}[kind]
    sent = copy(tmp_path / "source", "export", "--all", place)
    assert sent.returncode == 0, sent.stderr
    brought = succeed(tmp_path / "target", "import", place, stdin=sent.stdout if kind == "stream" else None)
    is_the_same(source, target, holdings)
    assert brought["blobs_copied"] > 50
    there, here = content_of(tmp_path / "source"), content_of(tmp_path / "target")
    assert {path: here[path] for path in there if "/current/" in path} == {
        path: data for path, data in there.items() if "/current/" in path
    }
    assert all(there[path] == data for path, data in here.items())


def test_without_all_it_is_what_the_tags_keep(source: Remote, target: Remote, tmp_path: Path) -> None:
    holdings = everything(source, "tagged")
    holdings.tags = {name: tags for name, tags in holdings.tags.items() if tags}
    kept = {"library/signed", "library/parts"}
    lost = {name: images for name, images in holdings.untagged.items() if name not in kept}
    assert lost
    succeed(tmp_path / "source", "export", tmp_path / "layout")
    succeed(tmp_path / "target", "import", tmp_path / "layout")
    for name, images in lost.items():
        assert not any(target.has_manifest(name, each.digest) for each in images)
        del holdings.untagged[name]
    is_the_same(source, target, holdings)


def test_pushes_and_deletes_beside_an_export_never_break_a_layout(source: Remote, tmp_path: Path) -> None:
    """Each layout is sound, and all images that its index lists are whole: an import of it leaves none out."""
    ended = threading.Event()

    def go_on() -> None:
        with Remote(source.url) as remote:
            for number in itertools.count():
                if ended.is_set():
                    return
                remote.push("app", multi_platform(number, size=1_000), "latest", f"v{number}")
                if number > 3:
                    remote.delete_manifest("app", f"v{number - 3}")

    pushing = threading.Thread(target=go_on)
    pushing.start()
    try:
        wait_until(lambda: source.catalog() == ["app"], 30, "the first push")
        for number in range(3):
            layout = tmp_path / f"layout-{number}"
            succeed(tmp_path / "source", "export", layout)
            is_sound(layout)
            assert succeed(tmp_path / f"target-{number}", "import", layout)["tags"] > 0
    finally:
        ended.set()
        pushing.join()


def test_killed_at_any_moment_it_goes_on_when_it_is_run_again(source: Remote, target: Remote, tmp_path: Path) -> None:
    pushed = {f"v{number}": image(("large", number), layers=3, size=3_000_000) for number in range(6)}
    for tag, each in pushed.items():
        source.push("app", each, tag)
    layout, draw = tmp_path / "layout", random.Random(7)
    for _ in range(5):
        _kill(tmp_path / "source", "export", layout, once_more_in=layout / "blobs", after=draw.random() / 50)
        assert not (layout / "index.json").exists()
    report = succeed(tmp_path / "source", "export", layout)
    assert report["blobs_copied"] + report["blobs_present"] == 6 * 5
    assert report["blobs_present"] >= 5
    is_sound(layout)
    content = tmp_path / "target/docker/registry/v2/blobs"
    for _ in range(5):
        _kill(tmp_path / "target", "import", layout, once_more_in=content, after=draw.random() / 50)
    assert succeed(tmp_path / "target", "import", layout)["blobs_present"] >= 5
    for tag, each in pushed.items():
        target.holds("app", each, tag)
    assert list((tmp_path / "target/swarm-registry/incoming").iterdir()) == []


def _kill(root: Path, *arguments: object, once_more_in: Path, after: float) -> None:
    """Kill it a moment after it has made a new file somewhere."""

    def files() -> int:
        return sum(path.is_file() for path in once_more_in.rglob("*"))

    before, process = files(), begin(root, *arguments)
    wait_until(lambda: files() > before or process.poll() is not None, 30, "a new file", interval=0.001)
    time.sleep(after)
    process.kill()
    process.communicate()
    assert process.returncode < 0, "it was quicker than its killer"
