"""Nobody is sent to a replica that lacks what he wrote, in no interleaving: a small cluster is played, and looked into.

What is asked is the truth, what each server of the play has applied, not what the router's own functions say of it. And
the play is shown to be strong enough: with a fault planted in any one place it finds an interleaving that goes wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rds_router.core import decision, position, topology
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import Lsn, MariaDBGtidList, MySQLGtidSet, Position
from rds_router.core.scope import Scope
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Server, Topology, evolve

NAMES = ("db", "r1", "r2")
UUIDS = {name: f"{number}e11fa47-71ca-11e1-9e33-c80aa9429562" for number, name in enumerate(NAMES)}
POLICY = RoutingPolicy(max_lag=1e9, unknown_lag="allow", probe_interval=1000.0)
Entry: TypeAlias = "tuple[str, int, int]"
"""One transaction: the server that wrote it, its number in the log, the timeline it was written on."""
Step: TypeAlias = "tuple[Any, ...]"

steps = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(["told", "told", "moment"])),
    st.tuples(st.just("apply"), st.sampled_from(NAMES), st.integers(1, 3)),
    st.tuples(st.just("ask"), st.sampled_from(NAMES)),
    st.tuples(st.just("hear"), st.sampled_from(NAMES), st.booleans()),
    st.tuples(st.just("probe"), st.sampled_from(NAMES)),
    st.tuples(st.just("read"), st.sampled_from([0.0, 0.5, 0.99])),
    st.tuples(st.just("promote"), st.sampled_from(NAMES)),
    st.tuples(st.just("restart"), st.sampled_from(NAMES)),
)
plays = st.lists(steps, min_size=4, max_size=24)


def mysql_position(log: list[Entry], timeline: int) -> Position:
    return MySQLGtidSet(tuple((UUIDS[writer], ((number, number),)) for writer, number, _ in log))


def mariadb_position(log: list[Entry], timeline: int) -> Position:
    return MariaDBGtidList(tuple((0, NAMES.index(writer) + 1, number) for writer, number, _ in log))


def postgresql_position(log: list[Entry], timeline: int) -> Position:
    return Lsn(log[-1][1] if log else 0, timeline)


FLAVOURS: dict[str, Callable[[list[Entry], int], Position]] = {
    "mysql": mysql_position,
    "mariadb": mariadb_position,
    "postgresql": postgresql_position,
}


@dataclass
class Play:
    """A primary, two replicas, one client, and a router that hears of them with delay and out of order."""

    place: Callable[[list[Entry], int], Position]
    now: float = 0.0
    primary: str = "db"
    timelines: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 1))
    logs: dict[str, list[Entry]] = field(default_factory=lambda: {name: [] for name in NAMES})
    believed: Topology = field(
        default_factory=lambda: Topology.of([Server(name, is_primary=name == "db") for name in NAMES], POLICY)
    )
    asked: dict[str, list[tuple[float, Report]]] = field(default_factory=lambda: {name: [] for name in NAMES})
    token: Token | None = None
    written: list[Entry] = field(default_factory=list)
    everything: list[Entry] = field(default_factory=list)

    def run(self, steps: list[Step]) -> str:
        """What went wrong, in words; empty if nothing did."""
        for what, *arguments in steps:
            self.now += 1.0
            wrong = getattr(self, what)(*arguments)
            if wrong:
                return str(wrong)
        return ""

    def write(self, how: str) -> None:
        """The client commits on the primary and keeps the token: its position as told, or the moment after."""
        log = self.logs[self.primary]
        if how == "moment" and self.believed.writer != self.primary:
            return  # moments are this process's own, and it would have written elsewhere
        # A server does not use a number of its own twice, whatever it lost.
        own = [number for writer, number, _ in self.everything if writer == self.primary]
        number = max([log[-1][1] if log else 0, *own]) + 1
        entry = (self.primary, number, self.timelines[self.primary])
        self.everything.append(entry)
        log.append(entry)
        self.written.append(entry)
        # What is told is this one transaction: a GTID of its own, or the end of the log.
        token = Token(position=self.place([entry], entry[2])) if how == "told" else Token(at=self.now)
        self.token = token.merge(self.token)

    def apply(self, name: str, count: int) -> None:
        """A replica comes nearer, if its log is the beginning of the primary's; else replication is broken."""
        source, log = self.logs[self.primary], self.logs[name]
        if name != self.primary and source[: len(log)] == log:
            log.extend(source[len(log) : len(log) + count])
            if log[-1:] == source[len(log) - 1 : len(log)] and log:
                self.timelines[name] = max(self.timelines[name], log[-1][2])

    def ask(self, name: str) -> None:
        """A probe is sent, and answered at once; the answer is on its way."""
        self.asked[name].append((self.now, self._report(name)))

    def hear(self, name: str, is_late: bool) -> None:
        """An answer arrives: of several the last or the first."""
        if self.asked[name]:
            at, report = self.asked[name].pop(0 if is_late else -1)
            self.believed = evolve(self.believed, Observation(name, at, report), now=self.now)

    def probe(self, name: str) -> None:
        """Sent and heard, but for the time between, in which the server may have answered early or late."""
        self.believed = evolve(self.believed, Observation(name, self.now, self._report(name)), now=self.now)

    def promote(self, name: str) -> None:
        """Another primary. What it lacks is lost for good: no one can promise that, and so nobody asks for it."""
        if name == self.primary:
            return
        self.written = [entry for entry in self.written if entry in self.logs[name]]
        self.primary = name
        self.timelines[name] = max(self.timelines.values()) + 1

    def restart(self, name: str) -> None:
        """A crash: a replica comes back with less than it had, as without a flush at each commit."""
        if name != self.primary:
            del self.logs[name][-1:]
            # It was away: the answers on their way are lost with it, and what is heard next is what it has now.
            self.asked[name].clear()
            self.probe(name)

    def read(self, draw: float) -> str:
        """The client reads. On a replica everything that he wrote, and that was not lost, must be there."""
        decided = decision.decide(
            Statement(Kind.READ), Scope(token=self.token), self.believed, POLICY, now=self.now, draw=draw
        )
        missing = [entry for entry in self.written if entry not in self.logs[decided.target]]
        if decided.is_replica and decided.target != self.primary and missing:
            return f"{decided}: {missing} is not there"
        return ""

    def _report(self, name: str) -> Report:
        is_primary = name == self.primary
        return Report(
            Role.PRIMARY if is_primary else Role.REPLICA,
            lag=None if is_primary else 0.0,
            position=self.place(self.logs[name], self.timelines[name]),
            is_writable=is_primary,
            follows=not is_primary,
        )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_nobody_reads_behind_what_he_wrote(flavour: str) -> None:
    """Writes, applying, probes that are late or out of order, restarts, and promotions that lose writes."""

    @settings(max_examples=300)
    @given(plays)
    def play(steps: list[Step]) -> None:
        assert not Play(FLAVOURS[flavour]).run(steps)

    play()


