"""Read-only mode that can be switched while the registry serves: by its configuration, or by a mark on the storage."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from registry.oci.errors import Unsupported
from registry.storage import layout
from registry.storage.base import Cold, Missing
from registry.store.base import ReadOnly

if TYPE_CHECKING:
    from registry.storage.base import Records
    from registry.store.base import Store
    from registry.store.threads import Threads


class Mark:
    """The mark on a storage that makes every registry on it read-only, now and after a restart.

    Its content is for people: what counts is that it is there.

    Args:
        records: of the storage.
    """

    def __init__(self, records: Records) -> None:
        self._records = records

    def since(self) -> str | None:
        """When it was made, as RFC 3339 has it; "" where nobody knows, None where there is none."""
        try:
            return self._records.read(layout.READ_ONLY).decode("utf-8", "replace").strip()
        except Missing:
            return None

    def is_there_warm(self) -> bool:
        """As far as memory tells, without waiting for the medium. Raises Cold."""
        try:
            self._records.read_warm(layout.READ_ONLY)
        except Missing:
            return False
        return True

    def make(self) -> None:
        """Durably. One that is there keeps its time."""
        if self.since() is None:
            self._records.write(layout.READ_ONLY, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ\n").encode())

    def remove(self) -> None:
        """Durably. None there is no error."""
        try:
            self._records.delete(layout.READ_ONLY)
        except Missing:
            return


class Switch:
    """Whether clients may change anything now.

    Attributes:
        configured: what the settings say, which may change while the registry serves.
        mark: the one on the storage.
    """

    def __init__(self, mark: Mark, threads: Threads, *, configured: bool) -> None:
        self.configured = configured
        self.mark = mark
        self._threads = threads

    async def reason(self) -> str:
        """What to tell a client that wants to change something; "" where it may."""
        if self.configured:
            return "the registry is read-only (storage.maintenance.readonly)"
        if await self._is_marked():
            return "the registry is read-only for now: its administrator has run `registry read-only on`"
        return ""

    async def _is_marked(self) -> bool:
        try:
            return self.mark.is_there_warm()
        except Cold:
            return await self._threads.look(self.mark.since) is not None


class Switched(ReadOnly):
    """Pulls and lists; everything else only while the switch allows it.

    Looked at when a request begins to change something: one that is being answered then comes to its end.
    """

    def __init__(self, store: Store, switch: Switch) -> None:
        super().__init__(store, "")
        self._switch = switch

    def __getattr__(self, name: str) -> Any:
        super().__getattr__(name)  # what a store has not, this has not either
        return partial(self._if_allowed, name)

    async def _if_allowed(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if reason := await self._switch.reason():
            raise Unsupported(reason)
        return await getattr(self._store, name)(*args, **kwargs)
