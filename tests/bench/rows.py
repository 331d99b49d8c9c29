"""The table of rows: what each measures, on which kind of server."""

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

import bulk
import trees
import work
from results import Result
from source import MIB, Amounts
from work import Manifests, Work

Make = Callable[[trees.Tree, Amounts], None]


@dataclass(frozen=True)
class Group:
    """Rows that share one life of a server, in this order. `tree`: what is on its disk before it starts."""

    name: str
    tree: Make | None = None
    tls: bool = False
    htpasswd: bool = False


@dataclass(frozen=True)
class Row:
    """`title` has places for what there is how much of. Numbers of the ceiling are the client's own, see responder."""

    name: str
    title: str
    unit: str
    do: Callable[[Work], Result]
    group: Group
    has_ceiling: bool = False

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")

    def text(self, amounts: Amounts) -> str:
        sizes = {"size": size(amounts.size), "quarter": size(amounts.quarter), "layer": size(amounts.layer)}
        sizes["part"] = size(min(MIB, amounts.size // 2))
        return self.title.format(
            **sizes, **{name: f"{count:,}" for name, count in vars(amounts).items() if name != "size"}
        )


def size(count: int) -> str:
    """1 GiB, 256 MiB, 64 KiB: whole where it is."""
    for unit, bytes_of in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= bytes_of:
            return f"{count / bytes_of:.3g} {unit}"
    return f"{count} B"


_PUSH_PUT, _PUSH_PATCH, _CHUNKED, _PUSH_4 = (Group(f"push{number}") for number in range(4))
_PULL, _IMAGE, _SMALL, _MANIFESTS = Group("pull"), Group("image"), Group("small"), Group("manifests")
_BESIDE, _IDLE, _EMPTY = Group("beside"), Group("idle"), Group("empty")
_TAGS, _REFERRERS = Group("tags", trees.with_tags), Group("referrers", trees.with_referrers)
_REPOSITORIES = Group("repositories", trees.with_repositories)
_TLS, _HTPASSWD = Group("tls", tls=True), Group("htpasswd", htpasswd=True)

_GET_16 = Manifests("GET", 16, by_tag=True)


def _manifests() -> list[Row]:
    return [
        Row(
            f"{method.lower()}-{kind}-{connections}",
            f"manifest {method} by {kind}, {connections} connection{'s' * (connections > 1)}",
            "req/s",
            Manifests(method, connections, by_tag=kind == "tag"),
            _MANIFESTS,
            has_ceiling=method == "GET" and kind == "tag",
        )
        for method in ("GET", "HEAD")
        for kind in ("tag", "digest")
        for connections in (1, 16, 256)
    ]


ROWS = (
    Row("push-put", "push {size}, POST and PUT (containerd)", "MB/s", bulk.push_put, _PUSH_PUT, has_ceiling=True),
    Row("push-patch", "push {size}, PATCH with Content-Length", "MB/s", bulk.push_patch, _PUSH_PATCH, has_ceiling=True),
    Row("push-chunked", "push {size}, PATCH in chunks (docker)", "MB/s", bulk.push_chunked, _CHUNKED, has_ceiling=True),
    Row("push-4", "4 pushes at once of {quarter}, in chunks", "MB/s", bulk.push_four, _PUSH_4, has_ceiling=True),
    Row("pull", "pull {size}", "MB/s", bulk.pull, _PULL, has_ceiling=True),
    Row("pull-16", "16 pulls at once of {quarter}", "MB/s", bulk.pull_sixteen, _PULL, has_ceiling=True),
    Row("ranges", "{ranges} ranges of {part}, 4 connections", "MB/s", bulk.ranges, _PULL, has_ceiling=True),
    Row("image-push", "push an image of {layers} layers of {layer}", "s", bulk.image_push, _IMAGE, has_ceiling=True),
    Row("image-pull", "pull an image of {layers} layers of {layer}", "s", bulk.image_pull, _IMAGE, has_ceiling=True),
    Row("small-push", "push {blobs} blobs of 4 KiB, 5 at once", "blobs/s", bulk.small_push, _SMALL, has_ceiling=True),
    Row("small-pull", "pull {blobs} blobs of 4 KiB, 3 at once", "blobs/s", bulk.small_pull, _SMALL, has_ceiling=True),
    *_manifests(),
    Row("beside-bulk", "p99 of manifest GET (16) beside push and pull", "ms", bulk.beside_bulk, _BESIDE),
    Row("tags", "tags/list, {tags} tags", "req/s", work.tags, _TAGS),
    Row("catalog-first", "catalog, {repositories} repositories, first 100", "req/s", work.catalog_first, _REPOSITORIES),
    Row("catalog-deep", "catalog, {repositories} repositories, deep page", "req/s", work.catalog_deep, _REPOSITORIES),
    Row("referrers", "referrers, {referrers} of one image", "req/s", work.referrers, _REFERRERS),
    Row("start", "start on an empty volume", "s", work.start, _EMPTY),
    Row("start-full", "start with {repositories} repositories", "s", work.start, _REPOSITORIES),
    Row("idle", "memory with {idle} idle connections", "MiB", work.idle, _IDLE),
    Row("tls-push", "TLS: push {size}, POST and PUT", "MB/s", bulk.push_put, _TLS, has_ceiling=True),
    Row("tls-pull", "TLS: pull {size}", "MB/s", bulk.pull, _TLS, has_ceiling=True),
    Row("tls-get-16", "TLS: manifest GET by tag, 16 connections", "req/s", _GET_16, _TLS),
    Row("htpasswd-get-16", "htpasswd: manifest GET by tag, 16 connections", "req/s", _GET_16, _HTPASSWD),
)  # fmt: skip


def chosen(patterns: str) -> list[Row]:
    """Rows whose name one of the patterns matches: `push-*,catalog-*`. Raises ValueError where one matches none."""
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    for pattern in wanted:
        if not any(fnmatch.fnmatchcase(row.name, pattern) for row in ROWS):
            raise ValueError(f"no row is called {pattern!r}; there are: {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if not wanted or any(fnmatch.fnmatchcase(row.name, pattern) for pattern in wanted)]
