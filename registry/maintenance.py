"""What a registry does by itself while it serves: collecting garbage on a schedule, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger("registry.maintenance")

_SPREAD = 600.0  # seconds over which replicas that were started together begin, at most
_TOLD = ("repositories", "manifests_removed", "blobs_removed", "bytes_freed", "blobs_kept", "bytes_kept", "seconds")


@dataclass(frozen=True, slots=True)
class Collections:
    """Garbage collections, one after the other, with an interval between; over all replicas on a storage.

    Attributes:
        command: of one collection; it prints its report as JSON, and reads its own configuration.
        interval: seconds.
        last: when one ended on this storage, whoever ran it, in seconds since the epoch; 0 = none did. Blocks.
        is_busy: whether a report says that another one is at work.
    """

    command: Sequence[str]
    interval: float
    last: Callable[[], float]
    is_busy: Callable[[dict[str, Any]], bool]

    async def run(self) -> None:
        """Until cancelled. One that fails is a line of the log, and the next one comes all the same."""
        tried = 0.0
        while True:
            due = max(await asyncio.to_thread(self.last), tried) + self.interval
            spread = random.uniform(0, min(self.interval / 10, _SPREAD))  # noqa: S311 - no secret
            await asyncio.sleep(max(0.0, due - time.time()) + spread)
            if await asyncio.to_thread(self.last) <= time.time() - self.interval / 2:
                tried = time.time()
                await self._collect()

    async def _collect(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            log.error("garbage collection: cannot be started: %s", error)  # noqa: TRY400
            return
        try:
            printed, complaint = await process.communicate()
        finally:
            if process.returncode is None:  # the server stops: a collection can be ended anywhere
                process.terminate()
                await process.wait()
        self._tell(printed, complaint, process.returncode or 0)

    def _tell(self, printed: bytes, complaint: bytes, status: int) -> None:
        report: dict[str, Any] = {}
        with suppress(ValueError):
            report = json.loads(printed)
        if self.is_busy(report):
            log.info("garbage collection: another one is at work on this storage")
        elif status or not report:
            why = report.get("aborted") or complaint.decode("utf-8", "replace").strip()[-1000:] or f"status {status}"
            log.error("garbage collection failed: %s", why)
        else:
            for problem in report["problems"]:
                log.warning("garbage collection: %s", problem)
            log.info("garbage collected", extra={"fields": {name: report[name] for name in _TOLD}})
