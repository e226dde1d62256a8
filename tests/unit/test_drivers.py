"""What the drivers are told for a probe, and what is asked of their connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from rds_router import Router, drivers
from rds_router.core.position import MySQLGtidSet


@pytest.mark.parametrize(
    ("url", "timeout", "told"),
    [
        (
            "mysql+pymysql://app@127.0.0.1/blog",
            0.5,
            {"connect_timeout": 0.5, "read_timeout": 0.5, "write_timeout": 0.5},
        ),
        (
            "mariadb+pymysql://app@127.0.0.1/blog",
            2.0,
            {"connect_timeout": 2.0, "read_timeout": 2.0, "write_timeout": 2.0},
        ),
        ("mysql+mysqldb://app@127.0.0.1/blog", 0.2, {"connect_timeout": 1, "read_timeout": 1, "write_timeout": 1}),
        ("postgresql+psycopg://app@127.0.0.1/blog", 1.0, {"connect_timeout": 2}),
        ("postgresql+psycopg2://app@127.0.0.1/blog", 5.4, {"connect_timeout": 5}),
        ("sqlite:////tmp/a.db", 1.0, {"timeout": 1.0, "check_same_thread": False}),
        ("oracle+oracledb://app@127.0.0.1/blog", 1.0, {}),
    ],
)
def test_each_driver_is_told_the_time_limits_that_it_knows(url: str, timeout: float, told: dict[str, Any]) -> None:
    """libpq takes no connect_timeout below 2 s, mysqlclient whole seconds only."""
    assert drivers._time_limits(make_url(url), timeout) == told


def test_the_users_connect_arguments_are_kept_but_for_the_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Refusing:
        def __init__(self, *arguments: Any, **parameters: Any) -> None:
            seen.update(parameters)
            raise ConnectionRefusedError

    monkeypatch.setattr(drivers, "_pymysql_connect", lambda: Refusing)
    url = make_url("mysql+pymysql://app:geheim@127.0.0.1:3307/blog")
    connect = drivers.connector(url, {"charset": "utf8mb4", "read_timeout": 30}, 0.5)
    with pytest.raises(ConnectionRefusedError):
        connect()
    assert seen["charset"] == "utf8mb4"
    assert (seen["user"], seen["password"], seen["port"], seen["database"]) == ("app", "geheim", 3307, "blog")
    assert seen["read_timeout"] == 0.5


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql+pymysql://app@127.0.0.1:1/blog", {"connect_timeout": 30.0}),
        ("postgresql+psycopg://app@127.0.0.1:1/blog", {"connect_timeout": 30}),
    ],
)
def test_a_primary_that_may_have_to_wake_is_given_its_time_to_connect(url: str, told: dict[str, Any]) -> None:
    """And nothing else is limited; what the user says himself counts."""
    seen: list[dict[str, Any]] = []

    def opening(connect: Any, arguments: Any, parameters: dict[str, Any]) -> Any:
        seen.append({name: value for name, value in parameters.items() if "timeout" in name})
        raise ConnectionRefusedError

    for options, expected in (({}, told), ({"connect_timeout": 7}, {"connect_timeout": 7})):
        engine = create_engine(url, connect_args=options)
        drivers.improve(engine, opening, wakes_in=30.0)
        with pytest.raises(ConnectionRefusedError):
            engine.raw_connection()
        assert seen.pop() == expected
    drivers.improve(create_engine(url), opening)
    assert seen == []


def test_a_probes_connection_is_in_autocommit() -> None:
    connection = drivers.connector(make_url("sqlite://"), {}, 1.0)()
    assert connection.isolation_level is None
    connection.close()


def test_the_socket_is_found_by_each_drivers_way_of_telling() -> None:
    ours, theirs = socket.socketpair()

    class PyMySQL:
        _sock: Any = ours

    class Closed:
        _sock = None

    with ours, theirs:
        assert drivers.socket_of(ours) == ours.fileno()
        assert drivers.socket_of(PyMySQL()) == ours.fileno()
        assert drivers.socket_of(Closed()) is None
        assert drivers.socket_of(object()) is None


def test_a_connection_that_nobody_taught_is_not_told_positions() -> None:
    """None: not known, which is not the same as nothing written."""
    drivers.forget_position(object(), lambda: True)
    drivers.track_positions(object(), None)
    assert drivers.told_position(object()) is None
    assert drivers.told_position(None) is None


def test_many_told_gtids_become_one_set() -> None:
    """An autocommitting engine is told one for each statement: what is remembered stays small, and all of it counts."""
    from rds_router.pymysql_connection import ToldConnection

    uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
    told = ToldConnection(defer_connect=True)
    told.server_version = "9.7.0"
    told.rds_is_told = True
    assert told.rds_told() == ""
    longest = 0
    for number in range(1, 1001):
        told.rds_positions = (*told._condensed(), f"{uuid}:{number}")
        longest = max(longest, len(told.rds_positions))
    assert longest <= 100
    assert str(MySQLGtidSet.parse(told.rds_told() or "")) == f"{uuid}:1-1000"
    told.rds_forget(None)
    assert told.rds_told() == ""


class _Held:
    """Stands for a connection and its wire. While it is noted, somebody hangs up."""

    def __init__(self, hang_up: Callable[[], None]) -> None:
        self.is_hung_up = False
        self.thread = threading.Thread(target=hang_up)

    def __hash__(self) -> int:
        if self.thread.ident is None:
            self.thread.start()
            self.thread.join(0.2)
        return 1

    def hang_up(self) -> None:
        self.is_hung_up = True


def test_a_connection_that_is_noted_while_its_server_is_hung_up_on_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads connect while another one learns that the server is silent."""
    monkeypatch.setattr(drivers, "wire_of", lambda connection: connection)
    with Router("sqlite:///p.db", ["sqlite:///r.db"]) as router:
        held = _Held(lambda: router._engines._hang_up("r", "replica"))
        router._engines._note("r", "replica", held, None)
        held.thread.join(20)
    assert held.is_hung_up
