"""What a registry does by itself while it serves: commands on a schedule, each in a process of its own."""

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

_SETTLING = 300.0  # seconds from the start in which a server only serves
_SPREAD = 600.0  # seconds over which replicas that were started together begin, at most


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do again and again, with an interval between; over all replicas on a storage, where `last` tells.

    Attributes:
        name: for the log.
        command: prints its report as JSON, and reads its own configuration.
        interval: seconds.
        told: what of the report the log tells.
        last: when it was done on this storage, whoever did it, in seconds since the epoch; 0 = not known. Blocks.
        is_busy: whether a report says that somebody else is at it.
    """

    name: str
    command: Sequence[str]
    interval: float
    told: Sequence[str]
    last: Callable[[], float] = lambda: 0.0
    is_busy: Callable[[dict[str, Any]], bool] = lambda report: False  # noqa: ARG005

    async def run(self) -> None:
        """Until cancelled. One that fails is a line of the log, and the next one comes all the same."""
        tried = time.time() - self.interval + min(self.interval, _SETTLING)
        while True:
            due = max(await asyncio.to_thread(self.last), tried) + self.interval
            spread = random.uniform(0, min(self.interval / 10, _SPREAD))  # noqa: S311 - no secret
            await asyncio.sleep(max(0.0, due - time.time()) + spread)
            if await asyncio.to_thread(self.last) <= time.time() - self.interval / 2:
                tried = time.time()
                await self._do()

    async def _do(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            log.error("%s: cannot be started: %s", self.name, error)  # noqa: TRY400
            return
        try:
            printed, complaint = await process.communicate()
        finally:
            if process.returncode is None:  # the server stops: a chore can be ended anywhere
                process.terminate()
                await process.wait()
        self._tell(printed, complaint, process.returncode or 0)

    def _tell(self, printed: bytes, complaint: bytes, status: int) -> None:
        report: dict[str, Any] = {}
        with suppress(ValueError):
            report = json.loads(printed)
        if self.is_busy(report):
            log.info("%s: somebody else is at it on this storage", self.name)
        elif status or not report:
            why = report.get("aborted") or complaint.decode("utf-8", "replace").strip()[-1000:] or f"status {status}"
            log.error("%s failed: %s", self.name, why)
        else:
            for problem in report.get("problems", ()):
                log.warning("%s: %s", self.name, problem)
            log.info("%s: done", self.name, extra={"fields": {name: report[name] for name in self.told}})


async def run(chores: Sequence[Chore]) -> None:
    """Do them all, each at its time, until cancelled."""
    await asyncio.gather(*(chore.run() for chore in chores))
