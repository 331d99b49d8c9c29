"""end-3, end-7 and end-9: pulling, pushing and deleting manifests."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from answers import error
from images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EMPTY_JSON,
    OCI_INDEX,
    OCI_MANIFEST,
    Content,
    Image,
    artifact,
    digest_of,
    image,
    index,
    multi_platform,
)
from rawhttp import Connection

MOST = 4 * 1024 * 1024
IMAGE = image("manifests", size=100)
OTHER = image("other manifests", size=100)
ABSENT = digest_of(b"pushed by nobody")
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


@pytest.fixture
def manifests(repository):
    """The path before a reference."""
    return f"/v2/{repository}/manifests/"


@pytest.fixture
def pushed(remote, repository):
    """The repository, with the blobs of two images in it."""
    for blob in (*IMAGE.blobs, *OTHER.blobs):
        remote.push_blob(repository, blob.data)
    return repository


def put(http: httpx.Client, path: str, manifest: Content, **headers: str) -> httpx.Response:
    """Headers are as given, with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.put(path, content=manifest.data, headers={"Content-Type": manifest.media_type, **named})


def is_stored(answer: httpx.Response, digest: str) -> None:
    assert answer.status_code == 201, answer.text
    assert answer.content == b""
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Location"].endswith(f"/manifests/{digest}")
    assert answer.headers["Location"].startswith("/v2/")


def document(top: Image, **changes: object) -> Content:
    """A manifest with some members changed; those that are None left out."""
    changed = {name: value for name, value in (top.manifest.json | changes).items() if value is not None}
    kind = changed.get("mediaType", top.manifest.media_type)
    return Content(str(kind), json.dumps(changed).encode())


def padded(size: int) -> Content:
    """A manifest of exactly so many bytes."""
    data = index().manifest.data
    return Content(OCI_INDEX, data + b" " * (size - len(data)))


# What is stored


@pytest.mark.parametrize(
    "top",
    [
        image("oci", flavour="oci", size=100),
        image("docker", flavour="docker", size=100),
        image("no layers", layers=0),
        multi_platform("index", flavour="oci", size=100),
        multi_platform("list", flavour="docker", size=100),
        index(multi_platform("nested", size=100), image("beside", size=100)),
        index(),
        artifact("artifact", "application/vnd.example.thing"),
    ],
    ids=["oci", "docker", "no layers", "index", "list", "nested index", "empty index", "artifact"],
)
def test_each_kind_of_manifest_is_pushed_by_tag_and_pulled_as_it_was(remote, repository, top):
    remote.push(repository, top, "latest")
    remote.holds(repository, top, "latest")


def test_an_artifact_whose_config_is_the_empty_object(http, remote, repository, manifests):
    """What oras and cosign push: the config is `{}`, the kind is in artifactType."""
    remote.push_blob(repository, b"{}")
    empty = {"mediaType": EMPTY_JSON, "digest": digest_of(b"{}"), "size": 2, "data": "e30="}
    manifest = document(
        IMAGE, artifactType="application/vnd.example.sbom", config=empty, layers=[empty], unknown={"kept": [1, 2.50]}
    )
    is_stored(put(http, manifests + "latest", manifest), manifest.digest)
    assert remote.manifest(repository, "latest") == manifest


@pytest.mark.parametrize(
    "data",
    [
        b'\n\t {"mediaType":"%(type)s"  ,\r\n"manifests" :[ ] , "schemaVersion":2}\n\n',
        b'{"schemaVersion":2,"manifests":[],"annotations":{"z":"\xc3\xa9\xf0\x9f\x90\xb3\\u00e9\\/","a":"\\ud83d\\udc33"}}',
        b'{"x-unknown":{"b":1,"a":[1.0,1e3,null,true]},"schemaVersion":2,"mediaType":"%(type)s","manifests":[]}',
        b'{"manifests":[],"schemaVersion":2,"mediaType":"%(type)s","annotations":{}}',
        b'{"schemaVersion":2,"mediaType":"%(type)s","manifests":null,"annotations":null,"subject":null}',
    ],
    ids=["whitespace", "unicode", "unknown members", "order of keys", "null as Go writes it"],
)
def test_a_manifest_is_kept_byte_for_byte(http, remote, repository, manifests, data):
    manifest = Content(OCI_INDEX, data.replace(b"%(type)s", OCI_INDEX.encode()))
    is_stored(put(http, manifests + "latest", manifest), manifest.digest)
    assert remote.manifest(repository, "latest") == manifest
    assert remote.manifest(repository, manifest.digest) == manifest


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_manifest_is_pushed_by_its_digest(http, remote, repository, manifests, algorithm):
    top = image("by digest", size=100, algorithm=algorithm)
    for blob in top.blobs:
        remote.push_blob(repository, blob.data, algorithm)
    is_stored(put(http, manifests + top.digest, top.manifest), top.digest)
    assert remote.manifest(repository, top.digest) == top.manifest
    assert remote.tags(repository) == []


