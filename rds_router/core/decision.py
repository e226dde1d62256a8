"""Which server answers a statement, and why.

:func:`decide` is the heart of rds_router, and pure: the same arguments give the same decision. It asks, in order:

1. Is the statement anything but a confirmed read?             the primary (R1)
2. Has this transaction written, locked, handed itself out, or had to read on the primary?
                                                               the primary (R3)
3. Was the primary asked for?                                  the primary (R6)
4. Is there no replica configured?                             the primary (R8)
5. Has this client written a moment ago (``after_write="primary"``)?
                                                               the primary (R5)
6. Which replicas are eligible: seen, fresh, not lagging (R11), not behind the token (R5), fresh enough
   for the statement's own bound (R6), not among those that just failed it (R10)? Those of the policy's zone
   first. Eligible ones, but none fresh enough: the primary. None at all: the policy's last resort (R11). What is
   only suspected is not shunned where nobody else is left.
7. Does this transaction read from a replica already?          that one while it is eligible, else the primary (R2)
8. Otherwise one of them as ``core/choice.py`` says; the dice are an argument.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from rds_router.core.choice import Load, choose, choose_among_equals, idle
from rds_router.core.observation import Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import FRESH, Hold, Scope
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Objection, Seen, Topology, trouble_of
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
    LAST_LEFT = "no other server is left, and it is only suspected"


_Finding: TypeAlias = tuple[Seen, Objection]


class Decision(NamedTuple):
    """Where a statement goes. The objections to the other servers are worked out when somebody asks.

    A named tuple where the house has frozen dataclasses: one is made for each statement, and this is made three
    times as fast (docs/decisions/0001-a-decision-is-a-named-tuple.md).
    """

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
    def behind_token(self) -> tuple[str, ...]:
        """The replicas whose only fault is not to be known to have the client's write."""
        return tuple(seen.server.name for seen, why in self._findings() if why is Objection.BEHIND_TOKEN)

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
                return pinned_to(self.target)
            return scope if scope.pinned == self.target else replace(scope, pinned=self.target)
        if self.statement.is_read:
            # Back on a replica, the transaction's next read could see an older state than this one saw. A wish of the
            # statement's own binds no other.
            is_own_wish = self.scope.max_staleness != scope.max_staleness
            return scope.held(Hold.READ, wrote=False) if self.reason in _SETTLING and not is_own_wish else scope
        wrote = self.statement.kind is not Kind.LOCKING_READ
        return scope.held(Hold.WROTE if wrote else Hold.LOCKED, wrote=wrote)

    def __str__(self) -> str:
        if not self.is_replica:
            found = "" if self.reason in _SILENT else "".join(f"; {words}" for words in self._words())
            return f"{self.target} (primary: {self.detail}{found})"
        others = ", ".join(self._words())
        kind = "replica" if self.reason is Reason.READ else f"replica: {self.detail}"
        return f"{self.target} ({kind}{'; ' + others if others else ''})"

    def _findings(self) -> Sequence[_Finding]:
        # Another zone is no objection to anyone if the target is in one too, or no replica at all.
        is_near = self.is_replica and self.topology[self.target].objection is not Objection.OTHER_ZONE
        found = (
            (
                seen,
                _objection_to(
                    seen, self.scope, self.policy, self.now, self.exclude, waived=_NONE if is_near else _ZONE
                ),
            )
            for seen in self.topology.replicas
            if seen.server.name != self.target
        )
        return [(seen, why or Objection.SLOWER) for seen, why in found if why is not None or self._is_slower(seen)]

    def _is_slower(self, seen: Seen) -> bool:
        """Nothing is wrong with it, but beside the target it is not chosen."""
        if self.reason is not Reason.READ or self.policy.balance != "least_loaded":
            return False
        return seen.latency - self.topology[self.target].latency > self.policy.latency_window

    def _words(self) -> Sequence[str]:
        return [_words(seen, why, self.now) for seen, why in self._findings()]


