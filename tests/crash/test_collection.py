"""Collections of garbage beside pushes, again and again, with graces so short that every race is met; and killed ones.

Leases and graces are parameters of the same code that runs with an hour: see `collecting`.
"""

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from collecting import SERVE, SHORT, age, collect, start_collecting
from images import Image, artifact, image, index, noise
from remote import Remote
from serving import Server

from registry.oci.digest import Digest
from registry.oci.errors import ManifestBlobUnknown
from registry.oci.manifest import Manifest
from registry.oci.names import RepositoryName, Tag
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.root import Filesystem
from registry.store.local import LocalStore
from registry.store.rules import Rules
from registry.store.threads import Threads

SECONDS = float(os.environ.get("STRESS_SECONDS", "15"))
"""Of pushes beside continuous collection; `make stress` makes it ten minutes."""
GRACE, LEASE = 0.25, 0.1
PUSHERS = 4
KINDS = 12
SIGNATURE = "application/vnd.example.signature"

pytestmark = pytest.mark.crash


class ShortLeases(Server):
    """Our server, whose leases are a tenth of a second."""

    def command(self) -> list[str]:
        return [super().command()[0], "-c", SHORT + SERVE, str(LEASE)]


def some_image(number: int) -> Image:
    """One of a few images, which share their layers in many ways, so that each comes, goes and comes again."""
    chance = random.Random(number)
    if number % 4 == 0:
        return index(some_image(number + 1), some_image(number + 2))
    return image(("shared", chance.randrange(3)), size=500, architecture=f"a{number}", layers=chance.randint(1, 2))


