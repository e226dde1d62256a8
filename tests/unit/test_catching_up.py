"""How often readers who wait have servers asked: probers that count, a clock that the test moves, no server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from rds_router import RoutingPolicy
from rds_router.catching_up import CatchingUp
from rds_router.core.decision import Decision, decide
from rds_router.core.lag import HINDSIGHT
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.position import Lsn, MariaDBGtidList, MySQLGtidSet, Position
from rds_router.core.scope import Scope
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Server, Topology, evolve
from rds_router.dialects import MYSQL
from rds_router.events import Emitter, StillBehind
from rds_router.monitor import Monitor
from rds_router.noticed import Acknowledged
from rds_router.testing import Clock

PATIENCE = 30.0
LONG = 10.0
"""Of real time, the longest ``causal_wait``: no test waits for it to pass."""
SHORT = 0.02
"""For waits that are to be in vain."""
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
INTERVAL = 60.0
"""Seconds of the test's clock between two regular probes; more than LONG, as a second is more than ``causal_wait``."""
WRITES = 20
"""In an interval, each followed by a read."""


def applied(number: int) -> Position:
    """All up to that commit."""
    return MySQLGtidSet.parse(f"{UUID}:1-{number}")


def commit(number: int) -> Position:
    """What MySQL tells of one commit: itself, and none of those before it."""
    return MySQLGtidSet.parse(f"{UUID}:{number}")


class Asked:
    """A prober of a server that has what ``contents()`` says, and counts."""

    dialect = MYSQL

    def __init__(self, name: str, clock: Clock, contents: Callable[[], int], *, in_storage: bool) -> None:
        self.name = name
        self.in_storage = in_storage
        self.count = 0
        self._clock = clock
        self._contents = contents

    def probe(self, *, as_primary: bool) -> Observation:
        self.count += 1
        at = self._clock()
        time.sleep(0.002)
        number = self._contents()
        position, storage = (None, Lsn(number)) if self.in_storage else (applied(number), None)
        told = Report(Role.PRIMARY, position=position, storage=storage, is_writable=True, follows=False)
        if self.name != "db":
            told = replace(told, role=Role.REPLICA, lag=0.0, is_writable=False, follows=True)
        return Observation(self.name, at, told)

    def close(self) -> None:
        """Nothing is open."""

    def forked(self) -> None:
        """Nothing is open."""


class Busy:
    """A process that writes and reads what it wrote, in front of replicas some commits behind. Time moves only between
    two reads, and once in each interval the monitor asks everybody."""

    def __init__(self, *behind: int, wait: float, is_author: bool = True, in_storage: bool = False) -> None:
        self.policy = RoutingPolicy(
            causal_wait=wait, probe_interval=INTERVAL, probe_timeout=PATIENCE, max_lag=3600, latency_window=60
        )
        self.clock = Clock(100.0)
        self.written = 1000
        self.told = Acknowledged()
        self.is_author = is_author
        self.probers = [Asked("db", self.clock, lambda: self.written, in_storage=in_storage)]
        for number, commits in enumerate(behind, 1):
            contents = partial(self._behind, commits)
            self.probers.append(Asked(f"r{number}", self.clock, contents, in_storage=in_storage))
        names = [each.name for each in self.probers]
        self.topology = Topology.of([Server(each, is_primary=each == "db") for each in names], self.policy)
        self.events = Emitter()
        self.catching_up = CatchingUp(self.policy, self.clock, self.events, self.told)
        self.monitor = Monitor(
            self.probers,  # type: ignore[arg-type]  # they do what Prober does
            publish=self._publish,
            is_writer=lambda name: name == "db",
            pause=lambda name: 3600.0,
        )
        self.draws = itertools.cycle((0.1, 0.6))

    def _behind(self, commits: int) -> int:
        return self.written - commits

    def _publish(self, news: Observation, dialect: object) -> None:
        self.topology = evolve(self.topology, news, now=self.clock())

    def _decide(self, statement: Statement, scope: Scope, exclude: frozenset[str]) -> Decision:
        draw = next(self.draws)
        return decide(statement, scope, self.topology, self.policy, now=self.clock(), draw=draw, exclude=exclude)

    def regular_probe(self) -> None:
        assert self.monitor.refresh(PATIENCE)

    def read(self, token: Token) -> Decision:
        decision = self._decide(Statement(Kind.READ), Scope(token=token), frozenset())
        if decision.is_replica:
            return decision
        return self.catching_up.looked_again(decision, self.monitor, self._decide)

    def write_and_read(self) -> Decision:
        self.written += 1
        if self.is_author:
            self.told.add(commit(self.written))
        return self.read(Token(position=commit(self.written)))

    def an_interval(self) -> list[Decision]:
        """One regular probe, then writes and reads until the next one is due."""
        self.regular_probe()
        self.told.asked()
        found = []
        for _ in range(WRITES):
            found.append(self.write_and_read())
            self.clock.advance(INTERVAL / WRITES)
        return found

    def probes_in(self, intervals: int) -> dict[str, float]:
        """Probes an interval of each server, in so many of them."""
        self.regular_probe()  # whatever is under way is over
        before = {each.name: each.count for each in self.probers}
        for _ in range(intervals):
            self.an_interval()
        return {each.name: (each.count - before[each.name]) / intervals for each in self.probers}


