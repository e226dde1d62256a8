"""Asks every server how it is, on a schedule, and tells the router.

One daemon thread a server, so that a server that hangs delays the news of no other. A thread owns its connection:
nobody else touches it, but for a timer that shuts the socket under a probe that outlives its time (neither
``tcp_user_timeout`` nor ``statement_timeout`` ends a query on a frozen PostgreSQL). Threads start with the first use
of the router, not at import; they end with :meth:`Monitor.close`, and start anew in a forked child (R13).
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from sqlalchemy.engine import URL

from rds_router import drivers
from rds_router.core.observation import Observation, Report
from rds_router.core.policy import RoutingPolicy
from rds_router.dialects import dialect_for, run_probe, told_dialect
from rds_router.dialects.base import Dialect, Row, Verdict
from rds_router.dialects.blue_green import BLUE_GREEN, switchover
from rds_router.dialects.heartbeat import Heartbeat, heartbeat_for, is_young
from rds_router.servers import Target
from rds_router.sharing import Sharing

_log = logging.getLogger("rds_router")


class Prober:
    """Probes one server over one connection of its own. Used by one thread at a time."""

    def __init__(
        self,
        target: Target,
        *,
        policy: RoutingPolicy,
        clock: Callable[[], float],
        connect_options: Mapping[str, Any],
        opening: drivers.Opening = drivers.as_told,
    ) -> None:
        self.name = target.server.name
        self.dialect = dialect_for(target.family, behind_proxy=policy.behind_proxy)
        self._url = target.url
        self._policy = policy
        self._clock = clock
        if policy.behind_proxy:
            connect_options = {**drivers.through_proxy(target.url), **connect_options}
        self._open = drivers.connector(target.url, connect_options, policy.probe_timeout, opening)
        self._connection: Any = None
        self._connect_at = float("-inf")
        self._switchover = ""
        self._ask_switchover_at = float("-inf")
        self._started = ""

    def probe(self, *, as_primary: bool) -> Observation:
        """Ask the server now. Never raises: what went wrong is in the observation.

        ``as_primary``: it is the primary of the moment, whose heartbeat is to be renewed.
        """
        # The clock is read before the questions: what is learnt is at least as new as that.
        at = self._clock()
        try:
            with _Deadline(self._policy.probe_timeout) as deadline:
                if at >= self._connect_at:
                    self._connect()
                deadline.watch(drivers.socket_of(self._connection))
                asked = self._clock()
                report = run_probe(self.dialect, self._rows)
                took = self._clock() - asked
                if self._started and report.identity:
                    report = replace(report, run=f"{report.identity}/{self._started}")
                if as_primary and not self._policy.behind_proxy:
                    report = self._with_switchover(report, at)
                if self._policy.heartbeat:
                    report = self._with_heartbeat(report, at, writes=as_primary)
        except Exception as error:  # whatever a driver raises is news of this server
            self.close()
            is_refused = self.dialect.verdict_of_error(error) is Verdict.LOGIN
            return Observation(self.name, at, error=one_line(error, self._url), is_login_refused=is_refused)
        if as_primary and report.takes_no_writes:
            self._connect_at = at  # another server may have its name by now, while this one goes on to answer
        return Observation(self.name, at, report, took=took)

    def watches(self, target: Target) -> bool:
        """True if this is the server, at this place."""
        return self.name == target.server.name and self._url == target.url

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        self._connect_at = float("-inf")
        if connection is not None:
            with suppress(Exception):  # it may be broken already, each driver in its own way
                connection.close()

    def forked(self) -> None:
        """In a forked child: the connection is the parent's; closing it here would end it there."""
        self._connect_at = float("-inf")
        if self._connection is not None:
            _parents.append(self._connection)
            self._connection = None

    def _connect(self) -> None:
        """Connect, or connect anew: the name may lead elsewhere meanwhile, and an open connection would never know."""
        try:
            connection = self._open()
        except Exception:
            if self._connection is None:
                raise
            connection = None  # it may be full: the old connection still asks
        if connection is not None:
            self.close()
            self._connection = connection
            backend = self._url.get_backend_name()
            self.dialect = told_dialect(backend, self._rows, behind_proxy=self._policy.behind_proxy)
            self._started = self._told_start()
            self._ask_switchover_at = float("-inf")
        self._connect_at = self._clock() + _NAMES_STAY

    def _with_switchover(self, report: Report, at: float) -> Report:
        """The report with the status of its blue/green deployment; where there is none, it is looked for seldom."""
        if at >= self._ask_switchover_at:
            try:
                self._switchover = switchover(BLUE_GREEN.get(self.dialect.name, ()), self._rows)
            except Exception as error:
                if self.dialect.verdict_of_error(error) is Verdict.GONE:
                    raise
                self._switchover = ""  # a table of that name, and of somebody else's making
            self._ask_switchover_at = at if self._switchover else at + _DEPLOYMENTS_STAY_AWAY
        return replace(report, switchover=self._switchover) if self._switchover else report

    def _told_start(self) -> str:
        """When the server of this connection was started; empty if it does not say."""
        if self.dialect.started is None:
            return ""
        try:
            rows = self._rows(self.dialect.started)
        except Exception as error:
            if self.dialect.verdict_of_error(error) is Verdict.GONE:
                raise
            return ""
        return "".join(str(value) for row in rows for value in row.values() if value is not None)

    def _with_heartbeat(self, report: Report, at: float, *, writes: bool) -> Report:
        """The report with the row's time; on the primary the row is renewed first if that is due.

        Without a row, or on the primary one that could not be renewed, the lag stays unknown.
        """
        heartbeat = heartbeat_for(self.dialect.name)
        if heartbeat is None:
            return report
        row, due = self._heartbeat_row(heartbeat), self._policy.probe_interval / 2
        if writes and not (row and is_young(row["age"], due)):
            refusal = self._renew(heartbeat, due, has_row=row is not None)
            row = self._heartbeat_row(heartbeat)
            # Who is refused because another process was faster finds that one's row.
            if not (row and is_young(row["age"], due + self._clock() - at)):
                return replace(report, missing=(*report.missing, refusal)) if refusal else report
        return replace(report, heartbeat=float(row["at"])) if row else report

    def _heartbeat_row(self, heartbeat: Heartbeat) -> Row | None:
        try:
            rows = self._rows(heartbeat.read)
        except Exception as error:
            if self.dialect.verdict_of_error(error) is Verdict.GONE:
                raise
            return None  # the table is not there yet
        return rows[0] if rows else None

    def _renew(self, heartbeat: Heartbeat, due: float, *, has_row: bool) -> str:
        """Renew the row, or make it the first time. Returns what is missing for it, if anything."""
        try:
            for statement in (heartbeat.write_every(due),) if has_row else heartbeat.create:
                self._rows(statement)
        except Exception as error:
            verdict = self.dialect.verdict_of_error(error)
            if verdict is Verdict.GONE:
                raise
            if verdict is not Verdict.RETRY:
                return f"CREATE, INSERT, UPDATE for the heartbeat table ({one_line(error, self._url)}): lag unknown"
        return ""

    def _rows(self, sql: str) -> Sequence[Row]:
        return drivers.rows_of(self._connection, sql)


