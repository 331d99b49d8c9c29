"""An htpasswd file as it is now: its users and their hashes."""

from __future__ import annotations

import logging

from registry.auth.htpasswd import Entries, parse
from registry.auth.rereading import RereadFile

log = logging.getLogger("registry.auth")


class PasswordFile(RereadFile):
    """Users and their hashes. A wrong line that was not there before keeps the users of before."""

    keeps = "users"

    async def entries(self) -> Entries:
        """What the file says, or said about a second ago."""
        await self.look()
        return self._entries

    def _begin(self, data: bytes) -> None:
        self._entries = parse(data)
        for wrong in self._entries.wrong:
            log.warning("%s, line %d: %s", self.path, wrong.number, wrong.what)
        if not self._entries.users:
            log.warning("%s lets nobody in; add a user with: registry user add NAME", self.path)

    def _take(self, data: bytes) -> str:
        entries = parse(data)
        known = {wrong.line for wrong in self._entries.wrong}
        new = [wrong for wrong in entries.wrong if wrong.line not in known]
        if not new:
            self._entries = entries
            log.info("%s was read again: users: %d", self.path, len(entries.users))
        return "; ".join(f"line {wrong.number}: {wrong.what}" for wrong in new)
