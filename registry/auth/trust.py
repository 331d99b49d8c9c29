"""The keys of a token server of somebody else's: certificates (`rootcertbundle`) and a JSON Web Key Set (`jwks`)."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from jwt import PyJWK, PyJWTError

from registry.auth.jws import ALGORITHMS, Invalid, KnownKey, fingerprint, thumbprint
from registry.auth.rereading import RereadFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

log = logging.getLogger("registry.auth")

_LONGEST_CHAIN = 8
_BEGIN = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Trusted:
    """Keys by the names that tokens call them, and roots that chains of certificates must lead to."""

    keys: Mapping[str, KnownKey]
    roots: tuple[x509.Certificate, ...] = ()
    algorithms: frozenset[str] = ALGORITHMS

    def find(self, header: Mapping[str, Any]) -> KnownKey:
        """See `Keys.find`. A chain of certificates goes before a name, as in registry:2."""
        if "x5c" in header:
            return self._first_of(header["x5c"])
        name = header.get("kid")
        known = self.keys.get(name) if isinstance(name, str) else None
        if known is None:
            raise Invalid("its key is not known here")
        return KnownKey(known.key, known.algorithms & self.algorithms)

    def _first_of(self, chain: object) -> KnownKey:
        """The key of a chain's first certificate, if the chain leads to one of the roots. Raises Invalid."""
        if not self.roots:
            raise Invalid("it has a chain of certificates (x5c), and there is no root to lead to (rootcertbundle)")
        if not isinstance(chain, list) or not 1 <= len(chain) <= _LONGEST_CHAIN:
            raise Invalid(f"its chain of certificates has not 1 to {_LONGEST_CHAIN} of them")
        first, *between = map(_certificate, chain)
        now = datetime.now(UTC)
        if first in self.roots:  # signs itself, without a chain that could be verified
            if not first.not_valid_before_utc <= now <= first.not_valid_after_utc:
                raise Invalid("its certificate is out of date")
        else:
            _verify(first, between, self.roots, now)
        return KnownKey.of(first.public_key(), self.algorithms)


def _certificate(text: object) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(base64.b64decode(text if isinstance(text, str) else "", validate=True))
    except (binascii.Error, ValueError):
        raise Invalid("its chain of certificates has something else in it") from None


def _verify(
    first: x509.Certificate, between: list[x509.Certificate], roots: tuple[x509.Certificate, ...], now: datetime
) -> None:
    """Raises Invalid. What a signer of tokens may call itself, and use its key for besides, is nobody's business."""
    authority = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    policy = PolicyBuilder().store(Store(list(roots))).time(now).max_chain_depth(_LONGEST_CHAIN)
    policy = policy.extension_policies(ca_policy=authority, ee_policy=ExtensionPolicy.permit_all())
    try:
        policy.build_client_verifier().verify(first, between)
    except (VerificationError, ValueError, UnsupportedAlgorithm):
        raise Invalid("its chain of certificates does not lead to a root (rootcertbundle)") from None


class CertificateBundle(RereadFile):
    """Certificates in PEM: each is a root, and its key is known by its fingerprints.

    Raises:
        OSError: it cannot be read.
        Invalid: there is no certificate in it.
    """

    keeps = "certificates"

    def _begin(self, data: bytes) -> None:
        self.roots = _roots(data)

    def _take(self, data: bytes) -> str:
        try:
            self.roots = _roots(data)
        except Invalid as error:
            return str(error)
        log.info("%s was read again: certificates: %d", self.path, len(self.roots))
        return ""

    def trusted(self) -> Trusted:
        """What it says. Certificates whose key signs no tokens are roots alone."""
        keys: dict[str, KnownKey] = {}
        for root in self.roots:
            try:
                known = KnownKey.of(root.public_key())
            except Invalid:
                continue
            keys |= {fingerprint(known.key): known, thumbprint(known.key): known}
        return Trusted(keys, self.roots)


class KeySet(RereadFile):
    """A JSON Web Key Set (RFC 7517): keys by their `kid`.

    Raises:
        OSError: it cannot be read.
        Invalid: it is none, or has no key that tokens can be signed with.
    """

    keeps = "keys"

    def _begin(self, data: bytes) -> None:
        self.keys = _keys(data)

    def _take(self, data: bytes) -> str:
        try:
            self.keys = _keys(data)
        except Invalid as error:
            return str(error)
        log.info("%s was read again: keys: %d", self.path, len(self.keys))
        return ""


class TrustFiles:
    """Bundle and key set as they are now. One of the two must be given.

    Args:
        bundle: path of the certificates.
        keys: path of the key set.
        algorithms: that tokens may be signed with.

    Raises:
        OSError: a file cannot be read; `filename` says which.
        Invalid: a file is not what it should be; the message begins with its path.
    """

    def __init__(self, bundle: Path | None, keys: Path | None, algorithms: frozenset[str] = ALGORITHMS) -> None:
        self._bundle = _opened(CertificateBundle, bundle) if bundle else None
        self._keys = _opened(KeySet, keys) if keys else None
        self._algorithms = algorithms
        self._trusted = self._joined()
        self._of: tuple[object, object] = self._contents()

    async def trusted(self) -> Trusted:
        """The same object as long as nothing changes."""
        for file in (self._bundle, self._keys):
            if file is not None:
                await file.look()
        contents = self._contents()
        if any(new is not old for new, old in zip(contents, self._of, strict=True)):
            self._trusted, self._of = self._joined(), contents
        return self._trusted

    def _contents(self) -> tuple[object, object]:
        return (self._bundle and self._bundle.roots, self._keys and self._keys.keys)

    def _joined(self) -> Trusted:
        of_bundle = self._bundle.trusted() if self._bundle else Trusted({})
        of_set = self._keys.keys if self._keys else {}
        return Trusted({**of_bundle.keys, **of_set}, of_bundle.roots, self._algorithms)


def _opened(kind: Callable[[Path], Any], path: Path) -> Any:
    try:
        return kind(path)
    except Invalid as error:
        raise Invalid(f"{path}: {error}") from None


def _roots(data: bytes) -> tuple[x509.Certificate, ...]:
    """Raises Invalid."""
    try:
        if _BEGIN in data:
            return tuple(x509.load_pem_x509_certificates(data))
    except ValueError:
        raise Invalid("a certificate in it cannot be read; expected PEM") from None
    raise Invalid("there is no certificate in it; expected PEM")


def _keys(data: bytes) -> dict[str, KnownKey]:
    """Raises Invalid."""
    try:
        found = json.loads(data)["keys"]
        usable = [key for key in found if key.get("use", "sig") == "sig" and key.get("kty") != "oct"]
        keys = {key["kid"]: _key(key) for key in usable if isinstance(key.get("kid"), str)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Invalid('it is no JSON Web Key Set; expected {"keys": [...]}') from None
    if not keys:
        raise Invalid("it has no key with a name (kid) that tokens can be signed with")
    return keys


def _key(members: dict[str, Any]) -> KnownKey:
    """Raises Invalid."""
    name = str(members["kid"])[:80]
    public = {
        key: value for key, value in members.items() if key not in {"d", "p", "q", "dp", "dq", "qi", "oth", "alg"}
    }
    alone = members.get("alg")
    if alone is not None and alone not in ALGORITHMS:
        raise Invalid(f"the key {name!r} is for another algorithm than {', '.join(sorted(ALGORITHMS))}")
    try:
        key = PyJWK.from_dict(public).key
    except PyJWTError:
        raise Invalid(f"the key {name!r} cannot be used") from None
    return KnownKey.of(key, frozenset({alone}) if alone else ALGORITHMS)
