"""The contract between the API and whatever knows who a caller is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose credentials were right."""

    name: str


class Authenticator(Protocol):
    """Asks for credentials."""

    async def check(self, given: Sequence[bytes], address: str) -> Identity:
        """Say who sent a request.

        Args:
            given: the values of its Authorization headers; empty where it has none.
            address: of the client, as far as it is known; of the mesh or a proxy where one is between.

        Raises:
            Unauthorized: nobody that is known. Its headers have the challenge.
            TooManyRequests: too many wrong passwords of late; with Retry-After.
            Unavailable: too many are being checked; with Retry-After.
        """
