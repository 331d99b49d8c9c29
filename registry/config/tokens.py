"""Settings of bearer tokens: `auth.tokens` for those that we give out, `auth.token` for those of another server."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path  # noqa: TC003 - pydantic looks it up
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from registry.config.values import REFUSAL, HeaderValue, Period, Section, Several

SigningAlgorithm = Literal["EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"]
SIGNING_ALGORITHMS: list[SigningAlgorithm] = [
    "EdDSA",
    "RS256",
    "RS384",
    "RS512",
    "ES256",
    "ES384",
    "ES512",
    "PS256",
    "PS384",
    "PS512",
]
"""All of them: what registry:3 takes where it is told none."""

_LEAST = timedelta(seconds=60)


def _url(value: str) -> str:
    try:
        url = urlsplit(value)
    except ValueError:
        url = urlsplit("")
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("expected a URL such as https://auth.example.com/token")
    return value


class Tokens(Section):
    """Tokens that this registry gives out itself. `enabled` is None where nobody chose, and then there are none."""

    enabled: bool | None = None
    key: Path | None = None
    lifetime: Period = timedelta(minutes=5)
    refreshlifetime: Period = timedelta(hours=8760)

    @field_validator("lifetime")
    @classmethod
    def _long_enough(cls, value: timedelta) -> timedelta:
        if value < _LEAST:
            raise ValueError("expected 60s or more: clients take no token to be shorter")
        return value


class Token(Section):
    """A token server of somebody else's, as registry:2 and registry:3 have it."""

    realm: Annotated[HeaderValue, AfterValidator(_url)] | None = None
    service: HeaderValue | None = None
    issuer: str | None = None
    rootcertbundle: Path | None = None
    jwks: Path | None = None
    signingalgorithms: Annotated[Several[SigningAlgorithm], Field(min_length=1)] = SIGNING_ALGORITHMS

    @model_validator(mode="after")
    def _whole(self) -> Self:
        missing = [name for name in ("realm", "service", "issuer") if getattr(self, name) is None]
        keys = self.rootcertbundle or self.jwks
        if keys is None:
            missing.append("rootcertbundle (or jwks)")
        if self.is_given and missing:
            raise ValueError(f"expected {', '.join(missing)} too; {REFUSAL}")
        return self

    @property
    def is_given(self) -> bool:
        given = (self.realm, self.service, self.issuer, self.rootcertbundle, self.jwks)
        return any(value is not None for value in given)
