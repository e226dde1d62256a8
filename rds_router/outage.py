"""While there is no primary: who needs one waits a moment, not for ever, and not everybody comes back at once.

1. An outage begins when a connection to the primary says so, or the probes do, and ends with the first probe sent after
   that which finds a primary. Until it begins nothing here costs anybody anything.
2. Who needs the primary meanwhile waits up to ``failover_timeout`` from when he came, and up to his own deadline. At
   most ``failover_queue`` wait; if more come, who came first gets the error.
3. An outage older than ``failover_timeout`` fails at once whoever comes (the circuit is open), but for
   ``run_transaction``, which has a patience of its own. Where the primary was never heard of and may be asleep,
   ``wake_timeout`` stands for it.
4. When it ends those who wait go one after the other, a little apart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from rds_router.core.policy import RoutingPolicy
from rds_router.core.topology import Topology
from rds_router.errors import NoPrimary, ReadElsewhere, WrongServer
from rds_router.events import Emitter, PrimaryBack, PrimarySuspected, WriteHeld, WriteRefused

_T = TypeVar("_T")


class Outage:
    """What one router knows of its primary's absence. Thread-safe.

    ``since`` is the one attribute that the way of a statement looks at: None while all is well.
    """

    def __init__(
        self,
        *,
        policy: RoutingPolicy,
        clock: Callable[[], float],
        random: Callable[[], float],
        topology: Callable[[], Topology],
        probe: Callable[[], None],
        is_gone: Callable[[BaseException], bool],
        events: Emitter,
    ) -> None:
        """``probe``: has every server asked now; ``is_gone``: a driver's error says that its server is gone."""
        self.since: float | None = None
        """Monotonic seconds of the router's clock; an observation made later than that ends it."""
        self._policy = policy
        self._clock = clock
        self._is_gone = is_gone
        self._random = random
        self._topology = topology
        self._probe = probe
        self._events = events
        self._begun = 0.0
        self._probed = float("-inf")
        self._is_told = False
        self._waiting: dict[_Waiter, None] = {}
        self._turned = threading.Condition()

    def __repr__(self) -> str:
        if self.since is None:
            return "<Outage: none>"
        return f"<Outage: {time.monotonic() - self._begun:.1f} s, {len(self._waiting)} wait>"

    def suspect(self, server: str, why: str, error: str) -> None:
        """A connection to the primary failed: nobody is to start there before it was asked again."""
        if self._begin():
            self._events.emit(PrimarySuspected(server, why, error))
        else:
            self._events.counts[PrimarySuspected.__name__] += 1
        self._probe()

    def note(self, topology: Topology) -> None:
        """What the probes say: it begins, or ends with one sent after its begin that finds a primary."""
        since = self.since
        if since is None:
            if topology.lacks_primary:
                self._begin()
                self._probe()
        elif topology.has_primary_since(since):
            lasted = self.end()
            if lasted is not None:
                self._events.emit(PrimaryBack(topology.writer, round(lasted, 3)))
        if self.is_on and self._has_replicas:
            with self._turned:
                self._turned.notify_all()

    @property
    def _has_replicas(self) -> bool:
        return bool(self._topology().eligible)

    def reach(self, connect: Callable[[Engine], _T], primary: Callable[[], Engine], *, is_read: bool = False) -> _T:
        """``connect(primary())``, at once if all is well, else as soon as there is a primary.

        ``connect`` opens or takes a connection and sends nothing that writes: it is called again when the server
        cannot be reached. Raises NoPrimary when the time is up, ReadElsewhere if ``is_read`` and there are replicas
        again that may answer in the meantime, and whatever else ``connect`` raises.
        """
        since, tried = time.monotonic(), None
        while True:
            if self.is_on and not (is_read and self.answers_reads):
                try:
                    self.wait(since=since, tried="" if tried is None else in_short(tried), is_read=is_read)
                except NoPrimary as error:
                    raise error from tried
            try:
                return connect(primary())
            except (DBAPIError, WrongServer) as error:
                if isinstance(error, DBAPIError) and not (error.orig is not None and self._is_gone(error.orig)):
                    raise
                if tried is not None:
                    # Its probe goes well, a connection does not: no faster than that.
                    time.sleep(_RECONNECT_PAUSE * (0.5 + self._random()))
                until = min(since + self._longest_wait, _deadline.get() or float("inf"))
                if time.monotonic() > until and not self.is_on:
                    if isinstance(error, WrongServer):
                        raise self.misled(error, since=since) from None
                    raise
                tried = error

    def misled(self, error: WrongServer, *, since: float) -> NoPrimary:
        """What to raise when the way to the primary leads elsewhere, and the time to wait for another is over."""
        self._probe()
        topology, waited = self._topology(), time.monotonic() - since
        self._events.emit(WriteRefused(topology.writer, round(waited, 3), str(error)))
        text = (
            f"{error}: its name may resolve to the old server for a while after a failover, or already to the new one;"
            f" waited {waited:.1f} s (failover_timeout {self._policy.failover_timeout:g} s). Nothing was sent"
        )
        return NoPrimary(text, topology.primary_objections(), waited=waited)

    def end(self) -> float | None:
        """There is a primary: let everybody go. Returns how long there was none; None if there was one all the time."""
        with self._turned:
            if self.since is None:
                return None
            self.since = None
            for place, waiter in enumerate(self._waiting):
                waiter.place = place
            self._turned.notify_all()
            return time.monotonic() - self._begun

    @property
    def is_on(self) -> bool:
        """True while there is no primary, or it is in doubt."""
        return self.since is not None

    @property
    def answers_reads(self) -> bool:
        """True if the primary may be read, if not written: it answers, or is not in doubt."""
        return not self.is_on or self._topology().answers_since(self.since)

    @property
    def is_urgent(self) -> bool:
        """True while it is young, or somebody waits: servers are then asked more often."""
        age = time.monotonic() - self._begun
        return self.is_on and (bool(self._waiting) or age < max(self._longest_wait, _YOUNG))

    @property
    def _longest_wait(self) -> float:
        """Seconds for which whoever needs the primary waits: longer for one that may only have to wake."""
        is_waking = self._topology().may_be_waking
        return max(self._policy.failover_timeout, self._policy.wake_timeout if is_waking else 0.0)

    @property
    def pause(self) -> float:
        """Seconds between two probes of a server while it is urgent."""
        return min(_URGENT, self._policy.probe_interval) * (0.8 + 0.4 * self._random())

    def wait(self, *, since: float, tried: str = "", is_read: bool = False) -> None:
        """Wait until the outage is over; ``since`` (``time.monotonic``): when the caller began to need the primary.

        Raises NoPrimary when his time is up. ``tried``: what came of a connection, for the error's text.
        """
        own_patience = _patience.get()
        usual = self._longest_wait
        end = since + usual if own_patience is None else own_patience
        end = min(end, _deadline.get() or end)
        waiter = _Waiter()
        with self._turned:
            if not self.is_on:
                return
            is_late = own_patience is None and since >= self._begun + usual
            if not is_late:
                self._waiting[waiter] = None
                self._push_out()
            is_first, self._is_told = not self._is_told, True
            must_probe = time.monotonic() - self._probed >= _PROBE_PAUSE
            if must_probe:
                self._probed = time.monotonic()
        try:
            if must_probe:
                self._probe()
            if is_late:
                raise self._refused(since, "the outage is older than that", tried)
            self._count_held(is_first)
            with self._turned:
                self._turned.wait_for(
                    lambda: not self.is_on or waiter.is_out or (is_read and self._has_replicas),
                    max(0.0, end - time.monotonic()),
                )
                is_over = not self.is_on
                if is_read and self._has_replicas and not is_over:
                    raise ReadElsewhere
        finally:
            with self._turned:
                self._waiting.pop(waiter, None)
        if not is_over:
            why = f"more than failover_queue ({self._policy.failover_queue}) wait" if waiter.is_out else ""
            raise self._refused(since, why, tried)
        # One after the other, each a little out of step: a new primary has cold caches and no connections.
        pause = min(waiter.place * _STEP, _LONGEST_PAUSE) * (0.5 + self._random())
        time.sleep(max(0.0, min(pause, end - time.monotonic())))

    def forked(self) -> None:
        """In a forked child: nobody waits here, and the lock may be held by a thread that does not live."""
        self._turned = threading.Condition()
        self._waiting = {}
        self.since = None

    def _begin(self) -> bool:
        """True if it was not on before."""
        now = self._clock()
        with self._turned:
            is_new = self.since is None
            if is_new:
                self._begun, self._is_told = time.monotonic(), False
            self.since = now
        return is_new

    def _push_out(self) -> None:
        """Room for one more: who has waited longest has the least time left to gain."""
        if len(self._waiting) > self._policy.failover_queue:
            oldest = next(iter(self._waiting))
            oldest.is_out = True
            del self._waiting[oldest]
            self._turned.notify_all()

    def _count_held(self, is_first: bool) -> None:
        if is_first:
            self._events.emit(WriteHeld(self._topology().writer))
        else:
            self._events.counts[WriteHeld.__name__] += 1

    @property
    def _limit(self) -> str:
        usual = self._policy.failover_timeout
        is_usual = self._longest_wait == usual
        return f"failover_timeout {usual:g} s" if is_usual else f"wake_timeout {self._policy.wake_timeout:g} s"

    def _refused(self, since: float, why: str, tried: str) -> NoPrimary:
        now, topology = time.monotonic(), self._topology()
        objections = topology.primary_objections()
        waited = now - since
        text = (
            f"there has been no primary for {now - self._begun:.1f} s ({'; '.join(objections)})"
            f"{f'; a connection was tried: {tried}' if tried else ''}; waited {waited:.1f} s"
            f" ({self._limit}{f'; {why}' if why else ''}):"
            " promote a replica, or point the router at the primary. Nothing was sent"
        )
        self._events.emit(WriteRefused(topology.writer, round(waited, 3), why))
        return NoPrimary(text, objections, waited=waited)


