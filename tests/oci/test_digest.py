"""Content addresses: what is one, what is none, and where they come from."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.digest import ALGORITHMS, Digest, hasher
from registry.oci.errors import DigestInvalid

HEX = "0123456789abcdef" * 4
EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(("algorithm", "digits"), [("sha256", 64), ("sha512", 128)])
def test_both_registered_algorithms_are_digests_of_their_own_length(algorithm: str, digits: int) -> None:
    text = f"{algorithm}:{'0a' * (digits // 2)}"
    digest = Digest(text)
    assert digest == text
    assert (digest.algorithm, digest.hex) == (algorithm, "0a" * (digits // 2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        HEX,
        f":{HEX}",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"sha256:{HEX[:-1]}g",
        f"sha512:{HEX}",
        f"sha256:{HEX}{HEX}",
        f"sha384:{'0' * 96}",
        f"md5:{'0' * 32}",
        f"sha256+b64:{HEX}",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"sha256:../../{HEX[:58]}",
        f"sha256:{'٣' * 64}",
        f"sha256/{HEX}",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest(text)


@given(st.text())
def test_arbitrary_text_is_a_digest_or_refused_and_never_grows_the_answer(text: str) -> None:
    try:
        digest = Digest(text)
    except DigestInvalid as error:
        assert len(error.message) < 1000
    else:
        assert digest == text


@given(st.sampled_from(sorted(ALGORITHMS)).flatmap(lambda name: st.tuples(st.just(name), st.binary())))
def test_a_digest_of_bytes_is_what_hashlib_says_and_parses_back(case: tuple[str, bytes]) -> None:
    name, data = case
    digest = Digest.of(data, name)
    assert digest == f"{name}:{hashlib.new(name, data).hexdigest()}"
    assert Digest(str(digest)) == digest
    assert Digest.of(bytearray(data), name) == Digest.of(memoryview(data), name) == digest


@given(st.sampled_from(sorted(ALGORITHMS)), st.lists(st.binary()))
def test_a_hasher_that_is_fed_in_parts_gives_the_digest_of_the_whole(name: str, parts: list[bytes]) -> None:
    hashed = hasher(name)
    for part in parts:
        hashed.update(part)
    assert Digest.from_hasher(hashed) == Digest.of(b"".join(parts), name)


def test_sha256_is_the_algorithm_where_none_is_given() -> None:
    assert Digest.of(b"") == EMPTY


def test_the_digest_of_nothing_is_known_in_both_algorithms() -> None:
    assert Digest(EMPTY).is_of_nothing
    assert Digest.of(b"", "sha512").is_of_nothing
    assert not Digest.of(b"\0").is_of_nothing
    assert not Digest(f"sha256:{HEX}").is_of_nothing


@given(st.text().filter(lambda name: name not in ALGORITHMS))
def test_a_hasher_of_an_unknown_algorithm_is_refused_and_the_known_ones_are_named(name: str) -> None:
    with pytest.raises(DigestInvalid, match="sha256, sha512"):
        hasher(name)


def test_a_digest_is_text_and_can_be_a_key() -> None:
    digest = Digest(EMPTY)
    assert isinstance(digest, str)
    assert {digest: 1}[EMPTY] == 1
