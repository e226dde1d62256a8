"""What is done to the servers, and when: drawn from a seed. Pure: the same seed gives the same schedule.

Servers are named by their parts (the primary, the n-th replica) at the moment when a fault begins; the steps that end
a fault mean the server that it began on.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


class Verb(enum.Enum):
    """One thing done to one server; the lab's own words."""

    KILL = "kill"
    RESTART = "restart"
    FREEZE = "freeze"
    THAW = "thaw"
    DEMOTE = "demote"
    PROMOTE = "promote"
    REJOIN = "rejoin"
    LAG = "lag"
    """Hold every transaction back (whole seconds on MySQL and MariaDB)."""
    STALL = "stall"
    """Stop the applier."""
    DEAFEN = "deafen"
    """Stop the receiver."""
    HEAL = "heal"
    """End lag, stall and deafness."""
    CUT = "cut"
    """End every connection of clients, and refuse new ones."""
    SWALLOW = "swallow"
    """Hold back everything on the clients' wires, and let nobody know."""
    SLOW = "slow"
    """Have every packet to clients take longer."""
    MEND = "mend"
    """The clients' wires are whole again."""


PRIMARY: Final = 0
"""The place of the primary; replicas are 1, 2, ..."""


@dataclass(frozen=True, slots=True)
class Step:
    """One moment of a fault."""

    at: float
    """Seconds after the start."""
    verb: Verb
    place: int | None
    """The server by its part now; None: the one that the fault began on."""
    seconds: float = 0.0
    """How far behind, for LAG."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault from its beginning to the server's being well again."""

    kind: str
    steps: tuple[Step, ...]

    @property
    def end(self) -> float:
        return self.steps[-1].at


@dataclass(frozen=True, slots=True)
class _Kind:
    is_on_primary: bool
    """Else on a replica."""
    moves: tuple[tuple[float, Verb, bool], ...]
    """Seconds after the one before, verb, and whether it is done to another server, a replica."""


KINDS: Final = {
    "kill-replica": _Kind(False, ((0.0, Verb.KILL, False), (2.0, Verb.RESTART, False))),
    "freeze-replica": _Kind(False, ((0.0, Verb.FREEZE, False), (3.0, Verb.THAW, False))),
    "restart-replica": _Kind(False, ((0.0, Verb.RESTART, False),)),
    "stall-replica": _Kind(False, ((0.0, Verb.STALL, False), (3.0, Verb.HEAL, False))),
    "deafen-replica": _Kind(False, ((0.0, Verb.DEAFEN, False), (3.0, Verb.HEAL, False))),
    "kill-primary": _Kind(True, ((0.0, Verb.KILL, False), (0.8, Verb.PROMOTE, True), (1.5, Verb.RESTART, False))),
    "restart-primary": _Kind(True, ((0.0, Verb.RESTART, False),)),
    "freeze-primary": _Kind(True, ((0.0, Verb.FREEZE, False), (1.5, Verb.THAW, False))),
    "replace-frozen-primary": _Kind(
        True,
        (
            (0.0, Verb.FREEZE, False),
            (1.0, Verb.PROMOTE, True),
            (1.0, Verb.THAW, False),
            (1.0, Verb.REJOIN, False),
        ),
    ),
    "demote": _Kind(True, ((0.0, Verb.DEMOTE, False), (1.0, Verb.PROMOTE, False))),
    "switch": _Kind(True, ((0.0, Verb.PROMOTE, True),)),
    "cut-replica": _Kind(False, ((0.0, Verb.CUT, False), (1.5, Verb.MEND, False))),
    "cut-primary": _Kind(True, ((0.0, Verb.CUT, False), (1.0, Verb.MEND, False))),
    "swallow-replica": _Kind(False, ((0.0, Verb.SWALLOW, False), (2.0, Verb.MEND, False))),
    "slow-replica": _Kind(False, ((0.0, Verb.SLOW, False), (2.0, Verb.MEND, False))),
}
"""Faults by name. Every one ends with all servers in good order."""

LAG: Final = "lag"
"""Runs beside the others: one replica or another is held back all the time."""

ALL: Final = (*KINDS, LAG)

WIRES: Final = frozenset({Verb.CUT, Verb.SWALLOW, Verb.SLOW, Verb.MEND})
"""What is done to the wire between clients and a server, not to the server."""


def draw_schedule(
    seed: int, seconds: float, *, replicas: int, kinds: Sequence[str] = ALL, lags: Sequence[float] = (1.0, 2.0, 3.0)
) -> tuple[Fault, ...]:
    """Faults in the order of their beginnings; the last one ends before ``seconds`` do.

    Of the chosen kinds each comes up before one comes up again. Only one is on at a time, lag apart: the
    promises that are checked are those for a single fault. One replica is always left without lag, so that a
    promotion loses no more than what was on the wire. Raises ValueError for a kind that does not exist.
    """
    unknown = sorted(set(kinds) - set(ALL))
    if unknown:
        raise ValueError(f"unknown fault {unknown[0]!r}; accepted: {', '.join(ALL)}")
    dice = random.Random(seed)
    found = _lags(dice, seconds, replicas, lags) if LAG in kinds and replicas > 1 else []
    rest = [kind for kind in kinds if kind != LAG and replicas]
    deck: list[str] = []
    at = 1.0 + dice.random()
    while rest:
        if not deck:
            deck = dice.sample(rest, len(rest))
        fault = _fault(dice, deck.pop(), at, replicas)
        if fault.end > seconds - 1.0:
            break
        found.append(fault)
        at = fault.end + 1.0 + 2.0 * dice.random()
    return tuple(sorted(found, key=lambda each: each.steps[0].at))


def _fault(dice: random.Random, name: str, at: float, replicas: int) -> Fault:
    kind, steps = KINDS[name], []
    start = PRIMARY if kind.is_on_primary else 1 + dice.randrange(replicas)
    for number, (pause, verb, is_other) in enumerate(kind.moves):
        at += pause * (0.7 + 0.6 * dice.random())
        place = 1 + dice.randrange(replicas) if is_other else None if number else start
        steps.append(Step(at, verb, place))
    return Fault(name, tuple(steps))


def _lags(dice: random.Random, seconds: float, replicas: int, lags: Sequence[float]) -> list[Fault]:
    """One replica at a time is behind, for some seconds each."""
    found, at = [], dice.random()
    while (end := at + 2.0 + 3.0 * dice.random()) < seconds:
        place = 1 + dice.randrange(replicas)
        found.append(Fault(LAG, (Step(at, Verb.LAG, place, dice.choice(lags)), Step(end, Verb.HEAL, None))))
        at = end + 0.2 + dice.random()
    return found
