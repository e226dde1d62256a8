"""What happened, as frozen records, and the emitter that tells the logger ``rds_router`` and listeners of it.

Every fallback is an event and a count. Listeners are called in the thread in which the thing happened: they must
be quick, and an error of theirs is logged and never reaches the statement that caused the event.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import ClassVar, Final, TypeAlias

from rds_router.core.observation import Report
from rds_router.core.position import Lsn, Position
from rds_router.core.topology import Objection, Seen, Topology

_log = logging.getLogger("rds_router")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``str()`` is one line for a log."""

    level: ClassVar[int] = logging.WARNING
    """What the logger ``rds_router`` is told it with."""
    remedy: ClassVar[str] = ""
    """What to do about it, where that does not depend on the case."""

    def __str__(self) -> str:
        values = " ".join(f"{item.name}={getattr(self, item.name)!r}" for item in fields(self))
        return f"{type(self).__name__} {values}{': ' if self.remedy else ''}{self.remedy}"


@dataclass(frozen=True, slots=True)
class ReplicaIn(Event):
    """A replica may answer reads from now on."""

    level = logging.INFO

    server: str
    lag: float | None


@dataclass(frozen=True, slots=True)
class ReplicaOut(Event):
    """A replica gets no reads from now on."""

    server: str
    why: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CredentialsRenewed(Event):
    """A server refused the account; the credentials were asked anew, and what they told now is tried."""

    level = logging.INFO

    server: str


@dataclass(frozen=True, slots=True)
class Drained(Event):
    """A server was taken out of use by hand: no transaction begins to read there, those under way go on."""

    level = logging.INFO
    server: str


@dataclass(frozen=True, slots=True)
class Undrained(Event):
    """A server that was taken out of use by hand may be used again."""

    level = logging.INFO
    server: str


@dataclass(frozen=True, slots=True)
class MissConfirmed(Event):
    """A lookup found nothing on a replica, and the primary was asked: it had the row, or had none either."""

    level = logging.DEBUG

    server: str
    what: str
    was_found: bool


@dataclass(frozen=True, slots=True)
class ServersListed(Event):
    """The cluster has other members than before."""

    level = logging.INFO

    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DiscoveryFailed(Event):
    """Nobody told who belongs to the cluster: the list stays as it was."""

    why: str


@dataclass(frozen=True, slots=True)
class PrimaryMoved(Event):
    """Another server is the primary now."""

    old: str
    new: str
    generation: int


@dataclass(frozen=True, slots=True)
class PrimaryOut(Event):
    """The primary does not answer, or does not accept writes; nobody else is known to be the primary."""

    server: str
    why: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PrimaryIn(Event):
    """The primary answers and accepts writes (again)."""

    level = logging.INFO

    server: str


@dataclass(frozen=True, slots=True)
class PrimarySuspected(Event):
    """A connection to the primary failed, or a write was refused there: all servers are asked. Counted each time, told
    once an outage."""

    server: str
    why: str
    error: str


@dataclass(frozen=True, slots=True)
class PrimaryBack(Event):
    """There is a primary again, the same or another; transactions that were held go on."""

    level = logging.INFO

    server: str
    seconds: float
    """How long there was none, or it was in doubt."""


@dataclass(frozen=True, slots=True)
class PrimaryContested(Event):
    """Several servers claim to be the primary, and none is shown to be the newest: nobody is written."""

    remedy = "make all but one of them read-only, or take them out of the configuration"

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WritesLost(Event):
    """The new primary lacks what the former one had: commits that were acknowledged may be lost with it."""

    remedy = "replication is asynchronous; compare the two before the former primary's data is thrown away"

    old: str
    new: str
    had: str
    """The last position known of the former primary."""
    has: str


@dataclass(frozen=True, slots=True)
class WriteHeld(Event):
    """A transaction that needs the primary waits for one. Counted each time, told once an outage."""

    server: str


@dataclass(frozen=True, slots=True)
class WriteRefused(Event):
    """A transaction got an error because there was no primary; nothing of it was sent."""

    server: str
    waited: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class TransactionRepeated(Event):
    """``run_transaction`` runs its work again: nothing of the attempt was done."""

    level = logging.INFO

    attempt: int
    why: str


@dataclass(frozen=True, slots=True)
class CommitResolved(Event):
    """The answer to a COMMIT was lost, and the primary of the moment was asked what became of it."""

    server: str
    was_committed: bool | None
    """None: nobody can say. The caller got CommitInDoubt."""
    seconds: float


@dataclass(frozen=True, slots=True)
class WritableReplica(Event):
    """A replica accepts writes of its own: whoever writes there parts it from its primary."""

    remedy = "set read_only=1 there, or take it out of the configuration"

    server: str


@dataclass(frozen=True, slots=True)
class SameServer(Event):
    """Two configured names lead to one server."""

    remedy = "take one of them out of the configuration"

    servers: tuple[str, ...]
    identity: str


