"""One line to switch, one line to go back: each registry serves what the other wrote, and goes on from there."""

import subprocess
from pathlib import Path

import httpx
import pytest
from history import SBOM, SIGNATURE, Holdings, Story, one_of_each, referrers, sign, signed
from images import Image, digest_of, image, multi_platform, noise, write_layout
from remote import Remote, expect
from serving import Process, Server, executable
from volume import Volume

pytestmark = pytest.mark.client


def other(volume: Volume, one: Process) -> Process:
    return volume.theirs if one is volume.ours else volume.ours


@pytest.fixture(params=["from registry:2 to ours", "from ours to registry:2"])
def before(request: pytest.FixtureRequest, volume: Volume) -> Process:
    """The registry that writes; the other one reads."""
    return volume.theirs if request.param == "from registry:2 to ours" else volume.ours


def test_everything_is_served_after_the_switch(volume: Volume, before: Process) -> None:
    """Catalog, tags, manifests of all four types, nested indexes, overwritten tags, blobs: to the byte."""
    with before as writer, Remote(writer.url) as remote:
        holdings = one_of_each(remote, "switch")
        sign(remote, holdings, "signed", signed("switch"), with_fallback=True)
        holdings.are_served(remote)
    with other(volume, before) as reader, Remote(reader.url) as remote:
        holdings.are_served(remote)


def test_pushes_go_on_after_the_switch(volume: Volume, before: Process) -> None:
    """On top of what is there: a shared layer is found, a mount works, a tag moves, a new repository appears."""
    with before as writer, Remote(writer.url) as remote:
        holdings = one_of_each(remote, "go on")
    base = holdings.tags["library/oci"]["v1"]
    with other(volume, before) as reader, Remote(reader.url) as remote:
        assert remote.mount("new/mounted", base.layers[0].digest, "library/oci") == 201
        assert remote.blob("new/mounted", base.layers[0].digest) == base.layers[0].data
        for blob in (base.config, base.layers[1]):
            assert remote.mount("new/mounted", blob.digest, "library/oci") == 201
        remote.push_manifest("new/mounted", base.manifest, "latest")
        holdings.tags["new/mounted"] = {"latest": base}

        moved = image("moved on", size=5_000)
        holdings.push(remote, "library/oci", moved, "latest")
        holdings.push(remote, "library/oci", base, "v2")
        holdings.push(remote, "library", multi_platform("another", size=5_000), "index")
        holdings.are_served(remote)
    with before as writer, Remote(writer.url) as remote:
        holdings.are_served(remote)


def test_deletes_go_on_after_the_switch(volume: Volume, before: Process) -> None:
    """Of images by digest, of blobs; what they leave is the same for both."""
    with before as writer, Remote(writer.url) as remote:
        holdings = one_of_each(remote, "delete")
        remote.push_blob("library/oci", b"a blob of its own")
    gone = digest_of(b"a blob of its own")
    with other(volume, before) as reader, Remote(reader.url) as remote:
        holdings.delete(remote, "library/oci", holdings.tags["library/oci"]["v1"].digest)
        holdings.delete(remote, "library/nested", holdings.tags["library/nested"]["nested"].digest)
        remote.delete_blob("library/oci", gone)
        assert not remote.has_blob("library/oci", gone)
        holdings.are_served(remote)
    with before as writer, Remote(writer.url) as remote:
        holdings.are_served(remote)
        assert not remote.has_blob("library/oci", gone)


def test_a_tag_that_we_deleted_is_gone_for_registry_2(volume: Volume) -> None:
    """It lists every directory below `tags/`: none of a deleted tag may stay."""
    with volume.theirs as server, Remote(server.url) as remote:
        holdings = one_of_each(remote, "tag")
    with volume.ours as server, Remote(server.url) as remote:
        remote.delete_manifest("library/oci", "latest")
        del holdings.tags["library/oci"]["latest"]
        holdings.are_served(remote)
    with volume.theirs as server, Remote(server.url) as remote:
        holdings.are_served(remote)


def test_referrers_that_registry_2_stored_are_listed(volume: Volume) -> None:
    """With a fallback tag and without; types, annotations and the filter come from the manifests themselves."""
    these, those = signed("with tag"), signed("without tag")
    with volume.theirs as server, Remote(server.url) as remote:
        holdings = Holdings()
        sign(remote, holdings, "with", these, with_fallback=True)
        sign(remote, holdings, "without", those, with_fallback=False)
    with volume.ours as server, Remote(server.url) as remote:
        holdings.are_served(remote)
        for repository, each in (("with", these), ("without", those)):
            entries = {entry["digest"]: entry for entry in remote.referrers(repository, each.subject.digest)}
            assert sorted(entries) == each.referrers
            for referrer, kind in ((each.signature, SIGNATURE), (each.sbom, SBOM)):
                entry = entries[referrer.digest]
                assert entry["artifactType"] == kind
                assert entry["annotations"] == referrer.manifest.json["annotations"]
                assert entry["size"] == len(referrer.manifest.data)
            filtered = expect(
                remote.http.get(f"/v2/{repository}/referrers/{each.subject.digest}", params={"artifactType": SBOM}),
                200,
            )
            assert [entry["digest"] for entry in filtered.json()["manifests"]] == [each.sbom.digest]