@functools.lru_cache(maxsize=1024)
def pinned_to(name: str) -> Scope:
    """What most transactions are after their first read: made once for each replica."""
    return Scope(pinned=name)


_SILENT = frozenset({Reason.NOT_A_READ, Reason.HELD, Reason.ASKED, Reason.NO_REPLICAS})
"""Reasons that hold whatever the replicas are like."""
_SETTLING = frozenset({Reason.AFTER_WRITE, Reason.NO_REPLICA_ELIGIBLE, Reason.NONE_FRESH_ENOUGH, Reason.PIN_LOST})
"""Reasons for which nobody asked: the rest of the transaction reads on the primary too."""


def decide(
    statement: Statement,
    scope: Scope,
    topology: Topology,
    policy: RoutingPolicy,
    *,
    now: float,
    draw: float,
    load: Load = idle,
    exclude: frozenset[str] = frozenset(),
    is_primary_full: bool = False,
) -> Decision:
    """Choose the server for one statement.

    ``now``: monotonic seconds. ``draw``: a number in [0, 1), picks among equals. ``load``: how many connections to a
    replica are in use. ``exclude``: servers that just failed this statement. ``is_primary_full``: it takes no more
    reads in the replicas' stead. Raises NoServerAvailable if no replica is eligible and the policy says "error", or
    says "stalest" and none is within ``hard_max_lag``, or the primary is full; not before every replica has been asked
    how it is.
    """
    reason: Reason | None = None
    if statement.kind is not Kind.READ:
        reason = Reason.NOT_A_READ
    elif scope.hold is not None:
        reason = Reason.HELD
    elif scope.wish == "primary":
        reason = Reason.ASKED
    elif len(topology.servers) == 1:
        reason = Reason.NO_REPLICAS
    elif policy.after_write == "primary" and _wrote_lately(scope, policy, now):
        reason = Reason.AFTER_WRITE
    if reason is not None:
        return Decision(topology.writer, False, reason, statement, scope, topology, policy, now, exclude)

    candidates = topology.eligible_at(now)
    if scope.token is not None or scope.max_staleness is not None or exclude or (policy.zone and not candidates):
        candidates = _unobjectionable(topology, scope, policy, now, exclude)
    if not candidates and scope.pinned is not None:
        candidates = _still_pinned(candidates, scope, topology, policy, now, exclude)
    if not candidates:
        reason, candidates = _last_resort(statement, scope, topology, policy, now, exclude, is_primary_full)
    if candidates and scope.pinned is not None:
        candidates = _still_pinned(candidates, scope, topology, policy, now, exclude)
        reason = (reason or Reason.PINNED) if candidates else Reason.PIN_LOST
    if not candidates:
        reason = reason or Reason.NO_REPLICA_ELIGIBLE
        return Decision(topology.writer, False, reason, statement, scope, topology, policy, now, exclude)
    name = choose(candidates, policy, now=now, draw=draw, load=load).server.name
    return Decision(name, True, reason or Reason.READ, statement, scope, topology, policy, now, exclude)


def first_read(topology: Topology, *, now: float, draw: float, load: Load = idle) -> str | None:
    """``decide()`` for a plain read of a session that has done nothing: the replica's name.

    None if the answer takes more than a look at the snapshot. Most transactions begin with this question, and nobody
    asks why.
    """
    eligible = topology.eligible
    if not eligible or now > topology.fresh_until:
        return None
    if len(eligible) == 1:
        return eligible[0].server.name
    if topology.is_even and now >= topology.steady_from:
        return choose_among_equals(eligible, draw=draw, load=load).server.name
    return choose(eligible, topology.policy, now=now, draw=draw, load=load).server.name


def _unobjectionable(
    topology: Topology, scope: Scope, policy: RoutingPolicy, now: float, exclude: frozenset[str]
) -> tuple[Seen, ...]:
    """The replicas that this reader may use: of the policy's zone, or else of any."""
    replicas = topology.replicas
    near = tuple(seen for seen in replicas if _objection_to(seen, scope, policy, now, exclude) is None)
    if near or not policy.zone:
        return near
    return tuple(seen for seen in replicas if _objection_to(seen, scope, policy, now, exclude, waived=_ZONE) is None)


