"""The monitor without servers: probers that answer when the test says so, sockets that never do."""

from __future__ import annotations

import gc
import socket
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from rds_router import RoutingPolicy
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.topology import Server
from rds_router.dialects import SQLITE
from rds_router.monitor import Monitor, Prober, _Deadline, one_line
from rds_router.servers import Target
from rds_router.testing import Clock

PATIENCE = 20.0


class Answering:
    """A prober that answers as soon as it may, and counts."""

    dialect = SQLITE

    def __init__(self, name: str) -> None:
        self.name = name
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.was_asked = threading.Event()
        self.asked: list[bool] = []
        self.is_closed = threading.Event()

    def probe(self, *, as_primary: bool) -> Observation:
        self.asked.append(as_primary)
        self.was_asked.set()
        assert self.may_answer.wait(PATIENCE)
        return Observation(self.name, float(len(self.asked)), Report(Role.REPLICA))

    def close(self) -> None:
        self.is_closed.set()

    def forked(self) -> None:
        """Nothing is open."""


@pytest.fixture
def probers() -> tuple[Answering, Answering]:
    return Answering("db"), Answering("r1")


@pytest.fixture
def published() -> list[Observation]:
    return []


@pytest.fixture
def monitor(probers: tuple[Answering, Answering], published: list[Observation]) -> Iterator[Monitor]:
    """Not started; an hour between two probes that nobody asks for."""
    made = Monitor(
        probers,  # type: ignore[arg-type]  # they do what Prober does
        publish=lambda news, dialect: published.append(news),
        is_writer=lambda name: name == "db",
        pause=lambda name: 3600.0,
    )
    yield made
    for prober in probers:
        prober.may_answer.set()
    made.close(wait=PATIENCE)


def test_each_server_is_asked_at_once_and_the_primary_as_such(
    monitor: Monitor, probers: tuple[Answering, Answering]
) -> None:
    monitor.start()
    assert repr(monitor) == "<Monitor: 2 of 2 servers watched>"
    assert all(prober.was_asked.wait(PATIENCE) for prober in probers)
    assert [prober.asked[0] for prober in probers] == [True, False]


def test_refresh_waits_for_a_probe_that_began_after_it_was_called(
    monitor: Monitor, probers: tuple[Answering, Answering], published: list[Observation]
) -> None:
    """One that was under way may have been answered before what the caller wants to see."""
    probers[1].may_answer.clear()
    monitor.start()
    assert probers[1].was_asked.wait(PATIENCE)
    answered: list[bool] = []
    caller = threading.Thread(target=lambda: answered.append(monitor.refresh(PATIENCE)))
    caller.start()
    probers[1].may_answer.set()
    caller.join(PATIENCE)
    assert answered == [True]
    assert len(probers[1].asked) == 2
    assert {news.server for news in published} == {"db", "r1"}


def test_hurry_waits_for_as_many_answers_as_are_enough(monitor: Monitor, probers: tuple[Answering, Answering]) -> None:
    monitor.start()
    assert monitor.refresh(PATIENCE)
    probers[1].may_answer.clear()
    assert monitor.hurry(["db", "r1"], PATIENCE, enough=1)
    assert not monitor.hurry(["r1"], 0.01)


def test_however_many_callers_hurry_a_server_is_asked_by_one_probe_at_a_time(
    monitor: Monitor, probers: tuple[Answering, Answering], published: list[Observation]
) -> None:
    """Half-open: one probe tests a server that was down, and twenty callers share its answer."""
    monitor.start()
    assert monitor.refresh(PATIENCE)
    probers[1].may_answer.clear()
    probers[1].was_asked.clear()
    answered: list[bool] = []
    callers = [threading.Thread(target=lambda: answered.append(monitor.hurry(["r1"], PATIENCE))) for _ in range(20)]
    before = len(probers[1].asked)
    for caller in callers:
        caller.start()
    assert probers[1].was_asked.wait(PATIENCE)
    assert len(probers[1].asked) == before + 1
    probers[1].may_answer.set()
    for caller in callers:
        caller.join(PATIENCE)
    assert answered == [True] * 20
    assert len(probers[1].asked) <= before + 3, "those who came while one was under way wait for the next"


