"""Whose tokens count: certificates, chains that lead to them, key sets; and that changes of the files are seen."""

import asyncio
import json
import logging
import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from issuing import KEYS, certificate, chain, jwk, pem, sign

from registry.auth.jws import Invalid, fingerprint, thumbprint, verified
from registry.auth.trust import CertificateBundle, KeySet, Trusted, TrustFiles

ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
BETWEEN_KEY = rsa.generate_private_key(65537, 2048)
ROOT = certificate(ROOT_KEY, "root", authority=True)
BETWEEN = certificate(BETWEEN_KEY, "between", by=ROOT_KEY, issuer="root", authority=True)
LEAF = certificate(KEYS["ES256"], "leaf", by=BETWEEN_KEY, issuer="between")
KNOWN = Trusted({}, (ROOT,))


def counts(header: dict, keys: Trusted = KNOWN, algorithm: str = "ES256") -> bool:
    try:
        return verified(sign({"a": 1}, algorithm, **header), keys) == {"a": 1}
    except Invalid:
        return False


def test_a_chain_that_leads_to_a_root_counts():
    assert counts({"x5c": chain(LEAF, BETWEEN)})
    assert counts({"x5c": chain(certificate(KEYS["ES256"], "leaf", by=ROOT_KEY, issuer="root"))})
    assert counts({"x5c": chain(certificate(KEYS["RS256"], "leaf", by=ROOT_KEY, issuer="root"))}, algorithm="RS256")


@pytest.mark.parametrize("authority", [None, True, False])
def test_a_certificate_of_the_bundle_counts_whatever_it_says_of_itself(authority):
    """`openssl req -x509` makes such ones for token servers."""
    alone = certificate(KEYS["ES256"], authority=authority)
    assert counts({"x5c": chain(alone)}, Trusted({}, (alone,)))


OTHER_ROOT = certificate(KEYS["ES384"], "root", authority=True)
SILENT = certificate(BETWEEN_KEY, "between", by=ROOT_KEY, issuer="root")
NO_AUTHORITY = certificate(BETWEEN_KEY, "between", by=ROOT_KEY, issuer="root", authority=False)
OLD = certificate(KEYS["ES256"], "leaf", by=ROOT_KEY, issuer="root", days=-1)
OLD_BETWEEN = certificate(BETWEEN_KEY, "between", by=ROOT_KEY, issuer="root", authority=True, days=-1)


@pytest.mark.parametrize(
    "certificates",
    [
        pytest.param(chain(certificate(KEYS["ES256"])), id="by itself"),
        pytest.param(chain(certificate(KEYS["ES256"]), OTHER_ROOT), id="unknown root"),
        pytest.param(chain(certificate(KEYS["ES256"]), ROOT), id="the root behind a stranger"),
        pytest.param(chain(certificate(KEYS["ES256"], "leaf", by=KEYS["ES384"], issuer="root")), id="root's name"),
        pytest.param(chain(LEAF), id="a link is missing"),
        pytest.param(chain(LEAF, SILENT), id="signed by what does not say that it is an authority"),
        pytest.param(chain(LEAF, NO_AUTHORITY), id="signed by what says that it is none"),
        pytest.param(chain(OLD), id="out of date"),
        pytest.param(chain(LEAF, OLD_BETWEEN), id="a link is out of date"),
        pytest.param(chain(ROOT), id="the root, with another key"),
        pytest.param([], id="empty"),
        pytest.param(chain(LEAF) + chain(BETWEEN) * 8, id="too long"),
        pytest.param(["AAAA"], id="no certificate"),
        pytest.param(["!"], id="no base64"),
        pytest.param([7], id="a number"),
        pytest.param("AAAA", id="no list"),
        pytest.param(None, id="null"),
    ],
)
def test_a_chain_that_leads_nowhere_is_refused(certificates):
    assert not counts({"x5c": certificates})


def test_a_root_that_is_out_of_date_is_refused():
    old = certificate(KEYS["ES256"], days=-1)
    assert not counts({"x5c": chain(old)}, Trusted({}, (old,)))
    signed = certificate(KEYS["ES256"], "leaf", by=ROOT_KEY, issuer="old")
    assert not counts({"x5c": chain(signed)}, Trusted({}, (certificate(ROOT_KEY, "old", authority=True, days=-1),)))


def test_a_chain_goes_before_a_name():
    """A right name does not excuse a wrong chain, which an attacker could look for a weak reader with."""
    keys = bundle_of(pem(certificate(KEYS["ES256"])))
    name = fingerprint(KEYS["ES256"].public_key())
    assert counts({"kid": name}, keys)
    assert not counts({"kid": name, "x5c": chain(LEAF)}, keys)


