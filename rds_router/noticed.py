"""What happened to the servers: the events between two snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from rds_router.core.observation import Report
from rds_router.core.position import Lsn, Position
from rds_router.core.topology import Objection, Seen, Topology
from rds_router.events import (
    Drained,
    Event,
    GrantMissing,
    PrimaryContested,
    PrimaryIn,
    PrimaryMoved,
    PrimaryOut,
    PrimaryWaking,
    ReplicaIn,
    ReplicaOut,
    SameServer,
    ServersListed,
    Switchover,
    Undrained,
    WritableReplica,
    WritesLost,
)


def listed(old: Topology, new: Topology) -> ServersListed | None:
    """What another list of servers means for people; None if it names the same ones."""
    before, now = ({seen.server.name for seen in each.servers} for each in (old, new))
    return None if before == now else ServersListed(tuple(sorted(now - before)), tuple(sorted(before - now)))


_MOST: Final = 4096
"""Commits between two probes: more than a process can do."""
_LATEST: Final = 64
"""Of how many commits it is looked whether they cover a token: who reads has mostly just written."""


class Acknowledged:
    """The positions of the commits that this process was told of, back to the primary's last probe but one.

    Of what was done before that, the probe tells. A list takes an entry from any thread.
    """

    def __init__(self) -> None:
        self._before: list[Position] = []
        self._now: list[Position] = []

    def add(self, position: Position) -> None:
        self._now.append(position)
        if len(self._now) >= _MOST:  # nobody asks the primary
            self.asked()

    def asked(self) -> None:
        """The primary was probed again."""
        self._before, self._now = self._now, []

    def covers(self, position: Position) -> bool:
        """True if one of the latest commits covers it: whoever has made a write need not ask whether it is there."""
        return any(each.covers(position) for each in islice(self, _LATEST))

    def __iter__(self) -> Iterator[Position]:
        """The latest first."""
        yield from reversed(self._now)
        yield from reversed(self._before)


def changes(old: Topology, new: Topology, acknowledged: Iterable[Position] = ()) -> Iterator[Event]:
    """The events between two snapshots, in the order in which a reader wants them.

    ``acknowledged``: the positions of the last commits that the former primary has told, the latest first.
    """
    if new.writer != old.writer:
        yield PrimaryMoved(old.writer, new.writer, new.generation)
    if new.generation != old.generation:
        yield from _losses(old, new, acknowledged)
    if new.contested and new.contested != old.contested:
        yield PrimaryContested((new.writer, *new.contested))
    before = {seen.server.name: seen for seen in old.servers}
    for seen in new.servers:
        yield from _server_changes(before.get(seen.server.name), seen, new)
    yield from _twins(old, new)


def _losses(old: Topology, new: Topology, acknowledged: Iterable[Position]) -> Iterator[Event]:
    """What the former primary was last known to have, if the new one's history does not reach it."""
    for had in (*acknowledged, *(position for _, position in old.history[-1:])):
        if event := lost(old.writer, had, new):
            yield event
            return


def lost(server: str, had: Position, topology: Topology) -> WritesLost | None:
    """What a former primary had, if the primary of the moment lacks it."""
    report = topology[topology.writer].report
    if report is None or not _lacks(report, had):
        return None
    return WritesLost(server, topology.writer, str(had), str(report.branched or report.contents))


def _lacks(report: Report, had: Position) -> bool:
    if isinstance(had, Lsn) or report.branched is not None:
        # By now the new primary has written on, on a timeline of its own: what counts is where that began.
        began = report.branched
        return isinstance(began, Lsn) and isinstance(had, Lsn) and began.location < had.location
    return report.contents is not None and not report.contents.covers(had)


def _server_changes(old: Seen | None, new: Seen, topology: Topology) -> Iterator[Event]:
    name = new.server.name
    is_writer = name == topology.writer
    if is_writer:
        trouble, before = _trouble(new), _trouble(old)
        if trouble != before and trouble is not None:
            is_waking = topology.may_be_waking
            yield PrimaryWaking(name, topology.policy.wake_timeout) if is_waking else PrimaryOut(name, *trouble)
        elif trouble != before or (old is not None and old.report is None and new.report is not None):
            yield PrimaryIn(name)
    if old is not None and new.is_drained is not old.is_drained:
        yield Drained(name) if new.is_drained else Undrained(name)
    if not is_writer and new.objection is not (old.objection if old else Objection.UNSEEN):
        if new.objection is None:
            yield ReplicaIn(name, new.lag)
        elif new.objection not in (Objection.UNSEEN, Objection.DRAINED):
            yield ReplicaOut(name, new.objection.value, _detail(new, new.objection))
    report = new.report
    if report is None:
        return
    earlier = old.report if old else None
    if is_writer and report.switchover != (earlier.switchover if earlier else ""):
        yield Switchover(name, report.switchover)
    if not is_writer and report.follows and report.is_writable and not (earlier and earlier.is_writable):
        yield WritableReplica(name)
    for grant in report.missing:
        if earlier is None or grant not in earlier.missing:
            yield GrantMissing(name, grant)


def _trouble(seen: Seen | None) -> tuple[str, str] | None:
    """Why this server cannot serve as the primary, as far as is known."""
    if seen is None or seen.observation is None:
        return None
    if seen.silence is not None:
        return seen.silence.value, _detail(seen, seen.silence)
    if seen.observation.report is not None and seen.observation.report.is_writable is False:
        return "read-only", "it refuses writes: point the router at the primary, or make this server writable"
    if seen.observation.report is not None and seen.observation.report.is_switching_over:
        return "switching over", "another server of its blue/green deployment is about to take its name"
    return None


def _detail(seen: Seen, why: Objection) -> str:
    if why is seen.silence and seen.observation is not None:
        return f"{seen.observation.error}: {_REMEDIES[why]}"
    if why is Objection.LAGGING and seen.lag is not None:
        return f"{seen.lag:.1f} s"
    return _REMEDIES.get(why, "")


_REMEDIES: Final = {
    Objection.UNREACHABLE: "is the URL right, is the server running, and may this machine reach it?",
    Objection.LOGIN_REFUSED: "check user, password and database in the URL of this server",
    Objection.ROGUE: "it is no replica: take it out of the list, or set up replication and read_only",
}


def _twins(old: Topology, new: Topology) -> Iterator[Event]:
    known = _by_identity(old)
    for identity, names in _by_identity(new).items():
        if len(names) > 1 and known.get(identity) != names:
            yield SameServer(names, identity)


def _by_identity(topology: Topology) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for seen in topology.servers:
        if seen.report is not None and seen.report.identity:
            found[seen.report.identity] = (*found.get(seen.report.identity, ()), seen.server.name)
    return found
