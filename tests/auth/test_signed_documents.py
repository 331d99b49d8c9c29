"""What a signature is worth: nothing that an attacker can choose decides which key counts, and as what."""

import base64
import hmac
import json
from hashlib import sha256

import issuing
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from issuing import KEYS, encoded, jwk, sign

from registry.auth.jws import ALGORITHMS, MOST_BYTES, Invalid, KnownKey, SigningKey, fingerprint, thumbprint, verified
from registry.auth.trust import Trusted

KNOWN = Trusted({name: KnownKey.of(key.public_key()) for name, key in KEYS.items()})
"""Each key by the name of an algorithm."""


def refused(text: str, keys=KNOWN) -> str:
    with pytest.raises(Invalid) as error:
        verified(text, keys)
    assert text[:20] not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_document_that_a_known_key_signed_is_read(algorithm):
    assert verified(sign({"a": 1}, algorithm, kid=algorithm), KNOWN) == {"a": 1}


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_another_key_of_the_same_name_is_refused(algorithm):
    stranger = {
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }.get(algorithm, lambda: rsa.generate_private_key(65537, 2048))()
    assert "signature" in refused(sign({"a": 1}, algorithm, stranger, kid=algorithm))


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_changed_document_is_refused(algorithm):
    header, _, signature = sign({"a": 1}, algorithm, kid=algorithm).split(".")
    assert "signature" in refused(f"{header}.{encoded({'a': 2})}.{signature}")


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 0, ["ES256"]])
@pytest.mark.parametrize("signature", ["", "AA"])
def test_no_algorithm_is_no_signature(name, signature):
    refused(f"{encoded({'alg': name, 'kid': 'ES256'})}.{encoded({'a': 1})}.{signature}")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
def test_a_public_key_is_never_a_shared_secret(algorithm, form):
    secret = KEYS[algorithm].public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
    head = f"{encoded({'alg': 'HS256', 'kid': algorithm})}.{encoded({'a': 1})}"
    assert "algorithm" in refused(f"{head}.{encoded(hmac.digest(secret, head.encode(), 'sha256'))}")


def test_a_key_is_used_for_its_own_algorithms_alone():
    """The same RSA key would do for both; a key set that says which one is obeyed."""
    only = Trusted({"k": KnownKey.of(KEYS["RS256"].public_key(), frozenset({"PS256"}))})
    assert verified(sign({}, "PS256", kid="k"), only) == {}
    assert "algorithm" in refused(sign({}, "RS256", kid="k"), only)
    assert "algorithm" in refused(sign({}, "ES256", kid="RS256"))


def test_algorithms_that_are_not_configured_are_refused():
    only = Trusted(KNOWN.keys, algorithms=frozenset({"ES256"}))
    assert verified(sign({}, "ES256", kid="ES256"), only) == {}
    assert "algorithm" in refused(sign({}, "RS256", kid="RS256"), only)


@pytest.mark.parametrize("kid", [None, "", "other", 7, ["ES256"], {"ES256": 1}, "../../etc/passwd", "ES256\0", "es256"])
def test_a_name_that_is_not_known_is_refused(kid):
    head = {"alg": "ES256"} if kid is None else {"alg": "ES256", "kid": kid}
    assert "not known" in refused(f"{encoded(head)}.{encoded({})}.AA")


def test_a_key_that_comes_with_the_document_is_not_looked_at():
    stranger = ec.generate_private_key(ec.SECP256R1())
    injected = {"jwk": jwk("ES256", "ES256", stranger), "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"}
    assert "not known" in refused(sign({}, "ES256", stranger, **injected))
    assert "signature" in refused(sign({}, "ES256", stranger, kid="ES256", **injected))


def test_an_extension_that_must_be_understood_is_refused():
    assert "crit" in refused(sign({}, "ES256", kid="ES256", crit=["exp"], exp=1))
    head = encoded({"alg": "ES256", "kid": "ES256", "b64": False, "crit": ["b64"]})
    assert "crit" in refused(f"{head}.{encoded({})}.AA")


