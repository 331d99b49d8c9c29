"""Signed documents in JSON: the compact form of RFC 7515, with keys that sign and keys that are known. No I/O.

Only what holds under attack is taken from a text that is not verified yet: the names of its algorithm and its key. The
algorithm must be one of those that the key is for, so that no key is ever used as another kind of key. A key that
comes with the text (`jwk`, `jku`, `x5u`) is never looked at; a chain of certificates (`x5c`) is, by whoever trusts
their roots.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from jwt import InvalidTokenError, PyJWS
from jwt.algorithms import get_default_algorithms

if TYPE_CHECKING:
    from collections.abc import Mapping

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

MOST_BYTES = 32 * 1024
"""Of a text: a chain of certificates fits in, and whatever `scopes` takes; reading it costs nobody much."""

LEAST_RSA_BITS = 2048
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_ELLIPTIC = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ALGORITHMS = _RSA | frozenset(_ELLIPTIC.values()) | {"EdDSA"}
"""Those with a private and a public key. There is no way to name another one."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_LIBRARY = PyJWS(algorithms=sorted(ALGORITHMS))


class Invalid(Exception):
    """A text that was not signed by a known key, or a key that cannot be used. Its message quotes neither."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key, and the algorithms that it is for: at most those that fit its kind."""

    key: PublicKey
    algorithms: frozenset[str]

    @classmethod
    def of(cls, key: object, allowed: frozenset[str] = ALGORITHMS) -> KnownKey:
        """Raises Invalid: no signature can be checked with it."""
        match key:
            case rsa.RSAPublicKey():
                if key.key_size < LEAST_RSA_BITS:
                    raise Invalid(f"an RSA key has {key.key_size} bits; expected {LEAST_RSA_BITS} or more")
                return cls(key, _RSA & allowed)
            case ec.EllipticCurvePublicKey() if key.curve.name in _ELLIPTIC:
                return cls(key, frozenset({_ELLIPTIC[key.curve.name]}) & allowed)
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                return cls(key, frozenset({"EdDSA"}) & allowed)
        raise Invalid("a key is of a kind that signs no tokens; expected RSA, EC (P-256, P-384, P-521) or Ed25519")


class Keys(Protocol):
    """What is known."""

    def find(self, header: Mapping[str, Any]) -> KnownKey:
        """The key that a text says it is signed with. Raises Invalid: there is none that we trust."""


def verified(text: str, keys: Keys) -> dict[str, Any]:
    """The members of a signed document.

    Raises:
        Invalid: too long, malformed, with a name twice, or not signed by one of the keys.
    """
    if len(text) > MOST_BYTES:
        raise Invalid(f"it has more than {MOST_BYTES} bytes")
    parts = _COMPACT.fullmatch(text)
    if parts is None:
        raise Invalid("it is not three parts in base64url")
    header = _members(parts[1])
    if "crit" in header:
        raise Invalid("it asks for an extension that is not known here (crit)")
    algorithm = header.get("alg")
    known = keys.find(header)
    if not isinstance(algorithm, str) or algorithm not in known.algorithms:
        raise Invalid("its algorithm is not one that its key is for")
    try:
        _LIBRARY.decode(text, known.key, algorithms=[algorithm])
    except InvalidTokenError:
        raise Invalid("its signature is wrong") from None
    return _members(parts[2])


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key of ours: EC on the curve P-256, which signs and verifies within 200 microseconds."""

    private: ec.EllipticCurvePrivateKey
    name: str
    """What the header calls it (`kid`): as libtrust names keys, so that other registries can know it, too."""

    @classmethod
    def generate(cls) -> SigningKey:
        return cls._of(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def parse(cls, pem: bytes) -> SigningKey:
        """Raises Invalid, with what to do."""
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise Invalid(
                "expected the PEM text of a private EC key on the curve P-256, without a password; make one with: "
                "openssl ecparam -name prime256v1 -genkey -noout"
            )
        return cls._of(key)

    @classmethod
    def _of(cls, private: ec.EllipticCurvePrivateKey) -> SigningKey:
        return cls(private, fingerprint(private.public_key()))

    def pem(self) -> bytes:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, members: Mapping[str, Any]) -> str:
        """A document that `verified` gives back."""
        payload = json.dumps(members, separators=(",", ":")).encode()
        return _LIBRARY.encode(payload, self.private, "ES256", {"kid": self.name})

    def find(self, header: Mapping[str, Any]) -> KnownKey:
        """See `Keys.find`: it knows itself."""
        if header.get("kid") != self.name:
            raise Invalid("its key is not known here")
        return KnownKey.of(self.private.public_key())


def fingerprint(key: PublicKey) -> str:
    """How libtrust, and so registry:2 and its token servers, name a key: twelve groups of four letters."""
    text = base64.b32encode(sha256(_encoded(key)).digest()[:30]).decode("ascii")
    return ":".join(text[begin : begin + 4] for begin in range(0, len(text), 4))


def thumbprint(key: PublicKey) -> str:
    """How RFC 7638, and so registry:3, names a key."""
    members: dict[str, Any] = get_default_algorithms()[min(KnownKey.of(key).algorithms)].to_jwk(key, as_dict=True)
    required = {name: members[name] for name in sorted(members) if name in {"crv", "e", "kty", "n", "x", "y"}}
    digest = sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _encoded(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _members(part: str) -> dict[str, Any]:
    """A part's JSON. A name that stands twice is refused: two readers could take two meanings from it."""
    try:
        text = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True).decode("utf-8")
        found = json.loads(text, object_pairs_hook=_each_once, parse_constant=_none)
    except (binascii.Error, ValueError, RecursionError):
        raise Invalid("a part of it is not JSON as it should be") from None
    if not isinstance(found, dict):
        raise Invalid("a part of it is not a JSON object")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _none(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