Plant: TypeAlias = "Callable[[pytest.MonkeyPatch], None]"


def covers_always(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(topology.Seen, "satisfies", lambda self, token: True)


def moments_are_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        topology.Seen,
        "satisfies",
        lambda self, token: token.position is None or self.report.position.covers(token.position),
    )


def positions_are_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        topology.Seen,
        "satisfies",
        lambda self, token: token.at is None or (self.as_of is not None and self.as_of >= token.at),
    )


def news_is_dated_when_it_arrives(patch: pytest.MonkeyPatch) -> None:
    original = topology.evolve

    def late(believed: Topology, news: Any, *, now: float) -> Topology:
        return original(believed, replace(news, at=now), now=now)

    patch.setitem(globals(), "evolve", late)


def a_set_is_its_last_transaction(patch: pytest.MonkeyPatch) -> None:
    def highest(gtids: MySQLGtidSet) -> int:
        return max((last for _, intervals in gtids.ranges for _, last in intervals), default=0)

    patch.setattr(position.MySQLGtidSet, "covers", lambda self, other: highest(self) >= highest(other))


def sequence_numbers_are_compared_alone(patch: pytest.MonkeyPatch) -> None:
    """As MASTER_GTID_WAIT does."""

    def highest(gtids: MariaDBGtidList) -> int:
        return max((sequence for _, _, sequence in gtids.gtids), default=0)

    patch.setattr(position.MariaDBGtidList, "covers", lambda self, other: highest(self) >= highest(other))


def timelines_do_not_matter(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(position.Lsn, "covers", lambda self, other: self.location >= other.location)


OTHER_WAY: list[Step] = [
    *[("write", "told"), ("write", "told"), ("apply", "r2", 2), ("apply", "r1", 1)],
    *[("promote", "r1"), ("write", "told"), ("probe", "r2"), ("read", 0.0)],
]
"""r2 followed the old primary to its lost end, and stands as far as the new one, elsewhere."""
FAULTS: dict[Plant, tuple[str, list[Step]]] = {
    covers_always: ("mysql", [("write", "told"), ("write", "told"), ("probe", "r1"), ("read", 0.0)]),
    moments_are_believed: ("mysql", [("write", "moment"), ("ask", "db"), ("probe", "r1"), ("read", 0.0)]),
    positions_are_believed: ("mariadb", [("write", "told"), ("write", "told"), ("probe", "r1"), ("read", 0.0)]),
    news_is_dated_when_it_arrives: (
        "postgresql",
        [("ask", "db"), ("probe", "r1"), ("write", "moment"), ("hear", "db", False), ("read", 0.0)],
    ),
    a_set_is_its_last_transaction: ("mysql", OTHER_WAY),
    sequence_numbers_are_compared_alone: ("mariadb", OTHER_WAY),
    timelines_do_not_matter: ("postgresql", OTHER_WAY),
}
"""Each with a play in which it goes wrong, as Hypothesis found it or simpler."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(fault: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The play above is no test that cannot fail."""
    flavour, steps = FAULTS[fault]
    assert not Play(FLAVOURS[flavour]).run(steps)
    fault(monkeypatch)
    assert "is not there" in Play(FLAVOURS[flavour]).run(steps)
