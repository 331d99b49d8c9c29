"""Names below a collection in ASCII order, remembered for as long as the collection does not change."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.storage.base import Key, Records

    Order = Callable[[list[str]], list[str]]

_REMEMBERED = 200_000  # names of all collections, at about 100 bytes


class Names:
    """Sorted names, so that a page costs what is on it, and not what stands before it.

    Args:
        records: what is listed.
        order: which names count, in which order.
    """

    def __init__(self, records: Records, order: Order) -> None:
        self._records = records
        self._order = order
        self._known: OrderedDict[Key, tuple[object, list[str]]] = OrderedDict()
        self._total = 0
        self._lock = Lock()

    def below(self, key: Key) -> list[str]:
        """Names directly below `key`; not to be changed. Blocks."""
        version = self._records.version(key)  # before the list: a name that comes in between makes it differ
        with self._lock:
            known = self._known.get(key)
            if known is not None and version is not None and known[0] == version:
                self._known.move_to_end(key)
                return known[1]
        names = self._order(self._records.list(key))
        self._remember(key, version, names)
        return names

    def _remember(self, key: Key, version: object, names: list[str]) -> None:
        with self._lock:
            _, before = self._known.pop(key, (None, []))
            self._total -= len(before)
            if version is None:
                return
            self._known[key] = (version, names)
            self._total += len(names)
            while self._total > _REMEMBERED:
                _, (_, oldest) = self._known.popitem(last=False)
                self._total -= len(oldest)
