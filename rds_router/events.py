"""What happened, as frozen records, and the emitter that tells the logger ``rds_router`` and listeners of it.

Every fallback is an event and a count. Listeners are called in the thread in which the thing happened: they must
be quick, and an error of theirs is logged and never reaches the statement that caused the event.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar, TypeAlias

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
class MissUnconfirmed(Event):
    """A lookup found nothing on a replica, and there was no primary to ask: the replica's answer stands."""

    level = logging.INFO

    server: str
    what: str


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
class PrimaryWaking(Event):
    """The primary was never heard of and does not answer: it may be paused, and wakes. Who needs it waits."""

    server: str
    seconds: float
    """How long it is waited for (``wake_timeout``)."""


@dataclass(frozen=True, slots=True)
class Switchover(Event):
    """A blue/green deployment's switchover of the primary began, went on, or ended; while in progress, writes wait."""

    level = logging.INFO

    server: str
    status: str
    """In RDS's words; empty when there is no deployment any more."""


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