def test_the_pause_before_the_next_probe_is_the_server_s_own() -> None:
    """A server that is down is asked more rarely than its siblings."""
    often, rarely = Answering("often"), Answering("rarely")
    pauses = {"often": 0.001, "rarely": 3600.0}
    monitor = Monitor(
        [often, rarely],  # type: ignore[list-item]
        publish=lambda news, dialect: None,
        is_writer=lambda name: False,
        pause=pauses.__getitem__,
    )
    monitor.start()
    end = time.monotonic() + PATIENCE
    while len(often.asked) < 5 and time.monotonic() < end:
        time.sleep(0.001)
    monitor.close(wait=PATIENCE)
    assert len(often.asked) >= 5
    assert len(rarely.asked) == 1


def test_a_fault_in_dealing_with_the_news_ends_no_thread(
    monitor: Monitor,
    probers: tuple[Answering, Answering],
    published: list[Observation],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever waits for the probe is told that it is over; the server is asked on; each kind is logged once."""
    faults = [RuntimeError("no place"), RuntimeError("no place"), KeyError("r1")]

    def publish(news: Observation, dialect: Any) -> None:
        if news.server == "r1" and faults:
            raise faults.pop(0)
        published.append(news)

    monitor._publish = publish
    monitor.start()
    for _ in range(4):
        assert monitor.refresh(PATIENCE)
    assert faults == []
    assert [news.server for news in published].count("r1") >= 1
    logged = [record for record in caplog.records if "could not be dealt with" in record.getMessage()]
    assert [record.exc_info[0] for record in logged if record.exc_info] == [RuntimeError, KeyError]


def test_close_ends_the_threads_and_their_connections(monitor: Monitor, probers: tuple[Answering, Answering]) -> None:
    monitor.start()
    assert monitor.refresh(PATIENCE)
    monitor.close(wait=PATIENCE)
    assert all(prober.is_closed.is_set() for prober in probers)
    assert not monitor.is_running
    assert repr(monitor) == "<Monitor: 0 of 2 servers watched>"


def test_close_does_not_wait_for_a_server_that_hangs_nor_publish_its_answer(
    monitor: Monitor, probers: tuple[Answering, Answering], published: list[Observation]
) -> None:
    probers[1].may_answer.clear()
    monitor.start()
    assert all(prober.was_asked.wait(PATIENCE) for prober in probers)
    monitor.close(wait=0.01)
    probers[1].may_answer.set()
    assert probers[1].is_closed.wait(PATIENCE)
    assert [news for news in published if news.server == "r1"] == []


def test_a_monitor_that_everybody_forgot_ends_its_threads() -> None:
    """Without close(): the threads hold nothing that keeps it alive."""
    prober = Answering("r1")
    forgotten = Monitor(
        [prober],  # type: ignore[list-item]
        publish=lambda news, dialect: None,
        is_writer=lambda name: False,
        pause=lambda name: 0.01,
    )
    forgotten.start()
    assert prober.was_asked.wait(PATIENCE)
    reference = weakref.ref(forgotten)
    del forgotten
    gc.collect()
    assert prober.is_closed.wait(PATIENCE)
    assert reference() is None


def prober_of(url: str, clock: Callable[[], float] | None = None, **policy: Any) -> Prober:
    target = Target(Server("r1"), make_url(url))
    return Prober(target, policy=RoutingPolicy(**policy), clock=clock or Clock(), connect_options={})


def test_a_probe_is_dated_by_the_clock_before_it_is_sent(tmp_path: Path) -> None:
    clock = Clock(7.0)
    prober = prober_of(f"sqlite:///{tmp_path}/a.db", clock)
    seen = prober.probe(as_primary=False)
    prober.close()
    assert seen.at == 7.0
    assert seen.report is not None
    assert seen.report.role is Role.PRIMARY


def test_what_goes_wrong_is_in_the_observation_in_one_line(tmp_path: Path) -> None:
    prober = prober_of(f"sqlite:///{tmp_path}/no/such/dir/a.db")
    for _ in range(2):
        seen = prober.probe(as_primary=False)
        assert seen.report is None
        assert seen.error == "OperationalError: unable to open database file"


def test_a_heartbeat_is_made_renewed_and_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    before = prober_of(url, heartbeat=True)
    assert (report := before.probe(as_primary=False).report) is not None
    assert report.heartbeat is None, "only the primary's prober makes it"
    prober = prober_of(url, time.monotonic, heartbeat=True, probe_interval=0.01)
    first = prober.probe(as_primary=True).report
    second = prober.probe(as_primary=True).report
    assert first is not None
    assert second is not None
    assert first.heartbeat is not None
    assert second.heartbeat is not None
    assert second.heartbeat >= first.heartbeat > 1.7e9
    assert (seen := before.probe(as_primary=False).report) is not None
    assert seen.heartbeat == second.heartbeat
    before.close()
    prober.close()


def test_a_heartbeat_that_stands_still_tells_nothing(tmp_path: Path) -> None:
    """A row that cannot be renewed, whatever the reason, must not read as no lag on the replicas."""
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("CREATE TABLE rds_router_heartbeat (id SMALLINT NOT NULL PRIMARY KEY, at REAL NOT NULL)")
        other.execute("INSERT INTO rds_router_heartbeat VALUES (1, 1000.0)")
        other.execute("CREATE TRIGGER stuck BEFORE UPDATE ON rds_router_heartbeat BEGIN SELECT RAISE(IGNORE); END")
    other.close()
    prober = prober_of(f"sqlite:///{tmp_path}/a.db", heartbeat=True)
    report = prober.probe(as_primary=True).report
    prober.close()
    assert report is not None
    assert report.heartbeat is None
    assert report.missing == ()


def test_a_heartbeat_from_the_future_is_renewed(tmp_path: Path) -> None:
    """After a fail-over from a server whose clock was fast."""
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("CREATE TABLE rds_router_heartbeat (id SMALLINT NOT NULL PRIMARY KEY, at REAL NOT NULL)")
        other.execute("INSERT INTO rds_router_heartbeat VALUES (1, 9e9)")
    other.close()
    prober = prober_of(f"sqlite:///{tmp_path}/a.db", heartbeat=True)
    report = prober.probe(as_primary=True).report
    prober.close()
    assert report is not None
    assert report.heartbeat is not None
    assert report.heartbeat < 8e9


def test_a_heartbeat_that_may_not_be_written_is_a_missing_grant(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    prober = prober_of(f"sqlite:///file:{tmp_path}/a.db?mode=ro&uri=true", heartbeat=True)
    report = prober.probe(as_primary=True).report
    prober.close()
    assert report is not None
    assert report.heartbeat is None
    assert report.missing == (
        "CREATE, INSERT, UPDATE for the heartbeat table (OperationalError: attempt to write a readonly database): "
        "lag unknown",
    )


class _Silent(Prober):
    """Its connection is a socket on which nobody answers."""

    def __init__(self, opened: socket.socket, **policy: Any) -> None:
        super().__init__(
            Target(Server("r1"), make_url("sqlite://")),
            policy=RoutingPolicy(**policy),
            clock=Clock(),
            connect_options={},
        )
        self._open = lambda: opened

    def _rows(self, sql: str) -> Sequence[Mapping[str, Any]]:
        assert self._connection.recv(1) != b"", "the server closed the connection"
        return []


def test_a_question_that_is_never_answered_ends_with_its_socket_shut() -> None:
    """As on a frozen PostgreSQL, whose driver would wait for ever."""
    ours, theirs = socket.socketpair()
    with theirs:
        seen = _Silent(ours, probe_timeout=0.05).probe(as_primary=False)
        assert "the server closed the connection" in seen.error
        assert ours.fileno() == -1, "and the connection is let go of"


def test_a_deadline_that_passed_while_connecting_shuts_the_socket_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, _Deadline(3600.0) as deadline:
        deadline._expire()
        deadline.watch(ours.fileno())
        assert ours.recv(1) == b""


def test_a_deadline_shuts_no_socket_that_took_the_number_of_one_that_is_closed() -> None:
    ours, theirs = socket.socketpair()
    with theirs, _Deadline(3600.0) as deadline:
        number = ours.fileno()
        deadline.watch(number)
        ours.close()
        bystander, other_end = socket.socketpair()
        with bystander, other_end:
            assert number in (bystander.fileno(), other_end.fileno())
            deadline._expire()
            other_end.send(b"x")
            assert bystander.recv(1) == b"x"


def test_an_error_is_told_in_one_line_without_the_password() -> None:
    url = make_url("mysql+pymysql://app:geheim@db/blog")
    error = RuntimeError("cannot\n  connect with 'geheim' to mysql+pymysql://app:geheim@db/blog" + "x" * 500)
    line = one_line(error, url)
    assert line.startswith("RuntimeError: cannot connect with '***' to ")
    assert "geheim" not in line
    assert len(line) == 300


class _Recording:
    """A DBAPI connection that answers every question with one row, or what it is told to raise."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class _Named(Prober):
    """Its name leads to a new connection each time, unless nobody takes one."""

    def __init__(self, clock: Clock, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
        target = Target(Server("db"), make_url("mysql+pymysql://app@127.0.0.1:1/app"))
        super().__init__(target, policy=RoutingPolicy(), clock=clock, connect_options={})
        self.opened: list[_Recording] = []
        self.refusal: Exception | None = None
        self.report = report
        self.asked: list[str] = []
        self._open = self._opened
        monkeypatch.setattr("rds_router.monitor.run_probe", lambda dialect, execute: self.report)

    def _opened(self) -> _Recording:
        if self.refusal is not None:
            raise self.refusal
        self.opened.append(_Recording(self.asked))
        return self.opened[-1]

    def _rows(self, sql: str) -> Sequence[Mapping[str, Any]]:
        self.asked.append(sql)
        return [{"version": "9.7.0"}] if "@@version" in sql else []


def test_a_probe_connects_anew_once_a_minute_and_keeps_the_old_connection_where_none_is_to_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its name may lead elsewhere; but a server that is full is no server that is gone."""
    clock = Clock()
    prober = _Named(clock, Report(Role.REPLICA, is_writable=False, follows=True), monkeypatch)
    for _ in range(3):
        assert prober.probe(as_primary=False).report is prober.report
    assert len(prober.opened) == 1
    clock.advance(61)
    prober.refusal = OSError("Too many connections")
    assert prober.probe(as_primary=False).report is prober.report
    assert not prober.opened[0].is_closed
    prober.refusal = None
    clock.advance(61)
    assert prober.probe(as_primary=False).report is prober.report
    assert [each.is_closed for each in prober.opened] == [True, False]


@pytest.mark.parametrize("change", [{"is_writable": False}, {"is_writable": True, "switchover": "AVAILABLE"}])
def test_a_primary_that_takes_no_writes_is_asked_over_a_new_connection(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    prober = _Named(Clock(), Report(Role.PRIMARY, **change), monkeypatch)
    for _ in range(3):
        prober.probe(as_primary=True)
    assert len(prober.opened) == (3 if change["is_writable"] is False else 1)


def test_without_a_blue_green_deployment_one_is_looked_for_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the primary's probe only; with one, its status is read each time."""
    clock = Clock()
    prober = _Named(clock, Report(Role.PRIMARY, is_writable=True), monkeypatch)

    def looks() -> int:
        return sum("rds_topology" in sql for sql in prober.asked)

    for _ in range(5):
        prober.probe(as_primary=False)
    assert looks() == 0
    for _ in range(5):
        prober.probe(as_primary=True)
    assert looks() == 1
    clock.advance(61)
    told = {"found": 1, "status": "SWITCHOVER_IN_PROGRESS"}
    monkeypatch.setattr(prober, "_rows", lambda sql: prober.asked.append(sql) or [{"version": "9", **told}])
    before = looks()
    for _ in range(3):
        report = prober.probe(as_primary=True).report
        assert report is not None
        assert report.switchover == "SWITCHOVER_IN_PROGRESS"
    assert looks() == before + 6  # is it there, and what does it say