def test_a_manifest_pushed_by_another_digest_than_its_own_is_400(http, pushed, manifests):
    for digest in ABSENT, "sha512:" + 128 * "0":
        error(put(http, manifests + digest, IMAGE.manifest), 400, "DIGEST_INVALID")
        error(http.get(manifests + digest), 404, "MANIFEST_UNKNOWN")


def test_a_tag_pushed_again_names_the_new_manifest_and_the_old_one_stays(http, remote, pushed, manifests):
    for top in IMAGE, OTHER:
        is_stored(put(http, manifests + "latest", top.manifest), top.digest)
        assert remote.digest(pushed, "latest") == top.digest
    assert remote.manifest(pushed, IMAGE.digest) == IMAGE.manifest


def test_the_subject_may_be_missing(http, remote, repository, manifests):
    """Referrers and what they refer to come in either order."""
    subject = Content(OCI_MANIFEST, b"pushed by nobody")
    top = artifact("dangling", "application/vnd.example.signature", subject=subject)
    remote.push(repository, top)
    assert remote.manifest(repository, top.digest) == top.manifest


# Several tags at once


def test_a_push_by_digest_sets_each_tag_it_lists(http, remote, pushed, manifests):
    """end-7b. The specification asks for at least ten."""
    tags = [f"1.{number}" for number in range(12)] + ["latest"]
    answer = http.put(
        manifests + IMAGE.digest,
        params=[("tag", tag) for tag in tags],
        content=IMAGE.manifest.data,
        headers={"Content-Type": OCI_MANIFEST},
    )
    is_stored(answer, IMAGE.digest)
    assert answer.headers.get_list("OCI-Tag") == tags
    assert remote.tags(pushed) == sorted(tags)
    for tag in tags:
        assert remote.digest(pushed, tag) == IMAGE.digest


def test_tags_work_with_sha512_too(http, remote, repository, manifests):
    digest = digest_of(index().manifest.data, "sha512")
    answer = put(http, f"{manifests}{digest}?tag=one&tag=two&tag=one", index().manifest)
    is_stored(answer, digest)
    assert answer.headers.get_list("OCI-Tag") == ["one", "two"]
    assert remote.digest(repository, "two") == digest


@pytest.mark.parametrize("wrong", ["", ".hidden", "-x", "a/b", "a:b", "a b", 129 * "a", "ä"])
def test_one_tag_that_is_none_refuses_the_whole_push(http, pushed, manifests, wrong):
    answer = http.put(manifests + IMAGE.digest, params={"tag": ["good", wrong]}, content=IMAGE.manifest.data)
    error(answer, 400, "TAG_INVALID")
    error(http.get(manifests + "good"), 404, "MANIFEST_UNKNOWN")
    error(http.get(manifests + IMAGE.digest), 404, "MANIFEST_UNKNOWN")


def test_a_push_by_tag_sets_that_tag_alone(http, remote, pushed, manifests):
    answer = put(http, manifests + "latest?tag=other", IMAGE.manifest)
    is_stored(answer, IMAGE.digest)
    assert "OCI-Tag" not in answer.headers
    assert remote.tags(pushed) == ["latest"]


# GET and HEAD


@pytest.fixture
def latest(http, pushed, manifests):
    """The path of a tag."""
    is_stored(put(http, manifests + "latest", IMAGE.manifest), IMAGE.digest)
    return manifests + "latest"


