"""end-1, `/`, and what every answer carries."""

import pytest
from answers import API_VERSION
from images import digest_of

ABSENT = digest_of(b"pushed by nobody")


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_v2_answers_an_empty_object_with_and_without_its_last_slash(http, path):
    answer = http.get(path)
    assert answer.status_code == 200
    assert answer.json() == {}
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers[API_VERSION] == "registry/2.0"


def test_head_of_v2_is_its_get_without_the_body(http):
    """`wget --spider`, which health checks use, asks with HEAD."""
    answer = http.head("/v2/")
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(len(http.get("/v2/").content))
    assert answer.content == b""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_root_answers_200_and_nothing_for_health_checks(http, method):
    answer = http.request(method, "/")
    assert (answer.status_code, answer.content) == (200, b"")


def test_every_answer_names_the_api_version_once(http, remote, repository):
    """Old docker engines look for it, on errors too."""
    digest = remote.push_blob(repository, b"0123456789")
    blob = f"/v2/{repository}/blobs/{digest}"
    answers = [
        http.get("/v2/"),
        http.get(blob),
        http.get(blob, headers={"Range": "bytes=0-3"}),
        http.get(blob, headers={"If-None-Match": f'"{digest}"'}),
        http.get("/v2/UPPER/tags/list"),
        http.get(f"/v2/{repository}/blobs/{ABSENT}"),
        http.get("/v2/nowhere"),
        http.post("/v2/"),
        http.get(blob, headers={"Range": "bytes=10-"}),
        http.post(f"/v2/{repository}/blobs/uploads/"),
        http.options(blob),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 206, 304, 400, 404, 404, 405, 416, 202, 204]
    for answer in answers:
        assert answer.headers.get_list(API_VERSION) == ["registry/2.0"], answer.request.url


def test_options_tells_the_methods_of_a_path(http, repository):
    """Browsers ask before they send headers of their own; the settings add what CORS needs."""
    answer = http.options(f"/v2/{repository}/manifests/latest")
    assert answer.status_code == 204
    assert answer.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, PUT"


def test_the_usual_header_against_content_sniffing_is_on_every_answer(http):
    """registry:2's own file sets it."""
    assert http.get("/v2/").headers["X-Content-Type-Options"] == "nosniff"
    assert http.get("/v2/nowhere").headers["X-Content-Type-Options"] == "nosniff"
