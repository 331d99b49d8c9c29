"""A token server of somebody else's: keys, certificates, tokens, and the server that gives them out."""

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from jwt.algorithms import get_default_algorithms

ISSUER = "Test Issuer"
SERVICE = "test.registry"

KEYS = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
KEYS |= dict.fromkeys(("RS384", "RS512", "PS256", "PS384", "PS512"), KEYS["RS256"])
"""A key for each algorithm."""


def claims(*access: dict[str, Any], **others: Any) -> dict[str, Any]:
    """Those of a token that counts now; `exp=None` leaves one out."""
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": SERVICE, "sub": "alice", "nbf": now - 10, "iat": now - 10, "exp": now + 300}
    made = {**usual, "jti": uuid.uuid4().hex, "access": list(access), **others}
    return {name: value for name, value in made.items() if value is not None}


def on(name: str, *actions: str, kind: str = "repository") -> dict[str, Any]:
    """An entry of `access`."""
    return {"type": kind, "name": name, "actions": list(actions)}


def encoded(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def certificate(
    key: Any, name: str = "root", *, by: Any = None, issuer: str = "", authority: bool | None = None, days: int = 10
) -> x509.Certificate:
    """One that lasts from ten days ago to `days` from now; signed by itself unless `by` another key."""

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer or name))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=10))
    builder = builder.not_valid_after(now + timedelta(days=days))
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    signer = by or key
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def chain(*certificates: x509.Certificate) -> list[str]:
    """As `x5c` has it."""
    return [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in certificates]


def jwk(algorithm: str, kid: str, key: Any = None, **members: Any) -> dict[str, Any]:
    """The public key as a key set has it."""
    public = (key or KEYS[algorithm]).public_key()
    return {**get_default_algorithms()[algorithm].to_jwk(public, as_dict=True), "kid": kid, "use": "sig", **members}


def sign(members: dict[str, Any], algorithm: str = "ES256", key: Any = None, **header: Any) -> str:
    """A token; `header` has what its header says of the key."""
    return jwt.encode(members, key or KEYS[algorithm], algorithm, header)


@dataclass
class TokenServer:
    """Gives out what `allowed` says, as docker_auth and its like do: `with TokenServer(...) as server: server.realm`.

    Attributes:
        allowed: actions by user ("" for nobody) and repository.
        passwords: of the users.
        header: of its tokens.
        asked: the queries so far.
    """

    allowed: dict[str, dict[str, set[str]]]
    passwords: dict[str, str]
    algorithm: str = "ES256"
    header: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, list[str]]] = field(default_factory=list)

    def __enter__(self) -> "TokenServer":
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = server.answer(urlsplit(self.path).query, self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.send_error(405)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    @property
    def realm(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/token"

    def answer(self, query: str, authorization: str) -> tuple[int, bytes]:
        asked = parse_qs(query)
        self.asked.append(asked)
        user = ""
        if authorization:
            user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            if self.passwords.get(user) != password:
                return 401, b'{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}'
        access = list(self._granted(user, " ".join(asked.get("scope", [])).split()))
        token = sign(claims(*access, sub=user, aud=asked["service"][0]), self.algorithm, **self.header)
        return 200, json.dumps({"token": token, "expires_in": 300}).encode()

    def _granted(self, user: str, scopes: Iterable[str]) -> Iterable[dict[str, Any]]:
        for scope in scopes:
            kind, name, actions = scope.split(":")
            of_user = self.allowed.get(user, {})
            may = of_user.get(name, set()) | of_user.get("*", set())
            yield on(name, *sorted(may & set(actions.split(","))), kind=kind)


def variables(server: TokenServer, **files: Path) -> dict[str, str]:
    """As stacks of registry:2 set them; `rootcertbundle=path` or `jwks=path`."""
    return {
        "REGISTRY_AUTH": "token",
        "REGISTRY_AUTH_TOKEN_REALM": server.realm,
        "REGISTRY_AUTH_TOKEN_SERVICE": SERVICE,
        "REGISTRY_AUTH_TOKEN_ISSUER": ISSUER,
        **{f"REGISTRY_AUTH_TOKEN_{name.upper()}": str(path) for name, path in files.items()},
    }