def test_head_is_get_without_the_bytes(http, latest):
    got, asked = http.get(latest), http.head(latest)
    assert asked.status_code == 200
    assert asked.content == b""
    assert {**asked.headers, "date": ""} == {**got.headers, "date": ""}
    assert asked.headers["Content-Length"] == str(len(IMAGE.manifest.data))


def test_a_manifest_comes_with_its_digest_its_tag_and_its_exact_type(http, latest):
    headers = http.get(latest).headers
    assert headers["Docker-Content-Digest"] == IMAGE.digest
    assert headers["ETag"] == f'"{IMAGE.digest}"'
    assert headers["Content-Type"] == OCI_MANIFEST


@pytest.mark.parametrize(
    "accept", [None, "*/*", "text/html", DOCKER_MANIFEST, f"{DOCKER_LIST}, {OCI_INDEX};q=0.5", "application/json"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_accept_changes_nothing(http, latest, method, accept):
    """There is one form of a manifest, and a digest that names it."""
    answer = http.request(method, latest, headers={"Accept": accept} if accept else {})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == OCI_MANIFEST
    assert answer.headers["Docker-Content-Digest"] == IMAGE.digest


def test_accept_on_many_lines_changes_nothing(http, latest):
    """docker sends one line for each type."""
    answer = http.get(latest, headers=[("Accept", OCI_INDEX), ("Accept", OCI_MANIFEST)])
    assert answer.content == IMAGE.manifest.data


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "known", [f'"{IMAGE.digest}"', IMAGE.digest, f'"{ABSENT}", "{IMAGE.digest}"', f'W/"{IMAGE.digest}"', "*"]
)
def test_a_manifest_that_the_client_has_is_304(http, latest, method, known):
    answer = http.request(method, latest, headers={"If-None-Match": known})
    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["ETag"] == f'"{IMAGE.digest}"'
    assert answer.headers["Docker-Content-Digest"] == IMAGE.digest


def test_a_manifest_that_the_client_has_not_is_sent(http, latest):
    assert http.get(latest, headers={"If-None-Match": f'"{OTHER.digest}"'}).content == IMAGE.manifest.data


@pytest.mark.parametrize("reference", ["latest", ABSENT])
def test_an_unknown_manifest_is_404_manifest_unknown_in_any_repository(http, latest, repository, reference):
    """podman takes any other code of a missing repository for a failure, where it looks for signatures."""
    for name in f"{repository}/other", "no/such/repository":
        path = f"/v2/{name}/manifests/{reference}"
        assert error(http.get(path), 404, "MANIFEST_UNKNOWN")["detail"] == {"name": name, "reference": reference}
        assert http.head(path).status_code == 404
        assert http.head(path).content == b""
        error(http.delete(path), 404, "MANIFEST_UNKNOWN")


def test_a_manifest_is_seen_only_in_its_repository(http, latest, repository):
    error(http.get(f"/v2/{repository}/other/manifests/{IMAGE.digest}"), 404, "MANIFEST_UNKNOWN")


# What a manifest needs


def test_every_missing_blob_is_named(http, remote, repository, manifests):
    """So that a client can mend all of them before it tries again."""
    top = image("missing", layers=3, size=100)
    remote.push_blob(repository, top.blobs[1].data)
    missing = [blob.digest for blob in top.blobs if blob is not top.blobs[1]]
    for reference in "latest", top.digest:
        answer = put(http, manifests + reference, top.manifest)
        error(answer, 400, "MANIFEST_BLOB_UNKNOWN")
        assert [entry["detail"]["digest"] for entry in answer.json()["errors"]] == missing
        error(http.get(manifests + reference), 404, "MANIFEST_UNKNOWN")


def test_every_missing_child_of_an_index_is_named(http, remote, repository, manifests):
    top = multi_platform("missing children", size=100)
    remote.push(repository, top.children[0])
    answer = put(http, manifests + "latest", top.manifest)
    error(answer, 400, "MANIFEST_BLOB_UNKNOWN")
    assert [entry["detail"]["digest"] for entry in answer.json()["errors"]] == [top.children[1].digest]


def test_a_blob_of_another_repository_is_missing(http, remote, repository, manifests):
    for blob in IMAGE.blobs:
        remote.push_blob(f"{repository}/other", blob.data)
    error(put(http, manifests + "latest", IMAGE.manifest), 400, "MANIFEST_BLOB_UNKNOWN")


@pytest.mark.parametrize("kind", [FOREIGN, NONDISTRIBUTABLE, "application/vnd.oci.image.layer.v1.tar"])
def test_a_layer_that_gives_addresses_need_not_be_there(http, pushed, manifests, kind):
    """Layers of Windows come from Microsoft, and may not be pushed elsewhere."""
    layer = {"mediaType": kind, "digest": ABSENT, "size": 7, "urls": ["https://elsewhere.example/layer"]}
    top = document(IMAGE, layers=[layer])
    is_stored(put(http, manifests + "latest", top), top.digest)


@pytest.mark.parametrize("kind", [FOREIGN, NONDISTRIBUTABLE])
def test_a_layer_whose_type_says_so_need_not_be_there(http, pushed, manifests, kind):
    top = document(IMAGE, layers=[{"mediaType": kind, "digest": ABSENT, "size": 7}])
    is_stored(put(http, manifests + "latest", top), top.digest)


def test_an_index_may_list_blobs_as_buildkit_caches_do(http, remote, repository, manifests):
    """Caches of BuildKit before 0.21 are an index of layers and a config that is no manifest."""
    entries = []
    for kind in "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.buildkit.cacheconfig.v0":
        data = kind.encode()
        remote.push_blob(repository, data)
        entries.append({"mediaType": kind, "digest": digest_of(data), "size": len(data)})
    top = document(index(), manifests=entries)
    is_stored(put(http, manifests + "cache", top), top.digest)
    top = document(index(), manifests=[*entries, {**entries[0], "digest": ABSENT}])
    error(put(http, manifests + "cache", top), 400, "MANIFEST_BLOB_UNKNOWN")


SPARSE = multi_platform("sparse", size=100)  # of amd64, which is pushed, and arm64, which is not


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"PLATFORMS": "all"}, 400),
        ({"PLATFORMS": "none"}, 201),
        ({"PLATFORMS": "list", "PLATFORMLIST": "[{architecture: amd64, os: linux}]"}, 201),
        ({"PLATFORMS": "list", "PLATFORMLIST": "[{architecture: arm64, os: linux}]"}, 400),
        ({"PLATFORMS": "list", "PLATFORMLIST": "[{architecture: arm64, os: windows}]"}, 201),
    ],
    ids=["all", "none", "list of what is there", "list of what is not", "list of something else"],
)
def test_an_index_may_lack_children_as_far_as_the_settings_say(serve, connect, settings, status):
    """validation.manifests.indexes.platforms, as registry:3 has it."""
    named = {f"REGISTRY_VALIDATION_MANIFESTS_INDEXES_{name}": value for name, value in settings.items()}
    remote = connect(serve(**named))
    remote.push("sparse", SPARSE.children[0])
    answer = put(remote.http, "/v2/sparse/manifests/latest", SPARSE.manifest)
    assert answer.status_code == status, answer.text
    if status == 400:
        error(answer, 400, "MANIFEST_BLOB_UNKNOWN")
        assert [entry["detail"]["digest"] for entry in answer.json()["errors"]] == [SPARSE.children[1].digest]
    else:
        assert remote.manifest("sparse", "latest") == SPARSE.manifest


