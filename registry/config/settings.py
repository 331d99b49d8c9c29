"""The settings tree: every key that has an effect, with its type and its default.

The names are those of registry:2's configuration file; `docs/configuration.md` says what each does, and a
test holds the two together. Keys of registry:2 that have no effect here stand in `inherited.py`.

The tree is plain pydantic and not pydantic-settings: there, sources are merged by key, while a variable of
registry:2 may also replace a whole map or address one element of a list in what the file says.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, Field, IPvAnyNetwork, ValidationInfo, field_validator, model_validator

from registry.config.access import AccessRule  # noqa: TC001 - pydantic looks it up
from registry.config.quota import Quota
from registry.config.retention import Retention
from registry.config.tokens import Token, Tokens
from registry.config.values import (
    REFUSAL,
    Duration,
    HeaderName,
    HeaderValue,
    Period,
    Regex,
    Secret,
    Section,
    Several,
    Size,
    lower,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_WORKERS = 2  # where nothing is said: each takes some memory, and two are ahead of most networks
_TCP_ADDRESS = re.compile(r"([^\[\]:/]*|\[[0-9A-Fa-f:.]+(?:%\w+)?\]):([0-9]{1,5})")


class AccessLog(Section):
    disabled: bool = False


class Log(Section):
    level: Annotated[Literal["error", "warn", "info", "debug"], BeforeValidator(lower)] = "info"
    formatter: Literal["text", "json"] = "text"
    fields: dict[str, Any] = {}
    accesslog: AccessLog = AccessLog()


class Filesystem(Section):
    rootdirectory: Path = Path("/var/lib/registry")
    maxthreads: Annotated[int, Field(ge=0)] = 100
    minfreespace: Size = 256 << 20
    requirevolume: bool = False

    @field_validator("maxthreads")
    @classmethod
    def _at_least_25(cls, value: int) -> int:
        # registry:2 lifts a smaller number in silence, so an existing configuration may hold one.
        return max(value, 25)


class Delete(Section):
    enabled: bool = True


class ReadOnly(Section):
    enabled: bool = False


class UploadPurging(Section):
    enabled: bool = True
    age: Period = timedelta(hours=168)
    interval: Period = timedelta(hours=24)
    dryrun: bool = False


class Maintenance(Section):
    readonly: ReadOnly = ReadOnly()
    uploadpurging: UploadPurging = UploadPurging()


class Storage(Section):
    """Where the data is. `filesystem` counts unless `inmemory` is true."""

    filesystem: Filesystem = Filesystem()
    inmemory: bool = False
    delete: Delete = Delete()
    maintenance: Maintenance = Maintenance()


class Htpasswd(Section):
    """Passwords, if both are given."""

    realm: HeaderValue | None = None
    path: Path | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.realm is None) != (self.path is None):
            raise ValueError(f"expected realm and path together; {REFUSAL}")
        return self


class Auth(Section):
    """Who may do what. `access` of None: every user everything."""

    htpasswd: Htpasswd = Htpasswd()
    access: list[AccessRule] | None = None
    groups: dict[str, Several[str]] = {}
    token: Token = Token()
    tokens: Tokens = Tokens()

    @model_validator(mode="after")
    def _tokens_for_somebody(self) -> Self:
        if self.tokens.enabled and self.htpasswd.path is None:
            raise ValueError(f"expected htpasswd too, where tokens.enabled is true; {REFUSAL}")
        return self

    @model_validator(mode="after")
    def _rules_for_somebody(self) -> Self:
        if self.access is None:
            return self
        if self.htpasswd.path is None:
            raise ValueError(f"expected htpasswd too, where access is given; {REFUSAL}")
        named = {group for rule in self.access for group in rule.groups}
        if unknown := sorted(named - self.groups.keys()):
            raise ValueError(f"access names groups that are not in auth.groups: {', '.join(unknown)}; {REFUSAL}")
        return self


class Tls(Section):
    """Serving HTTPS. `ciphersuites` has Go's names (`TLS_AES_128_GCM_SHA256`), which are not checked here."""

    certificate: Path | None = None
    key: Path | None = None
    clientcas: Several[Path] = []
    clientauth: Literal[
        "request-client-cert",
        "require-any-client-cert",
        "verify-client-cert-if-given",
        "require-and-verify-client-cert",
    ] = "require-and-verify-client-cert"
    minimumtls: Literal["tls1.0", "tls1.1", "tls1.2", "tls1.3"] = "tls1.2"
    ciphersuites: Several[str] = []

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("expected certificate and key together, or neither")
        return self


class Prometheus(Section):
    enabled: bool = False
    path: str = "/metrics"


