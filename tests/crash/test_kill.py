"""SIGKILL at any time, in the middle of many pushes: what was acknowledged is there, nothing half is visible."""

import contextlib
import itertools
import math
import random
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from images import Content, Image, artifact, image
from remote import Remote
from serving import Server
from story import check_files

ROUNDS = 25
PUSHERS = 4
REPOSITORY = "team/app"
SIGNATURE = "application/vnd.example.signature"
COMMON = "common"
"""A tag that every pusher moves."""

pytestmark = pytest.mark.crash


@dataclass
class Asked:
    """What a tag was asked to name (None: to be gone), and when; `ended` is never where no answer came."""

    digest: str | None
    begun: float
    ended: float = math.inf

    @property
    def is_acknowledged(self) -> bool:
        return self.ended < math.inf


def may_name(history: list[Asked]) -> set[str | None]:
    """What a tag may name now: whatever no acknowledged change has followed, from its beginning to its end."""
    last = max(asked.begun for asked in history if asked.is_acknowledged)
    return {asked.digest for asked in history if asked.ended >= last}


class Pusher(threading.Thread):
    """Pushes image after image until the server is gone. Remembers what was acknowledged."""

    def __init__(self, url: str, seed: int, tags: dict[str, list[Asked]], name: str) -> None:
        super().__init__(name=name)
        self.url = url
        self.random = random.Random(seed)
        self.seed = seed
        self.tags = tags
        self.blobs: list[Content] = []
        self.images: list[Image] = []
        self.signatures: list[tuple[Image, Image]] = []
        self.last: Image | None = None
        """The image that it was pushing when the server went."""
        self.defect: str | None = None

    def run(self) -> None:
        with Remote(self.url) as remote, contextlib.suppress(httpx.TransportError):
            for count in itertools.count():
                self.push(remote, count)

    def push(self, remote: Remote, count: int) -> None:
        wanted = self.last = image(f"{self.seed}-{count}", size=self.random.randrange(1, 200_000))
        shared = Content("application/octet-stream", f"shared {count % 3}".encode() * 20_000)
        for blob in (*wanted.blobs, shared):
            self.push_blob(remote, blob)
        self.put(remote, wanted, self.name)
        self.images.append(wanted)
        self.put(remote, wanted, COMMON)
        if count % 2:
            signature = artifact(f"{self.seed}-{count}", SIGNATURE, subject=wanted.manifest)
            for blob in signature.blobs:
                self.push_blob(remote, blob)
            self.put(remote, signature, signature.digest)
            self.signatures.append((wanted, signature))
        if self.random.random() < 0.2:
            self.change(remote, self.name, None, "DELETE", 202)

    def put(self, remote: Remote, wanted: Image, reference: str) -> None:
        headers = {"Content-Type": wanted.manifest.media_type}
        self.change(remote, reference, wanted.digest, "PUT", 201, content=wanted.manifest.data, headers=headers)

    def change(
        self, remote: Remote, reference: str, digest: str | None, method: str, status: int, **request: object
    ) -> None:
        asked = Asked(digest, time.monotonic())
        self.tags.setdefault(reference, []).append(asked)
        answer = remote.http.request(method, f"/v2/{REPOSITORY}/manifests/{reference}", **request)
        self.acknowledge(answer, status)
        asked.ended = time.monotonic()

    def push_blob(self, remote: Remote, blob: Content) -> None:
        begun = remote.http.post(f"/v2/{REPOSITORY}/blobs/uploads/")
        self.acknowledge(begun, 202)
        location = httpx.URL(begun.headers["Location"])
        closing = location.copy_merge_params({"digest": blob.digest})
        if self.random.random() < 0.5:
            self.acknowledge(remote.http.put(closing, content=blob.data), 201)
        else:
            half = len(blob.data) // 2
            for part in (blob.data[:half], blob.data[half:]):
                pieces = (part[at : at + 8192] for at in range(0, len(part), 8192))
                self.acknowledge(remote.http.patch(location, content=pieces), 202)
            self.acknowledge(remote.http.put(closing), 201)
        self.blobs.append(blob)

    def acknowledge(self, answer: httpx.Response, status: int) -> None:
        if answer.status_code != status:
            self.defect = f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
            raise httpx.TransportError(self.defect)


