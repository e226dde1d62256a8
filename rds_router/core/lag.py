"""How far behind a replica is: what it says, within the bounds that its position and the primary's prove."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rds_router.core.observation import Report
from rds_router.core.position import Position

if TYPE_CHECKING:
    from rds_router.core.topology import Seen, Topology


def measured_by(topology: Topology, seen: Seen) -> Seen:
    """The replica with its lag, and the moment a replica's data is complete to, by its last word."""
    news = seen.observation
    report = news.report if news else None
    if news is None or report is None or seen.server.name == topology.writer:
        return seen
    held, missing = _dated(topology.history, report.position)
    as_of = seen.as_of
    if as_of is not None and missing is not None and missing <= as_of:
        as_of = None  # it lacks what it had: its data was put back to an older state
    lag = report.lag
    primary = topology[topology.writer]
    is_silent = primary.silence is not None
    if topology.policy.heartbeat:
        lag, held = _by_heartbeat(topology, news.at, report, held, is_silent=is_silent)
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
    if held is None and report.position is None and lag is not None and not topology.policy.heartbeat:
        held = news.at - lag - _RESOLUTION
    if held is not None:
        as_of = held if as_of is None else max(held, as_of)
    return replace(seen, lag=lag, as_of=as_of)


def surely_behind(topology: Topology, seen: Seen) -> float:
    """Seconds for which, by its last word, a replica had lacked something that the primary had; 0 if none are shown."""
    _, missing = _dated(topology.history, seen.report.position if seen.report else None)
    return 0.0 if missing is None else max(0.0, seen.reported_at - missing)


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
    topology: Topology, at: float, report: Report, held: float | None, *, is_silent: bool
) -> tuple[float | None, float | None]:
    """Lag by the row's age on the replica, and the moment its data is complete to."""
    if topology.heartbeat is None or report.heartbeat is None:
        return None, held
    asked_at, beat = topology.heartbeat
    lag = max(0.0, beat - report.heartbeat)
    if report.position is None:
        # The primary was asked right after the row was renewed, or found younger than half an interval.
        held = asked_at - topology.policy.probe_interval / 2 - lag
    if is_silent:
        # Whether it is still written nobody here knows, unless the replica's row goes on.
        lag = max(0.0, beat + max(0.0, at - asked_at) - report.heartbeat)
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
