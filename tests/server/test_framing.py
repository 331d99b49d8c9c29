"""Where bodies end: every cut of the bytes gives the same body, and what is not exactly a body is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.server import framing
from registry.server.framing import Chunked, Sized

NEXT = b"GET /v2/ HTTP/1.1\r\n\r\n"


def fed(body, pieces):
    """What a framing takes for the body, and what it leaves."""
    taken, left = b"", b""
    for piece in pieces:
        if body.ended:
            left += piece
            continue
        parts, used = body.feed(memoryview(piece))
        taken += b"".join(parts)
        left += piece[used:]
    return taken, left


def cut(data, cuts):
    places = sorted({min(place, len(data)) for place in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def coded(chunks, extension=b"", trailer=b""):
    return b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in chunks) + b"0\r\n" + trailer + b"\r\n"


@given(chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=6), cuts=st.lists(st.integers(0, 500), max_size=9))
def test_a_chunked_body_is_the_same_however_it_is_cut(chunks, cuts):
    body = Chunked()
    assert fed(body, cut(coded(chunks) + NEXT, cuts)) == (b"".join(chunks), NEXT)
    assert body.ended


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 250), max_size=9))
def test_a_body_with_a_length_is_the_same_however_it_is_cut(data, cuts):
    body = Sized(len(data))
    assert fed(body, cut(data + NEXT, cuts)) == (data, NEXT)
    assert body.ended


def test_extensions_and_trailers_are_read_over():
    body = Chunked()
    sent = coded([b"abc"], extension=b";name=value", trailer=b"Expires: never\r\nX: y\r\n")
    assert fed(body, [sent + NEXT]) == (b"abc", NEXT)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\nabc",
        b"-1\r\n",
        b"+3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabc\r\n\r\n",
        b"10000000000000000\r\n",
        b" 3\r\nabc\r\n",
        b"3 ;x\r\r\n",
        b"3" + b";" * 2000,
        b"0\r\n" + b"a: b\r\n" * 100 + b"\r\n",
        b"0\r\nno line end of HTTP\n\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 5000])
def test_what_is_not_exactly_chunked_coding_is_refused(data, size):
    """A proxy in front may read it in another way, and take the rest for another request."""
    with pytest.raises(ValueError):
        fed(Chunked(), [data[at : at + size] for at in range(0, len(data), size)])


@given(data=st.binary(max_size=200))
def test_no_bytes_confuse_chunked_coding(data):
    body = Chunked()
    try:
        taken, left = fed(body, [data])
    except ValueError:
        return
    assert len(taken) + len(left) <= len(data)


def test_how_a_body_is_framed_is_in_the_headers():
    assert framing.of([(b"host", b"x")]) is None
    sized = framing.of([(b"content-length", b"12")])
    assert isinstance(sized, Sized)
    assert sized.left == 12
    assert isinstance(framing.of([(b"transfer-encoding", b"Chunked")]), Chunked)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"identity")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"3"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"chunked"), (b"content-length", b"3")],
        [(b"content-length", b"3"), (b"content-length", b"3")],
        [(b"content-length", b"3, 3")],
        [(b"content-length", b"-3")],
        [(b"content-length", b"")],
    ],
)
def test_two_framings_or_an_unknown_one_are_refused(headers):
    with pytest.raises(ValueError):
        framing.of(headers)