def _still_pinned(
    candidates: tuple[Seen, ...],
    scope: Scope,
    topology: Topology,
    policy: RoutingPolicy,
    now: float,
    exclude: frozenset[str],
) -> tuple[Seen, ...]:
    for seen in candidates:
        if seen.server.name == scope.pinned:
            return (seen,)
    # A transaction that reads in another zone is not moved because a near replica is back, nor does a drain end one.
    return tuple(
        seen
        for seen in topology.replicas
        if seen.server.name == scope.pinned
        and _objection_to(seen, scope, policy, now, exclude, waived=_PIN_WAIVES) is None
    )


def _last_resort(
    statement: Statement,
    scope: Scope,
    topology: Topology,
    policy: RoutingPolicy,
    now: float,
    exclude: frozenset[str],
    is_primary_full: bool,
) -> tuple[Reason, tuple[Seen, ...]]:
    """What to do without a candidate; without a replica in the answer, the primary."""
    if _unobjectionable(topology, FRESH, policy, now, exclude):
        return Reason.NONE_FRESH_ENOUGH, ()
    # A router that has just begun to ask has no reason yet to refuse anything.
    if any(seen.observation is None for seen in topology.replicas):
        return Reason.NO_REPLICA_ELIGIBLE, ()
    takes_reads = policy.no_replica == "primary" and not is_primary_full
    if takes_reads and topology[topology.writer].silence is None:
        return Reason.NO_REPLICA_ELIGIBLE, ()
    if policy.no_replica == "stalest":
        stale = _allowed_stale(topology, policy, now, exclude)
        # What a reader may not go behind, and a bound of the statement's own, hold here too.
        usable = [seen for seen in stale if scope.max_staleness is None and not _is_behind(seen, scope, policy, now)]
        if stale:
            return (Reason.STALEST, tuple(usable[:1])) if usable else (Reason.NONE_FRESH_ENOUGH, ())
    suspects = tuple(seen for seen in topology.replicas if _is_last_chance(seen, scope, policy, now, exclude))
    if suspects:
        return Reason.LAST_LEFT, suspects
    if takes_reads:
        return Reason.NO_REPLICA_ELIGIBLE, ()
    refused = Decision(
        topology.writer, False, Reason.NO_REPLICA_ELIGIBLE, statement, scope, topology, policy, now, exclude
    )
    words = refused._words()
    raise NoServerAvailable(f"no replica may answer this read ({', '.join(words)}) and {_refusal(policy)}", words)


def _refusal(policy: RoutingPolicy) -> str:
    if policy.no_replica == "primary":
        return (
            "the primary has no connection to spare for it: try again in a moment, bring a replica back, or raise "
            f"primary_read_share (now {policy.primary_read_share:g}) or the primary's pool_size"
        )
    kept_off = f"no_replica={policy.no_replica!r} keeps it off the primary"
    if policy.no_replica == "error":
        return f"{kept_off}: bring a replica back, or set no_replica='primary'"
    return f"{kept_off}: bring a replica back, or raise hard_max_lag (now {policy.hard_max_lag:g} s)"


def _is_last_chance(seen: Seen, scope: Scope, policy: RoutingPolicy, now: float, exclude: frozenset[str]) -> bool:
    """A replica that was well at its last good probe, a moment ago, and has failed one probe since, or reads only."""
    if seen.server.name in exclude or seen.objection not in _SUSPICIONS or seen.failures > 1:
        return False
    if seen.report is None or seen.report.role is Role.PRIMARY or now - seen.reported_at > policy.max_age:
        return False
    staleness = seen.staleness_at(now)
    if scope.max_staleness is not None:
        is_fresh = staleness is not None and staleness <= scope.max_staleness
    else:
        is_fresh = policy.unknown_lag == "allow" if seen.lag is None else seen.lag <= policy.max_lag
    return is_fresh and not _is_behind(seen, scope, policy, now)


