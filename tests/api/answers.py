"""What answers must have in common."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
from rawhttp import Answer

API_VERSION = "Docker-Distribution-Api-Version"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def error(answer: httpx.Response | Answer, status: int, code: str) -> dict[str, Any]:
    """The first error of an answer that must be an error as the specification writes it."""
    assert answer.status_code == status, f"{answer.status_code}, wanted {status}: {answer.content[:500]!r}"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers[API_VERSION] == "registry/2.0"
    document = answer.json()
    assert document.keys() == {"errors"}
    assert document["errors"]
    for entry in document["errors"]:
        assert entry.keys() == {"code", "message", "detail"}
        assert entry["code"] == code, entry
        assert entry["message"]
    first = document["errors"][0]
    assert isinstance(first, dict)
    return first


def pages(http: httpx.Client, path: str, **query: str | int) -> Iterator[httpx.Response]:
    """This page and all that `Link` leads to; a link that leads nowhere new fails."""
    address: str | None = str(httpx.URL(path).copy_merge_params(query))
    seen = set()
    while address is not None:
        assert address not in seen, f"{address} again"
        seen.add(address)
        answer = http.get(address)
        assert answer.status_code == 200, answer.text
        yield answer
        address = next_page(answer)


def next_page(answer: httpx.Response) -> str | None:
    """The path in an answer's `Link`, which names no host."""
    if "Link" not in answer.headers:
        return None
    assert answer.headers["Link"].endswith('; rel="next"')
    path = answer.links["next"]["url"]
    assert path.startswith("/v2/")
    return path


def are_sorted_without_doubles(names: list[str]) -> bool:
    """Whether names stand in the order of their bytes, each once."""
    return all(one.encode() < other.encode() for one, other in pairwise(names))