class Monitor:
    """Runs the probers. ``publish`` is called in their threads."""

    def __init__(
        self,
        probers: Iterable[Prober],
        *,
        publish: Callable[[Observation, Dialect], None],
        is_writer: Callable[[str], bool],
        pause: Callable[[str], float],
        sharing: Sharing | None = None,
    ) -> None:
        """``pause(name)``: seconds between two probes of a server that nobody asks for. ``sharing``: with whom."""
        self.probers = tuple(probers)
        self._publish = publish
        self.is_writer = is_writer
        self.pause = pause
        self.sharing = sharing
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._wakes = {prober.name: threading.Event() for prober in self.probers}
        self._begun = {prober.name: 0 for prober in self.probers}
        self._done = {prober.name: 0 for prober in self.probers}
        self._turned = threading.Condition()
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<Monitor: {len(self._threads)} of {len(self.probers)} servers watched>"

    @property
    def is_running(self) -> bool:
        return bool(self._threads)

    def start(self) -> None:
        """Begin to watch. The caller makes sure that this is called once."""
        self.go(self.made_ready())

    def go(self, threads: Sequence[threading.Thread], *then: Callable[[], None]) -> None:
        """Start what was made ready, and with it what ``then`` starts."""
        for start in (*(thread.start for thread in threads), *(then if threads else ())):
            start()

    def made_ready(self) -> Sequence[threading.Thread]:
        """The threads, for the caller to start. Whoever hurries may do so from now on."""
        # Made now: what was made before gevent patched the world (a preloaded application) stops the whole process.
        self._stop = threading.Event()
        self._wakes = {prober.name: threading.Event() for prober in self.probers}
        self._turned = threading.Condition()
        if self.sharing is not None:
            self.sharing.open()
        self._threads = [self._thread(prober) for prober in self.probers]
        return self._threads

    def relist(self, probers: Iterable[Prober]) -> None:
        """Watch these from now on; those that go on keep their threads, who left is forgotten. One call at a time."""
        with self._turned:
            before, self.probers = self.probers, tuple(probers)
            for prober in self.probers:
                self._wakes.setdefault(prober.name, threading.Event())
                self._begun.setdefault(prober.name, 0)
                self._done.setdefault(prober.name, 0)
            gone = [self._wakes[prober.name] for prober in before if prober not in self.probers]
            for name in self._begun.keys() - {prober.name for prober in self.probers}:
                del self._wakes[name], self._begun[name], self._done[name]
            self._turned.notify_all()  # who waits for one that left waits no more
        for wake in gone:
            wake.set()
        if self.is_running:
            for prober in self.probers:
                if prober not in before:
                    thread = self._thread(prober)
                    self._threads = [each for each in self._threads if each.is_alive()] + [thread]
                    thread.start()

    def watches(self, prober: Prober) -> bool:
        """False for one that was taken from the list: its thread ends."""
        return prober in self.probers

    def _thread(self, prober: Prober) -> threading.Thread:
        arguments = (weakref.ref(self), prober, self._stop, self._wakes[prober.name])
        return threading.Thread(target=_watch, args=arguments, name=f"rds-router {prober.name}", daemon=True)

    def refresh(self, timeout: float) -> bool:
        """Probe every server now and wait. False if some did not answer in ``timeout`` seconds."""
        names = [prober.name for prober in self.probers]
        return self.hurry(names, timeout, enough=len(names))

    def hurry(self, names: Iterable[str], timeout: float, *, enough: int = 1) -> bool:
        """Probe these servers now and wait until ``enough`` of them have answered; False after ``timeout`` seconds.

        However many callers hurry, each server is asked by one probe at a time.
        """
        with self._turned:
            # A probe that is under way was sent before this call: the one after it counts.
            wanted = {name: self._begun[name] + 1 for name in names if name in self._begun}

            def is_done() -> bool:
                missing = [name for name, number in wanted.items() if self._done.get(name, number) < number]
                for name in missing:
                    if self._begun[name] < wanted[name]:  # else it is under way, and another one would be one too many
                        self._wakes[name].set()
                return len(wanted) - len(missing) >= min(enough, len(wanted))

            return self._turned.wait_for(is_done, timeout)

    def close(self, *, wait: float = 0.0) -> None:
        """End the threads; each closes its connection. Waits for all of them up to ``wait`` seconds in all.

        A thread whose server hangs ends later, when its probe's time is up.
        """
        self._stop.set()
        self.wake_all()
        threads, self._threads = self._threads, []
        end = time.monotonic() + wait
        for thread in threads:
            # One that is about to be started ends by itself: it was told to.
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
        if self.sharing is not None:
            self.sharing.close()

    def forked(self) -> None:
        """In a forked child: no thread lives, every lock may be held by one that does not."""
        self._stop = threading.Event()
        self._threads = []
        self._wakes = {prober.name: threading.Event() for prober in self.probers}
        self._turned = threading.Condition()
        self._done = dict(self._begun)
        if self.sharing is not None:
            self.sharing.forked()
        for prober in self.probers:
            prober.forked()

    def wake(self, name: str) -> None:
        """Probe this server now; do not wait for it."""
        wake = self._wakes.get(name)
        if wake is not None:
            wake.set()

    def wake_all(self) -> None:
        """Probe every server now; do not wait for them."""
        for wake in list(self._wakes.values()):
            wake.set()

    def began(self, name: str) -> None:
        """A probe is about to be sent."""
        with self._turned:
            if name in self._begun:  # it may just have left
                self._begun[name] += 1

    def turned(self, observation: Observation, dialect: Dialect) -> None:
        """A probe is done: publish it, and tell those who wait for it."""
        self._publish(observation, dialect)
        self._end_turn(observation.server)

    def stumbled(self, name: str, error: Exception) -> float:
        """Something failed that is no news of the server: told once for each kind. Returns the seconds until the next
        probe."""
        self._end_turn(name)
        kind = f"{name}: {type(error).__name__}"
        if kind not in self._told:
            self._told.add(kind)
            _log.error("the news of %s could not be dealt with; it is asked on", name, exc_info=error)
        return _AFTER_A_FAULT

    def _end_turn(self, name: str) -> None:
        with self._turned:
            if name in self._begun:
                self._done[name] = self._begun[name]
            self._turned.notify_all()


