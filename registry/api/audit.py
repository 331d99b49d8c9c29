"""Who did what: a line of the log for each push and each delete, whatever came of it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from registry.oci.errors import InternalError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from starlette.types import Message, Scope, Send

log = logging.getLogger("registry.audit")


@contextmanager
def audited(what: str, scope: Scope, send: Send) -> Iterator[Callable[[Message], Awaitable[None]]]:
    """Around the answer of a request: gives what it is to be sent by."""
    status = InternalError.status

    def send_and_note(message: Message) -> Awaitable[None]:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        return send(message)

    try:
        yield send_and_note
    except RegistryError as error:
        status = error.status
        raise
    finally:
        log.info(what, extra={"fields": _fields(scope, status)})


def _fields(scope: Scope, status: int) -> dict[str, str | int]:
    caller, client, parameters = scope.get("caller"), scope.get("client"), scope["path_params"]
    return {
        "user": (caller.name if caller is not None else "") or "-",
        "address": client[0] if client else "-",
        "repository": parameters["repository"],
        "reference": parameters.get("reference") or parameters.get("digest", ""),
        "status": status,
    }
