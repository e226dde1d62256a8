"""What is believed of the servers: a frozen snapshot, and the step from one to the next.

1. A snapshot (:class:`Topology`) is never changed; :func:`evolve` makes the next one from news.
2. News is an :class:`~rds_router.core.observation.Observation` or a new list of :class:`Server`.
3. The primary of the moment is the configured one until exactly one other server accepts writes and follows
   nobody, while it follows somebody or refuses writes itself; or is gone, and the other was seen as a replica
   before (a promotion, not a stray server). Two that claim to be the primary change nothing.
4. A replica's lag is what it reports, within the bounds that its position proves.
5. Who is eligible is settled here, once for each news, so that a decision only picks.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import Position
from rds_router.core.token import Token

HISTORY: Final = 128
"""How many of the primary's positions are remembered, to date those of the replicas."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server of the cluster, as configured."""

    name: str
    weight: float = 1.0
    """Its share of the reads, against the others' weights."""
    zone: str = ""
    is_primary: bool = False
    """Configured as the primary; who is the primary now is the topology's to say."""


class Objection(enum.Enum):
    """Why a server does not get a read."""

    UNSEEN = "not seen yet"
    UNREACHABLE = "unreachable"
    LOGIN_REFUSED = "login refused"
    STALE_NEWS = "not heard of lately"
    LAGGING = "lagging"
    UNKNOWN_LAG = "lag unknown"
    ROGUE = "accepts writes and follows nobody"
    IS_PRIMARY = "is the primary"
    BEHIND_TOKEN = "behind the token"
    TOO_STALE = "staler than asked for"
    EXCLUDED = "failed this statement"
    OTHER_ZONE = "in another zone"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is believed of one server."""

    server: Server
    observation: Observation | None = None
    """The last news of it, good or bad."""
    report: Report | None = None
    """The last good report."""
    lag: float | None = None
    """Seconds it is behind the primary; None when not known."""
    as_of: float | None = None
    """Monotonic seconds: it holds everything that was committed before this moment."""
    was_replica: bool = False
    """It was seen as a replica since this process began."""
    failures: int = 0
    """Probes that failed since the last good one."""
    is_lagging: bool = False
    """Over ``max_lag`` once, and not yet back under half of it."""
    objection: Objection | None = Objection.UNSEEN
    """Why it gets no reads; None when it is eligible."""

    @property
    def silence(self) -> Objection | None:
        """Why its last probe brought no report; None if it did, or none was made."""
        if self.observation is None or self.observation.report is not None:
            return None
        return Objection.LOGIN_REFUSED if self.observation.is_login_refused else Objection.UNREACHABLE

    def is_old_at(self, now: float, policy: RoutingPolicy) -> bool:
        """True if its last news is too old to be believed."""
        return self.observation is None or now - self.observation.at > policy.max_age

    def staleness_at(self, now: float) -> float | None:
        """Seconds its data may be behind at ``now``: its lag as measured, and the time since. None when not known."""
        if self.lag is None or self.observation is None:
            return None
        return self.lag + max(0.0, now - self.observation.at)

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
    at: float = float("-inf")
    """Monotonic seconds of the last news."""
    eligible: tuple[Seen, ...] = ()
    """The replicas that may answer reads, in the order configured."""
    eligible_weight: float = 0.0
    """The weight of all of them."""
    fresh_until: float = float("inf")
    """Monotonic seconds: from then on some eligible replica's news is too old."""
    history: tuple[tuple[float, Position], ...] = ()
    """The primary's positions with the time before they were asked for, oldest first."""
    heartbeat: tuple[float, float] | None = None
    """The heartbeat last seen on the primary: when it was asked for, and its time by the primary's clock. None if the
    primary's last report had none."""

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
        others = ", ".join(_describe(seen) for seen in self.servers if seen.server.name != self.writer)
        return f"<Topology generation {self.generation}: primary {self.writer}; {others or 'no replica'}>"

    @property
    def replicas(self) -> tuple[Seen, ...]:
        """All servers but the primary of the moment."""
        return tuple(seen for seen in self.servers if seen.server.name != self.writer)

    def eligible_at(self, now: float) -> tuple[Seen, ...]:
        """The replicas whose last news is fresh enough to believe."""
        if now <= self.fresh_until:
            return self.eligible
        return tuple(seen for seen in self.eligible if not seen.is_old_at(now, self.policy))