class Debug(Section):
    addr: str | None = None
    prometheus: Prometheus = Prometheus()


class Http(Section):
    net: Literal["tcp", "unix"] = "tcp"  # before addr, whose form depends on it
    addr: str = ":5000"
    host: str | None = None
    prefix: str = ""
    secret: Secret | None = None
    relativeurls: bool | None = None
    draintimeout: Duration = timedelta(seconds=60)
    trustedproxies: Several[IPvAnyNetwork] = []
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    headers: dict[HeaderName, Several[HeaderValue]] = {"X-Content-Type-Options": ["nosniff"]}
    tls: Tls = Tls()
    debug: Debug = Debug()

    @field_validator("addr")
    @classmethod
    def _listenable(cls, value: str, others: ValidationInfo) -> str:
        if others.data.get("net") == "unix":
            return value
        parts = _TCP_ADDRESS.fullmatch(value)
        if parts is None or int(parts[2]) > 65535:
            raise ValueError("expected an address and port such as :5000 or 127.0.0.1:5000")
        return value

    @field_validator("host")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            url = urlsplit(value)
        except ValueError:
            url = urlsplit("")
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ValueError("expected a URL such as https://registry.example.com")
        return value

    @field_validator("prefix")
    @classmethod
    def _between_slashes(cls, value: str) -> str:
        name = value.strip("/")
        return f"/{name}/" if name else ""


class Catalog(Section):
    maxentries: int = 1000

    @field_validator("maxentries")
    @classmethod
    def _of_use(cls, value: int) -> int:
        return value if value > 0 else 1000  # as registry:2 takes 0 and less


class Tags(Section):
    maxtags: int | None = None

    @field_validator("maxtags")
    @classmethod
    def _of_use(cls, value: int | None) -> int | None:
        return value if value is not None and value > 0 else None


class Urls(Section):
    allow: Several[Regex] = []
    deny: Several[Regex] = []


class Platform(Section):
    architecture: str
    os: str
    variant: str | None = None


class Indexes(Section):
    platforms: Annotated[Literal["all", "none", "list"], BeforeValidator(lower)] = "all"
    platformlist: list[Platform] = []


class Manifests(Section):
    urls: Urls = Urls()
    indexes: Indexes = Indexes()


class Validation(Section):
    enabled: bool = False
    disabled: bool = False
    manifests: Manifests = Manifests()

    @property
    def active(self) -> bool:
        """Whether manifests are checked. As in registry:2, `enabled: true` wins over `disabled: true`."""
        return self.enabled or not self.disabled


class Gc(Section):
    """Collecting garbage. The grace is twice the lease that a server relies on (`store.local.LEASE`), or more."""

    grace: Period = timedelta(hours=1)
    interval: Duration = timedelta()
    deleteuntagged: bool = False

    @field_validator("grace")
    @classmethod
    def _long_enough(cls, value: timedelta) -> timedelta:
        if value < timedelta(hours=1):
            raise ValueError("expected 1h or more: a push under way relies on it")
        return value


class Settings(Section):
    """All settings in effect. Frozen; `http.secret` hides itself in logs and in repr."""

    version: Literal["0.1"] = "0.1"
    log: Log = Log()
    storage: Storage = Storage()
    auth: Auth = Auth()
    http: Http = Http()
    catalog: Catalog = Catalog()
    tags: Tags = Tags()
    validation: Validation = Validation()
    gc: Gc = Gc()
    quota: Quota = Quota()
    retention: Retention = Retention()

    @property
    def workers(self) -> int:
        """How many processes serve: a store in memory has one."""
        return 1 if self.storage.inmemory else self.http.workers or min(_WORKERS, len(os.sched_getaffinity(0)))


class Leaf(Enum):
    """What a key holds where the tree ends."""

    SCALAR = auto()
    LIST = auto()
    MAP = auto()
    FREE = auto()  # anything: what lies below is not ours to know


Schema: TypeAlias = "dict[str, Schema | Leaf]"


def schema(section: type[BaseModel] = Settings) -> Schema:
    """The names of the tree, down to what each leaf holds."""
    return {name: _shape(field) for name, field in section.model_fields.items()}


def leaves(section: type[BaseModel] = Settings) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every setting with its path (`("http", "addr")`), in the order of the tree."""
    for name, field in section.model_fields.items():
        if inner := _section(field):
            yield from (((name, *path), leaf) for path, leaf in leaves(inner))
        else:
            yield (name,), field


def _shape(field: FieldInfo) -> Schema | Leaf:
    if inner := _section(field):
        return schema(inner)
    container = get_origin(field.annotation)
    if container is list:
        return Leaf.LIST
    return Leaf.MAP if container is dict else Leaf.SCALAR


def _section(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None
