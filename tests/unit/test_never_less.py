"""A client never sees less than he has seen, whichever process serves him, in no interleaving: a fleet is played.

Two processes with clocks of their own watch one cluster, each under names of its own, and learn of it late and out of
order. A client's requests go now to one, now to the other, and bring along no more than his trail. What is asked is
the truth: what the server that he is sent to holds. And the play is shown to be strong enough, as the one beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rds_router.core import demands, trail
from rds_router.core.decision import decide
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import Lsn
from rds_router.core.scope import Scope, Sight
from rds_router.core.statement import Kind, Statement
from rds_router.core.topology import Server, Topology, evolve
from rds_router.core.trail import Trail

NAMES: Final = ("db", "r1", "r2")
POLICY: Final = RoutingPolicy(max_lag=1e9, unknown_lag="allow", probe_interval=1000.0, slow_start=0.0)
EPOCH: Final = 500_000.0
"""What the primary's clock is ahead of the play's."""
MARGIN: Final = 2.0
Step: TypeAlias = "tuple[Any, ...]"
Entry: TypeAlias = "tuple[int, int]"
"""The number of a transaction in the log, and the timeline it was written on."""

workers, replicas = st.sampled_from([0, 1]), st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("write")),
    st.tuples(st.just("apply"), replicas, st.integers(1, 3)),
    st.tuples(st.just("ask"), workers, replicas),
    st.tuples(st.just("hear"), workers, replicas, st.booleans()),
    st.tuples(st.just("probe"), workers, replicas),
    st.tuples(st.just("read"), workers, st.sampled_from([0.0, 0.5, 0.99]), st.sampled_from(["session", "strong"])),
    st.tuples(st.just("read"), workers, st.sampled_from([0.0, 0.5, 0.99]), st.just("session")),
    st.tuples(st.just("promote"), replicas),
    st.tuples(st.just("restart"), replicas),
    st.tuples(st.just("wait")),
)
plays = st.lists(steps, min_size=4, max_size=30)


@dataclass
class Machine:
    log: list[Entry] = field(default_factory=list)
    timeline: int = 1
    run: int = 1


@dataclass
class Process:
    """What one process believes. ``offset``: its clock's; ``names``: what it calls the servers."""

    offset: float
    names: dict[str, str]
    skew: float
    believed: Topology = field(init=False)
    asked: dict[str, list[tuple[float, Report]]] = field(default_factory=lambda: {name: [] for name in NAMES})
    connected: dict[str, int] = field(default_factory=dict)
    """The runs that its connections lead to: they end with them."""

    def __post_init__(self) -> None:
        listed = [Server(self.names[name], is_primary=name == "db") for name in NAMES]
        self.believed = Topology.of(listed, POLICY)

    def ahead(self, now: float) -> float:
        """By how much the primary's clock is ahead of its own; by its machine's if nobody has told."""
        told = self.believed.clock
        return EPOCH + self.skew - self.offset if told is None else told[1] - told[0]


@dataclass
class Fleet:
    now: float = 0.0
    primary: str = "db"
    machines: dict[str, Machine] = field(default_factory=lambda: {name: Machine() for name in NAMES})
    processes: tuple[Process, Process] = field(
        default_factory=lambda: (
            Process(0.0, {name: name for name in NAMES}, skew=0.9),
            Process(7000.0, {"db": "db", "r1": "r2", "r2": "r1"}, skew=-0.9),
        )
    )
    brought: str = ""
    seen: set[Entry] = field(default_factory=set)
    number: int = 0

    def run(self, steps: list[Step]) -> str:
        """What went wrong, in words; empty if nothing did."""
        for what, *arguments in steps:
            self.now += 1.0
            wrong = getattr(self, what)(*arguments)
            if wrong:
                return str(wrong)
        return ""

    def wait(self) -> None:
        self.now += 5.0

    def write(self) -> None:
        self.number += 1
        primary = self.machines[self.primary]
        primary.log.append((self.number, primary.timeline))

    def apply(self, name: str, count: int) -> None:
        """A replica comes nearer, if its log is the beginning of the primary's; else replication is broken."""
        source, machine = self.machines[self.primary], self.machines[name]
        if name != self.primary and source.log[: len(machine.log)] == machine.log:
            machine.log.extend(source.log[len(machine.log) : len(machine.log) + count])
            machine.timeline = max([machine.timeline, *(timeline for _, timeline in machine.log)])

    def ask(self, worker: int, name: str) -> None:
        process = self.processes[worker]
        process.asked[name].append((self.now + process.offset, self._report(name)))
        process.connected[name] = self.machines[name].run

    def hear(self, worker: int, name: str, is_late: bool) -> None:
        process = self.processes[worker]
        if process.asked[name]:
            at, report = process.asked[name].pop(0 if is_late else -1)
            self._learn(process, Observation(process.names[name], at, report))

    def probe(self, worker: int, name: str) -> None:
        self.ask(worker, name)
        self.hear(worker, name, False)

    def promote(self, name: str) -> None:
        """Another primary. What it lacks is lost for good: no one can promise that it is seen again."""
        if name != self.primary:
            self.seen &= set(self.machines[name].log)
            timeline = max(machine.timeline for machine in self.machines.values()) + 1
            self.primary, self.machines[name].timeline = name, timeline

    def restart(self, name: str) -> None:
        """A crash: a replica comes back with less than it had, as without a flush at each commit."""
        if name != self.primary:
            del self.machines[name].log[-1:]
            self.machines[name].run += 1

    def read(self, worker: int, draw: float, contract: str) -> str:
        """A request of the client: one read. On a replica everything that he has seen, and was not lost, is there."""
        process, excluded = self.processes[worker], frozenset[str]()
        arrived = self.now + process.offset
        sight = self._sight(process, arrived)
        while True:
            scope = Scope(seen=sight, contract=None if contract == "session" else POLICY_STRONG)
            decided = decide(
                Statement(Kind.READ), scope, process.believed, POLICY, now=arrived, draw=draw, exclude=excluded
            )
            (name,) = (each for each in NAMES if process.names[each] == decided.target)
            if not decided.is_replica or process.connected.get(name) == self.machines[name].run:
                break
            # Its connections have ended with the server's former run: the read fails, and is run elsewhere (R10).
            self._learn(process, Observation(decided.target, arrived, error="gone", is_read=True))
            excluded |= {decided.target}
        held = set(self.machines[name].log)
        missing = self.seen - held
        if decided.is_replica and name != self.primary and missing:
            return f"{decided}: {sorted(missing)} is not there"
        if decided.is_replica or name == self.primary:
            self.seen |= held
        left = scope.after(decided).seen_by(arrived, saw=not decided.is_replica)
        assert left is not None
        found = trail.trail_of(
            left, process.believed, cluster="c", since=arrived, ahead=process.ahead(arrived), now=arrived
        )
        self.brought = self.brought if found is None else str(found)
        return ""

    def _sight(self, process: Process, arrived: float) -> Sight | None:
        if not self.brought:
            return None
        return trail.sight_of(
            Trail.parse(self.brought),
            process.believed,
            cluster="c",
            ahead=process.ahead(arrived),
            margin=MARGIN,
            now=arrived,
        )

    def _learn(self, process: Process, news: Observation) -> None:
        process.believed = evolve(process.believed, news, now=self.now + process.offset)

    def _report(self, name: str) -> Report:
        machine, is_primary = self.machines[name], name == self.primary
        return Report(
            Role.PRIMARY if is_primary else Role.REPLICA,
            lag=None if is_primary else 0.0,
            position=Lsn(machine.log[-1][0] if machine.log else 0, machine.timeline),
            is_writable=is_primary,
            follows=not is_primary,
            identity=name,
            run=f"{name}/{machine.run}",
            clock=self.now + EPOCH,
        )


