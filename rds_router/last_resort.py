"""What becomes of reads while no replica is eligible: bounded on the primary, and never silent.

1. A read that the primary is to answer in the replicas' stead needs a place among those that
   ``policy.primary_read_share`` leaves to such reads. It waits for one, a second at most, and is refused then. The
   place is looked for, not reserved: reads that look in the same moment may take one more. The pool bounds them all.
2. Each fallback and each refusal is counted each time, and told as an event once an outage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from rds_router.core.choice import admits
from rds_router.core.decision import Decision, Reason
from rds_router.engines import Engines
from rds_router.errors import NoServerAvailable
from rds_router.events import Emitter, Event, ReadOnPrimary, ReadOnStale, ReadOnSuspect, ReadRefused


class LastResort:
    """The bound and the account of one router. Thread-safe."""

    def __init__(self, engines: Engines, events: Emitter, *, share: float, random: Callable[[], float]) -> None:
        self._engines = engines
        self._events = events
        self._share = share
        self._random = random
        self._told: set[type[Event]] = set()

    def admitted(self, decision: Decision, otherwise: Callable[[], Decision]) -> Decision:
        """The decision once there is a place for it, or that of ``otherwise``, made for a primary that is full.

        Raises NoServerAvailable if that does for a second.
        """
        draw, tries = self._random(), _TRIES
        while not self.has_place(decision.target, draw):
            tries -= 1
            try:
                return otherwise()
            except NoServerAvailable:
                if tries <= 0 or not self.has_place(decision.target, draw, in_use=0):
                    raise
            time.sleep(_TURN * (0.5 + self._random()))
        return decision

    def has_place(self, primary: str, draw: float, *, in_use: int | None = None) -> bool:
        """Whether the primary takes one more read now; ``in_use``: with so many of its connections in use."""
        if self._share == 1.0:
            return True
        taken = self._engines.in_use(primary, "primary") if in_use is None else in_use
        return admits(taken, self._engines.places(primary, "primary"), self._share, draw)

    def tell(self, decision: Decision) -> None:
        """Tell of a decision if it is a fallback."""
        kind = _EVENTS.get(decision.reason)
        if kind is not None:
            why = ", ".join(f"{name} {objection.value}" for name, objection in decision.objections)
            self._tell(kind(decision.target, why))

    def tell_refusal(self, error: NoServerAvailable) -> None:
        """Tell of a read that got an error in place of a server."""
        self._tell(ReadRefused(str(error)))

    def over(self) -> None:
        """A replica is eligible: the next outage is another one."""
        self._told.clear()

    def _tell(self, event: Event) -> None:
        if type(event) in self._told:
            self._events.counts[type(event).__name__] += 1
        else:
            self._told.add(type(event))
            self._events.emit(event)


_EVENTS: Final[Mapping[Reason, Callable[[str, str], Event]]] = {
    Reason.NO_REPLICA_ELIGIBLE: ReadOnPrimary,
    Reason.STALEST: ReadOnStale,
    Reason.LAST_LEFT: ReadOnSuspect,
}
_TURN: Final = 0.01
_TRIES: Final = 100
"""How often a read asks for a place, and the seconds in between, half as much more or less."""
