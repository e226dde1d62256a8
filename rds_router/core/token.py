"""What a reader must not go behind."""

from __future__ import annotations

from dataclasses import dataclass

from rds_router.core.position import Position


@dataclass(frozen=True, slots=True)
class Token:
    """The trace of a write. A replica may answer its author only if it satisfies every part that is set."""

    at: float | None = None
    """Monotonic seconds, read after the commit returned: a server that holds everything committed before
    this moment satisfies it. Means nothing outside this process."""
    position: Position | None = None
    """The primary's position at or after the commit. Travels anywhere."""

    def merge(self, other: Token | None) -> Token:
        """The token that demands what both demand. A flavour that does not merge keeps the newer write."""
        if other is None:
            return self
        at = max((each for each in (self.at, other.at) if each is not None), default=None)
        if self.position is None or other.position is None:
            return Token(at, self.position or other.position)
        try:
            return Token(at, self.position.union(other.position))
        except (TypeError, ValueError):
            return Token(at, other.position)