def evolve(topology: Topology, news: Observation | Iterable[Server], *, now: float) -> Topology:
    """The next snapshot. Pure: ``now`` (monotonic seconds) is an argument.

    News of a server that is not in the list, or older than the last of the same server, changes nothing; neither does
    a list without a primary.
    """
    if not isinstance(news, Observation):
        return _settle(_listed(topology, news), now)
    for seen in topology.servers:
        if seen.server.name == news.server and (seen.observation is None or seen.observation.at <= news.at):
            return _settle(_observed(topology, news, now), now)
    return topology


def _listed(topology: Topology, servers: Iterable[Server]) -> Topology:
    """A new server list. One without a primary is a fault of its source."""
    before = {seen.server.name: seen for seen in topology.servers}
    listed = tuple(replace(before[each.name], server=each) if each.name in before else Seen(each) for each in servers)
    if not any(seen.server.is_primary for seen in listed):
        return topology
    topology = replace(topology, servers=listed)
    if any(seen.server.name == topology.writer for seen in listed):
        return topology
    return _moved(topology, next(seen for seen in listed if seen.server.is_primary))


def _moved(topology: Topology, heir: Seen) -> Topology:
    """Another server is the primary. What was measured against the former one does not hold against it."""
    servers = tuple(
        replace(seen, lag=None, as_of=None, is_lagging=False) if seen is heir else seen for seen in topology.servers
    )
    generation = topology.generation + 1
    return replace(
        topology, servers=servers, writer=heir.server.name, generation=generation, history=(), heartbeat=None
    )


def _observed(topology: Topology, news: Observation, now: float) -> Topology:
    servers = tuple(_heard(seen, news) if seen.server.name == news.server else seen for seen in topology.servers)
    topology = _elected(replace(topology, servers=servers, at=max(topology.at, news.at)), now)
    if news.report is None:
        return topology
    if news.server == topology.writer:
        # What a replica said before can be dated only now, if the primary's news came later.
        topology, told = _remembered(topology, news, news.report), topology.servers
    else:
        told = tuple(seen for seen in topology.servers if seen.server.name == news.server)
    measured = {seen.server.name: _measured(topology, seen) for seen in told if seen.server.name != topology.writer}
    return replace(topology, servers=tuple(measured.get(seen.server.name, seen) for seen in topology.servers))


def _heard(seen: Seen, news: Observation) -> Seen:
    was_replica = seen.was_replica or (news.report is not None and news.report.role is Role.REPLICA)
    failures = seen.failures + 1 if news.report is None else 0
    return replace(
        seen, observation=news, report=news.report or seen.report, was_replica=was_replica, failures=failures
    )


def _elected(topology: Topology, now: float) -> Topology:
    """Rule 3: follow a primary that moved; never choose between two that claim it."""
    claimants = [seen for seen in topology.servers if _claims(seen) and not seen.is_old_at(now, topology.policy)]
    if len(claimants) != 1 or claimants[0].server.name == topology.writer:
        return topology
    (heir,) = claimants
    writer = topology[topology.writer]
    is_left = writer.failures >= _GONE or _refuses_writes(writer)
    return _moved(topology, heir) if _follows_somebody(writer) or (is_left and heir.was_replica) else topology


_GONE: Final = 2
"""Failed probes in a row: a single one may be lost on its way, and two primaries cost more than a second without."""


def _claims(seen: Seen) -> bool:
    """Its last word, not older than its last error, is that it accepts writes and follows nobody."""
    report = seen.observation.report if seen.observation else None
    return report is not None and report.role is Role.PRIMARY and report.is_writable is not False


def _follows_somebody(seen: Seen) -> bool:
    """Its last word is that it replicates from another server."""
    report = seen.observation.report if seen.observation else None
    return report is not None and bool(report.follows)


def _refuses_writes(seen: Seen) -> bool:
    """Its last word is that it takes no writes, which its owner may have told it for an hour of maintenance."""
    report = seen.observation.report if seen.observation else None
    return report is not None and (report.role is Role.REPLICA or report.is_writable is False)


def _remembered(topology: Topology, news: Observation, report: Report) -> Topology:
    heartbeat = None if report.heartbeat is None else (news.at, report.heartbeat)
    if report.position is None:
        return replace(topology, heartbeat=heartbeat)
    history = (*topology.history[-HISTORY + 1 :], (news.at, report.position))
    return replace(topology, history=history, heartbeat=heartbeat)


