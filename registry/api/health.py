"""Whether the registry is alive, and whether it is ready for work: what load balancers and monitoring ask."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from registry.api.responses import json_response
from registry.api.traffic import Stage, stopping
from registry.oci.errors import RegistryError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from registry.api.context import Context

_EVERY = 5.0  # seconds between two looks
_PATIENCE = 10.0  # seconds that a look may take: a disk that hangs is none

log = logging.getLogger("registry.health")


class Storage:
    """Looks at the storage every few seconds, in a thread of its own, so that no question waits for a disk.

    Args:
        look: raises OSError or RegistryError where the storage takes no content.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._usable = True
        self._seen = time.monotonic()
        self._end = threading.Event()

    def begin(self) -> None:
        self._seen = time.monotonic()
        threading.Thread(target=self._watch, name="health", daemon=True).start()

    def end(self) -> None:
        self._end.set()

    @property
    def is_usable(self) -> bool:
        return self._usable and time.monotonic() - self._seen < _EVERY + _PATIENCE

    def _watch(self) -> None:
        while not self._end.is_set():
            self._note()
            self._end.wait(_EVERY)

    def _note(self) -> None:
        try:
            self._look()
        except (OSError, RegistryError) as error:
            if self._usable:
                log.error("not ready: %s", error)  # noqa: TRY400 - what is wrong is the disk
            self._usable = False
        else:
            if not self._usable:
                log.info("ready again")
            self._usable = True
        self._seen = time.monotonic()


async def alive(api: Context, request: Request) -> ASGIApp:  # noqa: ARG001
    """`GET /healthz`: the event loop answers."""
    return json_response({"status": "alive"})


async def ready(api: Context, request: Request) -> ASGIApp:  # noqa: ARG001
    """`GET /readyz`. Raises Unavailable, which tells a stranger no path and no figure: the log has them."""
    if api.traffic.stage is not Stage.SERVING:
        raise stopping()
    if api.storage is not None and not api.storage.is_usable:
        raise Unavailable("the registry's storage takes no content: the registry's log says why")
    return json_response({"status": "ready"})