def test_addresses_of_layers_are_allowed_and_denied_by_the_settings(serve, connect):
    """validation.manifests.urls, as registry:2 has it."""
    remote = connect(
        serve(
            REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW="['^https://[^/]+[.]example/']",
            REGISTRY_VALIDATION_MANIFESTS_URLS_DENY="['^https://bad[.]example/']",
        )
    )
    remote.push_blob("windows", IMAGE.config.data)
    for host, status in ("good.example", 201), ("bad.example", 400), ("other.test", 400):
        layer = {"mediaType": FOREIGN, "digest": ABSENT, "size": 7, "urls": [f"https://{host}/layer"]}
        answer = put(remote.http, "/v2/windows/manifests/latest", document(IMAGE, layers=[layer]))
        assert answer.status_code == status, host
        if status == 400:
            assert "validation.manifests.urls" in error(answer, 400, "MANIFEST_INVALID")["message"]


# What is no manifest


def test_a_manifest_of_exactly_4_mib_is_taken(http, remote, repository, manifests):
    manifest = padded(MOST)
    is_stored(put(http, manifests + "latest", manifest), manifest.digest)
    assert remote.manifest(repository, "latest") == manifest


@pytest.mark.parametrize("size", [MOST + 1, 3 * MOST])
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunked coding"])
def test_a_manifest_above_4_mib_is_413(http, manifests, size, chunked):
    data = padded(size).data
    body = (data[start : start + 65536] for start in range(0, size, 65536)) if chunked else data
    answer = http.put(manifests + "latest", content=body, headers={"Content-Type": OCI_INDEX})
    assert str(MOST) in error(answer, 413, "SIZE_INVALID")["message"]
    error(http.get(manifests + "latest"), 404, "MANIFEST_UNKNOWN")


