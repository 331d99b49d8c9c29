"""Work with large bodies and whole images, as docker and containerd do it."""

import ctypes
import hashlib
import mmap
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import load
from processes import Job
from results import Result
from source import MANIFEST, MIB, Image, Piece, Source, digest_of
from transfer import Connection, Target, path_of, with_digest
from work import Work, app_request, ensure_app, warm_up

REPOSITORY = "bench/bulk"
_BINARY = "Content-Type: application/octet-stream"
_CHUNKED = "Transfer-Encoding: chunked"
_PUSHERS, _PULLERS = 5, 3  # docker's own numbers
_WINDOWS = 20  # a window as short as a test asks for may miss what is between two chunks

Push = Callable[[Connection, Source, Piece, str], None]


# Pushes of one blob


def _begin(connection: Connection, repository: str) -> str:
    return connection.ask("POST", f"/v2/{repository}/blobs/uploads/", expect=(202,)).headers["location"]


def _finish(connection: Connection, location: str, piece: Piece) -> None:
    connection.ask("PUT", with_digest(location, piece.digest), expect=(201,))


def by_put(connection: Connection, source: Source, piece: Piece, repository: str = REPOSITORY) -> None:
    """POST, PUT with the body: containerd, oras."""
    location = with_digest(_begin(connection, repository), piece.digest)
    head = connection.target.request("PUT", location, _BINARY, length=piece.size)
    connection.send_file(head, source.file, piece.start, piece.size)
    connection.answer("PUT", (201,))


def by_patch(connection: Connection, source: Source, piece: Piece, repository: str = REPOSITORY) -> None:
    """POST, PATCH with a Content-Length, PUT."""
    location = path_of(_begin(connection, repository))
    head = connection.target.request("PATCH", location, _BINARY, length=piece.size)
    connection.send_file(head, source.file, piece.start, piece.size)
    _finish(connection, connection.answer("PATCH", (202,)).headers["location"], piece)


def by_chunks(connection: Connection, source: Source, piece: Piece, repository: str = REPOSITORY) -> None:
    """POST, PATCH in chunked coding, PUT: docker."""
    location = path_of(_begin(connection, repository))
    head = connection.target.request("PATCH", location, _BINARY, _CHUNKED)
    connection.send_chunked(head, source.content, piece.start, piece.size)
    _finish(connection, connection.answer("PATCH", (202,)).headers["location"], piece)


def push(work: Work, how: Push) -> Result:
    with Connection(work.target) as connection:
        warm_up(connection)
        with work.meter() as meter:
            how(connection, work.source, work.source.whole, REPOSITORY)
    return Result.bulk(meter, work.source.whole.size)


def push_put(work: Work) -> Result:
    return push(work, by_put)


def push_patch(work: Work) -> Result:
    return push(work, by_patch)


def push_chunked(work: Work) -> Result:
    return push(work, by_chunks)


def push_four(work: Work) -> Result:
    """Each from a process of its own."""
    with Connection(work.target) as connection:
        warm_up(connection)
    with work.meter() as meter:
        jobs = [Job(_push_alone, work.target, work.source, piece) for piece in work.source.quarters]
        for job in jobs:
            job.result()
    return Result.bulk(meter, sum(piece.size for piece in work.source.quarters))


def _push_alone(target: Target, source: Source, piece: Piece) -> None:
    with Connection(target) as connection:
        by_chunks(connection, source, piece)


# Pulls of one blob


def _path(piece: Piece, repository: str = REPOSITORY) -> str:
    return f"/v2/{repository}/blobs/{piece.digest}"


def ensure(work: Work, piece: Piece) -> None:
    """Push the blob unless it is there; in the first round, pull it and check its bytes."""
    with Connection(work.target) as connection:
        if connection.ask("HEAD", _path(piece), expect=(200, 404)).status == 404:
            by_put(connection, work.source, piece)
        if work.is_first:
            connection.socket.sendall(work.target.request("GET", _path(piece)))
            hasher = hashlib.sha256()
            connection.read(connection.head((200,)).size, hasher)
            if "sha256:" + hasher.hexdigest() != piece.digest:
                raise ValueError("the blob that came is not the one that was pushed")


def fetch(connection: Connection, path: str, *headers: str, size: int, status: int = 200) -> None:
    connection.socket.sendall(connection.target.request("GET", path, *headers))
    coming = connection.head((status,)).size
    if coming != size:
        raise ValueError(f"{coming} bytes are coming, not {size}")
    connection.discard(size)


def pull(work: Work) -> Result:
    whole = work.source.whole
    ensure(work, whole)
    with Connection(work.target) as connection:
        warm_up(connection)
        with work.meter() as meter:
            fetch(connection, _path(whole), size=whole.size)
    return Result.bulk(meter, whole.size)


def pull_sixteen(work: Work) -> Result:
    piece = work.source.quarters[0]
    ensure(work, piece)
    with work.meter() as meter:
        in_parallel(work.target, 16, [piece] * 16, lambda connection, each: _fetch_blob(connection, each, REPOSITORY))
    return Result.bulk(meter, 16 * piece.size)


def _fetch_blob(connection: Connection, piece: Piece, repository: str) -> None:
    fetch(connection, _path(piece, repository), size=piece.size)


