"""Paths, held against the layout as distribution's `registry/storage/paths.go` describes it, typed out."""

from hypothesis import given, settings
from hypothesis import strategies as st

from registry.oci.digest import Digest
from registry.oci.names import RepositoryName, SessionId, Tag
from registry.storage import layout

SHA256 = Digest("sha256:" + "0123456789abcdef" * 4)
SHA512 = Digest("sha512:" + "fedcba9876543210" * 8)
NAME = RepositoryName("library/ubuntu")
SESSION = SessionId("01234567-89ab-4cde-8f01-23456789abcd")

V2 = "docker/registry/v2"
REPOSITORY = f"{V2}/repositories/library/ubuntu"


def test_content_is_below_the_first_two_digits_of_its_digest() -> None:
    assert layout.blob(SHA256) == f"{V2}/blobs/sha256/01/{'0123456789abcdef' * 4}/data"
    assert layout.blob(SHA512) == f"{V2}/blobs/sha512/fe/{'fedcba9876543210' * 8}/data"


def test_links_are_where_registry_2_has_them() -> None:
    hex_ = SHA256.hex
    assert layout.layer_link(NAME, SHA256) == f"{REPOSITORY}/_layers/sha256/{hex_}/link"
    assert layout.layer_link(NAME, SHA512) == f"{REPOSITORY}/_layers/sha512/{SHA512.hex}/link"
    assert layout.revision_link(NAME, SHA256) == f"{REPOSITORY}/_manifests/revisions/sha256/{hex_}/link"
    assert layout.tag_link(NAME, Tag("v1")) == f"{REPOSITORY}/_manifests/tags/v1/current/link"
    assert layout.tag_index_link(NAME, Tag("v1"), SHA256) == f"{REPOSITORY}/_manifests/tags/v1/index/sha256/{hex_}/link"


def test_collections_are_the_directories_of_their_links() -> None:
    assert layout.layer_link(NAME, SHA256).startswith(layout.layers(NAME) + "/")
    assert layout.revision_link(NAME, SHA256) == layout.revision(NAME, SHA256) + "/link"
    assert layout.revision(NAME, SHA256).startswith(layout.revisions(NAME, "sha256") + "/")
    assert layout.tag(NAME, Tag("v1")) == layout.tags(NAME) + "/v1"
    assert layout.tag_link(NAME, Tag("v1")).startswith(layout.tag(NAME, Tag("v1")) + "/")


def test_an_upload_has_a_directory_of_its_session() -> None:
    assert layout.upload(NAME, SESSION) == f"{REPOSITORY}/_uploads/{SESSION}"


def test_a_repository_is_a_directory_and_no_name_is_that_of_all() -> None:
    assert layout.repository(NAME) == REPOSITORY
    assert layout.repository("") == f"{V2}/repositories"


def test_what_is_ours_is_beside_registry_2_s_tree() -> None:
    for key in (layout.TEMPORARY, layout.lock(NAME), layout.seen(NAME)):
        assert key.startswith("swarm-registry/")


COMPONENTS = st.sampled_from(["a", "b", "ab", "a-b", "a.b", "a_b", "0"])
NAMES = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join)


@settings(deadline=None)
@given(NAMES, NAMES)
def test_two_repositories_share_no_key_and_each_has_one_of_a_few_locks(one: str, other: str) -> None:
    first, second = RepositoryName(one), RepositoryName(other)
    assert layout.lock(first) == layout.lock(RepositoryName(one))
    assert len(layout.lock(first).rsplit("/", 1)[1]) == 2
    if first != second:
        assert layout.seen(first) != layout.seen(second)
        assert layout.layers(first) != layout.layers(second)
        assert not layout.layers(first).startswith(layout.layers(second) + "/")
