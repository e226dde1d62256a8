"""The queue for a primary: who waits, who does not, who is let go in which order. No server, no sleep to speak of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rds_router import NoPrimary, RoutingPolicy
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.topology import Server, Topology, evolve
from rds_router.events import Emitter, Event, PrimarySuspected, WriteHeld, WriteRefused
from rds_router.outage import Outage, deadline, patience


class Door:
    """An outage, with threads that come to it."""

    def __init__(self, **policy: Any) -> None:
        self.events: list[Event] = []
        self.probes = 0
        self.results: list[tuple[int, float, Exception | None]] = []
        emitter = Emitter()
        emitter.listen(self.events.append)
        given = RoutingPolicy(**{"failover_timeout": 20.0, **policy})
        topology = Topology.of([Server("db", is_primary=True), Server("r1")], given)
        self.outage = Outage(
            policy=given,
            clock=lambda: 1.0,
            random=lambda: 0.5,
            topology=lambda: topology,
            probe=self.probed,
            is_gone=lambda error: False,
            events=emitter,
        )
        self.threads: list[threading.Thread] = []

    def probed(self) -> None:
        self.probes += 1

    def come(self, number: int, *, around: Callable[[], Any] | None = None) -> None:
        before = len(self.outage._waiting)

        def wait() -> None:
            try:
                if around is None:
                    self.outage.wait(since=time.monotonic())
                else:
                    with around():
                        self.outage.wait(since=time.monotonic())
                self.results.append((number, time.monotonic(), None))
            except NoPrimary as error:
                self.results.append((number, time.monotonic(), error))

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        self.threads.append(thread)
        until(lambda: len(self.outage._waiting) > before or not thread.is_alive() or bool(self.results))

    def leave(self) -> None:
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()


def until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.outage.end()
    made.leave()


def test_without_an_outage_nobody_waits(door: Door) -> None:
    door.outage.wait(since=time.monotonic())
    assert repr(door.outage) == "<Outage: none>"
    assert (door.events, door.probes) == ([], 0)


def test_who_waits_is_let_go_in_turn_a_little_apart(door: Door) -> None:
    """Counted for each, told once; the servers are asked at once, and not anew for each who comes."""
    for _ in range(2):
        door.outage.suspect("db", "gone", "refused")
    for number in range(5):
        door.come(number)
    assert door.results == []
    assert door.outage.is_urgent
    assert "5 wait" in repr(door.outage)
    lasted = door.outage.end()
    assert lasted is not None
    assert lasted > 0
    assert door.outage.end() is None
    door.leave()
    assert sorted(number for number, _, error in door.results if error is None) == [0, 1, 2, 3, 4]
    assert door.outage._events.counts["WriteHeld"] == 5
    assert door.outage._events.counts["PrimarySuspected"] == 2
    assert [type(each) for each in door.events] == [PrimarySuspected, WriteHeld]
    assert 2 <= door.probes <= 5


def test_the_queue_is_bounded_and_the_oldest_goes() -> None:
    """With room for two, the third who comes sends the first away with an error that says why."""
    door = Door(failover_queue=2)
    door.outage.suspect("db", "gone", "refused")
    for number in range(3):
        door.come(number)
    until(lambda: len(door.results) == 1)
    ((number, _, error),) = door.results
    assert number == 0
    assert isinstance(error, NoPrimary)
    assert "more than failover_queue (2) wait" in str(error)
    assert [type(each) for each in door.events] == [PrimarySuspected, WriteHeld, WriteRefused]
    door.outage.end()
    door.leave()
    assert [number for number, _, error in sorted(door.results) if error is None] == [1, 2]


def test_time_is_up() -> None:
    """The text says since when, who said what, how long was waited, what to do, and that nothing was sent."""
    door = Door(failover_timeout=0.05)
    door.outage.suspect("db", "gone", "refused")
    with pytest.raises(NoPrimary) as raised:
        door.outage.wait(since=time.monotonic(), tried="OperationalError: refused")
    assert raised.value.waited >= 0.05
    assert raised.value.objections == ("db not seen yet", "r1 not seen yet")
    text = str(raised.value)
    for words in ("there has been no primary for", "db not seen yet; r1 not seen yet", "OperationalError: refused"):
        assert words in text
    for words in (
        "failover_timeout 0.05 s",
        "promote a replica, or point the router at the primary",
        "Nothing was sent",
    ):
        assert words in text


def test_a_long_outage_fails_at_once_until_it_ends() -> None:
    """But for whoever has a patience of his own; and each time somebody comes the servers may be asked again."""
    door = Door(failover_timeout=0.02)
    door.outage.suspect("db", "gone", "refused")
    time.sleep(0.03)
    begun = time.monotonic()
    for _ in range(20):
        with pytest.raises(NoPrimary, match="the outage is older than that"):
            door.outage.wait(since=time.monotonic())
    assert "WriteHeld" not in door.outage._events.counts
    door.come(1, around=lambda: patience(begun + 20))
    assert door.results == []
    door.outage.end()
    door.leave()
    assert [error for _, _, error in door.results] == [None]
    door.outage.wait(since=time.monotonic())


def test_a_deadline_of_the_callers_own_is_kept(door: Door) -> None:
    """The nearer of two counts, and it ends with its block."""
    door.outage.suspect("db", "gone", "refused")
    with deadline(60), deadline(0.02), deadline(60), pytest.raises(NoPrimary) as raised:
        door.outage.wait(since=time.monotonic())
    assert raised.value.waited < 10
    door.come(1)
    assert door.results == []


def test_a_forked_child_waits_for_nobody(door: Door) -> None:
    door.outage.suspect("db", "gone", "refused")
    door.outage.forked()
    assert not door.outage.is_on
    door.outage.wait(since=time.monotonic())


def test_a_primary_that_was_never_heard_of_may_have_to_wake() -> None:
    """It is waited for longer, also by who comes late; one that was heard of has no excuse."""
    door = Door(failover_timeout=0.02, wake_timeout=20.0)
    door.outage.suspect("db", "gone", "refused")
    door.come(1)
    time.sleep(0.1)
    door.come(2)
    assert door.results == []
    assert "wake_timeout 20 s" in door.outage._limit
    door.outage.end()
    door.leave()
    assert [error for _, _, error in door.results] == [None, None]
    report = Report(Role.PRIMARY, is_writable=True)
    awake = evolve(door.outage._topology(), Observation("db", 1.0, report), now=1.0)
    assert not awake.may_be_waking
    assert not evolve(awake, Observation("db", 2.0, error="gone"), now=2.0).may_be_waking