def signed(header: bytes, payload: bytes) -> str:
    """The two parts to the letter, with a right signature."""
    head = f"{encoded(header)}.{encoded(payload)}"
    algorithm = jwt.algorithms.get_default_algorithms()["ES256"]
    return f"{head}.{encoded(algorithm.sign(head.encode(), KEYS['ES256']))}"


HEADER = b'{"alg":"ES256","kid":"ES256"}'


@pytest.mark.parametrize(
    "payload",
    [b'{"sub":"alice","sub":"root"}', b'{"a":{"b":1,"b":2}}', b'{"exp":NaN}', b"[]", b"1", b"{", b"\xff", b"{}{}"],
)
def test_a_document_that_could_be_read_in_two_ways_is_refused(payload):
    assert verified(signed(HEADER, b"{}"), KNOWN) == {}
    assert "JSON" in refused(signed(HEADER, payload))


@pytest.mark.parametrize(
    "header", [b'{"alg":"ES256","alg":"RS256","kid":"ES256"}', b'{"alg":"ES256","kid":"x","kid":"ES256"}', b"[" * 9000]
)
def test_a_header_that_could_be_read_in_two_ways_is_refused(header):
    assert "JSON" in refused(signed(header, b"{}"))


def test_a_huge_text_is_refused_unread():
    assert str(MOST_BYTES) in refused(sign({"a": "x" * MOST_BYTES}, kid="ES256"))
    deep = f"{encoded(HEADER)}.{encoded(b'[' * 10_000)}.AA"
    refused(deep[:MOST_BYTES])


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c\n", " a.b.c", "a.b.c=", "é.b.c"])
def test_what_is_not_three_parts_is_refused(text):
    with pytest.raises(Invalid):
        verified(text, KNOWN)


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}"))
def test_any_other_text_is_refused(text):
    with pytest.raises(Invalid):
        verified(text, KNOWN)


# Names of keys


def test_keys_have_the_names_that_registry_2_and_3_know():
    """RFC 7638, section 3.1, has the second; the first is libtrust's form: 240 bits in base32."""
    numbers = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJE"
        "CPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Q"
        "vzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6"
        "WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
    }
    key = jwt.PyJWK.from_dict(numbers).key
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    name = fingerprint(key)
    assert [len(part) for part in name.split(":")] == [4] * 12
    raw = base64.b32decode(name.replace(":", ""))
    assert raw == sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()[:30]


# Our own key


def test_our_key_knows_itself_after_it_was_written_and_read():
    key = SigningKey.generate()
    again = SigningKey.parse(key.pem())
    assert verified(key.sign({"a": [1, "é"]}), again) == {"a": [1, "é"]}
    header = json.loads(base64.urlsafe_b64decode(key.sign({}).split(".")[0] + "=="))
    assert header == {"alg": "ES256", "kid": fingerprint(key.private.public_key()), "typ": "JWT"}
    refused(SigningKey.generate().sign({}), again)


def test_keys_of_another_kind_are_refused_with_what_to_do():
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat  # noqa: PLC0415

    for wrong in KEYS["RS256"], KEYS["ES384"], KEYS["EdDSA"]:
        with pytest.raises(Invalid, match="openssl"):
            SigningKey.parse(wrong.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for text in b"", b"x", issuing.pem(issuing.certificate(KEYS["ES256"])):
        with pytest.raises(Invalid, match="P-256"):
            SigningKey.parse(text)


@pytest.mark.parametrize(
    "key", [lambda: rsa.generate_private_key(65537, 1024), lambda: ec.generate_private_key(ec.SECP256K1())]
)
def test_weak_and_odd_keys_are_not_known(key):
    with pytest.raises(Invalid, match="expected"):
        KnownKey.of(key().public_key())
