"""What is believed of the servers: a frozen snapshot, and the step from one to the next.

1. A snapshot (:class:`Topology`) is never changed; :func:`evolve` makes the next one from news.
2. News is an :class:`~rds_router.core.observation.Observation`, a :class:`Drain`, or a new list of :class:`Server`.
3. The primary of the moment is the configured one until another shows that it has taken its place; while two claim
   to be it and neither is shown to be the newer, nobody is written (:mod:`rds_router.core.election`).
4. A replica's lag is what it reports, within the bounds that its position proves (:mod:`rds_router.core.lag`).
5. Who is eligible is settled here, once for each news, so that a decision only picks. Health (``core/health.py``)
   and drains say who is not; the zone says who is near enough.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from rds_router.core.choice import Pairs, pairs_of
from rds_router.core.election import GONE, claims, elect, is_another_server, refuses_writes
from rds_router.core.health import AT_START, NEWCOMER, Health, State, after_answer, after_failure
from rds_router.core.lag import measured_by, outlives_primary, remembered
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import Position
from rds_router.core.token import Token


@dataclass(frozen=True, slots=True)
class Server:
    """One server of the cluster, as configured."""

    name: str
    weight: float = 1.0
    """Its share of the reads, against the others' weights."""
    zone: str = ""
    is_primary: bool = False
    """Configured as the primary; who is the primary now is the topology's to say."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Somebody takes a server out of use, or puts it back: whatever its health."""

    server: str
    is_drained: bool


class Objection(enum.Enum):
    """Why a server does not get a read."""

    UNSEEN = "not seen yet"
    DRAINED = "drained"
    UNREACHABLE = "unreachable"
    LOGIN_REFUSED = "login refused"
    STALE_NEWS = "not heard of lately"
    LAGGING = "lagging"
    UNKNOWN_LAG = "lag unknown"
    SUSPECT = "suspected: reads failed there again and again"
    ROGUE = "accepts writes and follows nobody"
    IS_PRIMARY = "is the primary"
    BEHIND_TOKEN = "behind the token"
    TOO_STALE = "staler than asked for"
    EXCLUDED = "failed this statement"
    OTHER_ZONE = "in another zone"
    SLOWER = "slower"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is believed of one server."""

    server: Server
    observation: Observation | None = None
    """The last news of it, good or bad."""
    report: Report | None = None
    """The last good report."""
    reported_at: float = float("-inf")
    """Monotonic seconds: when that was asked for."""
    lag: float | None = None
    """Seconds it is behind the primary; None when not known."""
    as_of: float | None = None
    """Monotonic seconds: it holds everything that was committed before this moment."""
    was_replica: bool = False
    """It was seen as a replica since this process began."""
    promoted_at: float | None = None
    """When it was first seen to claim to be the primary after it had been a replica; None if that was not seen."""
    failures: int = 0
    """Probes that failed since the last good one."""
    health: Health = AT_START
    """Up, suspect or down."""
    latency: float = 0.0
    """Seconds a probe of it takes, as a moving average; 0 if not known."""
    is_drained: bool = False
    """Taken out of use by hand."""
    well_since: float = float("inf")
    """Monotonic seconds: the first good probe after the last failure. It may have lost something before that."""
    objection: Objection | None = Objection.UNSEEN
    """Why it gets no reads; None when it is eligible."""

    @property
    def silence(self) -> Objection | None:
        """Why its last probe brought no report; None if it did, or none was made."""
        if self.observation is None or self.observation.report is not None:
            return None
        return Objection.LOGIN_REFUSED if self.observation.is_login_refused else Objection.UNREACHABLE

    @property
    def heard_at(self) -> float:
        """Monotonic seconds: it was alive after this, by its last word; never, if that is an error."""
        news = self.observation
        return news.at if news is not None and news.report is not None else float("-inf")

    def is_old_at(self, now: float, policy: RoutingPolicy) -> bool:
        """True if its last news is too old to be believed."""
        return self.observation is None or now - self.observation.at > policy.max_age

    def staleness_at(self, now: float) -> float | None:
        """Seconds its data may be behind at ``now``: its lag as measured, and the time since. None when not known."""
        return None if self.lag is None else self.lag + max(0.0, now - self.reported_at)

    def weight_at(self, now: float, policy: RoutingPolicy) -> float:
        """Its weight, or the part of it that counts in its slow start."""
        return self.server.weight * self.health.share_at(now, policy.slow_start)

    def satisfies(self, token: Token) -> bool:
        """True if it surely holds what the token's owner has written."""
        if token.at is not None and (self.as_of is None or self.as_of < token.at):
            return False
        if token.position is None:
            return True
        position = self.report.position if self.report else None
        return position is not None and position.covers(token.position)


