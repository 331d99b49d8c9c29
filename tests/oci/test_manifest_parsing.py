"""Manifests: which documents are stored, what they reference, and how they stand in a referrers list."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid, RegistryError
from registry.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Manifest

IMAGES = [OCI_MANIFEST, DOCKER_MANIFEST]
INDEXES = [OCI_INDEX, DOCKER_LIST]
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(seed: str, media_type: str = LAYER_TYPE, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(seed.encode())), "size": len(seed), **more}


def image(media_type: str | None = OCI_MANIFEST, **more: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "config": descriptor("config", CONFIG_TYPE),
        "layers": [descriptor("one"), descriptor("two")],
        **more,
    }
    return document if media_type is None else {"mediaType": media_type, **document}


def index(media_type: str | None = OCI_INDEX, **more: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "manifests": [descriptor("amd64", OCI_MANIFEST), descriptor("arm64", OCI_MANIFEST)],
        **more,
    }
    return document if media_type is None else {"mediaType": media_type, **document}


def parse(document: object, content_type: str = "") -> Manifest:
    return Manifest.parse(json.dumps(document).encode(), content_type)


def refused(document: object, content_type: str = "") -> str:
    """Why a document is refused, in one sentence that names it for a person."""
    with pytest.raises(ManifestInvalid) as caught:
        parse(document, content_type)
    assert caught.value.status == 400
    assert caught.value.code == "MANIFEST_INVALID"
    return caught.value.message


# The four kinds


@pytest.mark.parametrize("media_type", IMAGES)
def test_an_image_references_its_config_and_layers_in_order(media_type: str) -> None:
    found = parse(image(media_type), media_type)
    assert found.media_type == media_type
    assert [blob.address for blob in found.blobs] == [Digest.of(b"config"), Digest.of(b"one"), Digest.of(b"two")]
    assert [blob.size for blob in found.blobs] == [6, 3, 3]
    assert found.children == ()
    assert found.subject is None


@pytest.mark.parametrize("media_type", INDEXES)
def test_an_index_references_its_manifests_in_order(media_type: str) -> None:
    found = parse(index(media_type), media_type)
    assert found.media_type == media_type
    assert [child.address for child in found.children] == [Digest.of(b"amd64"), Digest.of(b"arm64")]
    assert found.blobs == ()


def test_the_bytes_are_kept_exactly_as_they_came() -> None:
    data = json.dumps(image(), indent=7).encode() + b"\n \n"
    assert Manifest.parse(data).data == data


def test_an_image_without_layers_and_an_index_without_manifests_are_stored() -> None:
    assert len(parse(image(layers=[])).blobs) == 1
    assert len(parse(image(layers=None)).blobs) == 1  # what Go writes for no slice
    assert parse(index(manifests=[])).children == ()


def test_a_child_knows_its_platform() -> None:
    child = descriptor("x", OCI_MANIFEST, platform={"architecture": "arm", "os": "linux", "variant": "v7", "x": 1})
    (found,) = parse(index(manifests=[child])).children
    assert found.platform is not None
    assert (found.platform.architecture, found.platform.os, found.platform.variant) == ("arm", "linux", "v7")


def test_members_that_we_do_not_know_are_no_error() -> None:
    assert parse(image(**{"org.example": {"x": [1, None]}, "$schema": "x"})).media_type == OCI_MANIFEST


# Media type


def test_a_document_without_media_type_is_oci_and_an_index_where_it_has_manifests() -> None:
    assert parse(image(None)).media_type == OCI_MANIFEST
    assert parse(index(None)).media_type == OCI_INDEX
    assert parse(image("")).media_type == OCI_MANIFEST


@pytest.mark.parametrize("content_type", ["", "application/json", "application/octet-stream", "text/plain"])
def test_a_content_type_that_says_nothing_does_not_matter(content_type: str) -> None:
    assert parse(image(DOCKER_MANIFEST), content_type).media_type == DOCKER_MANIFEST


def test_the_content_type_may_have_parameters_and_any_case() -> None:
    assert parse(image(), f"{OCI_MANIFEST}; charset=utf-8").media_type == OCI_MANIFEST
    assert parse(image(), OCI_MANIFEST.upper()).media_type == OCI_MANIFEST


def test_a_content_type_that_says_something_else_is_refused() -> None:
    assert "Content-Type" in refused(image(OCI_MANIFEST), DOCKER_MANIFEST)
    assert "Content-Type" in refused(image(None), DOCKER_MANIFEST)
    assert "Content-Type" in refused(index(None), OCI_MANIFEST)
    assert "Content-Type" in refused(image(), "application/vnd.example+json")


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.artifact.manifest.v1+json",
        "application/vnd.cncf.oras.artifact.manifest.v1+json",
        "application/vnd.example+json",
        CONFIG_TYPE,
        OCI_MANIFEST.upper(),
    ],
)
def test_other_media_types_are_refused_with_a_way_out(media_type: str) -> None:
    assert "artifactType" in refused(image(media_type), media_type)


# Schema 1


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        ({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": []}, ""),
        ({"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+json"),
        ({"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (image(), "application/vnd.docker.distribution.manifest.v1+prettyjws; charset=utf-8"),
    ],
)
def test_schema_1_is_refused_and_the_user_told_what_to_do(document: object, content_type: str) -> None:
    message = refused(document, content_type)
    assert "schema 1" in message
    assert "skopeo copy --format v2s2" in message


@pytest.mark.parametrize("version", [0, 3, -2, 10**18])
def test_a_schema_version_other_than_2_is_refused(version: int) -> None:
    assert f"schemaVersion is {version}, expected 2" in refused(image(schemaVersion=version))


# Shape


@pytest.mark.parametrize("media_type", [*IMAGES, None])
def test_an_image_that_has_manifests_too_is_refused(media_type: str | None) -> None:
    """It would be an image to one client and an index to another (CVE-2021-41190)."""
    refused(image(media_type, manifests=[descriptor("x", OCI_MANIFEST)]))
    refused(image(media_type, manifests=[]))


@pytest.mark.parametrize("media_type", INDEXES)
@pytest.mark.parametrize(
    "member", [{"config": descriptor("c", CONFIG_TYPE)}, {"layers": [descriptor("l")]}, {"layers": []}]
)
def test_an_index_that_has_config_or_layers_too_is_refused(media_type: str, member: dict[str, Any]) -> None:
    refused(index(media_type, **member))


def test_an_image_without_config_and_an_index_without_manifests_member_are_refused() -> None:
    document = image()
    del document["config"]
    assert "config" in refused(document)
    assert "manifests" in refused({"schemaVersion": 2, "mediaType": OCI_INDEX})
    refused({"schemaVersion": 2})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"2",
        b"{",
        b"\xff\xfe",
        b"{}",
        b"\0",
        b'{"schemaVersion": 2}x',
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_json_object_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(data)


def test_deeply_nested_json_is_refused_and_not_followed() -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(b'{"schemaVersion": 2, "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"digest": "sha256:abc"}, "layers.0.digest"),
        ({"digest": f"md5:{'0' * 32}"}, "layers.0.digest"),
        ({"digest": "../../../../etc/passwd"}, "layers.0.digest"),
        ({"digest": None}, "layers.0.digest"),
        ({"size": -1}, "layers.0.size"),
        ({"size": None}, "layers.0.size"),
        ({"size": "many"}, "layers.0.size"),
        ({"size": 1.5}, "layers.0.size"),
        ({"mediaType": None}, "layers.0.mediaType"),
        ({"mediaType": 5}, "layers.0.mediaType"),
        ({"urls": "http://x"}, "layers.0.urls"),
        ({"annotations": {"a": 1}}, "layers.0.annotations"),
    ],
)
def test_a_descriptor_that_breaks_its_rules_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    assert named in refused(image(layers=[{**descriptor("x"), **change}]))


@pytest.mark.parametrize("missing", ["mediaType", "digest", "size"])
def test_a_descriptor_has_media_type_digest_and_size(missing: str) -> None:
    broken = descriptor("x")
    del broken[missing]
    assert missing in refused(image(layers=[broken]))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(image(schemaVersion="2"), id="schemaVersion as text"),
        pytest.param(image(schemaVersion=2.0), id="schemaVersion as a fraction"),
        pytest.param(image(layers=[descriptor("x") | {"size": "1"}]), id="size as text"),
        pytest.param(image(layers=[descriptor("x") | {"size": True}]), id="size as a truth value"),
        pytest.param(image(layers=[descriptor("x") | {"size": 2**63}]), id="size beyond 64 bits"),
        pytest.param(image(annotations={"x": "y"}, other=float("nan")), id="NaN"),
        pytest.param(image(other=float("inf")), id="Infinity"),
    ],
)
def test_what_go_cannot_read_is_refused(document: object) -> None:
    """registry:2's garbage collection, run over our volume, reads every revision and stops at one that it cannot."""
    refused(document)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(
            {"schema_version": 2, "config": descriptor("c", CONFIG_TYPE), "layers": []},
            id="a version only by our name for it",
        ),
        pytest.param(
            image(layers=[{"media_type": LAYER_TYPE, "digest": str(Digest.of(b"")), "size": 0}]),
            id="a descriptor's type only by our name for it",
        ),
    ],
)
def test_members_have_the_specification_s_names_and_no_others(document: object) -> None:
    refused(document)


