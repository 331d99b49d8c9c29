"""What is on a volume: pushed through one registry, to be found through the other."""

import random
from dataclasses import dataclass, field

from images import Content, Image, artifact, fallback_index, fallback_tag, image, index, multi_platform
from remote import Remote


@dataclass
class Holdings:
    """What a volume must hold: for each repository its tags, and the images that no tag names."""

    tags: dict[str, dict[str, Image]] = field(default_factory=dict)
    untagged: dict[str, list[Image]] = field(default_factory=dict)

    def push(self, remote: Remote, repository: str, pushed: Image, *tags: str) -> None:
        """Push, and remember."""
        remote.push(repository, pushed, *tags)
        for tag in tags:
            self.tags.setdefault(repository, {})[tag] = pushed
        if not tags:
            self.untagged.setdefault(repository, []).append(pushed)

    def delete(self, remote: Remote, repository: str, digest: str) -> None:
        """Delete an image by its digest: all its tags go with it."""
        remote.delete_manifest(repository, digest)
        kept = {tag: each for tag, each in self.tags[repository].items() if each.digest != digest}
        self.tags[repository] = kept

    def are_served(self, remote: Remote) -> None:
        """Fail unless all of it is served, to the byte, and nothing else is listed.

        A repository whose last manifest was deleted may be listed, as registry:2 does, or not, as we do.
        """
        known = {*self.tags, *self.untagged}
        full = {name for name in known if self.tags.get(name) or self.untagged.get(name)}
        catalog = remote.catalog()
        assert len(catalog) == len(set(catalog))
        assert full <= set(catalog) <= known
        for repository, tags in self.tags.items():
            assert remote.tags(repository) == sorted(tags), repository
            for tag, each in tags.items():
                remote.holds(repository, each, tag)
        for repository, images in self.untagged.items():
            for each in images:
                remote.holds(repository, each)


SIGNATURE = "application/vnd.example.signature"
SBOM = "application/vnd.example.sbom"


@dataclass(frozen=True)
class Signed:
    """An image with two referrers; registry:2 has no list of them, so clients keep one under the fallback tag."""

    subject: Image
    signature: Image
    sbom: Image

    @property
    def referrers(self) -> list[str]:
        return sorted([self.signature.digest, self.sbom.digest])

    @property
    def fallback(self) -> Image:
        return fallback_index(self.signature, self.sbom)

    @property
    def fallback_tag(self) -> str:
        return fallback_tag(self.subject.digest)


def signed(seed: object) -> Signed:
    subject = image((seed, "subject"), size=5_000)
    return Signed(
        subject,
        artifact((seed, "signature"), SIGNATURE, subject=subject.manifest),
        artifact((seed, "sbom"), SBOM, subject=subject.manifest),
    )


def one_of_each(remote: Remote, seed: object) -> Holdings:
    """Push every kind of content that registry:2 takes, into repositories that lie in each other."""
    holdings = Holdings()
    holdings.push(remote, "library/oci", image((seed, "oci"), size=50_000), "latest", "v1")
    holdings.push(remote, "library/docker", image((seed, "docker"), flavour="docker"), "latest", "_x", "1.0-rc.1")
    holdings.push(remote, "library", multi_platform((seed, "list"), flavour="docker", size=5_000), "list")
    holdings.push(remote, "library/oci/deeper/still", multi_platform((seed, "index"), size=5_000), "index")
    mixed = index(
        image((seed, "in oci"), size=5_000),
        multi_platform((seed, "nested"), size=5_000),
        annotations={"org.example": "nested"},
    )
    holdings.push(remote, "library/nested", mixed, "nested")
    holdings.push(remote, "library/moved", image((seed, "old"), size=5_000), "latest")
    holdings.untagged["library/moved"] = [holdings.tags["library/moved"]["latest"]]
    holdings.push(remote, "library/moved", image((seed, "new"), size=5_000), "latest")
    holdings.push(remote, "a-1.b__c/d--e", image((seed, "name"), size=10, layers=1), "t" * 128)
    empty = image((seed, "no layers"), layers=0)
    holdings.push(remote, "library/empty", empty, "latest")
    return holdings


def sign(remote: Remote, holdings: Holdings, repository: str, these: Signed, *, with_fallback: bool) -> None:
    """Push an image and its referrers, as a client does that knows no referrers API, or as one that does."""
    holdings.push(remote, repository, these.subject, "signed")
    holdings.push(remote, repository, these.signature)
    holdings.push(remote, repository, these.sbom)
    if with_fallback:
        holdings.push(remote, repository, these.fallback, these.fallback_tag)


def referrers(remote: Remote, repository: str, subject: Content | Image) -> list[str]:
    return sorted(entry["digest"] for entry in remote.referrers(repository, subject.digest))


class Story:
    """Pushes, overwrites and deletes, drawn from a seed; what it leaves is known at every moment."""

    REPOSITORIES = ("one", "one/two", "one/two/three", "other")
    TAGS = ("latest", "v1", "v2")

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.holdings = Holdings()
        self.pushed: list[Image] = []

    def go_on(self, remote: Remote, steps: int) -> None:
        for _ in range(steps):
            repository = self.random.choice(self.REPOSITORIES)
            tags = self.holdings.tags.get(repository, {})
            action = self.random.choice(["push", "push", "again", "delete"])
            if action == "delete" and tags:
                self.holdings.delete(remote, repository, self.random.choice(sorted(tags.items()))[1].digest)
            elif action == "again" and self.pushed:
                self._push(remote, repository, self.random.choice(self.pushed))
            else:
                self._push(remote, repository, self._new())

    def _push(self, remote: Remote, repository: str, pushed: Image) -> None:
        self.pushed.append(pushed)
        tags = self.random.sample(self.TAGS, self.random.randint(1, 2))
        self.holdings.push(remote, repository, pushed, *tags)

    def _new(self) -> Image:
        seed = ("story", self.random.random())
        flavour = self.random.choice(["oci", "docker"])
        make = self.random.choice([image, multi_platform])
        return make(seed, flavour=flavour, size=3_000)
