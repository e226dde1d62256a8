"""What a reader is promised: five promises by name, from none to all.

============== ==================================================================================================
``any``         nothing but the policy's own bounds on lag
``bounded(s)``  not staler than ``s`` seconds, in place of the policy's ``max_lag``
``monotonic``   never older than what this client has seen
``session``     that, and his own writes: the default
``strong``      what the primary holds
============== ==================================================================================================

A contract is a value; the names are points among them. The options of other names are shorthands: ``using_primary()``
and ``rds_route="primary"`` are ``strong``, ``using_replica(max_staleness=s)`` is ``bounded(s)``, without a bound
``any``; ``rds_max_staleness=s`` adds a bound to whatever is promised otherwise.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What the reads under it are promised."""

    own_writes: bool = False
    """Not behind what the client has written."""
    monotonic: bool = False
    """Not behind what the client has seen."""
    max_staleness: float | None = None
    """Seconds; in place of the policy's ``max_lag``, in both directions. Counted to the moment of the decision: a
    replica's lag when it was measured, and the time since."""
    strong: bool = False
    """On the primary."""

    def within(self, seconds: float | None) -> Contract:
        """The same promise with this bound; None leaves the one it has."""
        return self if seconds is None else replace(self, max_staleness=seconds)

    @property
    def is_plain(self) -> bool:
        """True if any eligible replica keeps it for a client who has done nothing yet."""
        return not self.strong and self.max_staleness is None

    def __str__(self) -> str:
        if self.strong:
            return "strong"
        bound = "" if self.max_staleness is None else f"bounded({self.max_staleness:g})"
        if not self.own_writes and not self.monotonic:
            return bound or "any"
        name = "session" if self.own_writes and self.monotonic else "monotonic" if self.monotonic else "own writes"
        return f"{name} and {bound}" if bound else name


ANY: Final = Contract()
MONOTONIC: Final = Contract(monotonic=True)
SESSION: Final = Contract(own_writes=True, monotonic=True)
STRONG: Final = Contract(strong=True)
ACCEPTED: Final = "'any', 'bounded(seconds)', 'monotonic', 'session' or 'strong'"
_BY_NAME: Final = {"any": ANY, "monotonic": MONOTONIC, "session": SESSION, "strong": STRONG}
_BOUNDED: Final = re.compile(r"bounded\(\s*([0-9.eE+-]+)\s*\)")


def contract_of(given: object) -> Contract:
    """A contract from its name. Raises ValueError for what is none, saying what is accepted."""
    if isinstance(given, Contract):
        return given
    if isinstance(given, str):
        name = given.strip()
        if name in _BY_NAME:
            return _BY_NAME[name]
        bounded = _BOUNDED.fullmatch(name)
        if bounded is not None:
            return ANY.within(_seconds(given, bounded[1]))
    raise ValueError(f"{given!r} is no contract: use {ACCEPTED}")


def _seconds(given: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{given!r} is no contract: the bound is a number of seconds, 0 or more")
    return seconds
