"""What this transaction, session and request have done so far, and what their owner asked for."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from rds_router.core.contract import Contract
from rds_router.core.token import Token

if TYPE_CHECKING:
    from rds_router.core.decision import Decision


class Hold(enum.Enum):
    """Why the rest of a transaction stays on the primary (R3, and R2 for reads that had to go there)."""

    READ = "this transaction reads on the primary"
    WROTE = "this transaction has written"
    LOCKED = "this transaction holds locks or session state"
    CONNECTION = "session.connection() was handed out"
    SAVEPOINT = "this transaction has a savepoint"
    MERGE = "merge() reads what it is about to change"
    TWO_PHASE = "two-phase transactions stay on the primary"


Tables: TypeAlias = "frozenset[str] | None"
"""Names of tables without their schemas, lower case; None: not known, so any."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a client has seen: no later read of his that is promised to be monotonic may be older.

    What a replica shows is not known exactly. But it goes forward only, so the same one is never older; and it had
    nothing that was not committed before the read was over, so neither is one that holds all of that.
    """

    server: str
    """The replica that was read from; empty for the primary, or several replicas."""
    token: Token
    """Who satisfies it has all that was seen."""
    run: str = ""
    """Which run of that server it was, if another process says so: since when, does not matter then."""


NOW: Final = Token(at=float("inf"))
"""What the transaction that runs has seen on the primary: nobody else satisfies it before it is over."""


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
    tables: Tables = None
    """The tables that the token is about."""
    seen: Sight | None = None
    """What was seen by earlier transactions, and on the primary by this one. Outlives the transaction."""
    contract: Contract | None = None
    """What the block or the statement asked for (R6); None: as the policy says."""

    @property
    def has_only_read(self) -> bool:
        """True before this transaction's first statement, if nothing but what was seen is remembered."""
        return self.pinned is None and self.hold is None and self.token is None and self.contract is None

    def after(self, decision: Decision) -> Scope:
        """The scope once the statement was sent where ``decision`` says."""
        return decision.statement_effect(self)

    def held(self, hold: Hold, *, wrote: bool) -> Scope:
        """The scope once the rest of the transaction is on the primary. The first reason stands."""
        if self.hold is not None and (self.wrote or not wrote):
            return self
        return replace(self, hold=self.hold or hold, wrote=self.wrote or wrote)

    def ended(self, *, written: Token | None, now: float, tables: Tables = None, saw: bool = True) -> Scope:
        """The scope after the root transaction's end, which was before ``now``.

        ``written``: the trace of its commit, if it wrote; ``tables``: those that it wrote to. ``saw``: it may have
        read on the primary.
        """
        seen = self._seen_at_end(written, now, tables, saw)
        if seen is self.seen and self.pinned is None and self.hold is None:
            return self
        token = self.token if written is None else written.merge(self.token)
        if written is None:
            tables = self.tables
        elif self.token is not None:
            tables = None if tables is None or self.tables is None else tables | self.tables
        return Scope(token=token, tables=tables, seen=seen, contract=self.contract)

    def seen_by(self, now: float, *, saw: bool) -> Sight | None:
        """What the client has seen by ``now``, in the transaction that runs too. ``saw``: see :meth:`ended`."""
        return self._seen_at_end(None, now, None, saw)

    def _seen_at_end(self, written: Token | None, now: float, tables: Tables, saw: bool) -> Sight | None:
        if (self.hold is not None and saw) or (self.seen is not None and self.seen.token == NOW):
            # Positions are in the order of commits: what it saw before its own was committed before that.
            return Sight("", written or Token(at=now))
        if self.pinned is None:
            return self.seen
        if written is not None and tables is None:
            return Sight("", written)  # for the same reason, and for whatever is read next
        is_same = self.seen is None or self.seen.server == self.pinned
        return Sight(self.pinned if is_same else "", Token(at=now))


FRESH: Final = Scope()
"""The scope of a session that has done nothing and asked for nothing."""