def test_referrers_stay_right_while_both_registries_change_them(volume: Volume) -> None:
    """What we remember of a repository is checked against the tree: registry:2 adds and deletes behind our back."""
    first, second = signed("first"), signed("second")
    many = [signed(("many", number)) for number in range(40)]
    with volume.ours as server, Remote(server.url) as remote:
        holdings = Holdings()
        for each in (first, *many):
            sign(remote, holdings, "r", each, with_fallback=False)
        assert referrers(remote, "r", first.subject) == first.referrers
    with volume.theirs as server, Remote(server.url) as remote:
        remote.delete_manifest("r", first.sbom.digest)
        remote.delete_manifest("r", many[7].signature.digest)
        sign(remote, holdings, "r", second, with_fallback=True)
    for _ in range(2):
        with volume.ours as server, Remote(server.url) as remote:
            assert referrers(remote, "r", first.subject) == [first.signature.digest]
            assert referrers(remote, "r", many[7].subject) == [many[7].sbom.digest]
            assert referrers(remote, "r", many[8].subject) == many[8].referrers
            assert referrers(remote, "r", second.subject) == second.referrers


@pytest.mark.parametrize("seed", range(2))
def test_back_and_forth_many_times(volume: Volume, seed: int) -> None:
    """A story of pushes, overwrites and deletes that changes hands five times reads the same to both."""
    story = Story(seed)
    for turn in range(5):
        writer = (volume.ours, volume.theirs)[turn % 2]
        with writer, Remote(writer.url) as remote:
            story.holdings.are_served(remote)
            story.go_on(remote, steps=6)
            story.holdings.are_served(remote)
    for reader in (volume.ours, volume.theirs):
        with reader, Remote(reader.url) as remote:
            story.holdings.are_served(remote)


def test_both_write_the_same_tree(tmp_path: Path, volume: Volume) -> None:
    """The same requests leave the same files with the same bytes and modes, apart from upload sessions."""
    beside = Volume(tmp_path / "beside")
    trees = []
    for each, registry in ((volume, volume.ours), (beside, beside.theirs)):
        with registry, Remote(registry.url) as remote:
            holdings = one_of_each(remote, "tree")
            sign(remote, holdings, "signed", signed("tree"), with_fallback=True)
            base = holdings.tags["library/docker"]["latest"]
            remote.mount("mounted", base.layers[0].digest, "library/docker")
            remote.push("pushed/twice", base, "v1")
            remote.push("pushed/twice", base, "v1")
            holdings.delete(remote, "library", holdings.tags["library"]["list"].digest)
            remote.push_blob("blobs", b"")
            remote.push_blob("blobs", b"to be deleted")
            remote.delete_blob("blobs", digest_of(b"to be deleted"))
        trees.append((each.files(), {path: (each.v2 / path).stat().st_mode for path in each.files()}))
    assert trees[0][0].keys() == trees[1][0].keys()
    assert trees[0] == trees[1]


def test_registry_2_keeps_our_sha512_content_as_it_is(volume: Volume) -> None:
    """Stored natively, by its own digest: registry:2 serves it, pushes beside it, and leaves it alone."""
    made = image("sha512", algorithm="sha512", size=20_000)
    holdings = Holdings()
    with volume.ours as server, Remote(server.url) as remote:
        holdings.push(remote, "strong", made)
        holdings.push(remote, "strong", image("sha256"), "latest")
        holdings.are_served(remote)
    with volume.theirs as server, Remote(server.url) as remote:
        holdings.are_served(remote)
        holdings.push(remote, "strong", image("one more"), "more")
        holdings.are_served(remote)
    with volume.ours as server, Remote(server.url) as remote:
        holdings.are_served(remote)


def test_content_that_registry_2_took_by_its_sha512_is_served_by_both_digests(volume: Volume) -> None:
    """It stores such a blob under its sha256, with a link from the sha512 name."""
    data = noise("aliased", 30_000)
    with volume.theirs as server, Remote(server.url) as remote:
        location = httpx.URL(remote.begin("aliased")).copy_merge_params({"digest": digest_of(data, "sha512")})
        expect(remote.http.put(location, content=data), 201)
        served = expect(remote.http.get(f"/v2/aliased/blobs/{digest_of(data, 'sha512')}"), 200)
        assert served.content == data
    with volume.ours as server, Remote(server.url) as remote:
        for algorithm in ("sha256", "sha512"):
            assert remote.blob("aliased", digest_of(data, algorithm)) == data


