"""What one reader asks of a replica beyond being eligible, and which replicas meet it.

A demand comes from the contract in force: what the client has written (R5), what he has seen, how stale an answer may
be (R6); and from the statement under way: servers that just failed it (R10).
"""

from __future__ import annotations

from typing import NamedTuple

from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import Scope, Sight
from rds_router.core.statement import Statement
from rds_router.core.token import Token
from rds_router.core.topology import Objection, Seen, Topology, trouble_of


class Demands(NamedTuple):
    """What a replica must have for one read."""

    written: Token | None = None
    seen: Sight | None = None
    max_staleness: float | None = None
    exclude: frozenset[str] = frozenset()

    @property
    def least(self) -> Token | None:
        """What a replica must have that has not been read from before."""
        seen = self.seen.token if self.seen is not None else None
        if self.written is None or seen is None or self.written == seen:
            return self.written or seen
        return self.written.merge(seen)


NO_DEMANDS = Demands()


def demands_of(statement: Statement, scope: Scope, policy: RoutingPolicy, exclude: frozenset[str]) -> Demands:
    """The demands of one statement in its scope."""
    contract = scope.contract or policy.contract
    written = scope.token
    if written is not None and not (
        contract.own_writes and policy.after_write == "token" and _concerns(statement, scope, policy)
    ):
        written = None
    seen = scope.seen if contract.monotonic else None
    if written is None and seen is None and contract.max_staleness is None and not exclude:
        return NO_DEMANDS
    return Demands(written, seen, contract.max_staleness, exclude)


def wrote_lately(statement: Statement, scope: Scope, policy: RoutingPolicy, now: float) -> bool:
    """The client wrote what the statement may read within the policy's ``after_write_window``."""
    if scope.token is None or not _concerns(statement, scope, policy):
        return False
    moments = [each for each in (scope.token.at, scope.token.unplaced) if each is not None]
    return not moments or now - max(moments) < policy.after_write_window


def _concerns(statement: Statement, scope: Scope, policy: RoutingPolicy) -> bool:
    """The statement may read what the scope's token is about."""
    if not policy.track_tables or scope.tables is None or not statement.tables:
        return True
    return not scope.tables.isdisjoint(bare(statement.tables))


def bare(tables: frozenset[str]) -> frozenset[str]:
    """The names without their schemas: "posts" and "blog.posts" may be the same table."""
    return frozenset(name.rpartition(".")[2] for name in tables)


CURRENT = frozenset({None, Objection.LAGGING, Objection.OTHER_ZONE})
"""What may be said of a replica that answers and whose lag is known."""
NONE_WAIVED: frozenset[Objection] = frozenset()
ZONE_WAIVED = frozenset({Objection.OTHER_ZONE})
_PIN_WAIVES = frozenset({Objection.OTHER_ZONE, Objection.DRAINED})


def unobjectionable(topology: Topology, demands: Demands, policy: RoutingPolicy, now: float) -> tuple[Seen, ...]:
    """The replicas that this reader may use: of the policy's zone, or else of any."""
    # A replica that is not eligible may be recent enough for a reader who says how recent that is, and for nobody else.
    near = topology.eligible if demands.max_staleness is None else topology.replicas
    found = tuple(seen for seen in near if objection_to(seen, demands, policy, now) is None)
    if found or not policy.zone:
        return found
    far = topology.replicas
    return tuple(seen for seen in far if objection_to(seen, demands, policy, now, waived=ZONE_WAIVED) is None)


def still_pinned(
    candidates: tuple[Seen, ...], pinned: str, demands: Demands, topology: Topology, policy: RoutingPolicy, now: float
) -> tuple[Seen, ...]:
    """The replica that a transaction reads from, if it may go on there."""
    for seen in candidates:
        if seen.server.name == pinned:
            return (seen,)
    # A transaction that reads in another zone is not moved because a near replica is back, nor does a drain end one.
    return tuple(
        seen
        for seen in topology.replicas
        if seen.server.name == pinned and objection_to(seen, demands, policy, now, waived=_PIN_WAIVES) is None
    )


def objection_to(
    seen: Seen,
    demands: Demands,
    policy: RoutingPolicy,
    now: float,
    *,
    waived: frozenset[Objection] = NONE_WAIVED,
) -> Objection | None:
    """Why this replica may not answer, the reader's own demands included. ``waived``: what does not matter here."""
    if seen.server.name in demands.exclude:
        return Objection.EXCLUDED
    objection = trouble_of(seen, policy, now) if seen.objection in waived else seen.objection
    if objection in CURRENT and seen.is_old_at(now, policy):
        return Objection.STALE_NEWS
    if demands.max_staleness is not None and objection in (None, Objection.LAGGING):
        # The statement's own bound stands in for the policy's, in both directions (R6).
        staleness = seen.staleness_at(now)
        if staleness is None or staleness > demands.max_staleness:
            return Objection.TOO_STALE
    elif objection is not None:
        return objection
    return Objection.BEHIND_TOKEN if is_behind(seen, demands, policy, now) else None


def is_behind(seen: Seen, demands: Demands, policy: RoutingPolicy, now: float) -> bool:
    """R5: it may lack what this client has written or seen, as far as that is promised."""
    return (demands.written is not None and _lacks(seen, demands.written, policy, now)) or (
        demands.seen is not None and not still_has(seen, demands.seen) and _lacks(seen, demands.seen.token, policy, now)
    )


def still_has(replica: Seen, sight: Sight) -> bool:
    """It showed that itself, and has not been gone since: who comes back may have lost something."""
    if replica.server.name != sight.server:
        return False
    if sight.run:
        return replica.report is not None and replica.report.run == sight.run
    return sight.token.at is not None and replica.well_since <= sight.token.at


def _lacks(seen: Seen, token: Token, policy: RoutingPolicy, now: float) -> bool:
    if token.unplaced is not None and now - token.unplaced < policy.after_write_window:
        return True
    return not (seen.satisfies(token) or _has_aged_out(seen, token, policy, now))


def _has_aged_out(seen: Seen, token: Token, policy: RoutingPolicy, now: float) -> bool:
    """An engine without positions can prove nothing: there, and only there, time has to do."""
    report = seen.report
    tells_where = report is not None and (report.position is not None or report.storage is not None)
    can_prove = seen.as_of is not None or tells_where
    return not can_prove and token.at is not None and now - token.at >= policy.after_write_window