def ranges(work: Work) -> Result:
    """From four connections; the offsets are the same in every round and for every server."""
    whole, dice = work.source.whole, random.Random("ranges")
    ensure(work, whole)
    size = min(MIB, whole.size // 2)
    offsets = [dice.randrange(whole.size - size) for _ in range(work.amounts.ranges)]

    def part(connection: Connection, offset: int) -> None:
        fetch(connection, _path(whole), f"Range: bytes={offset}-{offset + size - 1}", size=size, status=206)

    with work.meter() as meter:
        in_parallel(work.target, 4, offsets, part)
    return Result.bulk(meter, size * len(offsets))


def in_parallel(target: Target, count: int, items: Iterable[Any], do: Callable[[Connection, Any], None]) -> None:
    """`do` each item on one of `count` connections, each with a thread, which mostly waits in the kernel."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    failures: list[Exception] = []

    def run() -> None:
        try:
            with Connection(target) as connection:
                while not failures:
                    do(connection, waiting.get_nowait())
        except queue.Empty:
            return
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# Images


def _push_layer(connection: Connection, source: Source, piece: Piece, repository: str) -> None:
    """docker asks before, and makes sure afterwards."""
    connection.ask("HEAD", _path(piece, repository), expect=(200, 404))
    by_chunks(connection, source, piece, repository)
    connection.ask("HEAD", _path(piece, repository), expect=(200,))


def push_image(target: Target, source: Source, image: Image, repository: str) -> None:
    def layer(connection: Connection, piece: Piece) -> None:
        _push_layer(connection, source, piece, repository)

    in_parallel(target, _PUSHERS, image.layers, layer)
    with Connection(target) as connection:
        location = with_digest(_begin(connection, repository), digest_of(image.config))
        connection.ask("PUT", location, _BINARY, body=image.config, expect=(201,))
        path = f"/v2/{repository}/manifests/latest"
        connection.ask("PUT", path, f"Content-Type: {MANIFEST}", body=image.manifest, expect=(201,))


def pull_image(target: Target, image: Image, repository: str) -> None:
    with Connection(target) as connection:
        path = f"/v2/{repository}/manifests/"
        connection.ask("HEAD", path + "latest", f"Accept: {MANIFEST}", expect=(200,))
        answer = connection.ask("GET", path + image.digest, f"Accept: {MANIFEST}", expect=(200,))
        if answer.body != image.manifest:
            raise ValueError("the manifest that came is not the one that was pushed")
        connection.ask("GET", f"/v2/{repository}/blobs/{digest_of(image.config)}", expect=(200,))
    in_parallel(target, _PULLERS, image.layers, lambda connection, piece: _fetch_blob(connection, piece, repository))


def image_push(work: Work) -> Result:
    with Connection(work.target) as connection:
        warm_up(connection)
    with work.meter() as meter:
        for number, image in enumerate(work.source.images):
            push_image(work.target, work.source, image, f"bench/image{number}")
    return Result.each(meter, len(work.source.images))


def image_pull(work: Work) -> Result:
    for number, image in enumerate(work.source.images):
        with Connection(work.target) as connection:
            path = f"/v2/bench/image{number}/manifests/latest"
            known = connection.ask("HEAD", path, f"Accept: {MANIFEST}", expect=(200, 404)).status == 200
        if not known:
            push_image(work.target, work.source, image, f"bench/image{number}")
    with work.meter() as meter:
        for number, image in enumerate(work.source.images):
            pull_image(work.target, image, f"bench/image{number}")
    return Result.each(meter, len(work.source.images))


# Small blobs


def _push_small(work: Work) -> None:
    def blob(connection: Connection, piece: Piece) -> None:
        location = with_digest(_begin(connection, "bench/small"), piece.digest)
        connection.ask("PUT", location, _BINARY, body=work.source.bytes_of(piece), expect=(201,))

    in_parallel(work.target, _PUSHERS, work.source.small, blob)


def small_push(work: Work) -> Result:
    with Connection(work.target) as connection:
        warm_up(connection)
    with work.meter() as meter:
        _push_small(work)
    return Result.rate(meter, len(work.source.small))


def small_pull(work: Work) -> Result:
    paths = [_path(piece, "bench/small") for piece in work.source.small]
    with Connection(work.target) as connection:
        known = connection.ask("HEAD", paths[-1], expect=(200, 404)).status == 200
    if not known:
        _push_small(work)
    requests = [work.target.request("GET", path) for path in paths]
    with work.meter() as meter:
        sample = load.run(work.target, requests, _PULLERS)
    return Result.sampled(meter, sample)


# Small requests beside large ones


def beside_bulk(work: Work) -> Result:
    """One pushes and one pulls, over and over, until the sample of manifests is taken: on every server alike."""
    ensure_app(work)
    ensure(work, work.source.whole)
    moved = mmap.mmap(-1, 16)
    jobs = [Job(_push_on, work, moved), Job(_pull_on, work, moved)]
    try:
        time.sleep(min(0.5, work.amounts.seconds))
        for _ in range(_WINDOWS):
            before = _moved(moved)
            with work.meter() as meter:
                sample = load.run(work.target, [app_request(work.target, "GET", "latest")], 16, work.amounts.seconds)
            rates = [(late - early) / meter.seconds / 1e6 for early, late in zip(before, _moved(moved), strict=True)]
            if all(rates):
                return Result.slowest(meter, sample, f"beside push {rates[0]:.0f} and pull {rates[1]:.0f} MB/s")
    finally:
        for job in jobs:
            job.kill()
    raise ValueError("the push or the pull beside it stood still")


def _moved(moved: mmap.mmap) -> list[int]:
    return [int.from_bytes(moved[at : at + 8], "little") for at in (0, 8)]


def _push_on(work: Work, moved: mmap.mmap) -> None:
    with Connection(work.target) as connection:
        connection.moved = ctypes.c_uint64.from_buffer(moved)
        while True:
            by_chunks(connection, work.source, work.source.whole)


def _pull_on(work: Work, moved: mmap.mmap) -> None:
    with Connection(work.target) as connection:
        connection.moved = ctypes.c_uint64.from_buffer(moved, 8)
        while True:
            _fetch_blob(connection, work.source.whole, REPOSITORY)
