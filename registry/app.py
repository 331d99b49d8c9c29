"""The composition root: settings -> storage -> store -> policies -> routes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from registry.api.context import Context, Locations
from registry.api.middleware import Edge, Traffic
from registry.api.routes import Router
from registry.oci.manifest import Platform
from registry.storage.filesystem import FilesystemBlobs, FilesystemRecords
from registry.storage.memory import MemoryBlobs, MemoryRecords
from registry.storage.root import Filesystem
from registry.store.base import KeepEverything, ReadOnly, Store
from registry.store.local import LocalStore
from registry.store.rules import Rules
from registry.store.threads import Threads

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from registry.config import Settings
    from registry.config.settings import Validation
    from registry.storage.base import Blobs, Records


@dataclass(frozen=True, slots=True)
class Application:
    """The ASGI app, and what a server must know to stop it without hurting anybody."""

    asgi: ASGIApp
    traffic: Traffic


class EmptyVolume(Exception):
    """The storage holds no registry yet, and the settings require one."""


def build(settings: Settings) -> Application:
    """Put the registry together.

    Raises:
        OSError: the storage's root cannot be made or written to.
        EmptyVolume: `requirevolume` is set, and no registry was served from it before.
    """
    threads = Threads(settings.storage.filesystem.maxthreads)
    blobs, records = _storage(settings)
    store = _with_policies(LocalStore(blobs, records, threads, _rules(settings.validation)), settings)
    traffic = Traffic()
    locations = Locations(
        prefix=settings.http.prefix.rstrip("/"),
        host=(settings.http.host or "").rstrip("/"),
        absolute=settings.http.relativeurls is False,
    )
    routes = Router(Context(store, traffic, locations, settings.catalog.maxentries, settings.tags.maxtags))
    return Application(Edge(routes, traffic, settings.http.headers, threads.adopt), traffic)


def _storage(settings: Settings) -> tuple[Blobs, Records]:
    if settings.storage.inmemory:
        return MemoryBlobs(), MemoryRecords()
    options = settings.storage.filesystem
    files = Filesystem(options.rootdirectory, options.minfreespace)
    if options.requirevolume and not files.holds_a_registry():
        raise EmptyVolume
    if not settings.storage.maintenance.readonly.enabled:
        files.require_writable()
        files.volume_id()
    return FilesystemBlobs(files), FilesystemRecords(files)


def _with_policies(store: Store, settings: Settings) -> Store:
    if not settings.storage.delete.enabled:
        store = cast("Store", KeepEverything(store, "deletes are switched off (storage.delete.enabled)"))
    if settings.storage.maintenance.readonly.enabled:
        store = cast("Store", ReadOnly(store, "the registry is read-only (storage.maintenance.readonly)"))
    return store


def _rules(validation: Validation) -> Rules:
    if not validation.active:
        return Rules(platforms=frozenset())
    urls, indexes = validation.manifests.urls, validation.manifests.indexes
    listed = (
        Platform(architecture=one.architecture, os=one.os, variant=one.variant or "") for one in indexes.platformlist
    )
    platforms = {"all": None, "none": frozenset[Platform](), "list": frozenset(listed)}[indexes.platforms]
    return Rules(platforms, tuple(map(re.compile, urls.allow)), tuple(map(re.compile, urls.deny)))
