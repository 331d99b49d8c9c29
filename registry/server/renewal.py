"""A certificate that is replaced while the registry serves: its files are read again when they change."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from registry.server.tls import UnusableTls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from registry.server.tls import Handshake, Tls

log = logging.getLogger("registry.server")

_LOOK_EVERY = 3.0  # seconds
_SOON = timedelta(days=14)
_REMIND_EVERY = timedelta(days=1)

_Signature: TypeAlias = tuple[tuple[int, ...] | None, ...]


class Newest(ssl.SSLContext):
    """What the event loop is given: it leaves each handshake to the context of the newest files.

    That one is never changed, but replaced. If files were read into it again, it would have the new certificate before
    the key is known to fit, and would resume sessions of clients whose authority is gone.
    """

    newest: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the library's signature
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> Handshake:
        made: Handshake = self.newest.wrap_bio(  # type: ignore[assignment]
            incoming, outgoing, server_side, server_hostname, session
        )
        made.outgoing = outgoing
        return made


class Renewal:
    """A certificate, its key and the authorities for clients, as the files have them now.

    Files that cannot be used, such as a certificate whose key is still to come, leave what was before.

    Attributes:
        context: of the newest files that could be used.
        expires: when their certificate does; None where that cannot be told.

    Args:
        tls: the files.
        every: seconds between two looks at them.
        now: the time.

    Raises:
        UnusableTls: they cannot be used.
    """

    def __init__(
        self, tls: Tls, every: float = _LOOK_EVERY, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._tls = tls
        self._every = every
        self._now = now
        self._looking = asyncio.Lock()
        self._complaint = ""
        self._remind_at = now()
        self.context = Newest(ssl.PROTOCOL_TLS_SERVER)
        self._seen: _Signature | None = self._signature()
        self.context.newest, self.expires = self._read()

    def settle(self) -> None:
        """After root was given up: tell which files cannot be read any more. That does not count as a change."""
        seen = self._seen or ()
        self._seen = tuple(now and before for now, before in zip(self._signature(), seen, strict=True))
        for path, found in zip(self._tls.files, self._seen, strict=True):
            if found is None:
                log.info("%s was read as root, and cannot be read again: restart the registry when it changes", path)

    async def watch(self) -> None:
        """Look for changes, and at the calendar, until cancelled."""
        while True:
            self._mind_the_end()
            await asyncio.sleep(self._every)
            await self.look()

    async def look(self) -> None:
        """Read the files again if they have changed; new connections have them from then on."""
        async with self._looking:
            signature = await asyncio.to_thread(self._signature)
            if signature == self._seen:
                return
            try:
                self.context.newest, self.expires = await asyncio.to_thread(self._read)
            except UnusableTls as error:
                self._seen = None  # until they can be used, or are those of before
                self._complain(str(error))
                return
            self._seen, self._complaint, self._remind_at = signature, "", self._now()
            log.info("http.tls: %s was read again", self._tls.certificate, extra={"fields": {"expires": self.expires}})

    def _read(self) -> tuple[ssl.SSLContext, datetime | None]:
        return self._tls.context(), _expiry(self._tls.certificate)

    def _signature(self) -> _Signature:
        return tuple(map(_signature, self._tls.files))

    def _complain(self, what: str) -> None:
        if what != self._complaint:
            self._complaint = what
            log.warning("http.tls: the files have changed: %s. Going on with those of before, until they fit", what)

    def _mind_the_end(self) -> None:
        """A line of the log, daily, once the end is near."""
        now = self._now()
        if self.expires is None or now < max(self._remind_at, self.expires - _SOON):
            return
        self._remind_at = now + _REMIND_EVERY
        path, left = self._tls.certificate, self.expires - now
        if left < timedelta():
            log.error("http.tls: %s has expired, on %s: clients refuse it", path, self.expires)
        else:
            log.warning("http.tls: %s expires in %d days, on %s", path, left.days, self.expires)


def _signature(path: Path) -> tuple[int, ...] | None:
    """What changes with a file, behind symbolic links; None where it cannot be read."""
    try:
        found = path.stat()
    except OSError:
        return None
    if not os.access(path, os.R_OK):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _expiry(certificate: Path) -> datetime | None:
    """When a certificate, the first of its file, expires."""
    from cryptography import x509  # noqa: PLC0415 - 50 ms and some memory that only HTTPS is worth

    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):  # OpenSSL has read it, so it is no reason not to serve
        return None
