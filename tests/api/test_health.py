"""`/healthz` and `/readyz`: alive is not ready."""

import time

import httpx


def until(url: str, status: int) -> httpx.Response:
    end = time.monotonic() + 15
    while (answer := httpx.get(f"{url}/readyz")).status_code != status:
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)
    return answer


def test_a_registry_that_serves_is_alive_and_ready(http):
    assert http.get("/healthz").json() == {"status": "alive"}
    assert http.get("/readyz").json() == {"status": "ready"}


def test_a_vanished_root_is_not_ready_but_alive_and_ready_again_when_it_is_back(serve, tmp_path):
    server = serve()
    (tmp_path / "data").rename(tmp_path / "away")

    answer = until(server.url, 503)

    assert answer.json()["errors"][0]["code"] == "UNAVAILABLE"
    assert str(tmp_path) not in answer.text, "a stranger hears no path"
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    (tmp_path / "away").rename(tmp_path / "data")
    until(server.url, 200)


def test_too_little_free_space_is_not_ready(serve):
    server = serve(REGISTRY_STORAGE_FILESYSTEM_MINFREESPACE="1000000TiB")
    until(server.url, 503)
    assert httpx.get(f"{server.url}/healthz").status_code == 200
