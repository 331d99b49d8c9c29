"""What `registry serve` does by itself, as commands of this command line: each can be run by hand, too."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from registry import app
from registry.commands.garbage import BUSY
from registry.maintenance import Chore

if TYPE_CHECKING:
    from pathlib import Path

    from registry.config import Settings


def scheduled(path: Path | None, settings: Settings) -> list[Chore]:
    """What the settings ask for.

    Args:
        path: the configuration file that the command line names; the commands read it again each time.
        settings: those that are served by.
    """
    if settings.storage.inmemory:
        return []
    command = [sys.executable, "-m", "registry"]
    configuration = [str(path)] if path is not None else []
    chores = []
    if interval := settings.gc.interval.total_seconds():
        flags = ["--json", *(["--delete-untagged"] if settings.gc.deleteuntagged else [])]
        chores.append(
            Chore(
                "garbage collection",
                [*command, "garbage-collect", *configuration, *flags],
                interval,
                (
                    "repositories",
                    "tags_removed",
                    "manifests_removed",
                    "blobs_removed",
                    "bytes_freed",
                    "blobs_kept",
                    "bytes_kept",
                ),
                partial(app.last_collection, settings),
                lambda report: report.get("aborted") == BUSY,
            )
        )
    purging, read_only = settings.storage.maintenance.uploadpurging, settings.storage.maintenance.readonly
    if purging.enabled and not read_only.enabled:
        flags = ["--json", *(["--dry-run"] if purging.dryrun else [])]
        chores.append(
            Chore(
                "purge of abandoned uploads",
                [*command, "purge-uploads", *configuration, *flags],
                purging.interval.total_seconds(),
                ("dry_run", "uploads", "uploads_removed", "bytes_freed"),
            )
        )
    return chores