@dataclass(frozen=True, slots=True)
class Topology:
    """The snapshot."""

    servers: tuple[Seen, ...]
    policy: RoutingPolicy
    writer: str
    """Name of the primary of the moment."""
    generation: int = 0
    """Grows each time the primary changes."""
    contested: tuple[str, ...] = ()
    """Servers that claim to be the primary too, while neither they nor the primary of the moment is shown to be the
    newer. Nobody is written meanwhile."""
    at: float = float("-inf")
    """Monotonic seconds of the last news."""
    eligible: tuple[Seen, ...] = ()
    """The replicas that may answer reads, in the order configured."""
    equals: Pairs = ()
    """Their names in pairs, if the less loaded of two is to be chosen and they differ neither in weight nor, beyond the
    window, in latency: it takes less to choose among these."""
    steady_from: float = float("-inf")
    """Monotonic seconds: until then one of them is in its slow start."""
    fresh_until: float = float("inf")
    """Monotonic seconds: from then on some eligible replica's news is too old."""
    history: tuple[tuple[float, Position], ...] = ()
    """The primary's positions, or its places in shared storage, oldest first; each with a moment: it covers all that
    was committed before."""
    heartbeat: tuple[float, float] | None = None
    """The heartbeat last seen on the primary: when it was asked for, and its time by the primary's clock. None if the
    primary's last report had none."""
    clock: tuple[float, float] | None = None
    """When the primary was last asked for its clock, and what that said; None if this primary never told."""

    @classmethod
    def of(cls, servers: Iterable[Server], policy: RoutingPolicy) -> Topology:
        """The snapshot before anything is known: all reads go to the configured primary."""
        listed = tuple(Seen(each) for each in servers)
        writer = next(each.server.name for each in listed if each.server.is_primary)
        return cls(servers=listed, policy=policy, writer=writer)

    def __getitem__(self, name: str) -> Seen:
        for seen in self.servers:
            if seen.server.name == name:
                return seen
        raise KeyError(name)

    def __repr__(self) -> str:
        others = ", ".join(_describe(seen, self) for seen in self.servers if seen.server.name != self.writer)
        return f"<Topology generation {self.generation}: primary {self.writer}; {others or 'no replica'}>"

    @property
    def replicas(self) -> tuple[Seen, ...]:
        """All servers but the primary of the moment."""
        return tuple(seen for seen in self.servers if seen.server.name != self.writer)

    @property
    def may_be_waking(self) -> bool:
        """True while the primary was never heard of, where such a one is given its time (``wake_timeout``)."""
        writer = self[self.writer]
        return self.policy.wake_timeout > 0 and writer.report is None and writer.silence is not Objection.LOGIN_REFUSED

    @property
    def lacks_primary(self) -> bool:
        """True if the primary of the moment surely takes no writes, or must get none."""
        writer = self[self.writer]
        is_gone = writer.failures >= GONE and writer.silence is Objection.UNREACHABLE
        return bool(self.contested) or is_gone or _takes_no_writes(writer)

    def has_primary_since(self, at: float) -> bool:
        """True if the primary of the moment, asked at ``at`` or later, takes writes, and nobody contests it."""
        writer = self[self.writer]
        news = writer.observation
        has_answered = news is not None and news.at >= at and news.report is not None
        return has_answered and not self.contested and not _takes_no_writes(writer)

    def returned_since(self, old: Topology) -> Iterator[str]:
        """The servers that answer again, or in whose place another one answers."""
        before = {seen.server.name: seen for seen in old.servers}
        for seen in self.servers:
            was = before.get(seen.server.name)
            if seen.observation is None or seen.silence is not None or was is None:
                continue
            if was.silence is not None or is_another_server(was.report, seen.report):
                yield seen.server.name

    def silent_for(self, seconds: float, *, now: float) -> Iterator[str]:
        """The replicas whose last probe failed, and which were not heard of for so long."""
        for seen in self.replicas:
            if seen.failures and seen.silence is Objection.UNREACHABLE and now - seen.reported_at >= seconds:
                yield seen.server.name

    def answers_since(self, at: float | None) -> bool:
        """True if the primary of the moment, asked at ``at`` or later, answers: it may be read, if not written."""
        news = self[self.writer].observation
        return news is not None and news.report is not None and (at is None or news.at >= at)

    def primary_objections(self) -> tuple[str, ...]:
        """Of each server why it is not the primary, in words; of one that may be it, that it accepts writes."""
        return tuple(f"{seen.server.name} {self._primary_objection(seen)}" for seen in self.servers)

    def _primary_objection(self, seen: Seen) -> str:
        if seen.observation is None:
            return Objection.UNSEEN.value
        if seen.silence is not None:
            return f"{seen.silence.value} ({seen.observation.error})"
        report = seen.observation.report
        if report is not None and report.is_switching_over:
            return "is being switched over to another server"
        if claims(seen):
            return "claims to be the primary" if self.contested else "accepts writes"
        if report is not None and report.follows:
            return "is a replica"
        return "refuses writes" if refuses_writes(seen) else "does not say what it is"

    def heard_at(self, name: str) -> float:
        """See :attr:`Seen.heard_at`; never, for a server that is not in the list (any more)."""
        return next((seen.heard_at for seen in self.servers if seen.server.name == name), float("-inf"))

    def eligible_at(self, now: float) -> tuple[Seen, ...]:
        """The replicas whose last news is fresh enough to believe."""
        if now <= self.fresh_until:
            return self.eligible
        return tuple(seen for seen in self.eligible if not seen.is_old_at(now, self.policy))