def test_a_member_by_a_name_of_ours_does_not_decide_what_a_manifest_is() -> None:
    """`media_type` is nothing to every other reader of the same bytes."""
    assert parse({**image(None), "media_type": DOCKER_MANIFEST}).media_type == OCI_MANIFEST


# Foreign layers


@pytest.mark.parametrize(
    "layer",
    [
        descriptor("x", urls=["https://example.org/x"]),
        descriptor("x", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        descriptor("x", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
        descriptor("x", "application/vnd.oci.image.layer.nondistributable.v1.tar"),
    ],
)
def test_a_layer_that_is_kept_elsewhere_is_foreign(layer: dict[str, Any]) -> None:
    assert parse(image(layers=[layer])).blobs[1].is_foreign


@pytest.mark.parametrize("layer", [descriptor("x"), descriptor("x", urls=[]), descriptor("x", urls=None)])
def test_any_other_layer_has_to_be_here(layer: dict[str, Any]) -> None:
    assert not parse(image(layers=[layer])).blobs[1].is_foreign


# Referrers


def test_the_subject_is_found_in_images_and_indexes() -> None:
    subject = descriptor("subject", OCI_MANIFEST)
    for document in (image(subject=subject), index(subject=subject)):
        found = parse(document).subject
        assert found is not None
        assert found.address == Digest.of(b"subject")


def test_a_subject_that_is_no_descriptor_is_refused() -> None:
    assert "subject" in refused(image(subject={"digest": "sha256:abc"}))
    assert "subject" in refused(image(subject="sha256:abc"))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (image(), CONFIG_TYPE),
        (image(artifactType="application/x-sbom"), "application/x-sbom"),
        (image(artifactType=""), CONFIG_TYPE),
        (image(artifactType=None), CONFIG_TYPE),
        (index(), None),
        (index(artifactType="application/x-list"), "application/x-list"),
        (index(artifactType=""), None),
    ],
)
def test_the_artifact_type_is_the_manifest_s_own_else_the_config_s(document: object, expected: str | None) -> None:
    assert parse(document).artifact_type == expected