SCHEMA_1 = {"schemaVersion": 1, "name": "x", "tag": "y", "architecture": "amd64", "fsLayers": [], "history": []}


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/json",
    ],
)
def test_schema_1_is_refused_with_the_way_out(http, manifests, kind):
    answer = put(http, manifests + "latest", Content(kind, json.dumps(SCHEMA_1).encode()))
    message = error(answer, 400, "MANIFEST_INVALID")["message"]
    assert "schema 1" in message
    assert "docker 1.10" in message
    assert "skopeo copy" in message


@pytest.mark.parametrize(
    "kind",
    [
        OCI_MANIFEST,
        f"{OCI_MANIFEST}; charset=utf-8",
        OCI_MANIFEST.upper(),
        "application/json",
        "application/octet-stream",
        "text/plain; charset=us-ascii",
        None,
    ],
)
def test_a_content_type_that_says_the_same_or_nothing_is_taken(http, remote, pushed, manifests, kind):
    """Parameters are ignored. The type that is given back is the manifest's own."""
    headers = {"Content-Type": kind} if kind else {}
    is_stored(http.put(manifests + "latest", content=IMAGE.manifest.data, headers=headers), IMAGE.digest)
    assert remote.manifest(pushed, "latest") == IMAGE.manifest


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, "text/html", "application/vnd.example+json"])
def test_a_content_type_that_says_something_else_is_400(http, pushed, manifests, kind):
    answer = put(http, manifests + "latest", Content(kind, IMAGE.manifest.data))
    message = error(answer, 400, "MANIFEST_INVALID")["message"]
    assert kind in message
    assert OCI_MANIFEST in message


def test_a_manifest_that_does_not_say_its_type_is_an_image_or_an_index_by_its_members(http, remote, pushed, manifests):
    """The specification allows mediaType to be missing."""
    for top, kind in (document(IMAGE, mediaType=None), OCI_MANIFEST), (document(index(), mediaType=None), OCI_INDEX):
        is_stored(put(http, manifests + "latest", Content("application/json", top.data)), top.digest)
        assert remote.manifest(pushed, "latest").media_type == kind


DESCRIPTOR = IMAGE.config.descriptor()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not JSON",
        b"null",
        b"[]",
        b"{}",
        b'{"schemaVersion":2',
        b'\xef\xbb\xbf{"schemaVersion":2,"manifests":[]}',
        b'{"schemaVersion":2,"manifests":[],"annotations":{"a":"\xff"}}',
        json.dumps({"schemaVersion": 3, "mediaType": OCI_INDEX, "manifests": []}).encode(),
        json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}).encode(),
        json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": []}).encode(),
        json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": DESCRIPTOR, "manifests": []}).encode(),
        json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "layers": [DESCRIPTOR], "manifests": []}).encode(),
        json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.example+json", "manifests": []}).encode(),
        json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {**DESCRIPTOR, "digest": "sha256:x"}}
        ).encode(),
        json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {**DESCRIPTOR, "size": -1}}).encode(),
        json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {**DESCRIPTOR, "size": "7"}}).encode(),
        json.dumps({"schemaVersion": "2", "mediaType": OCI_INDEX, "manifests": []}).encode(),
        json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"a": 1}}).encode(),
        b'{"schemaVersion":2,"manifests":[],"x":NaN}',
        b'{"schemaVersion":2,"manifests":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_manifest_is_400_and_not_stored(http, pushed, manifests, data):
    """An image that is an index as well would be one to some clients and the other to others (CVE-2021-41190)."""
    error(http.put(manifests + "latest", content=data), 400, "MANIFEST_INVALID")
    error(http.get(manifests + "latest"), 404, "MANIFEST_UNKNOWN")