def evolve(topology: Topology, news: Observation | Drain | Iterable[Server], *, now: float) -> Topology:
    """The next snapshot. Pure: ``now`` (monotonic seconds) is an argument.

    News of a server that is not in the list, or older than the last of the same server, changes nothing; neither does
    a list without a primary.
    """
    if isinstance(news, Drain):
        return _settle(_drained(topology, news, now), now)
    if not isinstance(news, Observation):
        return _settle(_listed(topology, news), now)
    for seen in topology.servers:
        if seen.server.name == news.server and (seen.observation is None or seen.observation.at <= news.at):
            return _settle(_observed(topology, news, now), now)
    return topology


def _listed(topology: Topology, servers: Iterable[Server]) -> Topology:
    """A new server list. One without a primary is a fault of its source."""
    before = {seen.server.name: seen for seen in topology.servers}
    new = AT_START if topology.at == float("-inf") else NEWCOMER
    listed = tuple(
        replace(before[each.name], server=each) if each.name in before else Seen(each, health=new) for each in servers
    )
    if not any(seen.server.is_primary for seen in listed):
        return topology
    topology = replace(topology, servers=listed)
    if any(seen.server.name == topology.writer for seen in listed):
        return topology
    return _moved(topology, next(seen for seen in listed if seen.server.is_primary))