def _allowed_stale(topology: Topology, policy: RoutingPolicy, now: float, exclude: frozenset[str]) -> Sequence[Seen]:
    """What no_replica="stalest" allows, the least stale first."""
    found = [
        (staleness, seen)
        for seen in topology.replicas
        if seen.objection in _CURRENT and seen.server.name not in exclude and not seen.is_old_at(now, policy)
        if (staleness := seen.staleness_at(now)) is not None and staleness <= policy.hard_max_lag
    ]
    return [seen for _, seen in sorted(found, key=lambda each: each[0])]


_CURRENT = frozenset({None, Objection.LAGGING, Objection.OTHER_ZONE})
"""What may be said of a replica that answers and whose lag is known."""
_SUSPICIONS = frozenset({Objection.UNREACHABLE, Objection.SUSPECT})
_NONE: frozenset[Objection] = frozenset()
_ZONE = frozenset({Objection.OTHER_ZONE})
_PIN_WAIVES = frozenset({Objection.OTHER_ZONE, Objection.DRAINED})


def _objection_to(
    seen: Seen,
    scope: Scope,
    policy: RoutingPolicy,
    now: float,
    exclude: frozenset[str],
    *,
    waived: frozenset[Objection] = frozenset(),
) -> Objection | None:
    """Why this replica may not answer, the statement's own demands included. ``waived``: what does not matter here."""
    if seen.server.name in exclude:
        return Objection.EXCLUDED
    objection = trouble_of(seen, policy, now) if seen.objection in waived else seen.objection
    if objection in _CURRENT and seen.is_old_at(now, policy):
        return Objection.STALE_NEWS
    if scope.max_staleness is not None and objection in (None, Objection.LAGGING):
        # The statement's own bound stands in for the policy's, in both directions (R6).
        staleness = seen.staleness_at(now)
        if staleness is None or staleness > scope.max_staleness:
            return Objection.TOO_STALE
    elif objection is not None:
        return objection
    return Objection.BEHIND_TOKEN if _is_behind(seen, scope, policy, now) else None


def _is_behind(seen: Seen, scope: Scope, policy: RoutingPolicy, now: float) -> bool:
    """R5: it may lack what this client has written, and nobody has allowed that."""
    if scope.token is None or policy.after_write != "token" or scope.wish == "replica":
        return False
    unplaced = scope.token.unplaced
    if unplaced is not None and now - unplaced < policy.after_write_window:
        return True
    return not (seen.satisfies(scope.token) or _has_aged_out(seen, scope.token, policy, now))


def _wrote_lately(scope: Scope, policy: RoutingPolicy, now: float) -> bool:
    if scope.token is None or scope.wish == "replica":
        return False
    moments = [each for each in (scope.token.at, scope.token.unplaced) if each is not None]
    return not moments or now - max(moments) < policy.after_write_window


def _has_aged_out(seen: Seen, token: Token, policy: RoutingPolicy, now: float) -> bool:
    """An engine without positions can prove nothing: there, and only there, time has to do."""
    can_prove = seen.as_of is not None or (seen.report is not None and seen.report.position is not None)
    return not can_prove and token.at is not None and now - token.at >= policy.after_write_window


def _words(seen: Seen, why: Objection, now: float) -> str:
    name = seen.server.name
    if why is Objection.LAGGING and seen.lag is not None:
        return f"{name} lagging {seen.lag:.1f} s"
    if why is Objection.TOO_STALE and (staleness := seen.staleness_at(now)) is not None:
        return f"{name} {staleness:.1f} s behind, staler than asked for"
    if why is seen.silence and seen.observation is not None:
        return f"{name} {why.value} ({seen.observation.error})"
    if why is Objection.SLOWER:
        return f"{name} slower ({seen.latency * 1000:.0f} ms)"
    return f"{name} {why.value}"
