"""The composition root: settings -> storage -> store -> policies -> routes; or a command's work."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from registry.api.context import Context, Locations
from registry.api.forwarded import Forwarded
from registry.api.health import Storage as Watched
from registry.api.middleware import Edge
from registry.api.routes import Router
from registry.api.traffic import Traffic
from registry.archive.exporting import Exporter
from registry.archive.importing import Importer
from registry.auth.access import Access, Grant
from registry.auth.base import Action
from registry.auth.bearer import ForeignTokens, OwnTokens
from registry.auth.jws import Invalid, SigningKey
from registry.auth.passwordfile import PasswordFile
from registry.auth.passwords import Passwords
from registry.auth.service import Lifetimes, TokenService
from registry.auth.tokens import Terms
from registry.config.access import ANONYMOUS, AUTHENTICATED
from registry.oci.errors import NameInvalid
from registry.oci.manifest import Platform
from registry.oci.names import RepositoryName
from registry.oci.patterns import RepositoryPattern
from registry.storage import layout
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.memory import MemoryBlobs, MemoryRecords
from registry.storage.root import Filesystem
from registry.store import catalog, expiry, gc, retiring, usage
from registry.store.accounts import Accounts, Limit
from registry.store.base import KeepEverything, Store
from registry.store.census import Census
from registry.store.gc import Collector, Options
from registry.store.immutable import ImmutableTags, Protection
from registry.store.local import LEASE, LocalStore
from registry.store.quota import Quota
from registry.store.readonly import Mark, Switch, Switched
from registry.store.retention import KEEP_EVERYTHING, Policy, Retention, Rule
from registry.store.rules import Rules
from registry.store.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from starlette.types import ASGIApp

    from registry.archive import base as archive
    from registry.archive.importing import Naming
    from registry.archive.plan import Choice
    from registry.auth.base import Authenticator
    from registry.auth.trust import TrustFiles
    from registry.config import Settings
    from registry.config import retention as config
    from registry.config.access import AccessRule
    from registry.config.settings import Auth, Validation
    from registry.storage.base import Blobs, Records
    from registry.store.gc import Watch
    from registry.store.retention import Verdict

log = logging.getLogger("registry")


@dataclass(frozen=True, slots=True)
class Application:
    """The ASGI app, and what a server must know to stop it without hurting anybody."""

    asgi: ASGIApp
    traffic: Traffic
    read_only: Switch


@dataclass(frozen=True, slots=True)
class Opened:
    """Files that only root may be able to read.

    Attributes:
        users: of `auth.htpasswd`.
        key: of `auth.tokens`; None = the one on the volume.
        trust: the keys of `auth.token`.
    """

    users: PasswordFile | None = None
    key: SigningKey | None = None
    trust: TrustFiles | None = None


NOTHING = Opened()


class EmptyVolume(Exception):
    """The storage holds no registry yet, and the settings or the task require one."""


def build(settings: Settings, opened: Opened = NOTHING, *, lease: float = LEASE) -> Application:
    """Put the registry together.

    Args:
        settings: what the administrator wants.
        opened: what had to be opened before root was given up.
        lease: of `LocalStore`.

    Raises:
        OSError: the storage's root cannot be made or written to.
        EmptyVolume: `requirevolume` is set, and no registry was served from it before.
        Invalid: the key on the volume is none.
    """
    threads = Threads(settings.storage.filesystem.maxthreads)
    blobs, records = _storage(settings)
    store, switch, census = _store(settings, blobs, records, threads, lease)
    traffic = Traffic(settings.workers)
    locations = Locations(
        prefix=settings.http.prefix.rstrip("/"),
        host=(settings.http.host or "").rstrip("/"),
        absolute=settings.http.relativeurls is False,
    )
    access = _access(settings.auth)
    passwords = _passwords(settings, opened.users, access)
    authenticator, tokens = _authentication(settings, opened, passwords, access)
    limits = settings.catalog.maxentries, settings.tags.maxtags
    watched = _watched(settings)
    routes = Router(Context(store, traffic, locations, *limits, authenticator, tokens, watched))
    living = _Living(threads, traffic, passwords, watched, census)
    trusted = settings.http.trustedproxies
    answering = cast("ASGIApp", Forwarded(routes, trusted) if trusted else routes)
    return Application(Edge(answering, traffic, settings.http.headers, living), traffic, switch)


def prepare(settings: Settings) -> None:
    """Make the storage ready for writes, as `build` does unless it is read-only.

    Raises:
        OSError: it takes none.
    """
    if not settings.storage.inmemory:
        _prepare(Filesystem(settings.storage.filesystem.rootdirectory))


def mark(settings: Settings) -> Mark:
    """The mark that makes a storage read-only.

    Raises:
        EmptyVolume: there is no registry in the storage.
    """
    files = Filesystem(settings.storage.filesystem.rootdirectory)
    if not files.holds_a_registry():
        raise EmptyVolume
    return Mark(FilesystemRecords(files))


def collector(settings: Settings, options: Options, watch: Watch) -> Collector:
    """Put a garbage collection together, for a storage that a registry is or was served from.

    Raises:
        OSError: the storage cannot be written to.
        EmptyVolume: there is no registry in it.
    """
    files = Filesystem(settings.storage.filesystem.rootdirectory)
    if not files.holds_a_registry():
        raise EmptyVolume
    if not options.dry_run:
        files.require_writable()
    records = FilesystemRecords(files)
    is_read_only = settings.storage.maintenance.readonly.enabled or Mark(records).since() is not None
    wanted = _retention(settings.retention)
    made = Collector(
        FilesystemBlobs(files), records, replace(options, retention=KEEP_EVERYTHING if is_read_only else wanted), watch
    )
    if is_read_only and wanted.removes_something:
        made.report.problems.append("retention did not run: the registry is read-only")
    return made


def preview(
    settings: Settings, chosen: Sequence[RepositoryPattern]
) -> Iterator[tuple[RepositoryName, Policy, list[Verdict]]]:
    """What retention would do now to the tags of each repository that one of its policies is about.

    Args:
        settings: with the policies.
        chosen: of these repositories only; none = of all.

    Raises:
        EmptyVolume: there is no registry in the storage.
    """
    files = Filesystem(settings.storage.filesystem.rootdirectory)
    if not files.holds_a_registry():
        raise EmptyVolume
    return _previewed(FilesystemRecords(files), _retention(settings.retention), chosen)


def _previewed(
    records: Records, retention: Retention, chosen: Sequence[RepositoryPattern]
) -> Iterator[tuple[RepositoryName, Policy, list[Verdict]]]:
    for path in catalog.every(records):
        try:
            name = RepositoryName(path)
        except NameInvalid:
            continue
        policy = retention.policy(name)
        if policy is not None and (not chosen or any(pattern.matches(name) for pattern in chosen)):
            yield name, policy, retiring.verdicts(records, retention, name, time.time())


def exporter(settings: Settings, choice: Choice, watch: archive.Watch) -> Exporter:
    """Put an export together. It changes nothing in the storage.

    Raises:
        EmptyVolume: there is no registry in it.
    """
    files = Filesystem(settings.storage.filesystem.rootdirectory)
    if not files.holds_a_registry():
        raise EmptyVolume
    return Exporter(FilesystemBlobs(files), FilesystemRecords(files), choice, watch)


def importer(settings: Settings, naming: Naming, watch: archive.Watch, *, verify: bool) -> tuple[Importer, Switch]:
    """Put an import together: into the store that clients push to, policies and all; and what may forbid it.

    Raises:
        OSError: the storage cannot be written to.
        EmptyVolume: `requirevolume` is set, and no registry was served from it before.
    """
    threads = Threads(settings.storage.filesystem.maxthreads)
    blobs, records = _storage(settings)
    store, switch, _ = _store(settings, blobs, records, threads)
    return Importer(store, blobs, records, threads, naming, watch, verify=verify), switch


def expire_uploads(settings: Settings, cutoff: float, *, dry_run: bool) -> expiry.Report:
    """See `store.expiry.expire`. Raises EmptyVolume."""
    files = Filesystem(settings.storage.filesystem.rootdirectory)
    if not files.holds_a_registry():
        raise EmptyVolume
    return expiry.expire(FilesystemBlobs(files), FilesystemRecords(files), cutoff, dry_run=dry_run)


def take_usage(settings: Settings, options: Options, watch: Watch) -> tuple[usage.Usage, tuple[int, int]]:
    """See `store.usage.take`; and the bytes that are free on the disk, and that it has. Raises EmptyVolume."""
    files = Filesystem(settings.storage.filesystem.rootdirectory)
    if not files.holds_a_registry():
        raise EmptyVolume
    blobs, records = FilesystemBlobs(files), FilesystemRecords(files)
    options = replace(options, retention=_retention(settings.retention))
    return usage.take(blobs, records, options, _limits(settings), watch), files.room()


def last_collection(settings: Settings) -> float:
    """See `store.gc.last_collection`."""
    return gc.last_collection(FilesystemRecords(Filesystem(settings.storage.filesystem.rootdirectory)))


def _storage(settings: Settings) -> tuple[Blobs, Records]:
    if settings.storage.inmemory:
        return MemoryBlobs(), MemoryRecords()
    options = settings.storage.filesystem
    files = Filesystem(options.rootdirectory, options.minfreespace)
    if options.requirevolume and not files.holds_a_registry():
        raise EmptyVolume
    if not settings.storage.maintenance.readonly.enabled:
        _prepare(files)
    return FilesystemBlobs(files), FilesystemRecords(files)


def _watched(settings: Settings) -> Watched | None:
    if settings.storage.inmemory:
        return None
    options = settings.storage.filesystem
    files = Filesystem(options.rootdirectory, options.minfreespace)
    return Watched(files.require_there if settings.storage.maintenance.readonly.enabled else files.require_usable)


def _prepare(files: Filesystem) -> None:
    files.require_writable()
    files.volume_id()


def _access(auth: Auth) -> Access:
    """The rules, with groups as the users that are in them."""
    if auth.access is None:
        return Access(None)
    return Access([_grant(rule, auth.groups) for rule in auth.access])


def _grant(rule: AccessRule, groups: Mapping[str, Sequence[str]]) -> Grant:
    users = {*rule.users, *(user for group in rule.groups for user in groups[group])}
    patterns = tuple(map(RepositoryPattern, rule.repositories))
    actions = frozenset(Action(action) for action in rule.actions)
    return Grant(
        frozenset(users - {ANONYMOUS, AUTHENTICATED}),
        everyone=AUTHENTICATED in rule.users,
        anonymous=ANONYMOUS in rule.users,
        repositories=patterns,
        actions=actions,
    )


def _passwords(settings: Settings, users: PasswordFile | None, access: Access) -> Passwords | None:
    wanted = settings.auth.htpasswd
    if wanted.path is None or wanted.realm is None:
        return None
    return Passwords(users or PasswordFile(wanted.path), wanted.realm, access=access, processes=settings.workers)


def _authentication(
    settings: Settings, opened: Opened, passwords: Passwords | None, access: Access
) -> tuple[Authenticator | None, TokenService | None]:
    """Who checks credentials, and who gives tokens out."""
    if opened.trust is not None:
        wanted = settings.auth.token
        terms = Terms(str(wanted.issuer), str(wanted.service))
        return ForeignTokens(opened.trust, terms, str(wanted.realm)), None
    enabled = settings.auth.tokens.enabled
    if passwords is None or not (access.let_anonymous_in if enabled is None else enabled):
        return passwords, None
    key = opened.key or _signing_key(settings)
    times = settings.auth.tokens
    lifetimes = Lifetimes(times.lifetime.total_seconds(), times.refreshlifetime.total_seconds())
    return OwnTokens(passwords, key, access), TokenService(passwords, key, lifetimes)


def _signing_key(settings: Settings) -> SigningKey:
    """The one on the volume, which all that share the volume sign with."""
    if settings.storage.inmemory:
        return SigningKey.generate()
    files = Filesystem(settings.storage.filesystem.rootdirectory)
    path = files.path(layout.SIGNING_KEY)
    if settings.storage.maintenance.readonly.enabled and not Path(path).exists():
        log.warning("%s is not there, and the storage is read-only: tokens end with this process", path)
        return SigningKey.generate()
    try:
        return SigningKey.parse(files.secret(layout.SIGNING_KEY, SigningKey.generate().pem))
    except Invalid as error:
        raise Invalid(f"{path}: {error}") from None


def _store(
    settings: Settings, blobs: Blobs, records: Records, threads: Threads, lease: float = LEASE
) -> tuple[Store, Switch, Census | None]:
    switch = Switch(Mark(records), threads, configured=settings.storage.maintenance.readonly.enabled)
    immutable = _immutable(settings.retention)
    local = LocalStore(blobs, records, threads, _rules(settings.validation), immutable, lease=lease)
    limits = _limits(settings)
    census = Census(blobs, records, Accounts(limits, settings.workers), threads) if limits else None
    return _with_policies(local, settings, switch, census), switch, census


def _with_policies(store: Store, settings: Settings, switch: Switch, census: Census | None) -> Store:
    if not settings.storage.delete.enabled:
        store = cast("Store", KeepEverything(store, "deletes are switched off (storage.delete.enabled)"))
    if census is not None:
        store = cast("Store", Quota(store, census))
    return cast("Store", Switched(store, switch))


def _limits(settings: Settings) -> list[Limit]:
    quota = settings.quota
    whole = [Limit("quota.total", quota.total)] if quota.total else []
    parts = (
        Limit(f"quota.limits.{number}", one.together, tuple(map(RepositoryPattern, one.repositories)))
        for number, one in enumerate(quota.limits)
    )
    return [*whole, *parts]


def _rules(validation: Validation) -> Rules:
    if not validation.active:
        return Rules(platforms=frozenset())
    urls, indexes = validation.manifests.urls, validation.manifests.indexes
    listed = (
        Platform(architecture=one.architecture, os=one.os, variant=one.variant or "") for one in indexes.platformlist
    )
    platforms = {"all": None, "none": frozenset[Platform](), "list": frozenset(listed)}[indexes.platforms]
    return Rules(platforms, tuple(map(re.compile, urls.allow)), tuple(map(re.compile, urls.deny)))


def _retention(wanted: config.Retention) -> Retention:
    policies = [
        Policy(
            f"retention.policies.{number}",
            tuple(map(RepositoryPattern, policy.repositories)),
            None if policy.keep is None else tuple(_rule(number, *numbered) for numbered in enumerate(policy.keep)),
            _seconds(policy.untagged),
        )
        for number, policy in enumerate(wanted.policies)
    ]
    return Retention(policies, _immutable(wanted))


def _rule(policy: int, number: int, keep: config.Keep) -> Rule:
    setting = f"retention.policies.{policy}.keep.{number}"
    return Rule(setting, tuple(map(re.compile, keep.tags)), keep.last, _seconds(keep.younger), keep.versions)


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _immutable(retention: config.Retention) -> ImmutableTags:
    return ImmutableTags(
        tuple(
            Protection(
                f"retention.policies.{number}.immutable",
                tuple(map(RepositoryPattern, policy.repositories)),
                tuple(map(re.compile, policy.immutable)),
            )
            for number, policy in enumerate(retention.policies)
            if policy.immutable
        )
    )


@dataclass(frozen=True, slots=True)
class _Living:
    """What begins and ends with the event loop. The loop ends the store's threads itself, after their last call."""

    threads: Threads
    traffic: Traffic
    passwords: Passwords | None
    watched: Watched | None
    census: Census | None

    def begin(self) -> None:
        self.threads.adopt(asyncio.get_running_loop())
        if self.watched is not None:
            self.watched.begin()
        if self.census is not None:
            self.census.begin(self.traffic.process)

    def end(self) -> None:
        if self.census is not None:
            self.census.end()
        if self.watched is not None:
            self.watched.end()
        if self.passwords is not None:
            self.passwords.close()
