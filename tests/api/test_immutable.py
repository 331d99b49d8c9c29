"""Immutable tags, as clients meet them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from answers import error
from images import image
from remote import Remote

FIRST, SECOND = image("immutable", size=100), image("moved", size=100)
NAME = "team/app"
POLICIES = "[{repositories: 'team/**', immutable: 'v[0-9.]+'}]"


@pytest.fixture
def protected(serve, connect) -> Remote:
    remote = connect(serve(REGISTRY_RETENTION_POLICIES=POLICIES))
    remote.push(NAME, FIRST, "v1", "latest")
    for blob in (SECOND.config, *SECOND.layers):
        remote.push_blob(NAME, blob.data)
    return remote


def put(remote, pushed, tag):
    path = f"/v2/{NAME}/manifests/{tag}"
    manifest = pushed.manifest
    return remote.http.put(path, content=manifest.data, headers={"Content-Type": manifest.media_type})


def test_a_push_that_would_move_an_immutable_tag_is_403_and_changes_nothing(protected):
    told = error(put(protected, SECOND, "v1"), 403, "DENIED")
    assert "the tag v1 is immutable ('v[0-9.]+' of retention.policies.0.immutable)" in told["message"]
    assert told["detail"] == {"tag": "v1", "digest": FIRST.digest}
    protected.holds(NAME, FIRST, "v1")
    assert not protected.has_manifest(NAME, SECOND.digest)


def test_a_push_by_digest_does_not_move_one_either(protected):
    error(put(protected, SECOND, f"{SECOND.digest}?tag=next&tag=v1"), 403, "DENIED")
    assert protected.tags(NAME) == ["latest", "v1"]
    assert not protected.has_manifest(NAME, SECOND.digest)


def test_the_same_manifest_again_is_201(protected):
    assert put(protected, FIRST, "v1").status_code == 201


def test_other_tags_move(protected):
    assert put(protected, SECOND, "latest").status_code == 201
    protected.holds(NAME, SECOND, "latest")


def test_an_immutable_tag_and_its_manifest_cannot_be_deleted(protected):
    for reference in "v1", FIRST.digest:
        told = error(protected.http.delete(f"/v2/{NAME}/manifests/{reference}"), 403, "DENIED")
        assert "the tag v1 is immutable" in told["message"]
    assert protected.tags(NAME) == ["latest", "v1"]
    protected.holds(NAME, FIRST, "v1")


def test_of_pushes_that_race_for_an_immutable_tag_one_wins(serve, connect):
    """In two processes on one volume."""
    remote = connect(serve(REGISTRY_RETENTION_POLICIES=POLICIES, REGISTRY_HTTP_WORKERS="2"))
    for pushed in FIRST, SECOND:
        for blob in (pushed.config, *pushed.layers):
            remote.push_blob(NAME, blob.data)
    with ThreadPoolExecutor(2) as pool:
        for turn in range(20):
            answers = list(pool.map(lambda one, tag=f"v{turn}": put(remote, one, tag), (FIRST, SECOND)))
            assert sorted(answer.status_code for answer in answers) == [201, 403]
