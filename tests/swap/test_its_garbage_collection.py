"""registry:2's own `garbage-collect` over a tree that we wrote, as somebody runs it who went back, or by habit.

It has to end well, and afterwards both registries serve what it left, and neither an error for what it took.
"""

import httpx
import pytest
from history import Holdings, one_of_each, referrers, sign, signed
from images import artifact, digest_of, image, multi_platform, noise
from remote import Remote, expect
from serving import Server
from volume import Volume

pytestmark = pytest.mark.client

UNTAGGED = "--delete-untagged"


def both_serve(volume: Volume, holdings: Holdings) -> None:
    for registry in (volume.ours, volume.theirs):
        with registry, Remote(registry.url) as remote:
            holdings.are_served(remote)


def test_a_dry_run_finds_every_manifest_and_changes_nothing(volume: Volume) -> None:
    with volume.ours as server, Remote(server.url) as remote:
        holdings = one_of_each(remote, "dry run")
        sign(remote, holdings, "signed", signed("dry run"), with_fallback=False)
    before = volume.files()
    for flags in (["--dry-run"], ["--dry-run", UNTAGGED]):
        said = volume.theirs.garbage_collect(*flags)
        for tags in holdings.tags.values():
            for each in tags.values():
                assert each.digest in said
        assert volume.files() == before


def test_all_that_a_manifest_needs_stays_and_the_rest_goes(volume: Volume) -> None:
    """Without a flag every manifest counts, tagged or not: the untagged, the nested, the referrers."""
    with volume.ours as server, Remote(server.url) as remote:
        holdings = one_of_each(remote, "collect")
        these = signed("collect")
        sign(remote, holdings, "signed", these, with_fallback=False)
        lonely = remote.push_blob("library/oci", b"no manifest names this")
        gone = image("deleted", size=5_000)
        holdings.push(remote, "library/oci", gone, "gone")
        holdings.delete(remote, "library/oci", gone.digest)
    volume.theirs.garbage_collect()

    for digest in (lonely, gone.digest, *gone.all_blobs()):
        assert not volume.data(digest).exists()
    both_serve(volume, holdings)
    with volume.ours as server, Remote(server.url) as remote:
        assert referrers(remote, "signed", these.subject) == these.referrers


