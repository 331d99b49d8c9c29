"""Whom a proxy speaks for: `X-Forwarded-For` counts where a proxy that is trusted has written it."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FOR = b"x-forwarded-for"
_WORDS = frozenset({_FOR, b"x-forwarded-host", b"x-forwarded-proto", b"forwarded"})


class Forwarded:
    """Around the app: gives it the client's own address, and no word of proxies that are not trusted.

    Args:
        app: answers requests.
        trusted: networks of the proxies.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app = app
        self._trusted = trusted
        self._is_trusted = lru_cache(maxsize=1024)(self._is_in_one)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if client is not None and self._is_trusted(client[0]):
            scope["client"] = (self._origin(scope, client[0]), client[1])
        else:
            scope["headers"] = [header for header in scope["headers"] if header[0] not in _WORDS]
        await self._app(scope, receive, send)

    def _origin(self, scope: Scope, nearest: str) -> str:
        """Each proxy adds whom it heard from; the last that is no proxy of ours is the client, as far as we know."""
        lines = [value.decode("latin-1") for name, value in scope["headers"] if name == _FOR]
        for given in reversed(",".join(lines).split(",")):
            address = _address(given.strip())
            if address is None:
                break
            nearest = address
            if not self._is_trusted(address):
                break
        return nearest

    def _is_in_one(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self._trusted)


def _address(text: str) -> str | None:
    """An address as some proxies write it, with a port or in brackets; None where it is none."""
    text = text.partition("]")[0].lstrip("[") if text.startswith("[") else text
    if text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