class _Waiter:
    """One who waits."""

    __slots__ = ("is_out", "place")

    def __init__(self) -> None:
        self.is_out = False
        self.place = 0


def in_short(error: Exception) -> str:
    """The driver's error in one line; it names no secret: SQLAlchemy's text, which shows values, is left out."""
    cause = getattr(error, "orig", None) or error
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:300]


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Whoever waits for a primary in this block, in this thread or task, waits no longer than that in all."""
    mark = _deadline.set(min(time.monotonic() + seconds, _deadline.get() or float("inf")))
    try:
        yield
    finally:
        _deadline.reset(mark)


@contextmanager
def patience(until: float) -> Iterator[None]:
    """Wait until that moment (``time.monotonic``) in place of ``failover_timeout``, an open circuit or not."""
    mark = _patience.set(until)
    try:
        yield
    finally:
        _patience.reset(mark)


_deadline: ContextVar[float | None] = ContextVar("rds_router deadline", default=None)
_patience: ContextVar[float | None] = ContextVar("rds_router patience", default=None)
_RECONNECT_PAUSE: Final = 0.1
_URGENT: Final = 0.2
_STEP: Final = 0.0005
_LONGEST_PAUSE: Final = 0.5
_PROBE_PAUSE: Final = 0.25
_YOUNG: Final = 30.0
