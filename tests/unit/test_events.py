"""Events: which ones lie between two beliefs, how they read, and who is told."""

from __future__ import annotations

import logging

import pytest

from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.topology import Server, Topology, evolve
from rds_router.events import Emitter, Event, ReadOnPrimary, ReplicaIn, ReplicaOut
from rds_router.noticed import changes

PRIMARY = Report(Role.PRIMARY, is_writable=True, follows=False)
REPLICA = Report(Role.REPLICA, lag=0.1, is_writable=False, follows=True)
READ_ONLY = Report(Role.REPLICA, is_writable=False, follows=False)
REACH = "is the URL right, is the server running, and may this machine reach it?"


def told(*news: tuple[str, Report | str]) -> list[list[str]]:
    """What is told after each piece of news, one probe a second."""
    topology = Topology.of([Server("db", is_primary=True), Server("r1"), Server("r2")], RoutingPolicy())
    all_events: list[list[str]] = []
    for at, (name, said) in enumerate(news):
        what = Observation(name, at, error=said) if isinstance(said, str) else Observation(name, at, said)
        old, topology = topology, evolve(topology, what, now=at)
        all_events.append([str(event) for event in changes(old, topology)])
    return all_events


def test_a_replica_comes_goes_and_comes_back_once_each() -> None:
    lagging = Report(Role.REPLICA, lag=9.0)
    assert told(("r1", REPLICA), ("r1", REPLICA), ("r1", "gone"), ("r1", "gone"), ("r1", lagging), ("r1", REPLICA)) == [
        ["ReplicaIn server='r1' lag=0.1"],
        [],
        [f"ReplicaOut server='r1' why='unreachable' detail='gone: {REACH}'"],
        [],
        ["ReplicaOut server='r1' why='lagging' detail='9.0 s'"],
        ["ReplicaIn server='r1' lag=0.1"],
    ]


def test_the_news_of_one_server_tells_that_another_was_not_heard_of() -> None:
    events = told(("r1", REPLICA), *[("r2", REPLICA)] * 6)
    assert events[5] == ["ReplicaOut server='r1' why='not heard of lately' detail=''"]


def test_the_primary_comes_and_goes() -> None:
    assert told(
        ("db", PRIMARY), ("db", "gone"), ("db", "gone"), ("db", PRIMARY), ("db", READ_ONLY), ("db", PRIMARY)
    ) == [
        ["PrimaryIn server='db'"],
        [f"PrimaryOut server='db' why='unreachable' detail='gone: {REACH}'"],
        [],
        ["PrimaryIn server='db'"],
        [
            "PrimaryOut server='db' why='read-only' detail='it refuses writes: point the router at the primary, or "
            "make this server writable'"
        ],
        ["PrimaryIn server='db'"],
    ]


def test_a_refused_login_and_a_stranger_are_told_with_the_remedy() -> None:
    topology = Topology.of([Server("db", is_primary=True), Server("r1"), Server("r2")], RoutingPolicy())
    refusals = [Observation(name, 1.0, error="Access denied", is_login_refused=True) for name in ("db", "r1")]
    all_events: list[str] = []
    for news in (*refusals, Observation("r2", 1.0, PRIMARY), Observation("r1", 2.0, error="gone")):
        old, topology = topology, evolve(topology, news, now=news.at)
        all_events += [str(event) for event in changes(old, topology)]
    remedy = "check user, password and database in the URL of this server"
    assert all_events == [
        f"PrimaryOut server='db' why='login refused' detail='Access denied: {remedy}'",
        f"ReplicaOut server='r1' why='login refused' detail='Access denied: {remedy}'",
        "ReplicaOut server='r2' why='accepts writes and follows nobody' detail='it is no replica: take it out of the "
        "list, or set up replication and read_only'",
        f"ReplicaOut server='r1' why='unreachable' detail='gone: {REACH}'",
    ]


def test_a_move_is_told_first_then_what_it_means_for_each_server() -> None:
    follows = Report(Role.REPLICA, lag=0.0, is_writable=False, follows=True)
    events = told(("db", PRIMARY), ("r1", REPLICA), ("db", follows), ("r1", PRIMARY), ("db", follows))
    assert events[3:] == [
        ["PrimaryMoved old='db' new='r1' generation=1", "ReplicaIn server='db' lag=0.0", "PrimaryIn server='r1'"],
        [],
    ]


def test_a_missing_grant_is_told_once_also_after_an_outage() -> None:
    poor = Report(Role.REPLICA, missing=("GRANT X is missing; without it this stays unknown: the lag",))
    assert told(("r1", poor), ("r1", poor), ("r1", "gone"), ("r1", poor)) == [
        [
            "ReplicaOut server='r1' why='lag unknown' detail=''",
            "GrantMissing server='r1' grant='GRANT X is missing; without it this stays unknown: the lag'",
        ],
        [],
        [f"ReplicaOut server='r1' why='unreachable' detail='gone: {REACH}'"],
        ["ReplicaOut server='r1' why='lag unknown' detail=''"],
    ]


def test_a_writable_replica_is_told_once() -> None:
    writable = Report(Role.REPLICA, lag=0.1, is_writable=True, follows=True)
    assert told(("r1", writable), ("r1", writable)) == [
        [
            "ReplicaIn server='r1' lag=0.1",
            "WritableReplica server='r1': set read_only=1 there, or take it out of the configuration",
        ],
        [],
    ]


def test_one_server_under_two_names_is_told_once() -> None:
    same = Report(Role.REPLICA, lag=0.1, identity="cafe")
    events = told(("r1", same), ("r2", same), ("r1", same))
    assert events[1] == [
        "ReplicaIn server='r2' lag=0.1",
        "SameServer servers=('r1', 'r2') identity='cafe': take one of them out of the configuration",
    ]
    assert events[2] == []


def test_an_event_is_counted_logged_and_told_to_listeners_in_order(caplog: pytest.LogCaptureFixture) -> None:
    emitter, heard = Emitter(), list[Event]()
    stop = emitter.listen(heard.append)
    with caplog.at_level(logging.INFO, "rds_router"):
        emitter.emit(ReplicaIn("r1", 0.5))
        emitter.emit(ReplicaOut("r1", "lagging", "9.0 s"))
    stop()
    emitter.emit(ReplicaIn("r1", 0.5))
    assert heard == [ReplicaIn("r1", 0.5), ReplicaOut("r1", "lagging", "9.0 s")]
    assert emitter.counts == {"ReplicaIn": 2, "ReplicaOut": 1}
    assert repr(emitter) == "<Emitter: 0 listeners; ReplicaIn 2, ReplicaOut 1>"
    assert [(record.levelname, record.getMessage()) for record in caplog.records[:2]] == [
        ("INFO", "ReplicaIn server='r1' lag=0.5"),
        ("WARNING", "ReplicaOut server='r1' why='lagging' detail='9.0 s'"),
    ]


def test_a_listener_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    emitter, heard = Emitter(), list[Event]()

    def fail(event: Event) -> None:
        raise RuntimeError("listener")

    emitter.listen(fail)
    emitter.listen(heard.append)
    emitter.emit(ReadOnPrimary("db", "r1 lagging"))
    assert heard == [ReadOnPrimary("db", "r1 lagging")]
    assert "a listener of rds_router failed on ReadOnPrimary" in caplog.text