def _drained(topology: Topology, news: Drain, now: float) -> Topology:
    """A server taken out or put back, which is a return: its caches are cold."""
    servers = tuple(
        replace(seen, is_drained=news.is_drained, health=replace(seen.health, back_at=now))
        if seen.server.name == news.server and seen.is_drained is not news.is_drained
        else seen
        for seen in topology.servers
    )
    return replace(topology, servers=servers)


def _moved(topology: Topology, heir: Seen) -> Topology:
    """Another server is the primary. What was measured against the former one does not hold against it."""
    servers = tuple(replace(seen, lag=None, as_of=None) if seen is heir else seen for seen in topology.servers)
    generation = topology.generation + 1
    return replace(
        topology,
        servers=servers,
        writer=heir.server.name,
        generation=generation,
        history=(),
        heartbeat=None,
        clock=None,
    )


def _observed(topology: Topology, news: Observation, now: float) -> Topology:
    before = topology[news.server].report
    servers = tuple(
        _heard(seen, news, topology.policy, now) if seen.server.name == news.server else seen
        for seen in topology.servers
    )
    topology = replace(topology, servers=servers, at=max(topology.at, news.at))
    if news.server == topology.writer and is_another_server(before, news.report):
        topology = _moved(topology, topology[topology.writer])
    topology = _elected(topology, now)
    if news.server == topology.writer:
        # What a replica said before can be dated only now, if the primary's news came later.
        topology = topology if news.report is None else remembered(topology, news, news.report)
        told = topology.servers
    elif news.report is None:
        return topology
    else:
        told = tuple(seen for seen in topology.servers if seen.server.name == news.server)
    measured = {seen.server.name: _judged(measured_by(topology, seen), topology, now) for seen in told}
    return replace(topology, servers=tuple(measured.get(seen.server.name, seen) for seen in topology.servers))


def _heard(seen: Seen, news: Observation, policy: RoutingPolicy, now: float) -> Seen:
    if news.report is None:
        return replace(
            seen,
            observation=news,
            failures=seen.failures + (not news.is_read),
            well_since=float("inf"),
            health=after_failure(seen.health, policy, now=now, is_read=news.is_read),
        )
    if is_another_server(seen.report, news.report):
        seen = replace(seen, lag=None, as_of=None, was_replica=False, promoted_at=None)
    if _is_another_run(seen.report, news.report):
        seen = replace(seen, well_since=float("inf"))
    latency = seen.latency
    if news.took is not None:
        is_known = latency > 0.0 and not seen.failures
        latency = latency + _SMOOTHING * (news.took - latency) if is_known else news.took
    is_replica = news.report.role is Role.REPLICA
    heard = replace(
        seen,
        observation=news,
        report=news.report,
        reported_at=news.at,
        was_replica=seen.was_replica or is_replica,
        promoted_at=None if is_replica else seen.promoted_at,
        failures=0,
        well_since=min(seen.well_since, news.at),
        latency=latency,
    )
    is_promoted = heard.was_replica and heard.promoted_at is None and claims(heard)
    return replace(heard, promoted_at=news.at) if is_promoted else heard


def _is_another_run(before: Report | None, now: Report) -> bool:
    """It has started anew between two probes, of which neither failed; or its data was put back to an older state."""
    if before is None:
        return False
    if before.run != now.run:
        return True
    return before.position is not None and now.position is not None and not now.position.covers(before.position)


_SMOOTHING: Final = 0.2
"""What one probe counts in the latency: half of a change is seen after three."""


def _judged(seen: Seen, topology: Topology, now: float) -> Seen:
    """Its health by its last word, which may be measured anew by the primary's."""
    if seen.observation is None or seen.silence is not None:
        return seen
    is_fit = seen.server.name == topology.writer or outlives_primary(topology, seen)
    judged = after_answer(seen.health, 0.0 if is_fit else seen.lag, topology.policy, now=now)
    return seen if judged is seen.health else replace(seen, health=judged)