# Conditions


def test_if_none_match_of_anything_creates_a_tag_only_where_there_is_none(http, remote, pushed, manifests):
    path = manifests + "latest"
    is_stored(put(http, path, IMAGE.manifest, If_None_Match="*"), IMAGE.digest)
    answer = put(http, path, OTHER.manifest, If_None_Match="*")
    assert error(answer, 412, "DENIED")["detail"] == {"reference": "latest", "current": IMAGE.digest}
    assert remote.digest(pushed, "latest") == IMAGE.digest
    error(http.get(manifests + OTHER.digest), 404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("quoted", ['"{}"', "{}"])
def test_if_match_replaces_only_what_the_client_has_seen(http, remote, pushed, manifests, quoted):
    """What two writers of one fallback tag need, so that none overwrites what the other added."""
    path = manifests + "latest"
    error(put(http, path, IMAGE.manifest, If_Match=quoted.format(IMAGE.digest)), 412, "DENIED")
    error(put(http, path, IMAGE.manifest, If_Match="*"), 412, "DENIED")
    error(http.get(path), 404, "MANIFEST_UNKNOWN")
    is_stored(put(http, path, IMAGE.manifest), IMAGE.digest)
    error(put(http, path, OTHER.manifest, If_Match=quoted.format(OTHER.digest)), 412, "DENIED")
    assert remote.digest(pushed, "latest") == IMAGE.digest
    is_stored(put(http, path, OTHER.manifest, If_Match=quoted.format(IMAGE.digest)), OTHER.digest)
    assert remote.digest(pushed, "latest") == OTHER.digest


def test_conditions_on_a_push_by_digest_are_on_its_first_tag(http, remote, pushed, manifests):
    path = f"{manifests}{IMAGE.digest}?tag=one&tag=two"
    is_stored(put(http, path, IMAGE.manifest, If_None_Match="*"), IMAGE.digest)
    error(put(http, path, IMAGE.manifest, If_None_Match="*"), 412, "DENIED")
    is_stored(put(http, f"{manifests}{IMAGE.digest}?tag=three", IMAGE.manifest, If_None_Match="*"), IMAGE.digest)
    assert remote.tags(pushed) == ["one", "three", "two"]


def test_conditions_on_a_push_by_digest_without_tags_are_on_the_digest(http, pushed, manifests):
    path = manifests + IMAGE.digest
    is_stored(put(http, path, IMAGE.manifest, If_None_Match="*"), IMAGE.digest)
    error(put(http, path, IMAGE.manifest, If_None_Match="*"), 412, "DENIED")
    is_stored(put(http, path, IMAGE.manifest, If_Match=f'"{IMAGE.digest}"'), IMAGE.digest)


def test_conditions_may_be_listed_on_several_lines(http, pushed, manifests):
    """RFC 9110 section 5.3."""
    path = manifests + "latest"
    is_stored(put(http, path, IMAGE.manifest), IMAGE.digest)
    lines = [("Content-Type", OCI_MANIFEST), ("If-Match", f'"{ABSENT}"'), ("If-Match", f'"{IMAGE.digest}"')]
    is_stored(http.put(path, content=OTHER.manifest.data, headers=lines), OTHER.digest)


@pytest.mark.parametrize("tags", ["", "?tag=first&tag=second"])
def test_of_many_that_create_one_tag_at_once_one_wins(shared_server, remote, repository, manifests, tags):
    tops = [index(annotations={"number": str(number)}) for number in range(8)]
    together = threading.Barrier(len(tops))

    def create(top: Image) -> int:
        reference = top.digest + tags if tags else "first"
        with httpx.Client(base_url=shared_server.url, timeout=30, trust_env=False) as http:
            http.get("/v2/")
            together.wait(10)
            return put(http, manifests + reference, top.manifest, If_None_Match="*").status_code

    with ThreadPoolExecutor(len(tops)) as pool:
        statuses = list(pool.map(create, tops))
    assert sorted(statuses) == [201, *[412] * 7]
    winner = tops[statuses.index(201)]
    for tag in remote.tags(repository):
        assert remote.digest(repository, tag) == winner.digest


def test_of_many_that_change_one_tag_at_once_by_if_match_none_is_lost(shared_server, remote, repository, manifests):
    """Eight clients each add an entry to one index, the way cosign adds attestations to a tag."""
    remote.push(repository, index(annotations={"0": ""}), "list")

    def add(number: int) -> None:
        with httpx.Client(base_url=shared_server.url, timeout=30, trust_env=False) as http:
            for _ in range(100):
                current = http.get(manifests + "list")
                top = index(annotations={**current.json()["annotations"], str(number): ""})
                if put(http, manifests + "list", top.manifest, If_Match=current.headers["ETag"]).status_code == 201:
                    return
        raise AssertionError("never won")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(1, 9)))
    assert remote.manifest(repository, "list").json["annotations"].keys() == set("012345678")


