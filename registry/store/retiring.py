"""Tags that retention lets go: found, and removed under their repository's lock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from registry.storage import layout
from registry.storage.base import Missing
from registry.store import links
from registry.store.retention import TagState

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.oci.names import RepositoryName
    from registry.storage.base import Records
    from registry.store.retention import Retention, Verdict

_HOLD = 0.5  # seconds for which pushes to a repository wait at a time
_PAUSE = 0.02  # seconds in which they get their turn


def verdicts(records: Records, retention: Retention, name: RepositoryName, now: float) -> list[Verdict]:
    """What retention says about the tags of a repository as they are now. Torn ones are none, and stay for a repair."""
    found = []
    for tag in links.tags(records, name):
        link = layout.tag_link(name, tag)
        try:
            found.append(TagState(tag, links.target(records, link), records.written(link)))
        except Missing:
            continue
    return retention.decide(name, found, now)


def retire(
    records: Records, retention: Retention, name: RepositoryName, now: float, tell: Callable[[Verdict], None]
) -> int:
    """Remove the tags of a repository that retention lets go.

    What goes is decided under the repository's lock, which pushes to it share: one that moves a tag comes before, and
    counts, or after, and makes it anew.

    Args:
        records: where the tags are.
        retention: what stays.
        name: the repository.
        now: in seconds since the epoch.
        tell: is told of each that goes, before it does.

    Returns:
        How many went.
    """
    removed = 0
    is_done = all(each.stays for each in verdicts(records, retention, name, now))
    while not is_done:
        with records.exclusive(layout.lock(name)):
            deadline = time.monotonic() + _HOLD
            doomed = [each for each in verdicts(records, retention, name, now) if not each.stays]
            is_done = True
            for number, verdict in enumerate(doomed, 1):
                tell(verdict)
                links.remove_tag(records, name, verdict.tag.name)
                removed += 1
                if time.monotonic() > deadline:
                    is_done = number == len(doomed)
                    break
        time.sleep(0 if is_done else _PAUSE)
    return removed