def _watch(monitor: weakref.ref[Monitor], prober: Prober, stop: threading.Event, wake: threading.Event) -> None:
    """The life of a monitor thread. It holds no reference that keeps a forgotten router alive."""
    try:
        while not stop.is_set():
            try:
                pause = _ask(monitor, prober, stop, wake)
            except Exception as error:  # a fault of ours, or of somebody who was told: this server is watched on
                owner = monitor()
                pause = None if owner is None else owner.stumbled(prober.name, error)
                del owner
            if pause is None:
                break
            wake.wait(pause)
    finally:
        prober.close()


def _ask(monitor: weakref.ref[Monitor], prober: Prober, stop: threading.Event, wake: threading.Event) -> float | None:
    """One probe, and its publication. Returns the seconds until the next one; None if nobody wants to know any more."""
    owner = monitor()
    if owner is None or not owner.watches(prober):
        return None
    owner.began(prober.name)
    # After that: who hurries from now on waits for the probe after this one.
    is_asked = wake.is_set()
    wake.clear()
    as_primary, sharing = owner.is_writer(prober.name), owner.sharing
    del owner
    if sharing is None:
        observation = prober.probe(as_primary=as_primary)
    else:
        observation = sharing.turn(prober, as_primary=as_primary, is_asked=is_asked, wake=wake)
    owner = monitor()
    if owner is None or stop.is_set() or not owner.watches(prober):
        return None
    owner.turned(observation, prober.dialect)
    pause = owner.pause(prober.name)
    return pause if sharing is None else sharing.pause(observation, pause)


