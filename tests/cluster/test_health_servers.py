"""Health and choice on real servers: who answers how many reads, and how often a dead server is asked."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rds_router import Replica, Router, RoutingPolicy, RoutingSession
from rds_router.core.health import State
from rds_router.lab import Cluster
from rds_router.lab.proxy import Proxy
from tests.cluster.asking import eventually
from tests.conftest import ClusterFactory


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes_of_shares"
    id: Mapped[int] = mapped_column(primary_key=True)


class Answers:
    """Who answered reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()

    def listen(self, engine: Engine, server: str, part: str) -> None:
        """Router(on_engine=...)."""

        @event.listens_for(engine, "after_cursor_execute")
        def after_cursor_execute(*_: Any) -> None:
            with self._lock:
                self._counted[server] += 1

    def next(self, number: int) -> Counter[str]:
        """Who gives the next so many."""
        with self._lock:
            self._counted.clear()
        assert eventually(lambda: self._counted.total() >= number, seconds=60.0), self._counted
        with self._lock:
            return Counter(self._counted)


@contextmanager
def reading(router: Router, threads: int) -> Iterator[list[Exception]]:
    """Threads that read in one session after the other while the block runs, and the errors they met."""
    stop, errors = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                with RoutingSession(router=router) as session:
                    assert session.scalar(select(Note.id)) == 1
            except Exception as error:
                errors.append(error)
            # As a request has other things to do: else one thread keeps the interpreter from the others.
            stop.wait(0.002)

    started = [threading.Thread(target=read, daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield errors
    finally:
        stop.set()
        for thread in started:
            thread.join(30.0)


def make_note(router: Router, cluster: Cluster) -> None:
    Base.metadata.create_all(router.primary)
    with RoutingSession(router=router) as session:
        session.add(Note(id=1))
        session.commit()
    cluster.wait_caught_up()
    assert router.refresh()
    assert len(router.topology.eligible) == len(cluster.replicas)


def test_shares_of_replicas_that_are_well_slow_frozen_and_back(
    lab_cluster: ClusterFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three MariaDB replicas behind wires, sixteen threads; one wire is slowed down, then its server frozen.

    The bounds are wide: what a loaded machine does to threads is not the router's doing.
    """
    c = lab_cluster("mariadb", replicas=3)
    answers = Answers()
    with ExitStack() as opened:
        wires = [opened.enter_context(Proxy(each)) for each in c.replicas]
        wire = wires[2]
        policy = RoutingPolicy(
            probe_interval=0.2, max_lag=30.0, slow_start=3.0, primary_read_share=1.0, latency_window=0.2
        )
        options = {"pool_size": 16, "connect_args": {"ssl_disabled": True, "read_timeout": 2}}
        with Router(
            Replica(c.primary.url, name=c.primary.name),
            [Replica(each.url, name=server.name) for server, each in zip(c.replicas, wires, strict=True)],
            policy=policy,
            engine_options=options,
            on_engine=answers.listen,
        ) as router:
            make_note(router, c)
            victim = c.replicas[2].name
            found: dict[str, float] = {}
            with reading(router, 16) as errors:

                def part_of_victim(what: str, number: int = 1500) -> float:
                    counted = answers.next(number)
                    found[what] = counted[victim] / counted.total()
                    return found[what]

                answers.next(300)  # connections are made
                assert 0.15 < part_of_victim("well") < 0.55, found
                wire.delay(to_client=0.05)
                answers.next(100)
                assert part_of_victim("each answer 50 ms late, within the window") < 0.25, found
                wire.heal()
                c.freeze(c.replicas[2])
                assert eventually(lambda: router.topology[victim].objection is not None)
                assert part_of_victim("frozen") == 0.0, found
                c.thaw(c.replicas[2])
                assert eventually(lambda: router.topology[victim].objection is None, seconds=60.0)
                assert eventually(
                    lambda: router.topology[victim].health.share_at(router.clock(), policy.slow_start) == 1.0
                )
                assert 0.15 < part_of_victim("back") < 0.55, found
            assert errors == []
            assert router.events.counts["ReadOnPrimary"] == 0
    with capsys.disabled():
        print("\nshare of one of three MariaDB replicas: " + ", ".join(f"{k} {v:.1%}" for k, v in found.items()))


def test_a_dead_replica_is_asked_ever_more_rarely_and_at_once_on_request(lab_cluster: ClusterFactory) -> None:
    """Counted at its door: connections to a wire whose server is dead."""
    c = lab_cluster("mariadb", replicas=1)
    with Proxy(c.replicas[0]) as wire:
        policy = RoutingPolicy(probe_interval=0.1, probe_timeout=1.0, max_lag=30.0)
        replica = Replica(wire.url, name="r1")
        with Router(Replica(c.primary.url, name="db"), [replica], policy=policy) as router:
            assert router.refresh()
            c.kill(c.replicas[0])
            assert eventually(lambda: router.topology["r1"].health.state is State.DOWN)
            before, begun = wire.counts.connections, time.monotonic()
            assert eventually(lambda: router.topology["r1"].failures >= 8, seconds=60.0)
            asked, elapsed = wire.counts.connections - before, time.monotonic() - begun
            # Pauses of 0.1 s at the mean would have made ten times as many.
            assert asked < elapsed / 0.1 or elapsed < 1.0
            for _ in range(3):
                failures = router.topology["r1"].failures
                assert router.refresh()
                assert router.topology["r1"].failures > failures
            # The pause is now up to a minute; while the primary is missing too it is not.
            failures = router.topology["r1"].failures
            c.kill(c.primary)
            assert eventually(lambda: router.topology["r1"].failures >= failures + 5, seconds=10.0)
