"""What this transaction, session and request have done so far, and what their owner asked for."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from rds_router.core.token import Token

if TYPE_CHECKING:
    from rds_router.core.decision import Decision

Route: TypeAlias = Literal["primary", "replica"]
"""A wish for where reads go."""


class Hold(enum.Enum):
    """Why the rest of a transaction stays on the primary (R3, and R2 for reads that had to go there)."""

    READ = "this transaction reads on the primary"
    WROTE = "this transaction has written"
    LOCKED = "this transaction holds locks or session state"
    CONNECTION = "session.connection() was handed out"
    SAVEPOINT = "this transaction has a savepoint"
    MERGE = "merge() reads what it is about to change"
    TWO_PHASE = "two-phase transactions stay on the primary"


@dataclass(frozen=True, slots=True)
class Scope:
    """The state that a decision depends on besides the servers. Never changed, only replaced."""

    pinned: str | None = None
    """The replica that this transaction reads from (R2)."""
    hold: Hold | None = None
    """Set once the whole transaction is on the primary."""
    wrote: bool = False
    """This transaction may have changed something."""
    token: Token | None = None
    """What reads may not go behind (R5). Outlives the transaction."""
    wish: Route | None = None
    """What the block or the statement asked for (R6)."""
    max_staleness: float | None = None
    """Seconds; asked for by the block or the statement, in place of the policy's ``max_lag``. Counted to the moment of
    the decision: a replica's lag when it was measured, and the time since."""

    def after(self, decision: Decision) -> Scope:
        """The scope once the statement was sent where ``decision`` says."""
        return decision.statement_effect(self)

    def held(self, hold: Hold, *, wrote: bool) -> Scope:
        """The scope once the rest of the transaction is on the primary. The first reason stands."""
        if self.hold is not None and (self.wrote or not wrote):
            return self
        return replace(self, hold=self.hold or hold, wrote=self.wrote or wrote)

    def ended(self, *, written: Token | None) -> Scope:
        """The scope after the root transaction's end. ``written``: the trace of its commit, if it wrote."""
        if self.pinned is None and self.hold is None:
            return self
        token = self.token if written is None else written.merge(self.token)
        if token is None and self.wish is None and self.max_staleness is None:
            return FRESH
        return Scope(token=token, wish=self.wish, max_staleness=self.max_staleness)


FRESH: Final = Scope()
"""The scope of a session that has done nothing and asked for nothing."""