def test_an_upload_that_registry_2_began_is_continued_or_begun_anew(volume: Volume) -> None:
    """The client's address of the session is still good, or it is told that it is not; a wrong blob never appears."""
    data = noise("interrupted by the switch", 300_000)
    with volume.theirs as server, Remote(server.url) as remote:
        location = remote.begin("switched")
        answer = expect(remote.http.patch(location, content=data[:100_000]), 202)
        path = httpx.URL(answer.headers["Location"]).path
    with volume.ours as server, Remote(server.url) as remote:
        status = expect(remote.http.get(path), 204, 404)
        if status.status_code == 204:
            _, _, last = status.headers["Range"].partition("-")
            offset = int(last) + 1 if int(last) else 0
            answer = remote.http.put(path, params={"digest": digest_of(data)}, content=data[offset:])
            expect(answer, 201)
            assert remote.blob("switched", digest_of(data)) == data
        assert remote.push_blob("switched", data) == digest_of(data)


def test_an_upload_that_we_began_does_not_disturb_registry_2_and_goes_on_afterwards(volume: Volume) -> None:
    data = noise("interrupted by the switch back", 300_000)
    with volume.ours as server, Remote(server.url) as remote:
        location = httpx.URL(remote.begin("switched")).path
        expect(remote.http.patch(location, content=data[:100_000]), 202)
    with volume.theirs as server, Remote(server.url) as remote:
        remote.push("switched", image("meanwhile"), "latest")
        assert remote.tags("switched") == ["latest"]
    with volume.ours as server, Remote(server.url) as remote:
        status = expect(remote.http.get(location), 204)
        assert status.headers["Range"] == "0-99999"
        answer = remote.http.put(location, params={"digest": digest_of(data)}, content=data[100_000:])
        expect(answer, 201)
        assert remote.blob("switched", digest_of(data)) == data
        assert remote.has_manifest("switched", "latest")


def test_registry_2_takes_over_after_our_kill(volume: Volume) -> None:
    """Whatever a killed server of ours leaves lying about, registry:2 walks past it."""
    with volume.ours as server, Remote(server.url) as remote:
        holdings = one_of_each(remote, "killed")
        location = remote.begin("library/killed")
        expect(remote.http.patch(location, content=noise("killed", 50_000)), 202)
        server.kill()
    with volume.theirs as server, Remote(server.url) as remote:
        for repository in holdings.tags:
            assert repository in remote.catalog()
        holdings.push(remote, "library/killed", image("after"), "latest")
        holdings.are_served(remote)


def test_a_client_that_knows_the_address_notices_nothing(volume: Volume, tmp_path: Path) -> None:
    """skopeo pushes and pulls at one host and port while the registry behind it changes twice."""

    def skopeo(*arguments: str) -> None:
        command = [executable("skopeo"), "copy", "--all", "--preserve-digests", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr

    volume.ours.port = volume.theirs.port
    pushed: dict[str, Image] = {}
    for turn, registry in enumerate((volume.theirs, volume.ours, volume.theirs)):
        with registry:
            for tag, each in pushed.items():
                target = tmp_path / f"{turn}-{tag}"
                skopeo("--src-tls-verify=false", f"docker://{registry.address}/app:{tag}", f"dir:{target}")
                assert (target / "manifest.json").read_bytes() == each.manifest.data
                for digest, data in each.all_blobs().items():
                    assert (target / digest.partition(":")[2]).read_bytes() == data
            pushed[f"v{turn}"] = made = multi_platform(turn)
            layout = write_layout(tmp_path / f"layout-{turn}", made)
            name = f"docker://{registry.address}/app:v{turn}"
            skopeo("--dest-tls-verify=false", f"oci:{layout}:latest", name)


class Configured(Server):
    """Ours, started with registry:2's configuration file and nothing else."""

    def __init__(self, peer: Process, configuration: Path) -> None:
        super().__init__(peer.root, port=peer.port)
        self.configuration = configuration

    def command(self) -> list[str]:
        return [*super().command(), str(self.configuration)]

    def variables(self) -> dict[str, str]:
        return Process.variables(self)


def test_its_configuration_file_is_ours_too(volume: Volume) -> None:
    """The same file, the same port, the same data: only the program is another."""
    with volume.theirs as server, Remote(server.url) as remote:
        holdings = one_of_each(remote, "configured")
    with Configured(volume.theirs, volume.theirs.configuration()) as server, Remote(server.url) as remote:
        assert server.url == volume.theirs.url
        holdings.are_served(remote)
        holdings.delete(remote, "library/oci", holdings.tags["library/oci"]["v1"].digest)
        holdings.are_served(remote)
