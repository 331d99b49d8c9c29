"""Basic authentication against an htpasswd file. docs/decisions/0007-passwords.md has the reasons.

Authorization -> Credentials -> mark -> Verdict      RIGHT: microseconds, no thread
-> Failures     too many guesses: 429, no bcrypt
-> bcrypt       in threads of its own, once for all who ask the same
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from registry.auth.access import Access, Anonymous, Person
from registry.auth.basic import Credentials, Malformed, challenge
from registry.auth.htpasswd import USUAL_COST, matches, stand_in
from registry.auth.limits import Failures, Notes, Verdict, Verdicts, network
from registry.auth.service import Known
from registry.oci.errors import TooManyRequests, Unauthorized, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry.auth.base import Caller, Need
    from registry.auth.htpasswd import Entries
    from registry.auth.passwordfile import PasswordFile

_MOST_WAITING = 32  # checks at the same time, in all processes: at 50 ms each, nobody waits longer than a client does
_STEP_BACK = 10  # niceness of threads that check guesses
_RETRY_AFTER = 2  # seconds
_AS_REGISTRY_2 = Access(None)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A password that is not known to be right.

    Attributes:
        is_known: whether there is such a user.
        mark: keyed hash of all that decides: name, password, and the line of the file.
        source: keyed hash of who tries: name and address.
    """

    credentials: Credentials
    is_known: bool
    address: str
    hashed: bytes
    mark: bytes
    source: bytes


class Passwords:
    """Who is in the file, and has the password, may do what the rules say.

    Args:
        file: names and hashes.
        realm: what the challenge calls this place.
        check: a password against a hash.
        clock: seconds.
        access: who may do what.
        processes: that check, this one and those that will be forked from it.
    """

    def __init__(  # noqa: PLR0913
        self,
        file: PasswordFile,
        realm: str,
        check: Callable[[bytes, bytes], bool] = matches,
        clock: Callable[[], float] = time.monotonic,
        *,
        access: Access = _AS_REGISTRY_2,
        processes: int = 1,
    ) -> None:
        self._file = file
        self._access = access
        self._most_waiting = max(1, _MOST_WAITING // processes)
        self._challenge = {"WWW-Authenticate": challenge(realm)}
        self._matches = check
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._verdicts = Verdicts()
        self._failures = Failures()
        self._notes = Notes()
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        # Half of the machine at most is for guesses, and what nobody else wants where that is less than a thread for
        # each process. Whoever was right before does not queue behind them.
        count = min(4, max(1, (os.cpu_count() or 1) // 2 // processes))
        self._threads = ThreadPoolExecutor(count, "passwords", _step_back)
        self._threads_of_known = ThreadPoolExecutor(1, "known-passwords")

    async def check(self, given: Sequence[bytes], address: str) -> Caller:
        """See `Authenticator.check`."""
        if not given:
            if self._access.let_anonymous_in:
                return Anonymous(self._access)
            raise self._unauthorized()
        try:
            credentials = Credentials.parse(given)
        except Malformed as error:
            self._notes.note(b"", address, "malformed", self._clock())
            raise self._unauthorized(str(error)) from None
        entries = await self._file.entries()
        user = credentials.user
        is_known = user in entries.users
        hashed = entries.users[user] if is_known else self._stand_in(user, entries)
        mark = self._digest(user, credentials.password, hashed)
        verdict = self._verdicts.of(mark, self._clock())
        if verdict is not Verdict.RIGHT:
            source = self._digest(user, network(address).encode())
            await self._decide(_Attempt(credentials, is_known, address, hashed, mark, source), verdict)
        return Person(user.decode("utf-8", "surrogateescape"), self._access)

    def challenge(self, needs: Sequence[Need], base: str, error: str = "") -> str:  # noqa: ARG002
        """See `Authenticator.challenge`."""
        return self._challenge["WWW-Authenticate"]

    async def known(self, name: str) -> Known | None:
        """See `People.known`."""
        entries = await self._file.entries()
        hashed = entries.users.get(name.encode("utf-8", "surrogateescape"))
        return None if hashed is None else Known(Person(name, self._access), hashed)

    def close(self) -> None:
        """End the threads, without what still waits for one."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads_of_known.shutdown(wait=False, cancel_futures=True)

    async def _decide(self, attempt: _Attempt, verdict: Verdict) -> None:
        """Raises Unauthorized, TooManyRequests, Unavailable."""
        if verdict is not Verdict.WRONG:
            running = self._running.get(attempt.mark) or self._begin(attempt, verdict)
            # To its end even if this client leaves: others may wait for the same, and the attempt counts.
            if await asyncio.shield(running) and attempt.is_known:
                return
        self._note(attempt, "wrong-password" if attempt.is_known else "unknown-user")
        await asyncio.sleep(self._failures.delay(attempt.source, self._clock()))
        raise self._unauthorized()

    def _begin(self, attempt: _Attempt, verdict: Verdict) -> asyncio.Task[bool]:
        """Begin a check. Raises TooManyRequests, Unavailable."""
        began = self._clock()
        threads = self._threads_of_known
        if verdict is not Verdict.RIGHT_BEFORE:
            self._admit(attempt, began)
            threads = self._threads
        task = asyncio.create_task(self._verify(attempt, threads, began))
        self._running[attempt.mark] = task
        return task

    def _admit(self, attempt: _Attempt, now: float) -> None:
        if len(self._running) >= self._most_waiting:
            self._note(attempt, "busy")
            raise Unavailable(
                "too many passwords are being checked: try again", headers={"Retry-After": str(_RETRY_AFTER)}
            )
        if wait := self._failures.begin(attempt.source, now):
            self._note(attempt, "too-many-failures")
            raise TooManyRequests(
                f"too many wrong passwords for this user from this address: try again in {wait} s",
                headers={"Retry-After": str(wait)},
            )

    async def _verify(self, attempt: _Attempt, threads: ThreadPoolExecutor, began: float) -> bool:
        loop = asyncio.get_running_loop()
        try:
            right = await loop.run_in_executor(threads, self._matches, attempt.credentials.password, attempt.hashed)
        finally:
            del self._running[attempt.mark]
        self._verdicts.note(attempt.mark, self._clock(), right=right)
        if right:
            self._failures.forgive(attempt.source, began)
        return right

    def _note(self, attempt: _Attempt, reason: str) -> None:
        self._notes.note(attempt.credentials.user, attempt.address, reason, self._clock())

    def _stand_in(self, user: bytes, entries: Entries) -> bytes:
        """What an unknown user's password is checked against: always of the same cost, and of one that users have."""
        costs = entries.costs or (USUAL_COST,)
        return stand_in(costs[int.from_bytes(self._digest(user)[:8], "big") % len(costs)])

    def _digest(self, *parts: bytes) -> bytes:
        keyed = blake2b(digest_size=32, key=self._key)
        for part in parts:
            keyed.update(b"%d:" % len(part))
            keyed.update(part)
        return keyed.digest()

    def _unauthorized(self, message: str = "") -> Unauthorized:
        return Unauthorized(message, headers=self._challenge)


def _step_back() -> None:
    """In a thread: let others go first."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _STEP_BACK)