@dataclass(frozen=True, slots=True)
class GrantMissing(Event):
    """The account may not see something; the text names the grant and what therefore stays unknown."""

    server: str
    grant: str


@dataclass(frozen=True, slots=True)
class NewsNotShared(Event):
    """This process and the others on its host do not tell each other what servers answered."""

    remedy = "each process asks for itself meanwhile; share_observations=False says that this is meant"

    directory: str
    why: str


@dataclass(frozen=True, slots=True)
class ReadOnPrimary(Event):
    """A read went to the primary because no replica was eligible. Counted each time, told once an outage."""

    server: str
    why: str


@dataclass(frozen=True, slots=True)
class ReadOnStale(Event):
    """No replica was eligible, and the least stale one answered a read. Counted each time, told once an outage."""

    server: str
    why: str


@dataclass(frozen=True, slots=True)
class ReadOnSuspect(Event):
    """A read went to a replica that is suspected, as nobody else was left. Counted each time, told once an outage."""

    server: str
    why: str


@dataclass(frozen=True, slots=True)
class ReadRefused(Event):
    """A read got the error NoServerAvailable. Counted each time, told once an outage."""

    why: str


@dataclass(frozen=True, slots=True)
class CaughtUp(Event):
    """A read waited for a replica to have its client's write, and the replica came to have it."""

    level = logging.DEBUG
    server: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StillBehind(Event):
    """A read waited for a replica to have its client's write, in vain; it went to the primary."""

    level = logging.DEBUG
    servers: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class TokenByTime(Event):
    """The position of a write is not known, so its token travels as a time."""

    server: str
    error: str


@dataclass(frozen=True, slots=True)
class TokenIgnored(Event):
    """A token that was brought cannot be read, or is another cluster's: its reader is on the primary for a while."""

    level = logging.DEBUG
    why: str


@dataclass(frozen=True, slots=True)
class ReadRetried(Event):
    """A replica failed a read for a reason of its own; the read was run again elsewhere."""

    server: str
    error: str


@dataclass(frozen=True, slots=True)
class Healed(Event):
    """A replica refused a statement taken for a read; it ran on the primary, as its shape will from now on."""

    server: str
    shape: str
    error: str


Listener: TypeAlias = Callable[[Event], None]


class Emitter:
    """Counts events by the name of their class and tells listeners."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._listeners: tuple[Listener, ...] = ()

    def __repr__(self) -> str:
        counted = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return f"<Emitter: {len(self._listeners)} listeners; {counted or 'nothing happened'}>"

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell ``listener`` of every event from now on. Returns a function that ends it."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return stop

    def emit(self, event: Event) -> None:
        """Count the event, log it and tell everyone."""
        self.counts[type(event).__name__] += 1
        _log.log(event.level, "%s", event)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _log.exception("a listener of rds_router failed on %s", event)


def listed(old: Topology, new: Topology) -> ServersListed | None:
    """What another list of servers means for people; None if it names the same ones."""
    before, now = ({seen.server.name for seen in each.servers} for each in (old, new))
    return None if before == now else ServersListed(tuple(sorted(now - before)), tuple(sorted(before - now)))


def changes(old: Topology, new: Topology, acknowledged: Position | None = None) -> Iterator[Event]:
    """The events between two snapshots, in the order in which a reader wants them.

    ``acknowledged``: the position of the last commit that the former primary has told.
    """
    if new.writer != old.writer:
        yield PrimaryMoved(old.writer, new.writer, new.generation)
    if new.generation != old.generation:
        yield from _losses(old, new, acknowledged)
    if new.contested and new.contested != old.contested:
        yield PrimaryContested((new.writer, *new.contested))
    before = {seen.server.name: seen for seen in old.servers}
    for seen in new.servers:
        yield from _server_changes(before.get(seen.server.name), seen, is_writer=seen.server.name == new.writer)
    yield from _twins(old, new)


def _losses(old: Topology, new: Topology, acknowledged: Position | None) -> Iterator[Event]:
    """What the former primary was last known to have, if the new one's history does not reach it."""
    report = new[new.writer].report
    known = [acknowledged, *(position for _, position in old.history[-1:])]
    for had in known:
        if report is not None and had is not None and _lacks(report, had):
            yield WritesLost(old.writer, new.writer, str(had), str(report.branched or report.contents))
            return


def _lacks(report: Report, had: Position) -> bool:
    if isinstance(had, Lsn) or report.branched is not None:
        # By now the new primary has written on, on a timeline of its own: what counts is where that began.
        began = report.branched
        return isinstance(began, Lsn) and isinstance(had, Lsn) and began.location < had.location
    return report.contents is not None and not report.contents.covers(had)


def _server_changes(old: Seen | None, new: Seen, *, is_writer: bool) -> Iterator[Event]:
    name = new.server.name
    if is_writer:
        trouble, before = _trouble(new), _trouble(old)
        if trouble != before and trouble is not None:
            yield PrimaryOut(name, *trouble)
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
