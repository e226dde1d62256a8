"""Who is the primary: the one of the moment, until another server shows that it has taken its place.

A server **claims** to be the primary if its last word, not older than its last error and not old, is that it accepts
writes and follows nobody.

1. The primary of the moment does not claim it: the one server that does takes its place, if the former follows
   somebody, or has left (two probes failed, or it refuses writes) and the other was seen as a replica, or continues the
   former's history, or is what the replicas have their data from.
2. It claims it, and others do too: it stays if it is newer than each of them, or was promoted before our eyes after
   them, or is a SQLite file; a newer one takes its place; where neither is shown the primary is **contested**, and
   nobody is written.
3. Newer is who holds all that the other has and more (GTIDs), or is on a later timeline of the same cluster
   (PostgreSQL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rds_router.core.observation import Report, Role
from rds_router.core.position import Lsn, WallClock

if TYPE_CHECKING:
    from rds_router.core.topology import Seen, Topology

GONE: Final = 2
"""Failed probes in a row: a single one may be lost on its way, and two primaries cost more than a second without."""


def elect(topology: Topology, now: float) -> tuple[str, tuple[str, ...]]:
    """The name of the primary, and the names of those who contest it: empty if nobody does."""
    writer = topology[topology.writer]
    claimants = [seen for seen in topology.servers if claims(seen) and not seen.is_old_at(now, topology.policy)]
    others = [seen for seen in claimants if seen is not writer]
    if not others:
        return topology.writer, ()
    heirs = [one for one in others if all(one is other or _is_newer(one, other) for other in others)]
    heir = heirs[0] if heirs else None
    if writer not in claimants:
        if heir is not None and _takes_place_of(heir, writer, topology):
            return heir.server.name, ()
        return topology.writer, tuple(seen.server.name for seen in others) if len(others) > 1 else ()
    if all(_stands_against(writer, other) for other in others):
        return topology.writer, ()
    if heir is not None and _is_newer(heir, writer) and _has_answered_since(writer, heir):
        return heir.server.name, ()
    return topology.writer, tuple(seen.server.name for seen in others if not _stands_against(writer, seen))


def claims(seen: Seen) -> bool:
    """Its last word, not older than its last error, is that it accepts writes and follows nobody."""
    report = _last_word(seen)
    return report is not None and report.role is Role.PRIMARY and report.is_writable is not False


def refuses_writes(seen: Seen) -> bool:
    """Its last word is that it takes no writes, which its owner may have told it for an hour of maintenance."""
    report = _last_word(seen)
    return report is not None and (report.role is Role.REPLICA or report.is_writable is False)


def is_another_server(before: Report | None, now: Report | None) -> bool:
    """True if one name led to another server before, as when a name moves.

    A PostgreSQL server's identity names the cluster and its start: one that only started anew is on its old timeline.
    """
    if before is None or now is None or not before.identity or not now.identity or before.identity == now.identity:
        return False
    if isinstance(before.position, Lsn) and isinstance(now.position, Lsn) and _cluster(before) == _cluster(now):
        return before.position.timeline != now.position.timeline
    return True


def is_on_earlier_timeline(found: Report, known: Report) -> bool:
    """A PostgreSQL server that a later one of its own name has left behind."""
    if not isinstance(found.position, Lsn) or not isinstance(known.position, Lsn):
        return False
    return 0 < found.position.timeline < known.position.timeline


def _takes_place_of(heir: Seen, writer: Seen, topology: Topology) -> bool:
    report = _last_word(writer)
    if report is not None and report.follows:
        return True
    has_left = writer.failures >= GONE or refuses_writes(writer)
    return has_left and (heir.was_replica or _continues(heir, writer) or _feeds(heir, topology))


def _feeds(heir: Seen, topology: Topology) -> bool:
    """There are replicas, and none of them holds anything that it lacks: what a stray server could not say."""
    mine = heir.report
    fed = [_last_word(seen) for seen in topology.servers if seen is not heir]
    replicas = [report for report in fed if report is not None and report.follows]
    if mine is None or mine.contents is None or not replicas:
        return False
    return all(_is_fed_by(mine, report) for report in replicas)


def _is_fed_by(mine: Report, theirs: Report) -> bool:
    if mine.contents is None or theirs.contents is None or theirs.contents.is_empty:
        return False
    if isinstance(mine.contents, Lsn) and isinstance(theirs.contents, Lsn):
        is_same = mine.contents.timeline == theirs.contents.timeline and _cluster(mine) == _cluster(theirs) != ""
        return is_same and mine.contents.covers(theirs.contents)
    return mine.contents.covers(theirs.contents)


def _continues(heir: Seen, writer: Seen) -> bool:
    """It holds all that the other is known to have: a server of another history does not."""
    mine, theirs = heir.report, writer.report
    if mine is None or theirs is None or theirs.contents is None or mine.contents is None or theirs.contents.is_empty:
        return False
    if isinstance(mine.contents, Lsn):
        return _is_on_later_timeline(mine, theirs)
    return mine.contents.covers(theirs.contents)


def _is_newer(one: Seen, other: Seen) -> bool:
    mine, theirs = one.report, other.report
    if mine is None or theirs is None or mine.contents is None or theirs.contents is None:
        return False
    if isinstance(mine.contents, Lsn):
        return _is_on_later_timeline(mine, theirs)
    return mine.contents.covers(theirs.contents) and not theirs.contents.covers(mine.contents)


def _is_on_later_timeline(mine: Report, theirs: Report) -> bool:
    if not isinstance(mine.contents, Lsn) or not isinstance(theirs.contents, Lsn):
        return False
    return 0 < theirs.contents.timeline < mine.contents.timeline and _cluster(mine) == _cluster(theirs) != ""


def _stands_against(writer: Seen, other: Seen) -> bool:
    if _is_newer(writer, other) or _is_file(writer):
        return True
    return writer.promoted_at is not None and (other.promoted_at is None or other.promoted_at < writer.promoted_at)


def _is_file(seen: Seen) -> bool:
    """SQLite: nobody takes its place by himself, and a file that nobody says is a replica is a stray one."""
    return seen.report is not None and isinstance(seen.report.position, WallClock)


def _has_answered_since(writer: Seen, heir: Seen) -> bool:
    """Asked after the other it still lacks what that one has: not only because its word is the older one."""
    if heir.report is not None and isinstance(heir.report.contents, Lsn):
        return True  # a timeline is later, whenever it was read
    is_later = bool(writer.observation and heir.observation and writer.observation.at >= heir.observation.at)
    # A server that has nothing is behind everybody, of whichever history.
    return is_later and _continues(heir, writer)


def _last_word(seen: Seen) -> Report | None:
    return seen.observation.report if seen.observation else None


def _cluster(report: Report) -> str:
    """PostgreSQL's system identifier, without the start of the server."""
    return report.identity.rpartition("/")[0]