class Pusher(threading.Thread):
    """Pushes into a repository of its own, as clients do: asks for a blob, mounts it, or pushes it.

    Attributes:
        tags: what each tag was last acknowledged to name.
        signatures: acknowledged, each with its subject.
    """

    def __init__(self, url: str, name: str, seed: int, stop: threading.Event) -> None:
        super().__init__(name=name)
        self.remote = Remote(url)
        self.random = random.Random(seed)
        self.stop = stop
        self.tags: dict[str, Image] = {}
        self.signatures: list[tuple[Image, Image]] = []
        self.acknowledged = self.refused = 0
        self.defect: Exception | None = None

    def run(self) -> None:
        try:
            with self.remote:
                while not self.stop.is_set():
                    self.random.choice([self.tag, self.tag, self.tag, self.delete, self.sign, self.pause])()
        except Exception as error:
            self.defect = error
            raise

    def tag(self) -> None:
        tag, made = f"t{self.random.randrange(3)}", some_image(self.random.randrange(KINDS))
        if self.push(made, tag):
            self.tags[tag] = made
            self.forget_signatures()

    def delete(self) -> None:
        if not self.tags:
            return
        tag, made = self.random.choice(sorted(self.tags.items(), key=lambda each: each[0]))
        self.remote.delete_manifest(self.name, made.digest if self.random.random() < 0.5 else tag)
        gone = {name for name, each in self.tags.items() if each.digest == made.digest}
        for name in gone if not self.remote.has_manifest(self.name, tag) else ():
            if not self.remote.has_manifest(self.name, name):
                del self.tags[name]
        self.forget_signatures()
        if self.random.random() < 0.5 and self.push(made, tag):
            self.tags[tag] = made

    def forget_signatures(self) -> None:
        """Of what no tag names any more: they may go with it, and it may come again without them."""
        kept = {each.digest for each in self.tags.values()}
        self.signatures = [(subject, each) for subject, each in self.signatures if subject.digest in kept]

    def sign(self) -> None:
        if self.tags:
            subject = self.random.choice(sorted(self.tags.items(), key=lambda each: each[0]))[1]
            made = artifact((self.name, self.random.random()), SIGNATURE, subject=subject.manifest)
            if self.push(made, None):
                self.signatures.append((subject, made))

    def pause(self) -> None:
        time.sleep(self.random.uniform(0, 2 * GRACE))

    def push(self, made: Image, tag: str | None) -> bool:
        """Whether it was acknowledged; refused is a push that was slower than the grace."""
        for element in made.walk():
            for blob in element.blobs:
                self.push_blob(blob.digest, blob.data)
            reference = tag if element is made and tag else element.digest
            answer = self.remote.http.put(
                f"/v2/{self.name}/manifests/{reference}",
                content=element.manifest.data,
                headers={"Content-Type": element.manifest.media_type},
            )
            if answer.status_code != 201:
                assert answer.json()["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN", answer.text
                self.refused += 1
                return False
        self.acknowledged += 1
        return True

    def push_blob(self, digest: str, data: bytes) -> None:
        if self.remote.has_blob(self.name, digest):
            return
        if self.remote.mount(self.name, digest, f"pusher{self.random.randrange(PUSHERS)}") != 201:
            self.remote.push_blob(self.name, data)

    def check(self, remote: Remote) -> None:
        assert self.defect is None, self.defect
        for tag, made in self.tags.items():
            remote.holds(self.name, made, tag)
        for subject, signature in self.signatures:
            remote.holds(self.name, signature)
            assert signature.digest in [e["digest"] for e in remote.referrers(self.name, subject.digest)]


@pytest.mark.timeout(180 + 2 * SECONDS)
def test_every_acknowledged_image_is_whole_after_pushes_beside_continuous_collection(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    stop = threading.Event()
    with ShortLeases(tmp_path / "data") as server:
        pushers = [Pusher(server.url, f"pusher{number}", seed + number, stop) for number in range(PUSHERS)]
        with Remote(server.url) as remote:
            remote.push("begin", image("begin", size=10), "latest")
        collecting = start_collecting(server.root, GRACE, SECONDS, "untagged")
        for pusher in pushers:
            pusher.start()
        said, problems = collecting.communicate(timeout=120 + SECONDS)
        stop.set()
        for pusher in pushers:
            pusher.join(60)
        assert collecting.returncode == 0, problems
        runs, freed = map(int, said.split()[1:])
        with Remote(server.url) as remote:
            for pusher in pushers:
                pusher.check(remote)
            age(server.root)
            assert collect(server.root, "-m").returncode == 0
            for pusher in pushers:
                pusher.check(remote)
        assert "Traceback" not in server.log()
    acknowledged = sum(pusher.acknowledged for pusher in pushers)
    print(f"{runs} runs freed {freed} blobs; {acknowledged} pushes, {sum(p.refused for p in pushers)} too slow")
    assert min(runs, freed, acknowledged) > 20, "hardly anything happened: this proves nothing"


# Killed


class Store:
    """A store in this process, on a root, as a server has it."""

    def __init__(self, root: Path) -> None:
        files = Filesystem(root)
        files.require_writable()
        self.blobs = FilesystemBlobs(files)
        self.threads = Threads(4)
        self.store = LocalStore(self.blobs, FilesystemRecords(files), self.threads, Rules(), lease=LEASE)


@contextmanager
def opened(root: Path) -> Iterator[Store]:
    made = Store(root)
    yield made
    made.threads.close()


async def push(store: LocalStore, made: Image, repository: RepositoryName, tag: str) -> bool:
    for blob in made.blobs:
        digest = Digest(blob.digest)
        if not await store.mount_blob(repository, digest, None):
            async with await store.begin_upload(repository) as upload:
                await upload.append(_body(blob.data))
                await upload.commit(digest)
    try:
        manifest = Manifest.parse(made.manifest.data)
        await store.put_manifest(repository, Digest(made.digest), manifest, [Tag(tag)])
    except ManifestBlobUnknown:
        return False
    return True


async def _body(data: bytes) -> "asyncio.AsyncIterator[bytes]":
    yield data


@pytest.mark.timeout(180)
def test_a_collector_killed_at_any_moment_costs_nothing_that_is_needed(tmp_path: Path) -> None:
    """Rounds on one tree: a collection and pushes side by side, SIGKILL, a server starts, everything is looked at."""
    root, chance = tmp_path / "data", random.Random(random.SystemRandom().randrange(1 << 32))
    repository, tags, removed = RepositoryName("team/app"), dict[str, Image](), 0
    for number in range(12):
        with opened(root) as server:
            lonely = [noise((number, each), 100) for each in range(150)]
            for data in lonely:
                server.blobs.put(Digest.of(data), data)
            time.sleep(GRACE)
            collector = start_collecting(root, GRACE, 60, "untagged")
            assert collector.stdout is not None
            assert collector.stdout.readline() == "begun\n"
            deadline = time.monotonic() + chance.uniform(0, 0.3)
            while not tags or time.monotonic() < deadline:
                tag, made = f"t{chance.randrange(3)}", some_image(chance.choice([1, 2, 3, 5, 6, 7]))
                if asyncio.run(push(server.store, made, repository, tag)):
                    tags[tag] = made
            collector.kill()
            collector.communicate(timeout=30)
            removed += not {Digest.of(data) for data in lonely} <= {blob.digest for blob in server.blobs.walk()}
        with opened(root) as server:
            for tag, made in tags.items():
                asyncio.run(holds(server.store, made, repository, Tag(tag)))
    assert tags
    assert removed > 3, "the collectors were killed before they did anything"
    age(root)
    assert collect(root, "-m").returncode == 0
    with opened(root) as server:
        for tag, made in tags.items():
            asyncio.run(holds(server.store, made, repository, Tag(tag)))
        needed = {blob.digest for made in tags.values() for blob in (*made.blobs, made.manifest)}
        assert {blob.digest for blob in server.blobs.walk()} == needed
    assert not [path for path in (root / "swarm-registry/trash").rglob("*") if path.is_file()]


async def holds(store: LocalStore, made: Image, repository: RepositoryName, tag: Tag) -> None:
    assert (await store.manifest(repository, tag)).data == made.manifest.data
    for blob in made.blobs:
        assert await store.blob_size(repository, Digest(blob.digest)) == len(blob.data)
