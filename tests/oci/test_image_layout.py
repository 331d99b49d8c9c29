"""What names an image in a layout, and what is understood of the names that others give."""

import json

import pytest

from registry.oci import imagelayout
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid
from registry.oci.imagelayout import Name
from registry.oci.names import RepositoryName, Tag

DIGEST = Digest.of(b"an image")
REF, FULL, OURS = imagelayout.REF_NAME, imagelayout.FULL_NAME, imagelayout.REPOSITORY


def index(annotations: object) -> bytes:
    entry = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": DIGEST, "size": 8}
    return json.dumps({"schemaVersion": 2, "manifests": [{**entry, "annotations": annotations}]}).encode()


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        (None, Name(None, None)),
        ({}, Name(None, None)),
        ({REF: "v1"}, Name(None, "v1")),
        ({REF: "app:v1"}, Name("app", "v1")),
        ({REF: "team/app:v1"}, Name("team/app", "v1")),
        ({REF: "team/app"}, Name("team/app", "latest")),
        ({REF: "example.com/team/app:v1"}, Name("team/app", "v1")),
        ({REF: "example.com:5000/app:v1"}, Name("app", "v1")),
        ({REF: "example.com:5000/app"}, Name("app", "latest")),
        ({REF: "localhost/app:v1"}, Name("app", "v1")),
        ({REF: f"example.com/app:v1@{DIGEST}"}, Name("app", "v1")),
        ({REF: "docker.io/library/busybox:latest"}, Name("busybox", "latest")),
        ({REF: "example.com/library/busybox:latest"}, Name("library/busybox", "latest")),
        ({REF: "latest", FULL: "docker.io/library/busybox:latest"}, Name("busybox", "latest")),
        ({FULL: "docker.io/team/app:v1"}, Name("team/app", "v1")),
        ({REF: "v2", FULL: "docker.io/team/app:v1"}, Name("team/app", "v2")),
        ({REF: "example.com/app:v1", OURS: "example.com/app"}, Name("example.com/app", "v1")),
        ({OURS: "app"}, Name("app", None)),
    ],
)
def test_repository_and_tag_are_understood(annotations: object, name: Name) -> None:
    (entry,) = imagelayout.entries(index(annotations))
    assert (entry.digest, entry.name) == (DIGEST, name)


@pytest.mark.parametrize("repository", ["app", "team/app", "library/app", "example.com/app", "localhost/app"])
@pytest.mark.parametrize("tag", ["v1", None, "_x.-"])
@pytest.mark.parametrize("is_alone", [True, False])
def test_names_that_we_give_come_back(repository: str, tag: str | None, *, is_alone: bool) -> None:
    given = imagelayout.naming(RepositoryName(repository), Tag(tag) if tag else None, is_alone=is_alone)
    (entry,) = imagelayout.entries(index(given))
    assert imagelayout.checked(entry.name) == (repository, tag)


@pytest.mark.parametrize(
    "name", [Name("Team/App", "v1"), Name("../../x", None), Name("app", ".x"), Name("a", "b" * 129)]
)
def test_what_is_no_name_is_refused(name: Name) -> None:
    with pytest.raises(ManifestInvalid, match=r"^index\.json: invalid "):
        imagelayout.checked(name)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"manifests": 1}', b'{"manifests": [{}]}', index({REF: 1})])
def test_what_is_no_index_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalid, match=r"^index\.json: "):
        imagelayout.entries(data)


def test_the_mark_tells_the_version() -> None:
    imagelayout.check_mark(imagelayout.MARK_TEXT)
    for data in (b"", b"{}", b'{"imageLayoutVersion": "2.0.0"}'):
        with pytest.raises(ManifestInvalid, match=r"expected 1\.0\.0"):
            imagelayout.check_mark(data)


def test_only_the_place_of_a_blob_is_one() -> None:
    for digest in (DIGEST, Digest.of(b"", "sha512")):
        assert imagelayout.blob_at(imagelayout.blob_path(digest)) == digest
    for path in ("blobs", "blobs/sha256/ab", f"x/{imagelayout.blob_path(DIGEST)}", "blobs/md5/" + "a" * 32):
        assert imagelayout.blob_at(path) is None