def test_without_roots_no_chain_counts(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk("ES256", "a")]}))
    keys = asyncio.run(TrustFiles(None, path).trusted())
    assert counts({"kid": "a"}, keys)
    assert not counts({"kid": "a", "x5c": chain(LEAF)}, keys)


def bundle_of(content: bytes) -> Trusted:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "bundle.pem"
        path.write_bytes(content)
        return CertificateBundle(path).trusted()


def test_the_keys_of_a_bundle_are_known_as_registry_2_and_3_name_them():
    """Comments and other things between certificates do not matter."""
    content = b"# ours\n" + pem(ROOT) + b"\n" + pem(certificate(KEYS["RS256"], "rsa"))
    for key, algorithm in (ROOT_KEY, "ES256"), (KEYS["RS256"], "RS256"):
        for name in fingerprint(key.public_key()), thumbprint(key.public_key()):
            token = sign({}, algorithm, key, kid=name)
            assert verified(token, bundle_of(content)) == {}


def test_a_certificate_whose_key_signs_no_tokens_is_a_root_all_the_same():
    key = ec.generate_private_key(ec.SECP256K1())
    assert bundle_of(pem(certificate(key), ROOT)).keys.keys() == bundle_of(pem(ROOT)).keys.keys()


@pytest.mark.parametrize(
    "content", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff" * 100]
)
def test_a_bundle_without_certificates_is_refused(content):
    with pytest.raises(Invalid, match="expected PEM"):
        bundle_of(content)


def test_a_key_set_knows_its_keys_by_their_names(tmp_path):
    path = tmp_path / "jwks.json"
    private = jwk("ES256", "mine") | {"d": "AAAA"}  # somebody's mistake; the public half is all that is looked at
    encrypts, secret, nameless = (
        jwk("RS256", "enc", use="enc"),
        {"kty": "oct", "k": "AA", "kid": "s"},
        jwk("ES384", "x"),
    )
    del nameless["kid"]
    keys = [jwk(name, name) for name in ("RS256", "ES384", "ES512", "EdDSA")]
    path.write_text(json.dumps({"keys": [*keys, private, encrypts, secret, nameless, jwk("PS256", "ps", alg="PS256")]}))
    known = asyncio.run(TrustFiles(None, path).trusted())
    assert set(known.keys) == {"RS256", "ES384", "ES512", "EdDSA", "mine", "ps"}
    for name in ("RS256", "ES384", "ES512", "EdDSA"):
        assert counts({"kid": name}, known, name)
    assert counts({"kid": "mine"}, known)
    assert counts({"kid": "ps"}, known, "PS256")
    assert not counts({"kid": "ps"}, known, "RS256")


@pytest.mark.parametrize(
    "content",
    [
        "", "{}", "[]", "1", '{"keys": 1}', '{"keys": {}}', '{"keys": []}', '{"keys": [1]}', '{"keys": [{"kid": "a"}]}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}',
        '{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "a"}]}',
        json.dumps({"keys": [jwk("RS256", "a", alg="HS256")]}),
        json.dumps({"keys": [jwk("RS256", "a", rsa.generate_private_key(65537, 1024))]}),
    ],
)  # fmt: skip
def test_a_key_set_without_a_key_is_refused(content, tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(content)
    with pytest.raises(Invalid):
        KeySet(path)
    with pytest.raises(Invalid, match=str(path)):
        TrustFiles(None, path)


def test_changes_of_both_files_are_seen(tmp_path):
    bundle, keys = tmp_path / "bundle.pem", tmp_path / "jwks.json"
    bundle.write_bytes(pem(ROOT))
    keys.write_text(json.dumps({"keys": [jwk("ES256", "old")]}))

    async def scenario() -> None:
        files = TrustFiles(bundle, keys)
        first = await files.trusted()
        assert await files.trusted() is first
        assert counts({"kid": "old"}, first)
        keys.write_text(json.dumps({"keys": [jwk("ES256", "newer")]}))
        bundle.write_bytes(pem(OTHER_ROOT))
        await asyncio.sleep(1.1)
        second = await files.trusted()
        assert not counts({"kid": "old"}, second)
        assert counts({"kid": "newer"}, second)
        assert not counts({"x5c": chain(LEAF, BETWEEN)}, second)

    asyncio.run(scenario())


def test_a_slip_keeps_the_keys_of_before_and_is_told_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(pem(ROOT))

    async def scenario() -> None:
        files = TrustFiles(bundle, None)
        first = await files.trusted()
        for content in b"x", b"y":
            bundle.write_bytes(content)
            await asyncio.sleep(1.1)
            assert await files.trusted() is first

    asyncio.run(scenario())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "Going on with the certificates of before" in record.message


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        TrustFiles(tmp_path / "none.pem", None)
    assert str(error.value.filename).endswith("none.pem")
