"""What clients do next: mostly reads, and often of what they have just written, where a stale answer hurts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from rds_router.lab.torture.history import READ_OF, Action

Draw: TypeAlias = Callable[[], float]
"""Gives numbers in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One request of a client."""

    action: Action
    key: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """How many of each there are, and the shares."""

    clients: int = 24
    lists: int = 60
    registers: int = 12
    reads: float = 0.65
    """The share of reads."""
    again: float = 0.6
    """The share of reads that go to what the client wrote last."""

    def next(self, draw: Draw, client: int, last: Operation | None) -> Operation:
        """``last``: the client's last write."""
        if draw() < self.reads:
            if last is not None and draw() < self.again:
                return Operation(READ_OF[last.action], last.key)
            action = _one_of(_READS, draw)
        else:
            action = _one_of(_WRITES, draw)
        return Operation(action, self._key(action, draw, client))

    def _key(self, action: Action, draw: Draw, client: int) -> int:
        if action in (Action.INCREMENT, Action.COUNTER):
            return client
        return int(draw() * (self.registers if action in (Action.SET, Action.REGISTER) else self.lists))


_READS: Final = (Action.LIST, Action.REGISTER, Action.COUNTER)
_WRITES: Final = (Action.APPEND, Action.SET, Action.INCREMENT)


def _one_of(actions: tuple[Action, ...], draw: Draw) -> Action:
    return actions[int(draw() * len(actions))]