def verify(remote: Remote, pushers: list[Pusher], tags: dict[str, list[Asked]]) -> None:
    """What was acknowledged is there and whole, and whatever else is listed is so too."""
    for pusher in pushers:
        assert pusher.defect is None, pusher.defect
        for pushed in pusher.images:
            remote.holds(REPOSITORY, pushed)
        seen = {blob.digest for pushed in pusher.images for blob in pushed.blobs}
        for digest, data in {blob.digest: blob.data for blob in pusher.blobs if blob.digest not in seen}.items():
            assert remote.blob(REPOSITORY, digest) == data
        for subject, signature in pusher.signatures:
            remote.holds(REPOSITORY, signature)
            assert [entry["digest"] for entry in remote.referrers(REPOSITORY, subject.digest)] == [signature.digest]
    for tag, history in tags.items():
        assert named(remote, tag) in may_name(history), f"{tag}: {history[-5:]}"
    if REPOSITORY in remote.catalog():
        for tag in remote.tags(REPOSITORY):
            content = remote.manifest(REPOSITORY, tag)
            for descriptor in (content.json["config"], *content.json["layers"]):
                assert len(remote.blob(REPOSITORY, descriptor["digest"])) == descriptor["size"]


def named(remote: Remote, tag: str) -> str | None:
    return remote.digest(REPOSITORY, tag) if remote.has_manifest(REPOSITORY, tag) else None


@pytest.mark.timeout(300)
def test_a_server_killed_in_the_middle_of_pushes_lost_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """Rounds on one tree: push from several clients, SIGKILL at a random moment, start, look, push again."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    names = [f"t{number}" for number in range(PUSHERS)]
    found: dict[str, str | None] = dict.fromkeys([*names, COMMON])
    everything: list[Image] = []
    looked_at: set[str] = set()
    server = Server(tmp_path / "data", environment={"REGISTRY_STORAGE_DELETE_ENABLED": "true"})
    try:
        server.start()
        for count in range(ROUNDS):
            tags = {tag: [Asked(digest, 0, 0)] for tag, digest in found.items()}
            pushers = [
                Pusher(server.url, seed + count * PUSHERS + number, tags, name) for number, name in enumerate(names)
            ]
            push_until_killed(server, pushers, moments.uniform(0.05, 0.9))
            check_files(server.root, looked_at)
            server.start()
            with Remote(server.url) as remote:
                verify(remote, pushers, tags_alone(tags, found))
                push_again(remote, pushers)
                found = {tag: named(remote, tag) for tag in found}
            assert "Traceback" not in server.log()
            everything += [pushed for pusher in pushers for pushed in pusher.images]
        check_files(server.root)
        with Remote(server.url) as remote:
            assert all(remote.has_manifest(REPOSITORY, pushed.digest) for pushed in everything)
    finally:
        if server.process is not None:
            server.kill()
    shutil.rmtree(server.root)
    assert len(everything) > ROUNDS, "hardly anything was pushed: the rounds prove nothing"


def tags_alone(asked: dict[str, list[Asked]], tags: dict[str, str | None]) -> dict[str, list[Asked]]:
    """Without what was asked for by digest."""
    return {tag: asked[tag] for tag in tags}


def push_until_killed(server: Server, pushers: list[Pusher], seconds: float) -> None:
    for pusher in pushers:
        pusher.start()
    time.sleep(seconds)
    server.kill()
    for pusher in pushers:
        pusher.join(30)
        assert not pusher.is_alive()


def push_again(remote: Remote, pushers: list[Pusher]) -> None:
    """What was cut off is pushed again, as its client would."""
    for pusher in pushers:
        if pusher.last is not None:
            remote.push(REPOSITORY, pusher.last, pusher.name)
            remote.holds(REPOSITORY, pusher.last, pusher.name)