# DELETE


def test_delete_by_digest_takes_its_tags_along_and_no_other(http, remote, pushed, manifests):
    for reference in "one", "two":
        put(http, manifests + reference, IMAGE.manifest)
    put(http, manifests + "other", OTHER.manifest)
    answer = http.delete(manifests + IMAGE.digest)
    assert (answer.status_code, answer.content) == (202, b"")
    for reference in "one", "two", IMAGE.digest:
        for method in "GET", "HEAD", "DELETE":
            assert http.request(method, manifests + reference).status_code == 404
    assert remote.tags(pushed) == ["other"]
    assert remote.manifest(pushed, "other") == OTHER.manifest


def test_delete_by_tag_leaves_the_manifest_and_its_other_tags(http, remote, pushed, manifests):
    for reference in "one", "two":
        put(http, manifests + reference, IMAGE.manifest)
    assert http.delete(manifests + "one").status_code == 202
    for method in "GET", "HEAD", "DELETE":
        assert http.request(method, manifests + "one").status_code == 404
    assert remote.tags(pushed) == ["two"]
    assert remote.digest(pushed, "two") == IMAGE.digest
    assert remote.manifest(pushed, IMAGE.digest) == IMAGE.manifest


def test_delete_leaves_the_blobs_and_an_index_its_children(http, remote, repository, manifests):
    top = multi_platform("deleted", size=100)
    remote.push(repository, top, "latest")
    remote.delete_manifest(repository, top.digest)
    for child in top.children:
        remote.holds(repository, child)


def test_delete_in_one_repository_leaves_the_others(remote, repository):
    for name in repository, f"{repository}/other":
        remote.push(name, IMAGE, "latest")
    remote.delete_manifest(repository, IMAGE.digest)
    remote.holds(f"{repository}/other", IMAGE, "latest")


def test_a_deleted_manifest_can_be_pushed_again(remote, repository):
    for _ in range(2):
        remote.push(repository, IMAGE, "latest")
        remote.holds(repository, IMAGE, "latest")
        remote.delete_manifest(repository, IMAGE.digest)
    assert not remote.has_manifest(repository, "latest")


def test_if_match_deletes_only_what_the_client_has_seen(http, remote, pushed, manifests):
    """RFC 9110 section 13.1.1: so that a clean-up does not take away a tag that was pushed again meanwhile."""
    put(http, manifests + "latest", IMAGE.manifest)
    answer = http.delete(manifests + "latest", headers={"If-Match": f'"{OTHER.digest}"'})
    error(answer, 412, "DENIED")
    assert remote.digest(pushed, "latest") == IMAGE.digest


def test_a_push_of_which_the_end_never_came_leaves_the_tag_as_it_was(shared_server, remote, pushed, manifests, http):
    put(http, manifests + "latest", IMAGE.manifest)
    with Connection(shared_server) as connection:
        data = OTHER.manifest.data
        connection.request("PUT", manifests + "latest", data[:-1], Content_Length=len(data))
        connection.half_close()
        assert connection.is_closed_by_server()
    assert remote.digest(pushed, "latest") == IMAGE.digest