def _elected(topology: Topology, now: float) -> Topology:
    """Rule 3: follow a primary that moved, to another name or behind its own."""
    name, contested = elect(topology, now)
    if name != topology.writer:
        return replace(_moved(topology, topology[name]), contested=())
    return topology if contested == topology.contested else replace(topology, contested=contested)


def _takes_no_writes(seen: Seen) -> bool:
    report = seen.observation.report if seen.observation else None
    return report is not None and report.takes_no_writes


def _settle(topology: Topology, now: float) -> Topology:
    """Rule 5: who is eligible from now on, and for how long that may be believed."""
    policy = topology.policy
    servers = tuple(_objected(seen, _objection(topology, seen, now)) for seen in topology.servers)
    # A near replica that has just come back does not take all reads of its zone at once.
    if policy.zone and any(
        each.objection is None and _is_near(each, policy) and _is_steady(each, policy, now) for each in servers
    ):
        servers = tuple(
            seen if seen.objection is not None or _is_near(seen, policy) else _objected(seen, Objection.OTHER_ZONE)
            for seen in servers
        )
    eligible = tuple(seen for seen in servers if seen.objection is None)
    return replace(
        topology,
        servers=servers,
        eligible=eligible,
        fresh_until=min((seen.reported_at + policy.max_age for seen in eligible), default=float("inf")),
        equals=pairs_of(tuple(seen.server.name for seen in eligible)) if _are_equal(eligible, policy) else (),
        steady_from=max((seen.health.back_at + policy.slow_start for seen in eligible), default=float("-inf")),
    )


def _are_equal(eligible: tuple[Seen, ...], policy: RoutingPolicy) -> bool:
    if len(eligible) < 2 or policy.balance != "least_loaded" or len({seen.server.weight for seen in eligible}) > 1:
        return False
    latencies = [seen.latency for seen in eligible]
    return max(latencies) - min(latencies) <= policy.latency_window


def _objected(seen: Seen, objection: Objection | None) -> Seen:
    return seen if seen.objection is objection else replace(seen, objection=objection)


def _is_near(seen: Seen, policy: RoutingPolicy) -> bool:
    return seen.server.zone == policy.zone


def _is_steady(seen: Seen, policy: RoutingPolicy, now: float) -> bool:
    return now >= seen.health.back_at + policy.slow_start


def _objection(topology: Topology, seen: Seen, now: float) -> Objection | None:
    if seen.server.name == topology.writer:
        return Objection.IS_PRIMARY
    return Objection.DRAINED if seen.is_drained else trouble_of(seen, topology.policy, now)


def trouble_of(seen: Seen, policy: RoutingPolicy, now: float) -> Objection | None:
    """What is wrong with a replica itself."""
    if seen.observation is None:
        return Objection.UNSEEN
    report = seen.observation.report
    if report is None:
        return seen.silence
    if seen.is_old_at(now, policy):
        return Objection.STALE_NEWS
    if report.role is Role.PRIMARY:
        return Objection.ROGUE
    if seen.lag is None and policy.unknown_lag == "exclude":
        return Objection.UNKNOWN_LAG
    if seen.health.state is State.UP:
        return None
    return Objection.LAGGING if seen.lag is not None and seen.lag > policy.max_lag / 2 else Objection.SUSPECT


def _describe(seen: Seen, topology: Topology) -> str:
    name, lag = seen.server.name, "lag unknown" if seen.lag is None else f"{seen.lag:.1f} s"
    if seen.objection is None:
        share = seen.health.share_at(topology.at, topology.policy.slow_start)
        return f"{name} {lag}" if share == 1.0 else f"{name} {lag}, slow start at {share:.0%}"
    if seen.objection in _APART:
        return f"{name} {seen.objection.value}"
    return f"{name} {seen.health.state.value}: {seen.objection.value}"


_APART: Final = (Objection.UNSEEN, Objection.DRAINED, Objection.OTHER_ZONE, Objection.STALE_NEWS, Objection.ROGUE)
"""Objections that the server's health has no part in."""
