"""Sockets that threads read: as far as the peer sends without a pause, and no longer than that."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.server.descriptor import Descriptor
from registry.server.framing import LAST_CHUNK

PATIENCE = 0.02


def received(sent: bytes, most: int, end: bytes) -> tuple[bytes, float]:
    """What one `receive` takes in, and the seconds it took: the shortest of several."""

    async def once() -> tuple[bytes, float]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs, ThreadPoolExecutor(1) as threads:
            theirs.sendall(sent)
            descriptor = Descriptor(ours.fileno(), threads)
            begun = time.monotonic()
            taken = await descriptor.receive(most, bytes, end)
            took = time.monotonic() - begun
            descriptor.close()
            return taken, took

    found = [asyncio.run(once()) for _ in range(10)]
    return found[0][0], min(took for _, took in found)


@pytest.mark.parametrize("end", [b"", LAST_CHUNK], ids=["with a length", "in chunks"])
def test_all_that_was_asked_for_is_not_waited_beyond(end):
    assert received(b"x" * 1000, 1000, end) == (b"x" * 1000, pytest.approx(0, abs=PATIENCE / 2))


def test_a_peer_that_has_sent_its_last_chunk_is_not_waited_for():
    sent = b"3e8\r\n" + b"x" * 1000 + b"\r\n" + LAST_CHUNK
    taken, took = received(sent, 100_000, LAST_CHUNK)
    assert taken == sent
    assert took < PATIENCE / 2


@pytest.mark.parametrize("piece", [LAST_CHUNK[at:] for at in range(1, len(LAST_CHUNK))])
def test_nor_is_one_whose_last_chunk_comes_in_pieces(piece):
    taken, took = received(piece, 100_000, LAST_CHUNK)
    assert taken == piece
    assert took < PATIENCE / 2


def test_a_peer_in_the_middle_of_a_body_is_waited_for_a_moment():
    taken, took = received(b"x" * 1000, 100_000, LAST_CHUNK)
    assert taken == b"x" * 1000
    assert took >= PATIENCE
