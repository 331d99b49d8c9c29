"""Registries that serve HTTPS, their certificates, and clients that trust those and nothing else.

The certificates are openssl's: what reads them must not be what made them.
"""

import shutil
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
from serving import Server


def openssl(directory: Path, *arguments: str) -> str:
    ended = subprocess.run(
        ["openssl", *arguments], cwd=directory, check=False, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    def put(self, place: "Pair") -> None:
        """Replace the files of another pair by copies of these, each at once."""
        for mine, its in (self.certificate, place.certificate), (self.key, place.key):
            put(mine, its)

    @property
    def settings(self) -> dict[str, str]:
        return {"REGISTRY_HTTP_TLS_CERTIFICATE": str(self.certificate), "REGISTRY_HTTP_TLS_KEY": str(self.key)}


def put(source: Path, target: Path) -> None:
    """Replace a file by a copy of another, at once."""
    part = target.with_name(f"{target.name}.part")
    shutil.copy(source, part)
    part.rename(target)


def pair(directory: Path, name: str, *, days: int = 90, issuer: Pair | None = None, authority: bool = False) -> Pair:
    """A pair for 127.0.0.1, signed by itself or by another; it may sign others where it is an authority."""
    made = Pair(directory / f"{name}.pem", directory / f"{name}.key")
    signer = ["-CA", str(issuer.certificate), "-CAkey", str(issuer.key)] if issuer else []
    openssl(
        directory,
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(days)),
        *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-addext", f"basicConstraints=critical,CA:{'TRUE' if authority else 'FALSE'}", *signer),
        *("-keyout", made.key.name, "-out", made.certificate.name),
    )
    return made


class Https(Server):
    """A registry that serves HTTPS; ready when it shakes hands."""

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    def is_ready(self) -> bool:
        try:
            self.shown()
        except OSError:
            return False
        return True

    def shown(self) -> str:
        """The certificate that a new connection is shown, as PEM."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((self.host, self.port), timeout=5) as plain,
            context.wrap_socket(plain) as shaken,
        ):
            der = shaken.getpeercert(binary_form=True)
        assert der is not None
        return ssl.DER_cert_to_PEM_cert(der)

    def shows(self, wanted: Pair) -> bool:
        return self.shown().split() == wanted.certificate.read_text().split()


def client(server: Server, trusted: Pair, own: Pair | None = None) -> httpx.Client:
    """A client that trusts one certificate, and nothing else; it may have one of its own. It keeps its connections."""
    context = ssl.create_default_context(cafile=trusted.certificate)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    limits = httpx.Limits(keepalive_expiry=None)
    return httpx.Client(base_url=server.url, verify=context, timeout=15, trust_env=False, limits=limits)