@pytest.fixture
def busy() -> Iterator[Callable[..., Busy]]:
    made: list[Busy] = []

    def make(*behind: int, wait: float, is_author: bool = True, in_storage: bool = False) -> Busy:
        made.append(Busy(*behind, wait=wait, is_author=is_author, in_storage=in_storage))
        made[-1].monitor.start()
        made[-1].regular_probe()
        return made[-1]

    yield make
    for each in made:
        each.monitor.close(wait=PATIENCE)


def test_a_replica_intervals_behind_is_asked_once_an_interval_however_many_write(busy: Callable[..., Busy]) -> None:
    """At first it is waited for, once; from then on its own regular news say that it would be in vain."""
    process = busy(2 * WRITES, wait=SHORT)
    process.an_interval()
    assert process.events.counts[StillBehind.__name__] == 1
    assert process.probes_in(5) == {"db": 1.0, "r1": 1.0}
    assert process.events.counts[StillBehind.__name__] == 1


def test_and_readers_of_others_writes_have_the_primary_asked_but_not_the_replica(busy: Callable[..., Busy]) -> None:
    """Those others may have written on another primary: each token is looked for once."""
    process = busy(2 * WRITES, wait=SHORT, is_author=False)
    process.an_interval()
    assert process.probes_in(3) == {"db": 1.0 + WRITES, "r1": 1.0}


def test_a_replica_less_than_an_interval_behind_is_waited_for_once_an_interval(busy: Callable[..., Busy]) -> None:
    """No regular news prove how far behind it is: that is what one reader finds out for all others."""
    process = busy(WRITES // 2, wait=SHORT)
    probes = process.probes_in(5)
    assert not any(decision.is_replica for decision in process.an_interval())
    assert 5 <= process.events.counts[StillBehind.__name__] <= 6, "in six intervals"
    assert probes["db"] == 1.0
    assert probes["r1"] <= 15, "one wait's, with growing pauses; not one for each of the twenty reads"


def test_a_quick_replica_is_waited_for_after_each_write(busy: Callable[..., Busy]) -> None:
    """It costs a probe each, and the primary is spared."""
    process = busy(0, wait=LONG)
    assert all(decision.target == "r1" for decision in process.an_interval())
    assert process.probes_in(3) == {"db": 1.0, "r1": 1.0 + WRITES}
    assert StillBehind.__name__ not in process.events.counts


def test_a_quick_replica_beside_one_that_lags_is_asked_alone(busy: Callable[..., Busy]) -> None:
    """No reader waits in vain, and yet none has the other one asked each time."""
    process = busy(2 * WRITES, 0, wait=LONG)
    assert all(decision.target == "r2" for decision in process.an_interval())
    asked_at_first = process.probers[1].count
    assert asked_at_first < WRITES, "until it had as long as a reader waits"
    assert process.probes_in(3) == {"db": 1.0, "r1": 1.0, "r2": 1.0 + WRITES}
    assert StillBehind.__name__ not in process.events.counts


def test_a_replica_that_has_caught_up_is_waited_for_again_after_its_next_regular_news(
    busy: Callable[..., Busy],
) -> None:
    process = busy(2 * WRITES, wait=LONG)
    process.clock.advance(INTERVAL)
    process.regular_probe()
    assert not process.write_and_read().is_replica
    assert StillBehind.__name__ not in process.events.counts, "nobody waited"
    process.probers[1]._contents = lambda: process.written
    assert all(decision.target == "r1" for decision in process.an_interval())


def test_in_a_shared_storage_nobody_is_asked_for_what_cannot_be_shown_yet(busy: Callable[..., Busy]) -> None:
    """The primary's place is dated back: within a reader's wait after a write no answer would be good enough."""
    process = busy(0, wait=SHORT, in_storage=True)
    before = [each.count for each in process.probers]
    assert not process.read(Token(at=process.clock())).is_replica
    assert [each.count for each in process.probers] == before
    assert StillBehind.__name__ not in process.events.counts


def test_in_a_shared_storage_the_replica_is_asked_as_soon_as_it_can_be_shown(busy: Callable[..., Busy]) -> None:
    process = busy(0, wait=LONG, in_storage=True)
    token = Token(at=process.clock())
    process.clock.advance(HINDSIGHT)
    assert process.read(token).target == "r1"
    assert StillBehind.__name__ not in process.events.counts


def test_what_no_server_has_is_looked_for_once_an_interval_and_keeps_no_replica_from_others(
    busy: Callable[..., Busy],
) -> None:
    """A token of a commit that a fail over lost: its owner waits once, others' tokens do not pay for it."""
    process = busy(0, wait=0.5)
    lost = Token(position=MySQLGtidSet.parse("11111111-71ca-11e1-9e33-c80aa9429562:7"))
    assert not process.read(lost).is_replica
    process.regular_probe()
    before = [each.count for each in process.probers]
    assert not process.read(lost).is_replica
    assert [each.count for each in process.probers] == before
    assert not process.catching_up._left_alone


@pytest.mark.parametrize(
    ("commits", "another"),
    [
        ([commit(7), commit(8)], commit(6)),
        ([MariaDBGtidList.parse("0-1-7"), MariaDBGtidList.parse("0-1-8")], MariaDBGtidList.parse("0-2-8")),
        ([Lsn.parse("0/7@1"), Lsn.parse("0/8@1")], Lsn.parse("0/9@1")),
    ],
    ids=["mysql", "mariadb", "postgresql"],
)
def test_own_commits_are_known_to_be_there(commits: list[Position], another: Position) -> None:
    told = Acknowledged()
    assert not told.covers(commits[0])
    for each in commits:
        told.add(each)
    assert all(told.covers(each) for each in commits)
    assert not told.covers(another)
