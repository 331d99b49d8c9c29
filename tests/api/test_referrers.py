"""end-12: what refers to a manifest."""

import pytest
from answers import INDEX_TYPE, error, pages
from images import EMPTY_JSON, OCI_MANIFEST, Content, artifact, digest_of, fallback_index, fallback_tag, image, index

SBOM = "application/vnd.example.sbom.v1"
SIGNATURE = "application/vnd.example.signature.v1+json"
SUBJECT = image("subject", size=100)
ABSENT = digest_of(b"pushed by nobody")


@pytest.fixture
def path(repository):
    """Where the subject's referrers are listed."""
    return f"/v2/{repository}/referrers/{SUBJECT.digest}"


def listed(http, path, **query):
    """The digests on all pages."""
    return [entry["digest"] for page in pages(http, path, **query) for entry in page.json()["manifests"]]


def test_referrers_are_an_index_of_descriptors_to_the_letter(http, remote, repository, path):
    """go-containerregistry compares the Content-Type with ==."""
    top = artifact("sbom", SBOM, subject=SUBJECT.manifest)
    remote.push(repository, SUBJECT)
    remote.push(repository, top)
    answer = http.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == INDEX_TYPE
    assert answer.json() == {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": top.digest,
                "size": len(top.manifest.data),
                "artifactType": SBOM,
                "annotations": top.manifest.json["annotations"],
            }
        ],
    }
    assert "Link" not in answer.headers
    assert "OCI-Filters-Applied" not in answer.headers


@pytest.mark.parametrize("name", ["{repository}", "no/such/repository"])
@pytest.mark.parametrize("digest", [ABSENT, "sha256:" + 64 * "0", "sha512:" + 128 * "0"])
def test_nothing_refers_to_what_is_unknown_and_that_is_no_404(http, remote, repository, name, digest):
    """oras asks for zeros once, and takes any 404 for a registry without this API."""
    remote.push(repository, SUBJECT)
    answer = http.get(f"/v2/{name.format(repository=repository)}/referrers/{digest}")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == INDEX_TYPE
    assert answer.json() == {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}


@pytest.mark.parametrize(
    "digest", ["latest", "sha256:abc", "md5:" + 32 * "0", "sha256:" + 64 * "F", "sha256-" + 64 * "0"]
)
def test_what_is_no_digest_is_400(http, repository, digest):
    error(http.get(f"/v2/{repository}/referrers/{digest}"), 400, "DIGEST_INVALID")


def test_head_is_get_without_the_body(http, remote, repository, path):
    remote.push(repository, artifact("sbom", SBOM, subject=SUBJECT.manifest))
    got, asked = http.get(path), http.head(path)
    assert asked.content == b""
    assert {**asked.headers, "date": ""} == {**got.headers, "date": ""}


def test_a_push_says_that_its_subject_was_seen(http, remote, repository):
    """Clients that do not see OCI-Subject keep a list of referrers under a tag themselves."""
    with_subject = artifact("sbom", SBOM, subject=SUBJECT.manifest)
    remote.push(repository, with_subject)
    for reference in "latest", with_subject.digest:
        answer = remote.push_manifest(repository, with_subject.manifest, reference)
        assert answer.headers["OCI-Subject"] == SUBJECT.digest
    assert "OCI-Subject" not in remote.push_manifest(repository, index().manifest).headers


def test_referrers_come_before_their_subject_or_after_it(http, remote, repository, path):
    before, after = (artifact(when, SBOM, subject=SUBJECT.manifest) for when in ("before", "after"))
    remote.push(repository, before)
    assert listed(http, path) == [before.digest]
    remote.push(repository, SUBJECT)
    remote.push(repository, after)
    assert listed(http, path) == sorted([before.digest, after.digest])


def test_a_referrer_pushed_by_tag_or_many_times_is_listed_once(http, remote, repository, path):
    top = artifact("sbom", SBOM, subject=SUBJECT.manifest)
    remote.push(repository, top, "one", "two", top.digest)
    assert listed(http, path) == [top.digest]


def test_the_artifact_type_of_an_image_is_that_of_its_config_and_an_index_without_one_has_none(
    http, remote, repository, path
):
    """distribution-spec, "Listing Referrers"."""
    tops = [
        image("image", size=100, subject=SUBJECT.manifest),
        artifact("artifact", SBOM, subject=SUBJECT.manifest),
        index(subject=SUBJECT.manifest),
    ]
    for top in tops:
        remote.push(repository, top)
    entries = {entry["digest"]: entry for entry in http.get(path).json()["manifests"]}
    kinds = [entries[top.digest].get("artifactType", "none at all") for top in tops]
    assert kinds == ["application/vnd.oci.image.config.v1+json", SBOM, "none at all"]
    assert entries[tops[2].digest]["mediaType"] == INDEX_TYPE


def test_annotations_are_copied_as_they_are_and_left_out_where_there_are_none(http, remote, repository, path):
    annotations = {"org.example.größe": 'é\U0001f433 \\ " \n', "empty": "", "a/b": "c"}
    with_some = index(subject=SUBJECT.manifest, annotations=annotations)
    without = index(subject=SUBJECT.manifest)
    for top in with_some, without:
        remote.push(repository, top)
    entries = {entry["digest"]: entry for entry in http.get(path).json()["manifests"]}
    assert entries[with_some.digest]["annotations"] == annotations
    assert "annotations" not in entries[without.digest]


def test_a_subject_named_by_sha512_has_its_own_list(http, remote, repository):
    subject = Content(OCI_MANIFEST, SUBJECT.manifest.data, "sha512")
    top = artifact("sbom", SBOM, subject=subject)
    remote.push(repository, top)
    assert listed(http, f"/v2/{repository}/referrers/{subject.digest}") == [top.digest]
    assert listed(http, f"/v2/{repository}/referrers/{SUBJECT.digest}") == []