def test_what_it_swept_is_missing_for_us_and_can_be_pushed_again(volume: Volume) -> None:
    """It leaves the layer's link: a link without its blob is a 404, and no reason to skip an upload."""
    data = noise("swept", 10_000)
    made = image("swept", size=5_000)
    with volume.ours as server, Remote(server.url) as remote:
        digest = remote.push_blob("swept", data)
        for blob in made.blobs:
            remote.push_blob("swept", blob.data)
        remote.push("swept", image("kept"), "latest")
    volume.theirs.garbage_collect()
    with volume.ours as server, Remote(server.url) as remote:
        assert not remote.has_blob("swept", digest)
        assert remote.http.get(f"/v2/swept/blobs/{digest}").json()["errors"][0]["code"] == "BLOB_UNKNOWN"
        assert remote.mount("elsewhere", digest, "swept") == 202
        refused = remote.http.put(
            "/v2/swept/manifests/again",
            content=made.manifest.data,
            headers={"Content-Type": made.manifest.media_type},
        )
        assert expect(refused, 400, 404).json()["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"

        assert remote.push_blob("swept", data) == digest
        assert remote.blob("swept", digest) == data
        remote.push("swept", made, "again")
        remote.holds("swept", made, "again")


def test_images_that_have_a_tag_stay_when_the_untagged_are_deleted(volume: Volume) -> None:
    with volume.ours as server, Remote(server.url) as remote:
        holdings = Holdings()
        for flavour in ("oci", "docker"):
            holdings.push(remote, f"kept/{flavour}", image(flavour, flavour=flavour), "v1", "v2")
        holdings.push(remote, "kept/moved", image("old"), "latest")
        old = holdings.tags["kept/moved"]["latest"]
        holdings.push(remote, "kept/moved", image("new"), "latest")
        # Its mark is one level deep and starts at tags, so an index's children stay only if they have tags, too.
        several = multi_platform("several")
        for number, child in enumerate(several.children):
            holdings.push(remote, "kept/index", child, f"child-{number}")
        holdings.push(remote, "kept/index", several, "index")
    volume.theirs.garbage_collect(UNTAGGED)

    both_serve(volume, holdings)
    for registry in (volume.ours, volume.theirs):
        with registry, Remote(registry.url) as remote:
            assert not remote.has_manifest("kept/moved", old.digest)
    for digest in (old.digest, *old.all_blobs()):
        assert not volume.data(digest).exists()


def test_referrers_that_it_deleted_vanish_from_our_list(volume: Volume) -> None:
    """To registry:2 a signature is just an untagged manifest; we forget it, although we had noted it."""
    these, many = signed("deleted"), [signed(("deleted", number)) for number in range(40)]
    with volume.ours as server, Remote(server.url) as remote:
        holdings = Holdings()
        for each in (these, *many):
            sign(remote, holdings, "signed", each, with_fallback=False)
            holdings.push(remote, "signed", each.subject, f"tag-{each.subject.manifest.hex[:8]}")
        holdings.push(remote, "signed", these.signature, "signature")
        assert referrers(remote, "signed", these.subject) == these.referrers
    volume.theirs.garbage_collect(UNTAGGED)

    holdings.untagged.clear()
    both_serve(volume, holdings)
    with volume.ours as server, Remote(server.url) as remote:
        assert referrers(remote, "signed", these.subject) == [these.signature.digest]
        for each in many:
            assert referrers(remote, "signed", each.subject) == []
            assert not remote.has_manifest("signed", each.signature.digest)
        again = signed("deleted").sbom
        remote.push("signed", again)
        assert referrers(remote, "signed", these.subject) == these.referrers


def test_an_index_whose_children_it_deleted_is_served_without_them(volume: Volume) -> None:
    """A fault of registry:2 that we cannot undo, but must survive: 404 for a child, and a push heals it."""
    several = multi_platform("torn", size=5_000)
    with volume.ours as server, Remote(server.url) as remote:
        remote.push("torn", several, "latest")
    volume.theirs.garbage_collect(UNTAGGED)
    with volume.ours as server, Remote(server.url) as remote:
        assert remote.manifest("torn", "latest").data == several.manifest.data
        for child in several.children:
            if not remote.has_manifest("torn", child.digest):
                answer = remote.http.get(f"/v2/torn/manifests/{child.digest}")
                assert expect(answer, 404).json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"
        remote.push("torn", several, "latest")
        remote.holds("torn", several, "latest")
    volume.theirs.garbage_collect()
    with volume.theirs as server, Remote(server.url) as remote:
        remote.holds("torn", several, "latest")


@pytest.mark.parametrize("flags", [[], [UNTAGGED]], ids=["all manifests", "tagged manifests"])
def test_an_upload_under_way_goes_on_after_the_collection(volume: Volume, flags: list[str]) -> None:
    """What is ours on the volume (sessions, notes, locks, what a kill left) is no business of its collection."""
    data = noise("in flight", 300_000)
    with volume.ours as server, Remote(server.url) as remote:
        holdings = Holdings()
        holdings.push(remote, "flight", image("flight"), "latest")
        location = httpx.URL(remote.begin("flight")).path
        expect(remote.http.patch(location, content=data[:100_000]), 202)
        remote.begin("begun/and/nothing/more")
        server.kill()
    ours = sorted(path for path in volume.root.iterdir() if path.name != "docker")
    assert ours, "our own directory lies beside registry:2's"
    volume.theirs.garbage_collect(*flags)
    assert sorted(path for path in volume.root.iterdir() if path.name != "docker") == ours

    with volume.ours as server, Remote(server.url) as remote:
        assert expect(remote.http.get(location), 204).headers["Range"] == "0-99999"
        closing = remote.http.put(location, params={"digest": digest_of(data)}, content=data[100_000:])
        expect(closing, 201)
        assert remote.blob("flight", digest_of(data)) == data
        remote.holds("flight", holdings.tags["flight"]["latest"], "latest")


@pytest.mark.parametrize("flags", [[], [UNTAGGED]], ids=["all manifests", "tagged manifests"])
def test_sha512_content_is_marked_and_kept(volume: Volume, flags: list[str]) -> None:
    """Tagged or not, a manifest named by its sha512 counts like any other, and so do its blobs."""
    tagged, untagged = (image(seed, algorithm="sha512", size=20_000) for seed in ("tagged", "untagged"))
    with volume.ours as server, Remote(server.url) as remote:
        holdings = Holdings()
        holdings.push(remote, "strong", image("weak"), "latest")
        holdings.push(remote, "strong", untagged)
        remote.push("strong", tagged)
        expect(
            remote.http.put(
                f"/v2/strong/manifests/{tagged.digest}",
                params={"tag": "strong"},
                content=tagged.manifest.data,
                headers={"Content-Type": tagged.manifest.media_type},
            ),
            201,
        )
        holdings.tags["strong"]["strong"] = tagged
        lonely = remote.push_blob("strong", b"no manifest names this", "sha512")
        holdings.are_served(remote)
    volume.theirs.garbage_collect(*flags)

    assert not volume.data(lonely).exists()
    if flags:
        assert not volume.data(untagged.digest).exists()
        holdings.untagged.clear()
    both_serve(volume, holdings)


def test_manifests_that_we_would_have_refused_it_never_meets(volume: Volume) -> None:
    """It stops at a revision of another type than the four it knows; we take artifacts only as image manifests."""
    with volume.ours as server, Remote(server.url) as remote:
        remote.push("artifacts", artifact("artifact", "application/vnd.example.any"), "v1")
        for strange in (
            b'{"schemaVersion":2,"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[]}',
            b'{"schemaVersion":1,"name":"x","tag":"y","fsLayers":[],"history":[]}',
        ):
            answer = remote.http.put(
                f"/v2/artifacts/manifests/{digest_of(strange)}",
                content=strange,
                headers={"Content-Type": "application/vnd.oci.artifact.manifest.v1+json"},
            )
            expect(answer, 400, 415)
    volume.theirs.garbage_collect()
    with volume.ours as server, Remote(server.url) as remote:
        assert remote.tags("artifacts") == ["v1"]


def test_it_collects_what_was_deleted_through_either(volume: Volume) -> None:
    """A year in the life of a volume: pushes and deletes through both, a collection between, nothing left over."""
    holdings = Holdings()
    for turn in range(6):
        registry = (volume.ours, volume.theirs)[turn % 2]
        with registry, Remote(registry.url) as remote:
            holdings.are_served(remote)
            for repository in ("one", "one/two"):
                each = image((repository, turn), size=3_000)
                holdings.push(remote, repository, each, f"v{turn}")
                if turn >= 2:
                    old = holdings.tags[repository][f"v{turn - 2}"]
                    holdings.delete(remote, repository, old.digest)
        volume.theirs.garbage_collect(*([UNTAGGED] if turn % 3 == 2 else []))
    both_serve(volume, holdings)
    wanted = {
        digest
        for tags in holdings.tags.values()
        for each in tags.values()
        for digest in (each.digest, *each.all_blobs())
    }
    stored = {f"{path.parts[-4]}:{path.parts[-2]}" for path in (volume.v2 / "blobs").glob("*/*/*/data")}
    assert stored == wanted


class ReadOnly(Server):
    """Ours, told not to write, while the collection of registry:2 runs: the procedure of its documentation."""

    def variables(self) -> dict[str, str]:
        return {"REGISTRY_STORAGE_MAINTENANCE_READONLY": '{"enabled": true}'} | super().variables()


def test_it_may_run_beside_our_read_only_server(volume: Volume) -> None:
    """We keep no memory of what exists, so we miss at once what it took: no restart, unlike registry:2 itself."""
    with volume.ours as server, Remote(server.url) as remote:
        holdings = Holdings()
        holdings.push(remote, "kept", image("kept"), "latest")
        swept = remote.push_blob("kept", b"no manifest names this")
        sign(remote, holdings, "kept", these := signed("beside"), with_fallback=False)
    with ReadOnly(volume.root) as server, Remote(server.url) as remote:
        holdings.are_served(remote)
        assert remote.has_blob("kept", swept)
        assert referrers(remote, "kept", these.subject) == these.referrers
        volume.theirs.garbage_collect(UNTAGGED)
        assert not remote.has_blob("kept", swept)
        assert referrers(remote, "kept", these.subject) == []
        assert "Traceback" not in server.log()
        holdings.untagged.clear()
        holdings.are_served(remote)