class _Deadline:
    """Shuts the watched socket if the block outlives its time, which ends the driver's wait with an error."""

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds + _GRACE, self._expire)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._is_over = False
        self._socket: socket.socket | None = None

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def watch(self, number: int | None) -> None:
        """``number``: the file descriptor; None where the driver does not tell it."""
        if number is None:
            return
        with self._lock, suppress(OSError):
            # A copy: by the time of the end the driver may have closed its own, and its number be somebody else's.
            self._socket = socket.socket(fileno=os.dup(number))
        if self._is_over:  # connecting alone took all the time
            self._expire()

    def _expire(self) -> None:
        with self._lock:
            self._is_over = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)


_NAMES_STAY: Final = 60.0
"""Seconds after which a probe connects anew."""
_DEPLOYMENTS_STAY_AWAY: Final = 60.0
"""Seconds between two looks for a blue/green deployment; making one takes RDS many minutes."""
_GRACE: Final = 0.2
"""Seconds by which a driver's own time-out, with its better error, may come first."""

_AFTER_A_FAULT: Final = 1.0
"""Seconds."""

_parents: Final[list[Any]] = []


def one_line(error: BaseException, url: URL) -> str:
    """A driver's error in one line, without the password."""
    text = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}").strip()
    for secret in {str(url.password or ""), url.render_as_string(hide_password=False)}:
        if secret and len(secret) > 2:
            text = text.replace(secret, "***")
    return text[:300]
