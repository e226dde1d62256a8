"""How far behind a replica is: what it says, within the bounds that its position and the primary's prove."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rds_router.core.observation import Observation, Report, Role
from rds_router.core.position import Position

if TYPE_CHECKING:
    from rds_router.core.topology import Seen, Topology

HISTORY: Final = 128
"""How many of the primary's positions are remembered, to date those of the replicas."""
HINDSIGHT: Final = 1.0
"""Seconds by which a primary's place in shared storage may be older than its line says: lines are stamped in whole
seconds, or not at all, and a number may have been taken before the stamp."""


def remembered(topology: Topology, news: Observation, report: Report) -> Topology:
    """The snapshot with what the primary has just told for its replicas to be measured by."""
    heartbeat = None if report.heartbeat is None else (news.at, report.heartbeat)
    if report.clock is not None:
        topology = replace(topology, clock=(news.at, report.clock))
    history = topology.history
    # One that is no primary any more does not say what has been committed since.
    if report.role is not Role.REPLICA:
        if report.position is not None:
            history = (*history, (news.at, report.position))
        elif report.storage is not None:
            history = _with_storage(history, news.at - report.storage_age - HINDSIGHT, report.storage)
    return replace(topology, history=history[-HISTORY:], heartbeat=heartbeat)


def _with_storage(
    history: tuple[tuple[float, Position], ...], at: float, place: Position
) -> tuple[tuple[float, Position], ...]:
    if history and at <= history[-1][0]:
        return history  # an older line: what it says is said already
    if history and not place.covers(history[-1][1]):
        return ()  # later, and less: not the same storage, or not as old as its line says
    return (*history, (at, place))


def measured_by(topology: Topology, seen: Seen) -> Seen:
    """The replica with its lag, and the moment a replica's data is complete to, by its last word."""
    news = seen.observation
    report = news.report if news else None
    if news is None or report is None or seen.server.name == topology.writer:
        return seen
    place = _place(topology, report)
    held, lacked = _dated(topology.history, place)
    as_of = seen.as_of
    if as_of is not None and lacked is not None and lacked <= as_of:
        as_of = None  # it lacks what it had: its data was put back to an older state
    missing = _missing_since(report, lacked)
    lag = report.lag
    primary = topology[topology.writer]
    is_silent = primary.silence is not None
    if topology.policy.heartbeat:
        lag, held = _by_heartbeat(topology, news.at, report, held, by_row=place is None, is_silent=is_silent)
    elif report.lag_grows_when_idle and primary.observation is None:
        lag = None  # the age of the last transaction, and nobody has told yet whether there is a younger one
    elif report.lag_grows_when_idle and held is not None and missing is None and not is_silent:
        lag = 0.0
    if lag is None and held is not None and missing is None and is_silent:
        # A replica without its primary tells no figure (MySQL, MariaDB): it is as old as the primary's last word.
        lag = max(0.0, news.at - held)
    if lag is not None and held is not None:
        # A figure may be too high (the age of the last transaction, a thread that has just started) ...
        lag = min(lag, max(0.0, news.at - held))
    if lag is not None and missing is not None:
        # ... and too low: a replica cut off from its primary reports 0 until replica_net_timeout, but it lacks
        # something that the primary had committed by then.
        lag = max(lag, news.at - missing)
    if held is None and place is None and lag is not None and not topology.policy.heartbeat:
        held = news.at - lag - _RESOLUTION
    if held is not None:
        as_of = held if as_of is None else max(held, as_of)
    return replace(seen, lag=lag, as_of=as_of)


def surely_behind(topology: Topology, seen: Seen) -> float:
    """Seconds for which, by its last word, a replica had lacked something that the primary had; 0 if none are shown."""
    if seen.report is None:
        return 0.0
    missing = _missing_since(seen.report, _dated(topology.history, _place(topology, seen.report))[1])
    return 0.0 if missing is None else max(0.0, seen.reported_at - missing)


def shown_until(topology: Topology, now: float) -> float:
    """Of what was committed later than this moment no replica can be shown to have it ``now``, whatever it has."""
    primary = topology[topology.writer].report
    is_by_storage = primary is not None and primary.position is None and primary.storage is not None
    return now - HINDSIGHT if is_by_storage else now


def outlives_primary(topology: Topology, seen: Seen) -> bool:
    """The primary is silent, and the replica holds all it was last known to have: reads go on there for a while.

    How old its data is cannot be told better than by the primary's last word, so that is its lag, and it grows. What
    it is forgiven is ``hard_max_lag``: a primary may be silent to us, and be written by others.
    """
    if topology[topology.writer].silence is None or seen.lag is None or seen.lag > topology.policy.hard_max_lag:
        return False
    if topology.history:
        return seen.as_of is not None and seen.as_of >= topology.history[-1][0]
    beat = seen.report.heartbeat if seen.report else None
    return topology.heartbeat is not None and beat is not None and beat >= topology.heartbeat[1]


def _by_heartbeat(
    topology: Topology, at: float, report: Report, held: float | None, *, by_row: bool, is_silent: bool
) -> tuple[float | None, float | None]:
    """Lag by the row's age on the replica, and the moment its data is complete to."""
    if topology.heartbeat is None or report.heartbeat is None:
        return None, held
    asked_at, beat = topology.heartbeat
    lag = max(0.0, beat - report.heartbeat)
    if by_row:
        # The primary was asked right after the row was renewed, or found younger than half an interval.
        held = asked_at - topology.policy.probe_interval / 2 - lag
    if is_silent:
        # Whether it is still written nobody here knows, unless the replica's row goes on.
        lag = max(0.0, beat + max(0.0, at - asked_at) - report.heartbeat)
    return lag, held


_RESOLUTION: Final = 2.0
"""Seconds_Behind counts whole seconds by the replica's clock: without positions, a margin."""


def _place(topology: Topology, report: Report) -> Position | None:
    """What of a replica is compared with the primary's. A place in shared storage unless the primary has a position of
    its own; if it tells no place at the moment, nobody's lag is taken for a proof in the place of it."""
    primary = topology[topology.writer].report
    is_shared = primary is None or primary.position is None
    return report.storage if report.position is None and is_shared else report.position


def _missing_since(report: Report, lacked: float | None) -> float | None:
    """A moment by which the primary had something that the replica had not got, ``lacked`` being its entry's. A line of
    the storage tells of a past moment, and for a lag that is not to look longer than it is the latest one counts."""
    if lacked is None or report.position is not None:
        return lacked
    return lacked + HINDSIGHT + report.storage_age


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
