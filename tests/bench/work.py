"""What every row gets to work with, and the rows of small requests: manifests, lists, connections."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass

import load
from processes import Meter, memory_mib
from results import Result
from source import INDEX, MANIFEST, Amounts, Source, digest_of
from transfer import Answer, Connection, Target, path_of, with_digest
from trees import repository_name, subject

_ACCEPT = (
    f"Accept: {MANIFEST}, {INDEX}, application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
_APP = "bench/app"


@dataclass(frozen=True)
class Work:
    """One row on one server in one round."""

    target: Target
    source: Source
    amounts: Amounts
    is_first: bool = False
    """In the first round: what is pulled is checked, outside of what is timed."""
    start_seconds: float = 0.0
    start_cpu: float = 0.0

    def meter(self) -> Meter:
        return Meter(self.target.pid)


def warm_up(connection: Connection) -> None:
    """A push and a pull of a few bytes: no row is about the first request that a process ever gets."""
    data = b"warm up"
    answer = connection.ask("POST", "/v2/bench/warm/blobs/uploads/", expect=(202,))
    connection.ask("PUT", with_digest(answer.headers["location"], digest_of(data)), body=data, expect=(201,))
    connection.ask("GET", f"/v2/bench/warm/blobs/{digest_of(data)}", expect=(200,))


# Manifests


def app_request(target: Target, method: str, reference: str) -> bytes:
    return target.request(method, f"/v2/{_APP}/manifests/{reference}", _ACCEPT)


def ensure_app(work: Work) -> None:
    """Push a small image unless it is there."""
    app, blobs = work.source.app, [work.source.bytes_of(layer) for layer in work.source.app.layers]
    with Connection(work.target) as connection:
        path = f"/v2/{_APP}/manifests/latest"
        if connection.ask("HEAD", path, _ACCEPT, expect=(200, 404)).status == 200:
            return
        for data in (app.config, *blobs):
            location = connection.ask("POST", f"/v2/{_APP}/blobs/uploads/", expect=(202,)).headers["location"]
            connection.ask("PUT", with_digest(location, digest_of(data)), body=data, expect=(201,))
        connection.ask("PUT", path, f"Content-Type: {MANIFEST}", body=app.manifest, expect=(201,))
        if connection.ask("GET", path, _ACCEPT, expect=(200,)).body != app.manifest:
            raise ValueError("the manifest that came is not the one that was pushed")


class Manifests:
    """GET or HEAD of one manifest, over and over, on so many connections."""

    def __init__(self, method: str, connections: int, *, by_tag: bool) -> None:
        self._method, self._connections, self._by_tag = method, connections, by_tag

    def __call__(self, work: Work) -> Result:
        ensure_app(work)
        reference = "latest" if self._by_tag else work.source.app.digest
        return _sampled(work, [app_request(work.target, self._method, reference)], self._connections)


def _sampled(work: Work, requests: Sequence[bytes], connections: int) -> Result:
    load.run(work.target, requests, connections, min(0.3, work.amounts.seconds))
    with work.meter() as meter:
        sample = load.run(work.target, requests, connections, work.amounts.seconds)
    return Result.sampled(meter, sample)


# Lists, of trees that were there before the server was started


def _listed(work: Work, path: str, key: str, most: int | None = None) -> tuple[list[str], float]:
    """The names on all pages, or on those up to `most` names, and the seconds that the first page took."""
    names: list[str] = []
    first = 0.0
    with Connection(work.target) as connection:
        while path and (most is None or len(names) < most):
            with work.meter() as meter:
                answer = connection.ask("GET", path, expect=(200,))
            first = first or meter.seconds
            names += [entry["digest"] if isinstance(entry, dict) else entry for entry in answer.json()[key] or []]
            path = _next_page(answer)
    return names, first


def _next_page(answer: Answer) -> str:
    link = answer.headers.get("link", "")
    return path_of(link[link.index("<") + 1 : link.index(">")]) if "<" in link else ""


def _listing(work: Work, path: str, first: float) -> Result:
    """Requests one after the other. `first` is what the first one took, before anything was remembered."""
    with work.meter() as meter:
        sample = load.run(work.target, [work.target.request("GET", path)], 1, work.amounts.seconds)
    return Result.sampled(meter, sample, first=first)


def _must_be(found: int, due: int, what: str) -> None:
    if found != due:
        raise ValueError(f"{found} {what} in the list, not {due}")


def tags(work: Work) -> Result:
    path = "/v2/bench/tags/tags/list"
    names, first = _listed(work, path, "tags")
    _must_be(len(set(names)), work.amounts.tags, "tags")
    return _listing(work, path, first)


def catalog_first(work: Work) -> Result:
    return _catalog(work, "/v2/_catalog?n=100", 0)


def catalog_deep(work: Work) -> Result:
    after = work.amounts.repositories * 9 // 10
    return _catalog(work, f"/v2/_catalog?n=100&last={repository_name(after)}", after + 1)


def _catalog(work: Work, path: str, begin: int) -> Result:
    names, first = _listed(work, path, "repositories", 1)
    due = [repository_name(number) for number in range(begin, min(begin + 100, work.amounts.repositories))]
    if names != due:
        raise ValueError(f"the page begins with {names[:1]} and has {len(names)} names, not {due[:1]} and {len(due)}")
    return _listing(work, path, first)


def referrers(work: Work) -> Result:
    path = f"/v2/bench/referrers/referrers/{digest_of(subject())}"
    with Connection(work.target) as connection:
        # Of another image: a list that it has made once it may remember.
        asked = connection.ask("GET", path[:-64] + "0" * 64, expect=(200, 404))
    if asked.status == 404:
        raise NotImplementedError("no such endpoint")
    found, first = _listed(work, path, "manifests")
    _must_be(len(set(found)), work.amounts.referrers, "referrers")
    return _listing(work, path, first)


# The process


def start(work: Work) -> Result:
    """The server was started for this row; all that it does is to say how long that took."""
    if work.target.pid is None:
        raise NotImplementedError("runs already")
    return Result(work.start_seconds, work.start_seconds, work.start_cpu)


def idle(work: Work) -> Result:
    """What it holds in memory while many clients that have asked once keep their connections."""
    if work.target.pid is None:
        raise NotImplementedError("its memory is not ours to see")
    connections = []
    request = work.target.request("GET", "/v2/")
    with work.meter() as meter:
        for _ in range(work.amounts.idle):
            connection = work.target.connect()
            connection.sendall(request)
            if connection.recv(4096)[9:12] != b"200":
                raise ValueError("not a 200 for /v2/")
            connections.append(connection)
        held = memory_mib(work.target.pid, "VmRSS")
    for connection in connections:
        connection.close()
    return Result(held, meter.seconds, meter.cpu, meter.client_cpu)


def allow_many_files() -> None:
    """As many open connections as this user may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
