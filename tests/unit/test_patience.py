"""When a wait for a silent server is given up, without servers: a clock moved by hand, sockets that stay silent."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, exc, make_url
from sqlalchemy.pool import NullPool, QueuePool

from rds_router import Router, RoutingPolicy
from rds_router.drivers import improve
from rds_router.patience import Patience
from rds_router.pymysql_connection import _PatientReader
from rds_router.testing import Clock

NEVER = float("-inf")


class Heard:
    """When the server was last heard of, and how often it was asked for."""

    def __init__(self, at: float = NEVER) -> None:
        self.at = at
        self.asked = 0

    def __call__(self) -> float:
        return self.at

    def ask(self) -> None:
        self.asked += 1


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def patience(clock: Clock, heard: Heard) -> Patience:
    return Patience("r1", 2.0, clock=clock, heard=heard, ask=heard.ask)


def test_a_wait_ends_when_the_server_has_been_silent_for_the_whole_time(
    patience: Patience, clock: Clock, heard: Heard
) -> None:
    """First half: nothing; second half: the server is probed; then it is over."""
    assert (patience.left(100.0), heard.asked) == (1.0, 0)
    clock.advance(1.0)
    assert (patience.left(100.0), heard.asked) == (1.0, 1)
    clock.advance(0.75)
    assert (patience.left(100.0), heard.asked) == (0.25, 2)
    clock.advance(0.25)
    assert patience.left(100.0) == 0.0


def test_a_wait_goes_on_while_the_server_is_heard_of(patience: Patience, clock: Clock, heard: Heard) -> None:
    """A report of a minute, with a probe answered each second."""
    for _ in range(60):
        clock.advance(1.0)
        heard.at = clock() - 0.5
        assert patience.left(100.0) > 0
    assert heard.asked == 0
    assert not patience.is_spent


def test_what_was_heard_before_the_wait_began_does_not_shorten_it(
    patience: Patience, clock: Clock, heard: Heard
) -> None:
    heard.at = 10.0
    assert patience.left(100.0) == 1.0


def test_nobody_waits_anew_for_a_server_just_given_up_unless_it_was_heard_of(
    patience: Patience, clock: Clock, heard: Heard
) -> None:
    assert not patience.is_spent
    clock.advance(2.0)
    assert patience.left(100.0) == 0.0
    assert patience.is_spent
    clock.advance(1.9)
    assert patience.is_spent
    heard.at = clock()
    assert not patience.is_spent
    heard.at = NEVER
    clock.advance(0.1)
    assert not patience.is_spent, "its time is over as well"


def test_it_says_what_which_and_how_long(patience: Patience) -> None:
    assert repr(patience) == "<Patience with r1: 2 s>"
    assert patience.words == ("r1 has been silent for 2 s (read_deadline): it answered neither this read nor a probe")


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(0.02)
    with ours, theirs:
        yield ours, theirs


def test_a_mysql_read_goes_on_after_a_time_out_where_it_stopped(sockets: tuple[socket.socket, socket.socket]) -> None:
    """And the socket has its usual time-out again."""
    ours, theirs = sockets
    patience = Patience("r1", 10.0, clock=Clock(), ask=lambda: None, heard=lambda: theirs.send(b"late") * 0.0)
    buffer = bytearray(4)
    assert _PatientReader(ours, patience).readinto(buffer) == 4
    assert bytes(buffer) == b"late"
    assert ours.gettimeout() == pytest.approx(0.02)


def test_a_mysql_read_on_a_silent_server_ends(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = sockets
    patience = Patience("r1", 0.04, clock=time.monotonic)
    with pytest.raises(TimeoutError, match="r1 has been silent for"):
        _PatientReader(ours, patience).readinto(bytearray(4))
    assert patience.is_spent


@pytest.mark.parametrize(
    ("url", "code"),
    [("mysql+pymysql://app@127.0.0.1:1/db", (2003,)), ("postgresql+psycopg://app@127.0.0.1:1/db", ())],
)
def test_a_server_just_given_up_is_not_even_connected_to(url: str, code: tuple[int, ...], patience: Patience) -> None:
    """An error that the router takes for a server that is gone, without a packet sent."""
    patience.give_up()
    engine = create_engine(url, poolclass=NullPool)
    improve(engine, patience=patience)
    with pytest.raises(exc.OperationalError, match="not connected: r1 has been silent") as raised:
        engine.connect()
    assert raised.value.orig is not None
    assert raised.value.orig.args[:-1] == code


class _Recorder:
    """Stands for a driver's connect()."""

    def __init__(self, error: type[Exception]) -> None:
        self.given: dict[str, Any] = {}
        self.error = error

    def __call__(self, *arguments: Any, **given: Any) -> Any:
        self.given = given
        raise self.error("no")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {"connect_timeout": 2.0, "write_timeout": 2.0}),
        ({"connect_timeout": 9, "read_timeout": 30}, {"connect_timeout": 2.0, "read_timeout": 30}),
        ({"connect_timeout": 1, "write_timeout": None}, {"connect_timeout": 1, "write_timeout": 2.0}),
        ({"connect_timeout": "1", "write_timeout": "60"}, {"connect_timeout": "1", "write_timeout": 2.0}),
        ({"connect_timeout": 0, "write_timeout": "soon"}, {"connect_timeout": 2.0, "write_timeout": 2.0}),
    ],
)
def test_of_two_time_limits_the_shorter_holds(
    arguments: dict[str, Any], expected: dict[str, Any], patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pymysql

    recorder = _Recorder(pymysql.err.OperationalError)
    monkeypatch.setattr("rds_router.drivers._taught_connect", lambda dialect, patience: recorder)
    engine = create_engine("mysql+pymysql://app@127.0.0.1:1/db", poolclass=NullPool, connect_args=arguments)
    improve(engine, patience=patience)
    with pytest.raises(exc.OperationalError):
        engine.connect()
    assert {key: recorder.given[key] for key in expected} == expected
    assert {key: type(recorder.given[key]) for key in expected} == {key: type(value) for key, value in expected.items()}


def test_a_read_timeout_shorter_than_the_deadline_leaves_nothing_to_add(
    patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymysql.connections import Connection

    from rds_router.pymysql_connection import connection_class

    monkeypatch.setattr(Connection, "connect", lambda made, sock=None: None)
    made = connection_class(patience)(defer_connect=True, read_timeout=1)
    made.connect()
    assert made._read_timeout == 1


def test_a_read_timeout_of_the_users_own_ends_a_read_though_the_server_is_heard_of(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    """As it does without a router; a silent server ends it earlier."""
    ours, _ = sockets
    patience = Patience("r1", 0.04, clock=time.monotonic, heard=time.monotonic)
    with pytest.raises(TimeoutError, match=r"timed out after 0.1 s \(read_timeout\)"):
        _PatientReader(ours, patience, 0.1).readinto(bytearray(4))
    assert not patience.is_spent
    silent = Patience("r1", 0.04, clock=time.monotonic)
    with pytest.raises(TimeoutError, match="r1 has been silent for"):
        _PatientReader(ours, silent, 0.1).readinto(bytearray(4))


@pytest.mark.parametrize("own", [{}, {"read_timeout": 30}])
def test_a_connection_that_connects_once_more_stays_patient(
    patience: Patience, sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, own: Any
) -> None:
    """As ping(reconnect=True) does."""
    from pymysql.connections import Connection

    from rds_router.pymysql_connection import connection_class

    limits: list[float] = []

    def connect(made: Any, sock: Any = None) -> None:
        limits.append(made._read_timeout)
        made._sock, made._rfile = sockets[0], sockets[0].makefile("rb")

    monkeypatch.setattr(Connection, "connect", connect)
    made = connection_class(patience)(defer_connect=True, **own)
    for _ in range(2):
        made.connect()
        assert isinstance(made._rfile.raw, _PatientReader)
        assert made._read_timeout == patience.seconds / 2
        assert made._rds_longest == own.get("read_timeout", math.inf)
    assert limits == [patience.seconds, patience.seconds], "of the handshake"


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 2.0), ({"pool_timeout": 7}, 7.0), ({"poolclass": QueuePool}, 30.0), ({"poolclass": NullPool}, None)],
)
def test_a_replicas_pool_makes_nobody_wait_longer_than_its_server(
    options: dict[str, Any], expected: float | None
) -> None:
    """Unless the user chose the pool, or its time-out, himself; the primary's pool is as ever."""
    url = make_url("mysql+pymysql://app@127.0.0.1/db")
    with Router(
        url.set(port=1),
        [url.set(port=2)],
        policy=RoutingPolicy(read_deadline=2.5),
        replica_engine_options=options,
    ) as router:
        assert getattr(router.replica_engine("127.0.0.1:2").pool, "_timeout", None) == expected
        assert router.primary_engine(start=False).pool._timeout == 30.0  # type: ignore[attr-defined]
