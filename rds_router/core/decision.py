"""Which server answers a statement, and why.

:func:`decide` is the heart of rds_router, and pure: the same arguments give the same decision. It asks, in order:

1. Is the statement anything but a confirmed read?             the primary (R1)
2. Has this transaction written, locked, handed itself out?    the primary (R3)
3. Was the primary asked for, by this client's recent write too (``after_write="primary"``)?
                                                               the primary (R5, R6)
4. Is there no replica configured?                             the primary (R8)
5. Which replicas are eligible: seen, fresh, not lagging (R11), not behind the token (R5), fresh enough
   for the statement's own bound (R6), not among those that just failed it (R10)?
   Eligible ones, but none fresh enough: the primary. None at all: the policy's last resort (R11).
6. Does this transaction read from a replica already?          that one while it is eligible, else the primary (R2)
7. Otherwise one of them by weight; the dice are an argument.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import FRESH, Hold, Scope
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Objection, Seen, Topology
from rds_router.errors import NoServerAvailable


class Reason(enum.Enum):
    """Why the target was chosen."""

    READ = "a read"
    PINNED = "this transaction reads there"
    NOT_A_READ = "not a read"
    HELD = "the transaction is on the primary"
    ASKED = "the primary was asked for"
    AFTER_WRITE = "its client wrote a moment ago"
    NO_REPLICAS = "no replica is configured"
    NO_REPLICA_ELIGIBLE = "no replica is eligible"
    NONE_FRESH_ENOUGH = "no replica is fresh enough for this reader"
    PIN_LOST = "the replica this transaction read from is not eligible any more"
    STALEST = "no replica is eligible, the least stale one is allowed"


_Finding: TypeAlias = tuple[Seen, Objection]


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a statement goes. The objections to the other servers are worked out when somebody asks."""

    target: str
    """Name of the server."""
    is_replica: bool
    """True if the target answers as a replica."""
    reason: Reason
    statement: Statement
    scope: Scope
    topology: Topology
    policy: RoutingPolicy
    now: float
    exclude: frozenset[str] = frozenset()

    @property
    def objections(self) -> tuple[tuple[str, Objection], ...]:
        """Each replica that could not be chosen, and why."""
        return tuple((seen.server.name, why) for seen, why in self._findings())

    @property
    def detail(self) -> str:
        """The reason in words."""
        if self.reason is Reason.NOT_A_READ:
            return str(self.statement)
        if self.reason is Reason.HELD and self.scope.hold is not None:
            return str(self.scope.hold.value)
        return str(self.reason.value)

    def statement_effect(self, scope: Scope) -> Scope:
        """``scope`` once the statement was sent to the target."""
        if self.is_replica:
            if scope is FRESH:
                return Scope(pinned=self.target)
            return scope if scope.pinned == self.target else replace(scope, pinned=self.target)
        if self.statement.is_read:
            # A read that had to go to the primary keeps the rest of the transaction's reads there: one snapshot.
            return scope
        wrote = self.statement.kind is not Kind.LOCKING_READ
        return scope.held(Hold.WROTE if wrote else Hold.LOCKED, wrote=wrote)

    def __str__(self) -> str:
        if not self.is_replica:
            found = "" if self.reason in _SILENT else "".join(f"; {_words(*each)}" for each in self._findings())
            return f"{self.target} (primary: {self.detail}{found})"
        others = ", ".join(_words(*each) for each in self._findings())
        kind = "replica" if self.reason is Reason.READ else f"replica: {self.detail}"
        return f"{self.target} ({kind}{'; ' + others if others else ''})"

    def _findings(self) -> Sequence[_Finding]:
        eligible = self.topology.eligible_at(self.now)
        found = (
            (seen, _objection_to(seen, self.scope, self.policy, eligible, self.now, self.exclude))
            for seen in self.topology.replicas
            if seen.server.name != self.target
        )
        return [(seen, why) for seen, why in found if why is not None]


_SILENT = frozenset({Reason.NOT_A_READ, Reason.HELD, Reason.ASKED, Reason.NO_REPLICAS})
"""Reasons that hold whatever the replicas are like."""