def test_a_referrer_is_listed_with_its_type_size_and_annotations() -> None:
    data = json.dumps(image(artifactType="application/x-sbom", annotations={"a": "b"})).encode()
    digest = Digest.of(data)
    assert Manifest.parse(data).referrer(digest) == {
        "mediaType": OCI_MANIFEST,
        "digest": str(digest),
        "size": len(data),
        "artifactType": "application/x-sbom",
        "annotations": {"a": "b"},
    }


def test_an_index_without_annotations_and_type_is_listed_without_them() -> None:
    data = json.dumps(index()).encode()
    digest = Digest.of(data, "sha512")
    assert Manifest.parse(data).referrer(digest) == {"mediaType": OCI_INDEX, "digest": str(digest), "size": len(data)}


# Properties

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"]
DESCRIPTORS = st.fixed_dictionaries(
    {"mediaType": st.sampled_from([LAYER_TYPE, CONFIG_TYPE, OCI_MANIFEST, ""]) | JSON},
    optional={
        "digest": st.just(str(Digest.of(b""))) | JSON,
        "size": st.integers(0, 9) | JSON,
        "urls": JSON,
        "platform": JSON,
        "annotations": JSON,
    },
)
PLAUSIBLE = st.fixed_dictionaries(
    {"schemaVersion": st.just(2) | JSON},
    optional={
        "mediaType": st.sampled_from([*IMAGES, *INDEXES, ""]) | JSON,
        "config": DESCRIPTORS | JSON,
        "layers": st.lists(DESCRIPTORS, max_size=2) | JSON,
        "manifests": st.lists(DESCRIPTORS, max_size=2) | JSON,
        "subject": DESCRIPTORS | JSON,
        "annotations": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2) | JSON,
        "artifactType": st.text() | JSON,
    },
)


def assert_stored_or_refused(data: bytes, content_type: str = "") -> None:
    try:
        found = Manifest.parse(data, content_type)
    except RegistryError as error:
        assert isinstance(error, ManifestInvalid)
        error.message.encode()  # it can be sent
        return
    assert found.media_type in {*IMAGES, *INDEXES}
    assert found.data == data
    assert bool(found.blobs) is (found.media_type in IMAGES)
    assert not (found.blobs and found.children)
    entry = found.referrer(Digest.of(data))
    assert json.loads(json.dumps(entry, ensure_ascii=False).encode()) == entry


@given(st.binary(), st.text())
def test_arbitrary_bytes_are_refused_as_a_manifest(data: bytes, content_type: str) -> None:
    assert_stored_or_refused(data, content_type)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=300)
@given(PLAUSIBLE | st.dictionaries(st.sampled_from(MEMBERS), JSON), st.booleans())
def test_arbitrary_documents_are_one_of_the_four_kinds_or_refused(document: dict[str, Any], ascii_only: bool) -> None:  # noqa: FBT001
    data = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert_stored_or_refused(data)


@given(
    st.sampled_from([*IMAGES, *INDEXES]),
    st.lists(st.binary(max_size=8), max_size=5),
    st.none() | st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_what_a_client_writes_is_read_back_whole(
    media_type: str, contents: list[bytes], annotations: dict[str, str] | None
) -> None:
    entries = [{"mediaType": LAYER_TYPE, "digest": str(Digest.of(one)), "size": len(one)} for one in contents]
    document = image(media_type, layers=entries) if media_type in IMAGES else index(media_type, manifests=entries)
    found = parse({**document, "annotations": annotations}, media_type)
    referenced = found.blobs[1:] if media_type in IMAGES else found.children
    assert [one.address for one in referenced] == [Digest.of(content) for content in contents]
    assert found.annotations == annotations
