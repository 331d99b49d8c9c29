"""After our `garbage-collect`: registry:2 serves every image that is to stay, and its own collection runs well."""

import httpx
import pytest
from collecting import age, collect
from history import Holdings, one_of_each, referrers, sign, signed
from images import digest_of, image, noise
from remote import Remote, expect
from volume import Volume

pytestmark = pytest.mark.client


def both_serve(volume: Volume, holdings: Holdings) -> None:
    for registry in (volume.theirs, volume.ours):
        with registry, Remote(registry.url) as remote:
            holdings.are_served(remote)


@pytest.mark.parametrize("flags", [[], ["--delete-untagged"]], ids=["all manifests", "tagged manifests"])
@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_what_is_to_stay_is_served_by_both_and_the_rest_is_gone(volume: Volume, writer: str, flags: list[str]) -> None:
    with getattr(volume, writer) as server, Remote(server.url) as remote:
        holdings = one_of_each(remote, writer)
        these = signed(writer)
        sign(remote, holdings, "signed", these, with_fallback=writer == "theirs")
        gone = image("deleted", size=5_000)
        holdings.push(remote, "library/oci", gone, "gone")
        holdings.delete(remote, "library/oci", gone.digest)
        lonely = remote.push_blob("library/oci", b"no manifest names this")
        moved = holdings.untagged["library/moved"][0]
    age(volume.root)
    ended = collect(volume.root, *flags)
    assert ended.returncode == 0, ended.stderr

    for digest in (lonely, gone.digest, *gone.all_blobs()):
        assert f"blob eligible for deletion: {digest}" in ended.stdout.splitlines()
        assert not volume.data(digest).exists()
    if flags:
        assert not volume.data(moved.digest).exists()
        holdings.untagged["library/moved"].remove(moved)
        del holdings.untagged["library/moved"]
    both_serve(volume, holdings)
    with volume.ours as server, Remote(server.url) as remote:
        assert referrers(remote, "signed", these.subject) == these.referrers

    said = volume.theirs.garbage_collect("--dry-run")
    assert "0 blobs and 0 manifests eligible for deletion" in said
    volume.theirs.garbage_collect()
    both_serve(volume, holdings)


def test_an_upload_of_registry_2_under_way_goes_on_after_it(volume: Volume) -> None:
    data = noise("in flight", 300_000)
    with volume.theirs as server, Remote(server.url) as remote:
        answer = expect(remote.http.patch(httpx.URL(remote.begin("flight")), content=data[:100_000]), 202)
        location = answer.headers["Location"]
        remote.push("flight", image("flight"), "latest")
    age(volume.root)
    assert collect(volume.root, "-m").returncode == 0
    with volume.theirs as server, Remote(server.url) as remote:
        url = httpx.URL(location).copy_with(port=server.port).copy_merge_params({"digest": digest_of(data)})
        expect(remote.http.put(url, content=data[100_000:]), 201)
        assert remote.blob("flight", digest_of(data)) == data
        remote.holds("flight", image("flight"), "latest")


def test_what_it_swept_can_be_pushed_again_through_registry_2(volume: Volume) -> None:
    made = image("swept", size=5_000)
    with volume.theirs as server, Remote(server.url) as remote:
        for blob in made.blobs:
            remote.push_blob("swept", blob.data)
        remote.push("swept", image("kept"), "latest")
    age(volume.root)
    assert collect(volume.root).returncode == 0
    with volume.theirs as server, Remote(server.url) as remote:
        assert not any(remote.has_blob("swept", blob.digest) for blob in made.blobs)
        remote.push("swept", made, "again")
        remote.holds("swept", made, "again")
