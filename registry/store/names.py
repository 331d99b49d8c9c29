"""Names below a collection in ASCII order, remembered for as long as the collection does not change."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from registry.store import links

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sized

    from registry.oci.names import Tag
    from registry.storage.base import Key, Records

Ordered = TypeVar("Ordered", bound="Sized")

_REMEMBERED = 200_000  # names of all collections, at about 100 bytes
_ITSELF = 3  # names that a collection counts for itself


class Names(Generic[Ordered]):
    """Sorted names, so that a page costs what is on it, and not what stands before it.

    Args:
        records: what is listed.
        order: makes of names what is remembered: those that count, in their order.
    """

    def __init__(self, records: Records, order: Callable[[list[str]], Ordered]) -> None:
        self._records = records
        self._order = order
        self._known: OrderedDict[Key, tuple[object, Ordered]] = OrderedDict()
        self._total = 0
        self._lock = Lock()

    def below(self, key: Key) -> Ordered:
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

    def _remember(self, key: Key, version: object, names: Ordered) -> None:
        with self._lock:
            if (before := self._known.pop(key, None)) is not None:
                self._total -= _ITSELF + len(before[1])
            if version is None:
                return
            self._known[key] = (version, names)
            self._total += _ITSELF + len(names)
            while self._total > _REMEMBERED:
                _, (_, oldest) = self._known.popitem(last=False)
                self._total -= _ITSELF + len(oldest)


class Tags:
    """The names below a repository's tags, and which of them were seen to be tags.

    A tag whose directory is there stays one: whoever deletes it removes the directory, too, and that changes the
    collection. A directory that is none yet, since its link comes last, is looked at each time.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = sorted(links.valid_tags(names))
        self._seen: set[Tag] = set()

    def __len__(self) -> int:
        return len(self._names)

    def after(self, last: str, is_tag: Callable[[Tag], bool]) -> Iterator[Tag]:
        """Tags after `last`, in ASCII order; `is_tag` looks at the link of one."""
        for name in islice(self._names, bisect_right(self._names, last), None):
            if name in self._seen:
                yield name
            elif is_tag(name):
                self._seen.add(name)
                yield name
