"""Bearer tokens: what their claims mean, and whether they count now. Whose keys they are signed with, keys say.

    claims      meaning
    ----------  -------------------------------------------------------------------
    iss, aud    who gave the token out, and for which registry (service)
    sub         the user; empty for somebody without a name
    nbf, exp    from when and until when it counts, in seconds since 1970
    access      [{"type": "repository", "name": "some/name", "actions": ["pull"]}]

Source: distribution, "Token Authentication Implementation"; RFC 7519.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from registry.auth.jws import Invalid, verified
from registry.auth.scopes import EVERYTHING, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.auth.jws import Keys

LEEWAY = 60.0
"""Seconds that the clocks of two machines may be apart; registry:2's."""

_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, once it is known to be true.

    Attributes:
        subject: who it was given to; "" for somebody without a name.
        expires: when it ends, in seconds since 1970.
        access: actions by type and name.
    """

    subject: str
    expires: float
    access: Mapping[tuple[str, str], frozenset[str]]

    def allow(self, wanted: Scope) -> bool:
        """Whether it names all of the actions."""
        actions = self.access.get((wanted.kind, wanted.name), frozenset())
        return EVERYTHING in actions or actions.issuperset(wanted.actions)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a token must say to count here: who gave it out, and for whom."""

    issuer: str
    audience: str

    def read(self, members: Mapping[str, Any], now: float) -> Claims:
        """Raises Invalid: the token does not count, or not now."""
        if members.get("iss") != self.issuer:
            raise Invalid("it is of another issuer")
        audience = members.get("aud")
        if audience != self.audience and not (isinstance(audience, list) and self.audience in audience):
            raise Invalid("it is for another service")
        expires = _moment(members, "exp")
        if now >= expires + LEEWAY:
            raise Invalid("it has expired")
        if "nbf" in members and now < _moment(members, "nbf") - LEEWAY:
            raise Invalid("it does not count yet")
        subject = members.get("sub", "")
        if not isinstance(subject, str):
            raise Invalid("its subject is no text")
        return Claims(subject, expires, _access(members.get("access")))


class Tokens:
    """Checks tokens, and remembers those that were right: a signature costs a hundred times what the rest does.

    Args:
        terms: that they must fulfil.
        keys: that they may be signed with.
        clock: seconds since 1970.
    """

    def __init__(self, terms: Terms, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._terms = terms
        self._keys = keys
        self._clock = clock
        self._right: OrderedDict[bytes, Claims] = OrderedDict()

    def check(self, text: str) -> Claims:
        """What a token says. Raises Invalid."""
        mark = sha256(text.encode("utf-8", "surrogatepass")).digest()
        claims = self._right.get(mark)
        if claims is not None and self._clock() < claims.expires + LEEWAY:
            self._right.move_to_end(mark)
            return claims
        claims = self._terms.read(verified(text, self._keys), self._clock())
        self._right[mark] = claims
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
        return claims


def _moment(members: Mapping[str, Any], name: str) -> float:
    value = members.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid(f"its {name} is no number of seconds")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise Invalid(f"its {name} is no number of seconds")
    return found


def _access(given: object) -> dict[tuple[str, str], frozenset[str]]:
    """Raises Invalid: it is no list of things with actions."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for entry in [] if given is None else given if isinstance(given, list) else [None]:
        match entry:
            case {"type": str(kind), "name": str(name), "actions": list(actions)}:
                texts = frozenset(action for action in actions if isinstance(action, str))
                found[kind, name] = found.get((kind, name), frozenset()) | texts
            case _:
                raise Invalid("its access is no list of types, names and actions")
    return found
