"""HTTPS, as PEM files and limits say, by registry:2's names."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CLIENT_CERTIFICATES = {
    "request-client-cert": ssl.CERT_OPTIONAL,  # OpenSSL cannot take one unverified: the stricter way
    "require-any-client-cert": ssl.CERT_REQUIRED,
    "verify-client-cert-if-given": ssl.CERT_OPTIONAL,
    "require-and-verify-client-cert": ssl.CERT_REQUIRED,
}

_VERSIONS = {
    "tls1.0": ssl.TLSVersion.TLSv1,
    "tls1.1": ssl.TLSVersion.TLSv1_1,
    "tls1.2": ssl.TLSVersion.TLSv1_2,
    "tls1.3": ssl.TLSVersion.TLSv1_3,
}

_OLD = frozenset({"tls1.0", "tls1.1"})
_ALL = "DEFAULT:!aNULL:!PSK:!SRP"
_ALSO_WEAK = "@SECLEVEL=0"  # at its usual level OpenSSL has no cipher suite for them
_OF_TLS_1_3 = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})

_REASONS = {
    "key values mismatch": "the key is not the certificate's",
    "PEM lib": "one of them is not PEM",
    "no certificate or crl found": "one of them is not PEM",
}

_PLAIN_ANSWER = "This port speaks HTTPS: write https:// in front of its address.\n"
_PLAIN_HTTP = (
    f"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {len(_PLAIN_ANSWER)}\r\n"
    f"Connection: close\r\n\r\n{_PLAIN_ANSWER}"
).encode("ascii")


class UnusableTls(Exception):
    """No HTTPS can be served with what is configured. The text says why."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to serve HTTPS: PEM files and limits."""

    certificate: Path
    key: Path
    client_authorities: Sequence[Path] = ()
    client_certificate: str = "require-and-verify-client-cert"
    minimum: str = "tls1.2"
    ciphers: Sequence[str] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.certificate, self.key, *self.client_authorities)

    def context(self) -> ssl.SSLContext:
        """Read the files. Raises UnusableTls."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sslobject_class = Handshake
        try:
            context.load_cert_chain(self.certificate, self.key, _no_password)
            for authority in self.client_authorities:
                context.load_verify_locations(authority)
        except OSError as error:  # of ssl, too
            files = ", ".join(map(str, self.files))
            raise UnusableTls(f"cannot use {files}: {_reason(error)}") from error
        if self.client_authorities:
            context.verify_mode = _CLIENT_CERTIFICATES[self.client_certificate]
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as in Go: an authority need not be a root
        self._limit(context)
        return context

    def _limit(self, context: ssl.SSLContext) -> None:
        context.minimum_version = _VERSIONS[self.minimum]
        suites = [_suite(context, name) for name in self.ciphers if name not in _OF_TLS_1_3]
        if self.minimum in _OLD:
            context.set_ciphers(":".join([*(suites or [_ALL]), _ALSO_WEAK]))
        elif suites:
            context.set_ciphers(":".join(suites))
        elif self.ciphers:  # those of TLS 1.3 alone, which are not chosen one by one, in Go either
            context.minimum_version = ssl.TLSVersion.TLSv1_3


class Handshake(ssl.SSLObject):
    """A connection's TLS that says why a handshake failed; the event loop alone would close without a word.

    Attributes:
        outgoing: what is to be sent, as `wrap_bio` was given it.
    """

    outgoing: ssl.MemoryBIO
    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        """Raises ssl.SSLError. The first time, if there is something to say, as if more were to come from the client.

        So the event loop sends it, and comes back when the client has heard it, or its time for handshakes is over.
        """
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._failure = error
            if error.reason == "HTTP_REQUEST":
                self.outgoing.write(_PLAIN_HTTP)
            if not self.outgoing.pending:
                raise
            raise ssl.SSLWantReadError from error


def openssl_name(name: str) -> str:
    """OpenSSL's name of a cipher suite: ECDHE-RSA-AES128-GCM-SHA256 for TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256."""
    exchange, _, cipher = name.removeprefix("TLS_").partition("_WITH_")
    cipher = cipher.replace("AES_128_CBC", "AES128").replace("AES_256_CBC", "AES256")
    cipher = cipher.replace("AES_128", "AES128").replace("AES_256", "AES256").replace("3DES_EDE_CBC", "DES-CBC3")
    cipher = cipher.replace("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305")
    parts = cipher if exchange == "RSA" else f"{exchange}_{cipher}"
    return parts.replace("_", "-")


def _suite(context: ssl.SSLContext, name: str) -> str:
    """OpenSSL's name of a suite that it has; of a list it passes over those that it has not."""
    try:
        context.set_ciphers(openssl_name(name))
    except ssl.SSLError:
        raise UnusableTls(f"ciphersuites: there is no {name} here") from None
    return openssl_name(name)


def _no_password() -> NoReturn:
    """Without it, OpenSSL would ask at the terminal."""
    raise OSError(0, "the key has a password, and nobody is there to type it")


def _reason(error: OSError) -> str:
    told = error.strerror or str(error)
    return next((text for sign, text in _REASONS.items() if sign in told), told)
