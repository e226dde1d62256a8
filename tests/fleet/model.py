"""A fleet in a model: replicas that queue, slow down, die and return, and processes that choose among them.

The choosing, the beliefs and the pauses between probes are rds_router's own pure core; only servers, workers and time
are made up. A worker thinks, reads, waits for the answer, and thinks again. A process has its own dice and its own
count of connections in use; the processes of a host share what is observed of the servers.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rds_router.core import choice, health
from rds_router.core.decision import decide, first_read
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import FRESH
from rds_router.core.statement import Kind, Statement
from rds_router.core.topology import Server, Topology, evolve

READ = Statement(Kind.READ)
PRIMARY = "db"
CORES = 2
SERVICE = 0.004
"""Seconds of a core that a read takes on a server that is well."""
COLD = 4.0
"""How much longer it takes on one with cold caches, ..."""
WARM_AFTER = 2000
"""... which are warm after so many reads."""
ROUND_TRIP = 0.0005


@dataclass
class Machine:
    """A database server: so many cores, and a queue before them."""

    name: str
    factor: float = 1.0
    """How much longer everything takes."""
    lag: float = 0.0
    is_dead: bool = False
    busy: int = 0
    queue: list[Callable[[], None]] = field(default_factory=list)
    reads: int = 0
    """Since it has been up."""
    probes: int = 0

    @property
    def slowness(self) -> float:
        return self.factor * (1.0 + (COLD - 1.0) * max(0.0, 1.0 - self.reads / WARM_AFTER))

    @property
    def wait(self) -> float:
        """Seconds until a core is free, about."""
        return len(self.queue) * SERVICE * self.slowness / CORES


@dataclass
class Host:
    """What the processes of one machine believe together."""

    topology: Topology
    dice: random.Random
    pending: dict[str, int] = field(default_factory=dict)
    """The number of the probe that is due for each server: an older one is no longer wanted."""


@dataclass
class Process:
    host: Host
    dice: random.Random
    in_use: Counter[str] = field(default_factory=Counter)
    turns: Any = None

    def load(self, name: str) -> int:
        return self.in_use[name]


class Fleet:
    """Runs until told to stop. Everything that happens is drawn from the seed."""

    def __init__(
        self,
        *,
        replicas: int = 15,
        hosts: int = 20,
        processes: int = 1,
        threads: int = 50,
        think: float = 0.3,
        weights: Mapping[str, float] | None = None,
        seed: int = 1,
        has_jitter: bool = True,
        **policy: Any,
    ) -> None:
        self.policy = RoutingPolicy(**policy)
        self.now = 0.0
        self.think = think
        self.has_jitter = has_jitter
        self.machines = {
            name: Machine(name, reads=WARM_AFTER) for name in (PRIMARY, *(f"r{n}" for n in range(1, replicas + 1)))
        }
        dice = random.Random(seed)
        servers = [
            Server(name, is_primary=name == PRIMARY, weight=(weights or {}).get(name, 1.0)) for name in self.machines
        ]
        self.hosts = [Host(Topology.of(servers, self.policy), random.Random(dice.random())) for _ in range(hosts)]
        self.processes = [
            Process(host, random.Random(dice.random()), turns=itertools.count(dice.randrange(10**6)))
            for host in self.hosts
            for _ in range(processes)
        ]
        self.answered: dict[int, Counter[str]] = defaultdict(Counter)
        """Reads by second and server."""
        self.took: dict[int, list[float]] = defaultdict(list)
        """Seconds that reads took, by second."""
        self.failed_tries = 0
        self.probes: dict[int, Counter[str]] = defaultdict(Counter)
        self.deepest: dict[int, Counter[str]] = defaultdict(Counter)
        """The longest queue by second and server."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        for host in self.hosts:
            for name in self.machines:
                self._probe_after(host, name, host.dice.random() * 0.01)
        for process in self.processes:
            for _ in range(threads):
                self._after(0.05 + process.dice.random() * think, lambda process=process: self._read(process, self.now))

    def at(self, when: float, what: Callable[[Machine], None], *names: str) -> None:
        """Something happens to servers."""
        for name in names:
            self._after(when - self.now, lambda name=name: what(self.machines[name]))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = until

    def shares(self, begin: int, end: int) -> dict[str, float]:
        """Each server's part of the reads answered in these seconds."""
        counted: Counter[str] = Counter()
        for second in range(begin, end):
            counted.update(self.answered[second])
        total = sum(counted.values())
        return {name: counted[name] / total for name in self.machines}

    def quantile(self, part: float, begin: int, end: int) -> float:
        """Of the seconds that reads took."""
        took = sorted(each for second in range(begin, end) for each in self.took[second])
        return took[int(part * (len(took) - 1))]

    # --- the workers

    def _read(self, process: Process, begun: float) -> None:
        topology = process.host.topology
        draw = process.dice.random()
        if self.policy.balance == "round_robin":
            weights = [seen.weight_at(self.now, self.policy) for seen in topology.eligible] or [1.0]
            draw = choice.turn(next(process.turns), weights)
        name = first_read(topology, now=self.now, draw=draw, load=process.load)
        if name is None:
            name = decide(READ, FRESH, topology, self.policy, now=self.now, draw=draw, load=process.load).target
        machine = self.machines[name]
        if machine.is_dead:
            self.failed_tries += 1
            self._lost(process.host, name)
            self._after(ROUND_TRIP, lambda: self._read(process, begun))
            return
        process.in_use[name] += 1

        def answer() -> None:
            process.in_use[name] -= 1
            self.answered[int(self.now)][name] += 1
            self.took[int(self.now)].append(self.now - begun)
            self._after(process.dice.expovariate(1 / self.think), lambda: self._read(process, self.now))

        def fail() -> None:
            process.in_use[name] -= 1
            self.failed_tries += 1
            self._lost(process.host, name)
            self._read(process, begun)

        self._serve(machine, process.dice, answer, fail)

    def _serve(
        self, machine: Machine, dice: random.Random, answer: Callable[[], None], fail: Callable[[], None]
    ) -> None:
        def begin() -> None:
            if machine.is_dead:
                fail()
                return
            machine.busy += 1
            self._after(dice.expovariate(1 / (SERVICE * machine.slowness)), end)

        def end() -> None:
            machine.busy -= 1
            machine.reads += 1
            answer()
            if machine.queue and machine.busy < CORES:
                machine.queue.pop(0)()

        if machine.busy < CORES:
            begin()
        else:
            machine.queue.append(begin)
            deepest = self.deepest[int(self.now)]
            deepest[machine.name] = max(deepest[machine.name], len(machine.queue))

    def _lost(self, host: Host, name: str) -> None:
        host.topology = evolve(host.topology, Observation(name, self.now, error="gone", is_read=True), now=self.now)
        if host.topology[name].health.state is not health.State.DOWN:
            self._probe_after(host, name, 0.0)

    # --- the monitors

    def _probe_after(self, host: Host, name: str, seconds: float) -> None:
        number = host.pending[name] = host.pending.get(name, 0) + 1
        self._after(seconds, lambda: self._probe(host, name, number))

    def _probe(self, host: Host, name: str, number: int) -> None:
        if host.pending[name] != number:
            return
        machine, at = self.machines[name], self.now
        self.probes[int(at)][name] += 1
        took = ROUND_TRIP * machine.factor + machine.wait
        is_lost = machine.is_dead or took > self.policy.probe_timeout
        self._after(
            min(took, self.policy.probe_timeout), lambda: self._probed(host, machine, at, None if is_lost else took)
        )

    def _probed(self, host: Host, machine: Machine, at: float, took: float | None) -> None:
        name = machine.name
        if took is None:
            news = Observation(name, at, error="gone")
        elif name == PRIMARY:
            news = Observation(name, at, Report(Role.PRIMARY, is_writable=True, follows=False), took=took)
        else:
            news = Observation(name, at, Report(Role.REPLICA, lag=machine.lag, follows=True), took=took)
        host.topology = evolve(host.topology, news, now=self.now)
        draw = host.dice.random() if self.has_jitter else 1.0
        is_urgent = name == PRIMARY
        seconds = health.pause(host.topology[name].health, self.policy, draw=draw, is_urgent=is_urgent)
        self._probe_after(host, name, seconds)

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._number), act))


def dies(machine: Machine) -> None:
    machine.is_dead = True
    waiting, machine.queue = machine.queue, []
    for begin in waiting:
        begin()


def returns(machine: Machine) -> None:
    """Its caches are cold."""
    machine.is_dead, machine.reads = False, 0


def slows(factor: float) -> Callable[[Machine], None]:
    def slow(machine: Machine) -> None:
        machine.factor = factor

    return slow