POLICY_STRONG: Final = RoutingPolicy(reads="strong").contract


def test_nobody_sees_less_than_before() -> None:
    """Writes, applying, probes that are late or out of order, restarts that lose, and promotions that lose."""

    @settings(max_examples=600)
    @given(plays)
    def play(steps: list[Step]) -> None:
        assert not Fleet().run(steps)

    play()


Plant: TypeAlias = "Callable[[pytest.MonkeyPatch], None]"


def names_are_believed(patch: pytest.MonkeyPatch) -> None:
    """As if the trail named the replica by its name."""
    original = trail.sight_of

    def by_name(found: Trail | None, believed: Topology, **options: Any) -> Sight:
        sight = original(found, believed, **options)
        return Sight({"r1": "r2", "r2": "r1"}.get(sight.server, sight.server), sight.token, sight.run)

    patch.setattr(trail, "sight_of", by_name)
    patch.setattr(demands, "still_has", lambda seen, sight: seen.server.name == sight.server)


def a_restart_does_not_matter(patch: pytest.MonkeyPatch) -> None:
    original = trail._short
    patch.setattr(trail, "_short", lambda run, cluster: original(run.partition("/")[0], cluster))
    patch.setattr(demands, "still_has", lambda seen, sight: seen.server.name == sight.server)


def a_look_at_the_primary_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trail, "trail_of", lambda sight, believed, **options: None if not sight.server else Trail("0" * 12))


def what_is_not_found_is_nothing(patch: pytest.MonkeyPatch) -> None:
    original = trail.sight_of

    def forgiving(found: Trail | None, believed: Topology, **options: Any) -> Sight:
        sight = original(found, believed, **options)
        return sight if sight.server else Sight("", sight.token.__class__(at=float("-inf")))

    patch.setattr(trail, "sight_of", forgiving)


def probes(worker: int) -> list[Step]:
    return [("probe", worker, name) for name in NAMES]


READ, FAULTS = (0.0, "session"), dict[Plant, list[Step]]()
FAULTS[names_are_believed] = FAULTS[what_is_not_found_is_nothing] = [
    *[*probes(0), *probes(1), ("write",), ("apply", "r1", 1), ("read", 0, *READ)],
    ("read", 1, 0.0, "session"),
]
FAULTS[a_restart_does_not_matter] = [
    *[("write",), ("apply", "r1", 1), *probes(0), ("read", 0, *READ)],
    *[("restart", "r1"), *probes(1), ("read", 1, 0.99, "session")],
]
FAULTS[a_look_at_the_primary_is_forgotten] = [
    *[*probes(0), *probes(1), ("write",), ("read", 0, 0.0, "strong"), ("read", 1, *READ)],
]
FAULTS[what_is_not_found_is_nothing] = FAULTS[a_look_at_the_primary_is_forgotten]
"""Each with a play in which it goes wrong."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(fault: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The play above is no test that cannot fail."""
    assert not Fleet().run(FAULTS[fault])
    fault(monkeypatch)
    assert "is not there" in Fleet().run(FAULTS[fault])


def test_the_play_reads_on_replicas_across_processes() -> None:
    """Nor one that passes because the primary answers everything."""
    fleet = Fleet()
    assert not fleet.run([("write",), ("apply", "r1", 1), *probes(0), *probes(1), ("read", 0, *READ)])
    assert fleet.brought.startswith("run:")
    sight = fleet._sight(fleet.processes[1], fleet.now + 7000.0)
    assert sight is not None
    assert sight.server == "r2", "what the first process calls r1"
