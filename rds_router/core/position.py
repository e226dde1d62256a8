"""How far a server has come: which position covers which."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Position(Protocol):
    """A place in a cluster's history of writes. A partial order: two positions may be incomparable."""

    def covers(self, other: Position, /) -> bool:
        """True if everything up to ``other`` is contained in this position."""
        ...

    def union(self, other: Position, /) -> Position:
        """The least position that covers both. Raises TypeError across flavours."""
        ...

    def __str__(self) -> str: ...