def test_a_referrer_named_by_sha512_is_listed_by_it(http, remote, repository, path):
    top = artifact("sbom", SBOM, subject=SUBJECT.manifest, algorithm="sha512")
    remote.push(repository, top)
    assert listed(http, path) == [top.digest]


def test_referrers_are_of_their_repository(http, remote, repository, path):
    remote.push(f"{repository}/other", artifact("sbom", SBOM, subject=SUBJECT.manifest))
    assert listed(http, path) == []


# Filters


@pytest.fixture
def three(remote, repository):
    """Two of one type and one of another."""
    tops = [
        artifact("one", SBOM, subject=SUBJECT.manifest),
        artifact("two", SBOM, subject=SUBJECT.manifest),
        artifact("three", SIGNATURE, subject=SUBJECT.manifest),
    ]
    for top in tops:
        remote.push(repository, top)
    return [top.digest for top in tops]


@pytest.mark.parametrize(
    ("kinds", "found"),
    [
        ([SBOM], [0, 1]),
        ([SIGNATURE], [2]),
        (["application/none"], []),
        ([SBOM, SIGNATURE], [0, 1, 2]),
        ([EMPTY_JSON], []),
    ],
)
def test_the_list_is_filtered_by_artifact_type_and_says_so(http, three, path, kinds, found):
    """containerd names several."""
    answer = http.get(path, params={"artifactType": kinds})
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert answer.headers["Content-Type"] == INDEX_TYPE
    assert [entry["digest"] for entry in answer.json()["manifests"]] == sorted(three[number] for number in found)


def test_other_parameters_filter_nothing(http, three, path):
    answer = http.get(path, params={"mediaType": "x", "ns": "docker.io"})
    assert len(answer.json()["manifests"]) == 3
    assert "OCI-Filters-Applied" not in answer.headers


# Pages


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_links_lead_through_all_referrers_each_once(http, three, path, limit):
    answers = list(pages(http, path, n=limit))
    sizes = [len(answer.json()["manifests"]) for answer in answers]
    assert sizes == {1: [1, 1, 1], 2: [2, 1], 3: [3], 100: [3]}[limit]
    assert listed(http, path, n=limit) == sorted(three)


def test_links_keep_the_filter(http, three, path):
    answers = list(pages(http, f"{path}?artifactType={SBOM}&artifactType=application%2Fnone", n=1))
    assert [answer.headers["OCI-Filters-Applied"] for answer in answers] == ["artifactType"] * 2
    found = [entry["digest"] for answer in answers for entry in answer.json()["manifests"]]
    assert found == sorted(three[:2])


def test_links_keep_a_filter_with_a_plus_sign(http, three, path):
    """`+json` in a query means a space unless it is encoded."""
    query = {"artifactType": [SIGNATURE, SBOM], "n": 1}
    first = http.get(path, params=query)
    found = [first.json()["manifests"][0]["digest"]]
    while "next" in first.links:
        first = http.get(first.links["next"]["url"])
        found += [entry["digest"] for entry in first.json()["manifests"]]
    assert found == sorted(three)


def test_n_0_is_an_empty_list_without_a_link(http, three, path):
    answer = http.get(path, params={"n": 0})
    assert answer.json()["manifests"] == []
    assert "Link" not in answer.headers


@pytest.mark.parametrize("n", ["-1", "x", "", "1.5"])
def test_n_that_is_no_number_is_400(http, path, n):
    error(http.get(path, params={"n": n}), 400, "PAGINATION_NUMBER_INVALID")


def test_no_page_is_larger_than_a_manifest_may_be(http, remote, repository, path):
    """containerd refuses an index of more than 4 MiB."""
    tops = [index(subject=SUBJECT.manifest, annotations={"large": str(number) * 1_400_000}) for number in range(7)]
    for top in tops:
        remote.push(repository, top)
    answers = list(pages(http, path))
    assert [len(answer.json()["manifests"]) for answer in answers] == [2, 2, 2, 1]
    assert all(len(answer.content) <= 4 * 1024 * 1024 for answer in answers)
    assert listed(http, path) == sorted(top.digest for top in tops)


# Deletes, and clients that keep lists themselves


def test_a_deleted_referrer_is_listed_no_more(http, remote, repository, three, path):
    remote.delete_manifest(repository, three[1])
    assert listed(http, path) == sorted([three[0], three[2]])


def test_referrers_stay_when_their_subject_is_deleted(http, remote, repository, three, path):
    remote.push(repository, SUBJECT)
    remote.delete_manifest(repository, SUBJECT.digest)
    assert listed(http, path) == sorted(three)


def test_a_deleted_referrer_pushed_again_is_listed_again(http, remote, repository, path):
    top = artifact("sbom", SBOM, subject=SUBJECT.manifest)
    for _ in range(2):
        remote.push(repository, top)
        assert listed(http, path) == [top.digest]
        remote.delete_manifest(repository, top.digest)
        assert listed(http, path) == []


def test_a_list_that_a_client_keeps_under_a_tag_changes_nothing(http, remote, repository, path):
    """Clients of before this API push it; it stays theirs to read."""
    tops = [artifact("one", SBOM, subject=SUBJECT.manifest), artifact("two", SIGNATURE, subject=SUBJECT.manifest)]
    for top in tops:
        remote.push(repository, top)
    kept = fallback_index(*tops)
    tag = fallback_tag(SUBJECT.digest)
    remote.push_manifest(repository, kept.manifest, tag)
    assert listed(http, path) == sorted(top.digest for top in tops)
    assert remote.manifest(repository, tag) == kept.manifest
