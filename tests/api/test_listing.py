"""end-8 and `_catalog`: tags and repositories."""

import pytest
from answers import are_sorted_without_doubles, error, next_page, pages
from images import OCI_INDEX, index

TOP = index().manifest
TAGS = ["0", "1.0", "1.1", "1.10", "1.2", "A", "Z", "_", "_x", "a", "a-b", "a.b", "a_b", "latest", "z"]
WRONG_NUMBERS = ["-1", "x", "", "1.5", "1e3", " 1", "0x10", "\u0661", "9" * 40]


@pytest.fixture
def path(http, repository):
    """The list of a repository that has all of TAGS."""
    answer = http.put(
        f"/v2/{repository}/manifests/{TOP.digest}",
        params={"tag": TAGS[::-1]},
        content=TOP.data,
        headers={"Content-Type": OCI_INDEX},
    )
    assert answer.status_code == 201
    return f"/v2/{repository}/tags/list"


# Tags


def test_tags_come_in_ascii_order_all_at_once(http, repository, path):
    answer = http.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"name": repository, "tags": TAGS}
    assert "Link" not in answer.headers


def test_head_is_get_without_the_body(http, path):
    got, asked = http.get(path), http.head(path)
    assert asked.content == b""
    assert {**asked.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize("limit", [1, 2, 7, 14, 15, 16, 1000])
def test_links_lead_through_all_tags_each_once(http, path, limit):
    answers = [answer.json()["tags"] for answer in pages(http, path, n=limit)]
    assert all(len(tags) == limit for tags in answers[:-1])
    assert 0 < len(answers[-1]) <= limit
    assert [tag for tags in answers for tag in tags] == TAGS


def test_n_gives_as_many_as_it_says_and_a_link_only_where_more_follow(http, path):
    first, last = http.get(path, params={"n": 3}), http.get(path, params={"n": 15})
    assert first.json()["tags"] == TAGS[:3]
    assert next_page(first) == f"{path}?n=3&last=1.1"
    assert last.json()["tags"] == TAGS
    assert "Link" not in last.headers


@pytest.mark.parametrize(
    ("last", "following"),
    [("", TAGS), ("1.0", TAGS[2:]), ("1.05", TAGS[2:]), ("B", TAGS[6:]), ("z", []), ("~", []), ("\u00e9", [])],
)
def test_last_gives_what_follows_it_whether_it_is_a_tag_or_not(http, path, last, following):
    """A tag that was deleted meanwhile still leads on."""
    assert http.get(path, params={"last": last}).json()["tags"] == following
    assert http.get(path, params={"last": last, "n": 2}).json()["tags"] == following[:2]


def test_n_0_is_an_empty_list_without_a_link(http, path):
    answer = http.get(path, params={"n": 0})
    assert answer.status_code == 200
    assert answer.json()["tags"] == []
    assert "Link" not in answer.headers


@pytest.mark.parametrize("n", WRONG_NUMBERS)
def test_n_that_is_no_number_is_400(http, path, n):
    for list_ in path, "/v2/_catalog":
        error(http.get(list_, params={"n": n}), 400, "PAGINATION_NUMBER_INVALID")


def test_tags_of_an_unknown_repository_are_404_name_unknown(http, remote, repository):
    path = f"/v2/{repository}/tags/list"
    assert error(http.get(path), 404, "NAME_UNKNOWN")["detail"] == {"name": repository}
    remote.push_blob(repository, b"a blob makes no list")
    error(http.get(path, params={"n": 0}), 404, "NAME_UNKNOWN")
    assert http.head(path).status_code == 404


def test_a_repository_whose_tags_are_gone_has_an_empty_list(http, remote, repository, path):
    """`[]`, not the `null` that registry:2 answers."""
    remote.delete_manifest(repository, TOP.digest)
    assert http.get(path).json() == {"name": repository, "tags": []}


def test_a_manifest_without_a_tag_gives_an_empty_list(http, remote, repository):
    remote.push_manifest(repository, TOP)
    assert http.get(f"/v2/{repository}/tags/list").json() == {"name": repository, "tags": []}


def test_a_deleted_tag_is_listed_no_more(http, remote, repository, path):
    remote.delete_manifest(repository, "latest")
    assert http.get(path).json()["tags"] == [tag for tag in TAGS if tag != "latest"]


def test_no_page_of_tags_is_longer_than_the_settings_say(serve, connect):
    """tags.maxtags, as registry:3 has it; a Link says that more follow."""
    remote = connect(serve(REGISTRY_TAGS_MAXTAGS="4"))
    for tag in TAGS:
        remote.push_manifest("some/name", TOP, tag)
    for query in {}, {"n": 100}:
        answers = [answer.json()["tags"] for answer in pages(remote.http, "/v2/some/name/tags/list", **query)]
        assert [len(tags) for tags in answers] == [4, 4, 4, 3]
        assert [tag for tags in answers for tag in tags] == TAGS


# The catalog

# As a walk by directories would not give them: `-` and `.` sort before `/`.
NAMES = [
    "a",
    "a-b",
    "a-b/c",
    "a.b",
    "a/b",
    "a/b-c",
    "a/b/c",
    "a0",
    "a0/x",
    "b/c/d/e/f",
    "library/x",
    "library/x-y",
    "z",
]


@pytest.fixture
def catalog(serve, connect):
    """A registry of its own, with NAMES in it."""
    remote = connect(serve(REGISTRY_CATALOG_MAXENTRIES="10"))
    for name in NAMES[::-1]:
        remote.push_manifest(name, TOP, "latest")
    return remote


def test_the_catalog_is_empty_at_first(serve, connect):
    answer = connect(serve()).http.get("/v2/_catalog")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"repositories": []}
    assert "Link" not in answer.headers


def test_the_catalog_lists_repositories_in_ascii_order_by_pages(catalog):
    """Each page is as long as asked for and catalog.maxentries allows; links lead through all, each once."""
    assert are_sorted_without_doubles(NAMES)
    for limit in 1, 2, 3, 12, 13, 1000:
        answers = [answer.json()["repositories"] for answer in pages(catalog.http, "/v2/_catalog", n=limit)]
        assert all(len(names) == min(limit, 10) for names in answers[:-1])
        assert [name for names in answers for name in names] == NAMES
    assert [len(answer.json()["repositories"]) for answer in pages(catalog.http, "/v2/_catalog")] == [10, 3]
    for number, name in enumerate(NAMES):
        answer = catalog.http.get("/v2/_catalog", params={"last": name, "n": 2})
        assert answer.json()["repositories"] == NAMES[number + 1 : number + 3]
    assert catalog.http.get("/v2/_catalog", params={"last": "a/bb"}).json()["repositories"] == NAMES[7:]
    answer = catalog.http.get("/v2/_catalog", params={"n": 0})
    assert (answer.json(), answer.links) == ({"repositories": []}, {})


def test_the_catalog_lists_a_repository_for_as_long_as_it_holds_a_manifest(serve, connect):
    remote = connect(serve())
    remote.push_blob("some/name", b"a blob alone is nothing to pull")
    remote.begin("other/name")
    assert remote.catalog() == []
    remote.push_manifest("some/name", TOP)
    assert remote.catalog() == ["some/name"]
    remote.push_manifest("some/name", TOP, "latest")
    remote.delete_manifest("some/name", "latest")
    assert remote.catalog() == ["some/name"]
    remote.delete_manifest("some/name", TOP.digest)
    assert remote.catalog() == []
