"""Which server answers a statement, and why.

:func:`decide` is the heart of rds_router, and pure: the same arguments give the same decision. It asks, in order:

1. Is the statement anything but a confirmed read?             the primary (R1)
2. Has this transaction written, locked, handed itself out, or had to read on the primary?
                                                               the primary (R3)
3. Was the primary asked for, by the contract "strong"?        the primary (R6)
4. Is there no replica configured?                             the primary (R8)
5. Has this client written a moment ago (``after_write="primary"``)?
                                                               the primary (R5)
6. Which replicas are eligible: seen, fresh, not lagging (R11), and meeting the reader's demands (``core/demands.py``:
   R5, R6, R10)? Those of the policy's zone first. Eligible ones, but none fresh enough: the primary. None at all: the
   policy's last resort (R11). What is only suspected is not shunned where nobody else is left.
7. Does this transaction read from a replica already?          that one while it is eligible, else the primary (R2)
8. Has this client read from one of them before?               that one
9. Otherwise one of them as ``core/choice.py`` says; the dice are an argument.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from rds_router.core.choice import Load, choose, choose_among_equals, idle
from rds_router.core.contract import Contract
from rds_router.core.demands import (
    CURRENT,
    NO_DEMANDS,
    NONE_WAIVED,
    ZONE_WAIVED,
    Demands,
    demands_of,
    is_behind,
    objection_to,
    still_has,
    still_pinned,
    unobjectionable,
    wrote_lately,
)
from rds_router.core.observation import Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import FRESH, NOW, Hold, Scope, Sight
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Objection, Seen, Topology
from rds_router.errors import NoServerAvailable


class Reason(enum.Enum):
    """Why the target was chosen."""

    READ = "a read"
    PINNED = "this transaction reads there"
    SEEN = "this client read there before"
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
    def demanded(self) -> Token | None:
        """What this reader may not go behind: his writes and what he saw, as far as he is promised either."""
        return self._demands.least

    @property
    def behind_token(self) -> tuple[str, ...]:
        """The replicas whose only fault is not to be known to have what the client has written or seen."""
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
            if scope.pinned == self.target:
                return scope
            return replace(scope, pinned=self.target, seen=_seen_on(self.target, scope.seen, self._contract))
        if self.statement.is_read:
            if self.reason is Reason.NO_REPLICAS:
                return scope
            # Back on a replica, the transaction's next read could see an older state than this one saw. A wish of the
            # statement's own binds no other: only a promise that others have does.
            if self.reason in _SETTLING and self.scope.contract == scope.contract:
                return scope.held(Hold.READ, wrote=False)
            return scope if scope.hold is not None else replace(scope, seen=_PRIMARY)
        wrote = self.statement.kind is not Kind.LOCKING_READ
        return scope.held(Hold.WROTE if wrote else Hold.LOCKED, wrote=wrote)

    def __str__(self) -> str:
        if not self.is_replica:
            found = "" if self.reason in _SILENT else "".join(f"; {words}" for words in self._words())
            return f"{self.target} (primary: {self.detail}{found})"
        others = ", ".join(self._words())
        kind = "replica" if self.reason is Reason.READ else f"replica: {self.detail}"
        return f"{self.target} ({kind}{'; ' + others if others else ''})"

    @property
    def _contract(self) -> Contract:
        return self.scope.contract or self.policy.contract

    @property
    def _demands(self) -> Demands:
        return demands_of(self.statement, self.scope, self.policy, self.exclude)

    def _findings(self) -> Sequence[_Finding]:
        # Another zone is no objection to anyone if the target is in one too, or no replica at all.
        is_near = self.is_replica and self.topology[self.target].objection is not Objection.OTHER_ZONE
        demands, waived = self._demands, NONE_WAIVED if is_near else ZONE_WAIVED
        found = (
            (seen, objection_to(seen, demands, self.policy, self.now, waived=waived))
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


def _seen_on(name: str, seen: Sight | None, contract: Contract) -> Sight | None:
    """What was seen before, once the transaction reads from ``name``: does that have it?"""
    if seen is None or seen.server == name:
        return seen
    return Sight(name if contract.monotonic else "", seen.token)


_PRIMARY = Sight("", NOW)
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
    contract = scope.contract or policy.contract
    if statement.kind is not Kind.READ:
        reason = Reason.NOT_A_READ
    elif scope.hold is not None:
        reason = Reason.HELD
    elif contract.strong:
        reason = Reason.ASKED
    elif len(topology.servers) == 1:
        reason = Reason.NO_REPLICAS
    elif policy.after_write == "primary" and contract.own_writes and wrote_lately(statement, scope, policy, now):
        reason = Reason.AFTER_WRITE
    if reason is not None:
        return Decision(topology.writer, False, reason, statement, scope, topology, policy, now, exclude)

    candidates = topology.eligible_at(now)
    demands = demands_of(statement, scope, policy, exclude)
    if demands is not NO_DEMANDS or (policy.zone and not candidates):
        candidates = unobjectionable(topology, demands, policy, now)
    if not candidates and scope.pinned is not None:
        candidates = still_pinned(candidates, scope.pinned, demands, topology, policy, now)
    if not candidates:
        reason, candidates = _last_resort(statement, scope, topology, policy, now, exclude, is_primary_full)
    if candidates and scope.pinned is not None:
        candidates = still_pinned(candidates, scope.pinned, demands, topology, policy, now)
        reason = (reason or Reason.PINNED) if candidates else Reason.PIN_LOST
    elif demands.seen is not None and reason is None:
        before = tuple(seen for seen in candidates if seen.server.name == demands.seen.server)
        if before:
            reason, candidates = Reason.SEEN, before
    if not candidates:
        reason = reason or Reason.NO_REPLICA_ELIGIBLE
        return Decision(topology.writer, False, reason, statement, scope, topology, policy, now, exclude)
    name = choose(candidates, policy, now=now, draw=draw, load=load).server.name
    return Decision(name, True, reason or Reason.READ, statement, scope, topology, policy, now, exclude)


def first_read(
    topology: Topology, sight: Sight | None = None, *, now: float, draw: float, load: Load = idle
) -> str | None:
    """``decide()`` for a plain read of a session that has done no more than to read: the replica's name.

    None if the answer takes more than a look at the snapshot. Most transactions begin with this question, and nobody
    asks why. The policy's contract must be plain.
    """
    eligible = topology.eligible
    if not eligible or now > topology.fresh_until:
        return None
    if sight is not None:
        for seen in eligible:
            if seen.server.name == sight.server and still_has(seen, sight):
                return sight.server
        return None
    if topology.equals and now >= topology.steady_from:
        return choose_among_equals(topology.equals, draw=draw, load=load)
    return choose(eligible, topology.policy, now=now, draw=draw, load=load).server.name


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
    if unobjectionable(topology, Demands(exclude=exclude), policy, now):
        return Reason.NONE_FRESH_ENOUGH, ()
    # A router that has just begun to ask has no reason yet to refuse anything.
    if any(seen.observation is None for seen in topology.replicas):
        return Reason.NO_REPLICA_ELIGIBLE, ()
    demands = demands_of(statement, scope, policy, exclude)
    takes_reads = policy.no_replica == "primary" and not is_primary_full
    if takes_reads and topology[topology.writer].silence is None:
        return Reason.NO_REPLICA_ELIGIBLE, ()
    if policy.no_replica == "stalest":
        stale = _allowed_stale(topology, policy, now, exclude)
        # What a reader may not go behind, and a bound of the statement's own, hold here too.
        is_bounded = demands.max_staleness is not None
        usable = [seen for seen in stale if not is_bounded and not is_behind(seen, demands, policy, now)]
        if stale:
            return (Reason.STALEST, tuple(usable[:1])) if usable else (Reason.NONE_FRESH_ENOUGH, ())
    suspects = tuple(seen for seen in topology.replicas if _is_last_chance(seen, demands, policy, now))
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


def _is_last_chance(seen: Seen, demands: Demands, policy: RoutingPolicy, now: float) -> bool:
    """A replica that was well at its last good probe, a moment ago, and has failed one probe since, or reads only."""
    if seen.server.name in demands.exclude or seen.objection not in _SUSPICIONS or seen.failures > 1:
        return False
    if seen.report is None or seen.report.role is Role.PRIMARY or now - seen.reported_at > policy.max_age:
        return False
    staleness = seen.staleness_at(now)
    if demands.max_staleness is not None:
        is_fresh = staleness is not None and staleness <= demands.max_staleness
    else:
        is_fresh = policy.unknown_lag == "allow" if seen.lag is None else seen.lag <= policy.max_lag
    return is_fresh and not is_behind(seen, demands, policy, now)


def _allowed_stale(topology: Topology, policy: RoutingPolicy, now: float, exclude: frozenset[str]) -> Sequence[Seen]:
    """What no_replica="stalest" allows, the least stale first."""
    found = [
        (staleness, seen)
        for seen in topology.replicas
        if seen.objection in CURRENT and seen.server.name not in exclude and not seen.is_old_at(now, policy)
        if (staleness := seen.staleness_at(now)) is not None and staleness <= policy.hard_max_lag
    ]
    return [seen for _, seen in sorted(found, key=lambda each: each[0])]


_SUSPICIONS = frozenset({Objection.UNREACHABLE, Objection.SUSPECT, Objection.LAGGING})
"""What may be said of a replica whose lag is within the bound all the same: it failed once, or is not yet back."""


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
