"""Servers that come and go: what is kept of those that left, and who is looked for when the primary is missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from rds_router import Router, RoutingPolicy
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.topology import Server
from rds_router.discovery.finder import HURRIES_APART, Finder
from rds_router.servers import Target
from rds_router.testing import Clock

PATIENCE = 30.0
PRIMARY = Target(Server("db", is_primary=True), make_url("sqlite:///db"))


def reader(number: int) -> Target:
    return Target(Server(f"reader-{number}"), make_url(f"sqlite:///reader-{number}"))


class Looks:
    """A discovery that counts, and never finds anybody else."""

    def __init__(self, *found: Target) -> None:
        self.found = found
        self.count = 0
        self.was_asked = threading.Semaphore(0)

    def find(self) -> tuple[Target, ...]:
        self.count += 1
        self.was_asked.release()
        return self.found


class Nobody:
    """Wants to know nothing."""

    def relist(self, found: tuple[Target, ...], /) -> None: ...
    def not_found(self, error: Exception, /) -> None: ...


@pytest.fixture
def router() -> Iterator[Router]:
    """One that is not started: it asks nobody."""
    with Router("sqlite:///db", ["sqlite:///reader-0"], policy=RoutingPolicy(probe_interval=3600)) as made:
        made._is_awake = True
        yield made


def test_of_a_thousand_servers_that_came_and_went_little_is_kept(router: Router) -> None:
    """An engine of the last ones can still be made: a decision of a moment ago may ask for it."""
    for number in range(1000):
        router.relist([PRIMARY, reader(number)])
        router._observe(Observation(f"reader-{number}", router.clock(), Report(Role.REPLICA, lag=0.0)))
        assert router.first_read() is not None
        router.replica_engine(f"reader-{number}")
    router.relist([PRIMARY, reader(1000)])
    monitor, engines = router._monitor, router._engines
    for known in (monitor._wakes, monitor._begun, monitor._done):
        assert set(known) == {"db", "reader-1000"}
    assert len(engines._targets) <= 2 + 64
    assert sum(map(len, engines._engines.values())) <= 2
    assert router._pins == {}
    assert str(router.replica_engine("reader-999").url) == "sqlite:///reader-999"


def test_who_waits_for_a_server_that_leaves_waits_no_more(router: Router) -> None:
    """And a probe of it that comes to its end disturbs nobody."""
    monitor = router._monitor
    answered: list[bool] = []
    begun = threading.Event()

    class Told(list[str]):
        def __iter__(self) -> Iterator[str]:
            begun.set()
            return super().__iter__()

    waiting = threading.Thread(target=lambda: answered.append(monitor.hurry(Told(["reader-0"]), PATIENCE)))
    waiting.start()
    assert begun.wait(PATIENCE)
    router.relist([PRIMARY])
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    monitor.began("reader-0")
    monitor.turned(Observation("reader-0", 1.0, Report(Role.REPLICA)), router.dialect)
    monitor.wake("reader-0")
    assert set(monitor._begun) == {"db"}


def test_a_hurried_finder_looks_at_once_but_not_again_within_seconds() -> None:
    clock, looks = Clock(100.0), Looks(PRIMARY)
    finder = Finder(looks, Nobody(), interval=3600.0, clock=clock)
    finder.start()
    try:
        for round_ in range(1, 4):
            for _ in range(100):
                finder.hurry()
            assert looks.was_asked.acquire(timeout=PATIENCE)
            assert looks.count == round_
            assert not finder._wake.is_set()
            clock.advance(HURRIES_APART)
    finally:
        finder.close()


def test_an_outage_has_the_members_looked_for() -> None:
    """The heir may be a server that was added a moment ago; the regular look may be half a minute away."""
    looks = Looks(PRIMARY, reader(0))
    with Router(
        "sqlite:///db",
        ["sqlite:///reader-0"],
        discovery=looks,
        discovery_interval=3600.0,
        policy=RoutingPolicy(probe_interval=3600),
    ) as router:
        router._finder.start()
        assert looks.count == 0
        router._is_awake = True
        for _ in range(20):
            router._outage.suspect("db", "gone", "connection refused")
        assert looks.was_asked.acquire(timeout=PATIENCE)
        assert looks.count == 1