def decide(
    statement: Statement,
    scope: Scope,
    topology: Topology,
    policy: RoutingPolicy,
    *,
    now: float,
    draw: float,
    exclude: frozenset[str] = frozenset(),
) -> Decision:
    """Choose the server for one statement.

    ``now``: monotonic seconds. ``draw``: a number in [0, 1), picks among equals. ``exclude``: servers that just
    failed this statement. Raises NoServerAvailable if no replica is eligible and the policy says "error".
    """

    def primary(reason: Reason) -> Decision:
        return Decision(topology.writer, False, reason, statement, scope, topology, policy, now, exclude)

    if statement.kind is not Kind.READ:
        return primary(Reason.NOT_A_READ)
    if scope.hold is not None:
        return primary(Reason.HELD)
    if scope.wish == "primary":
        return primary(Reason.ASKED)
    if len(topology.servers) == 1:
        return primary(Reason.NO_REPLICAS)

    if policy.after_write == "primary" and _wrote_lately(scope, policy, now):
        return primary(Reason.AFTER_WRITE)

    candidates = eligible = topology.eligible_at(now)
    if scope.token is not None or scope.max_staleness is not None or exclude:
        candidates = tuple(
            seen for seen in topology.replicas if _objection_to(seen, scope, policy, eligible, now, exclude) is None
        )
    reason = Reason.READ
    if not candidates:
        if any(seen.server.name not in exclude for seen in eligible):
            return primary(Reason.NONE_FRESH_ENOUGH)
        if policy.no_replica == "primary":
            return primary(Reason.NO_REPLICA_ELIGIBLE)
        candidates = _least_stale(topology, policy, now, exclude) if policy.no_replica == "stalest" else ()
        if not candidates:
            refused = primary(Reason.NO_REPLICA_ELIGIBLE)
            findings = [_words(*each) for each in refused._findings()]
            raise NoServerAvailable(
                f"no replica may answer this read ({', '.join(findings) or 'none is configured'}) and "
                f"no_replica={policy.no_replica!r} keeps it off the primary",
                findings,
            )
        reason = Reason.STALEST
    if scope.pinned is not None:
        if any(seen.server.name == scope.pinned for seen in candidates):
            return Decision(scope.pinned, True, Reason.PINNED, statement, scope, topology, policy, now, exclude)
        return primary(Reason.PIN_LOST)
    chosen = pick(candidates, draw)
    return Decision(chosen.server.name, True, reason, statement, scope, topology, policy, now, exclude)


def pick(candidates: Sequence[Seen], draw: float) -> Seen:
    """One of the candidates, each with the chance of its weight. ``draw`` is in [0, 1)."""
    point = draw * sum(seen.server.weight for seen in candidates)
    for seen in candidates:
        point -= seen.server.weight
        if point < 0:
            return seen
    return candidates[-1]


def _objection_to(
    seen: Seen,
    scope: Scope,
    policy: RoutingPolicy,
    eligible: Sequence[Seen],
    now: float,
    exclude: frozenset[str],
) -> Objection | None:
    """Why this replica may not answer, the statement's own demands included."""
    if seen.server.name in exclude:
        return Objection.EXCLUDED
    if scope.max_staleness is not None and seen.objection in (None, Objection.LAGGING):
        # The statement's own bound stands in for the policy's, in both directions (R6).
        if seen.lag is None or seen.lag > scope.max_staleness:
            return Objection.TOO_STALE
    elif seen not in eligible:
        return seen.objection or Objection.STALE_NEWS
    if policy.after_write != "token" or scope.token is None or scope.wish == "replica":
        return None
    if seen.satisfies(scope.token) or _has_aged_out(seen, scope.token, policy, now):
        return None
    return Objection.BEHIND_TOKEN


def _wrote_lately(scope: Scope, policy: RoutingPolicy, now: float) -> bool:
    if scope.token is None or scope.wish == "replica":
        return False
    return scope.token.at is None or now - scope.token.at < policy.after_write_window


def _has_aged_out(seen: Seen, token: Token, policy: RoutingPolicy, now: float) -> bool:
    """An engine without positions can prove nothing: there, and only there, time has to do."""
    can_prove = seen.as_of is not None or (seen.report is not None and seen.report.position is not None)
    return not can_prove and token.at is not None and now - token.at >= policy.after_write_window


def _least_stale(topology: Topology, policy: RoutingPolicy, now: float, exclude: frozenset[str]) -> tuple[Seen, ...]:
    lagging = [
        seen
        for seen in topology.replicas
        if seen.objection in (None, Objection.LAGGING)
        and seen.server.name not in exclude
        and seen.lag is not None
        and seen.lag <= policy.hard_max_lag
    ]
    return tuple(sorted(lagging, key=lambda seen: seen.lag or 0.0)[:1])


def _words(seen: Seen, why: Objection) -> str:
    name = seen.server.name
    if why is Objection.LAGGING and seen.lag is not None:
        return f"{name} lagging {seen.lag:.1f} s"
    if why is Objection.TOO_STALE and seen.lag is not None:
        return f"{name} {seen.lag:.1f} s behind, staler than asked for"
    if why is Objection.UNREACHABLE and seen.observation is not None:
        return f"{name} unreachable ({seen.observation.error})"
    return f"{name} {why.value}"
