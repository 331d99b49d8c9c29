"""Making a self-signed certificate.

It is no authority: whoever steals its key can pass for this registry, and for nothing else. Clients that are told to
trust it need no authority above it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*(?!\d+\.?$){_LABEL}")
_LONGEST_NAME = 253
_LONGEST_SUBJECT = 64
_CLOCKS_DIFFER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate and its key, as PEM; `fingerprint` is the certificate's SHA-256, in hex."""

    certificate: bytes
    key: bytes
    names: tuple[str, ...]
    begins: datetime
    expires: datetime
    fingerprint: str


def make(names: Sequence[str], now: datetime, valid: timedelta) -> SelfSigned:
    """A certificate for servers with these names and addresses, valid from a day ago on: clocks differ.

    Raises:
        ValueError: one is neither a name nor an address.
    """
    alternatives = {name: _alternative(name) for name in map(_bare, names)}
    key = ec.generate_private_key(ec.SECP256R1())
    begins, expires = now - _CLOCKS_DIFFER, now + valid
    signed = _builder(alternatives, key.public_key(), begins, expires).sign(key, hashes.SHA256())
    return SelfSigned(
        signed.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        tuple(alternatives),
        signed.not_valid_before_utc,
        signed.not_valid_after_utc,
        signed.fingerprint(hashes.SHA256()).hex(),
    )


def _builder(
    alternatives: dict[str, x509.GeneralName], public: ec.EllipticCurvePublicKey, begins: datetime, expires: datetime
) -> x509.CertificateBuilder:
    first = next(iter(alternatives))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, first[:_LONGEST_SUBJECT])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(expires)
        .add_extension(x509.SubjectAlternativeName(alternatives.values()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_signs_handshakes(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )


def _signs_handshakes() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _bare(name: str) -> str:
    return name.removeprefix("[").removesuffix("]")


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if re.fullmatch(r"[^:]+:\d+", name):
        raise ValueError(f"{name}: expected a name without its port; --port is for that")
    if not name.isascii():
        raise ValueError(f"{name}: expected its form for DNS, which begins with xn--")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ValueError(f"{name!r}: expected a name such as registry.example.com, or an IP address")
    return x509.DNSName(name.lower())
