"""What `registry serve` does at SIGHUP: read its files again, and take over what can change while it serves."""

from __future__ import annotations

import asyncio
import logging
import os
from operator import attrgetter
from typing import TYPE_CHECKING

from registry import app, config
from registry.commands.console import reason
from registry.config.settings import leaves

if TYPE_CHECKING:
    from pathlib import Path

    from registry.config import Settings
    from registry.server import Renewal
    from registry.store.readonly import Switch

log = logging.getLogger("registry")

_AT_ONCE = "storage.maintenance.readonly.enabled"


class Rereading:
    """Takes over certificates and read-only mode; names all else that has changed.

    Args:
        path: the configuration file that the command line names.
        settings: those that are served by.
        read_only: the switch.
        tls: the certificate.
    """

    def __init__(self, path: Path | None, settings: Settings, read_only: Switch, tls: Renewal | None) -> None:
        self._path = path
        self._settings = settings
        self._read_only = read_only
        self._tls = tls
        self._one = asyncio.Lock()

    async def __call__(self) -> None:
        """A configuration with mistakes changes nothing; the log has them."""
        async with self._one:
            if self._tls is not None:
                await self._tls.look()
            try:
                settings = await asyncio.to_thread(self._load)
            except config.ConfigurationError as error:
                self._refuse(error)
            else:
                await self._take(settings)

    def _load(self) -> Settings:
        return config.load(config.find(self._path, os.environ), os.environ).settings

    def _refuse(self, error: config.ConfigurationError) -> None:
        for line in str(error).splitlines():
            log.error("configuration: read again, and not taken over: %s", line)

    async def _take(self, settings: Settings) -> None:
        waiting = [name for name in _changed(self._settings, settings) if name != _AT_ONCE]
        if waiting:
            log.warning("configuration: changed, but this counts from the next start on: %s", ", ".join(waiting))
        wanted = settings.storage.maintenance.readonly.enabled
        if wanted == self._read_only.configured:
            log.info("configuration: read again; read-only mode is as it was")
            return
        if not wanted and (obstacle := await asyncio.to_thread(self._obstacle)):
            log.error("read-only: stays on: cannot write to %s", obstacle)
            return
        self._read_only.configured = wanted
        log.info("read-only: %s (%s)", "on" if wanted else "off", _AT_ONCE)

    def _obstacle(self) -> str:
        """What is in the way of writing to a storage that was begun with as read-only."""
        try:
            app.prepare(self._settings)
        except OSError as error:
            return f"{error.filename}: {reason(error)}"
        return ""


def _changed(before: Settings, after: Settings) -> list[str]:
    """The settings that differ, by their dotted names."""
    names = [".".join(path) for path, _ in leaves()]
    return [name for name in names if attrgetter(name)(before) != attrgetter(name)(after)]
