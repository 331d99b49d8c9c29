"""The contract between the API and whatever knows who a caller is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.oci.errors import RegistryError
    from registry.oci.names import RepositoryName


class Action(Enum):
    """What can be done."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CATALOG = "catalog"


@dataclass(frozen=True, slots=True)
class Need:
    """What a request does, and in which repository: None for the catalog, and for what reaches into all of them."""

    action: Action
    repository: RepositoryName | None = None


class Caller(Protocol):
    """Who sent a request."""

    @property
    def name(self) -> str:
        """Of the user; "" for whoever has none."""

    def may(self, need: Need) -> bool:
        """Whether that is allowed."""

    def sees(self, repository: RepositoryName | None) -> bool:
        """Whether the catalog shows a repository to him, if he may see the catalog at all; None stands for all."""

    def refusal(self) -> RegistryError:
        """What he is told where he may not: that other credentials would help (Unauthorized), or none (Denied)."""


class Authenticator(Protocol):
    """Asks for credentials."""

    async def check(self, given: Sequence[bytes], address: str) -> Caller:
        """Say who sent a request. Where nobody needs credentials for everything, that may be somebody without a name.

        Args:
            given: the values of its Authorization headers; empty where it has none.
            address: of the client, as far as it is known; of the mesh or a proxy where one is between.

        Raises:
            Unauthorized: nobody that is known.
            TooManyRequests: too many wrong passwords of late; with Retry-After.
            Unavailable: too many are being checked; with Retry-After.
        """

    def challenge(self, needs: Sequence[Need], base: str, error: str = "") -> str:
        """The value of WWW-Authenticate that asks for credentials which allow all of that.

        Args:
            needs: what the request would do.
            base: URL of this registry as the client knows it, without a slash at its end.
            error: RFC 6750's word for what is wrong with a token.
        """