def _measured(topology: Topology, seen: Seen) -> Seen:
    """Rule 4: the lag and the moment a replica's data is complete to, by its last word."""
    news = seen.observation
    report = news.report if news else None
    if news is None or report is None:
        return seen
    held, missing = _dated(topology.history, report.position)
    as_of = seen.as_of
    if as_of is not None and missing is not None and missing <= as_of:
        as_of = None  # it lacks what it had: its data was put back to an older state
    lag = report.lag
    if topology.policy.heartbeat:
        lag, held = _by_heartbeat(topology, report, held)
    elif report.lag_grows_when_idle and held is not None and missing is None:
        lag = 0.0
    if lag is not None and held is not None:
        # A figure may be too high (the age of the last transaction, a thread that has just started) ...
        lag = min(lag, max(0.0, news.at - held))
    if lag is not None and missing is not None:
        # ... and too low: a replica cut off from its primary reports 0 until replica_net_timeout, but it lacks
        # something that the primary had committed by then.
        lag = max(lag, news.at - missing)
    if held is None and report.position is None and lag is not None and not topology.policy.heartbeat:
        held = news.at - lag - _RESOLUTION
    if held is not None:
        as_of = held if as_of is None else max(held, as_of)
    bound = topology.policy.max_lag
    is_lagging = seen.is_lagging if lag is None else lag > (bound / 2 if seen.is_lagging else bound)
    return replace(seen, lag=lag, as_of=as_of, is_lagging=is_lagging)


def _by_heartbeat(topology: Topology, report: Report, held: float | None) -> tuple[float | None, float | None]:
    """Lag by the row's age on the replica, and the moment its data is complete to."""
    if topology.heartbeat is None or report.heartbeat is None:
        return None, held
    asked_at, beat = topology.heartbeat
    lag = max(0.0, beat - report.heartbeat)
    if report.position is None:
        # The primary was asked right after the row was renewed, or found younger than half an interval.
        held = asked_at - topology.policy.probe_interval / 2 - lag
    return lag, held


_RESOLUTION: Final = 2.0
"""Seconds_Behind counts whole seconds by the replica's clock: without positions, a margin."""


def _dated(history: tuple[tuple[float, Position], ...], position: Position | None) -> tuple[float | None, float | None]:
    """When the primary was last known to have no more than ``position``, and first known to have more."""
    if position is None:
        return None, None
    missing: float | None = None
    for at, place in reversed(history):
        if position.covers(place):
            return at, missing
        missing = at
    return None, missing


def _settle(topology: Topology, now: float) -> Topology:
    """Rule 5: who is eligible from now on, and for how long that may be believed."""
    servers = tuple(replace(seen, objection=_objection(topology, seen, now)) for seen in topology.servers)
    eligible = tuple(seen for seen in servers if seen.objection is None)
    near = {seen.server.name for seen in eligible if seen.server.zone == topology.policy.zone}
    if near and topology.policy.zone:
        servers = tuple(
            replace(seen, objection=Objection.OTHER_ZONE)
            if seen.objection is None and seen.server.name not in near
            else seen
            for seen in servers
        )
        eligible = tuple(seen for seen in servers if seen.objection is None)
    fresh_until = min(
        (seen.observation.at + topology.policy.max_age for seen in eligible if seen.observation),
        default=float("inf"),
    )
    weight = sum(seen.server.weight for seen in eligible)
    return replace(topology, servers=servers, eligible=eligible, eligible_weight=weight, fresh_until=fresh_until)


def _objection(topology: Topology, seen: Seen, now: float) -> Objection | None:
    if seen.server.name == topology.writer:
        return Objection.IS_PRIMARY
    if seen.observation is None:
        return Objection.UNSEEN
    report = seen.observation.report
    if report is None:
        return seen.silence
    if seen.is_old_at(now, topology.policy):
        return Objection.STALE_NEWS
    if report.role is Role.PRIMARY:
        return Objection.ROGUE
    if seen.lag is None:
        return Objection.UNKNOWN_LAG if topology.policy.unknown_lag == "exclude" else None
    return Objection.LAGGING if seen.is_lagging else None


def _describe(seen: Seen) -> str:
    if seen.objection is None:
        return f"{seen.server.name} {'lag unknown' if seen.lag is None else f'{seen.lag:.1f} s'}"
    return f"{seen.server.name} {seen.objection.value}"
