"""Several ways to run the same blog, loaded in turns, and what each took for it.

    with race_of(c, {"QueuePool": Blog(...), "again": Blog(...), "NullPool": Blog(...)}) as race:
        said = race.run(context, rounds=5, seconds=1, clients=8)     # name -> a Turn for each round

All of them run all the time, each on connections of its own; while one is loaded the others only watch their servers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from benchmarks.blog import Blog, Site, starting
from benchmarks.context import Context
from benchmarks.load import Load
from benchmarks.meters import Meters, Taken
from benchmarks.paired import Interval, interleaved, ratio
from rds_router.lab import Cluster, Proxy

Wires = Sequence[Proxy]
"""To the primary and to each replica."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One load of one way."""

    load: Load
    taken: Taken
    packets: Sequence[int] = ()
    """To the primary and to each replica, where there are wires."""

    def per_request(self, amount: float) -> float:
        return amount / max(1, self.load.requests)

    def cpu(self, *names: str) -> float:
        """Milliseconds of CPU a request, of these processes."""
        return self.per_request(1000 * sum(self.taken.cpu[name] for name in names))

    def as_json(self) -> dict[str, Any]:
        return {
            "load": self.load.as_json(),
            "cpu_seconds": dict(self.taken.cpu),
            "connections_opened": dict(self.taken.opened),
            "packets": list(self.packets),
        }


@dataclass
class Race:
    """Sites that run, and their cluster."""

    cluster: Cluster
    sites: Mapping[str, Site]
    meters: Meters
    wires: Mapping[str, Wires] = field(default_factory=dict)
    """Each way's own, where it has them."""

    def run(
        self, context: Context, *, rounds: int, seconds: int, clients: int, writes: float = 0.1
    ) -> dict[str, list[Turn]]:
        """Load each in turns. Before the first of several rounds each is loaded for a second that does not count."""
        for name, site in self.sites.items() if rounds > 1 else ():
            context.progress(0.0, f"filling pools, {name}")
            site.load(clients=clients, seconds=1, seed=context.seed + 1000, writes=writes)
        turns = {
            name: self._turn(name, seconds=seconds, clients=clients, seed=context.seed, writes=writes)
            for name in self.sites
        }
        return interleaved(turns, rounds=rounds, seed=context.seed, progress=context.progress)

    def be_far(self, seconds: float) -> None:
        """Every round trip through the wires takes that much longer: half of it each way."""
        for wires in self.wires.values():
            for wire in wires:
                wire.delay(to_server=seconds / 2, to_client=seconds / 2)

    def _turn(self, name: str, **how: Any) -> Callable[[], Turn]:
        seeds = iter(range(how.pop("seed"), 10**6))

        def turn() -> Turn:
            wires = self.wires.get(name, ())
            before = [each.counts.to_server for each in wires]
            self.meters.start(self.sites[name].pid)
            made = self.sites[name].load(seed=next(seeds), **how)
            taken = self.meters.taken()
            packets = [each.counts.to_server - count for each, count in zip(wires, before, strict=True)]
            return Turn(made, taken, packets)

        return turn


@contextlib.contextmanager
def race_of(c: Cluster, ways: Mapping[str, Blog], *, has_wires: bool = False) -> Iterator[Race]:
    """Start them all. ``has_wires``: each way reaches the servers through proxies of its own."""
    with contextlib.ExitStack() as opened:
        wires: dict[str, Wires] = {}
        if has_wires:
            for name, blog in ways.items():
                count = 1 + len(blog.replicas)
                wires[name] = [opened.enter_context(Proxy(each)) for each in (c.primary, *c.replicas)[:count]]
            ways = {
                name: replace(blog, primary=wires[name][0].url, replicas=[each.url for each in wires[name][1:]])
                for name, blog in ways.items()
            }
        sites = {name: opened.enter_context(starting(blog)) for name, blog in ways.items()}
        for site in sites.values():
            site.wait()
        meters = opened.enter_context(Meters(c))
        yield Race(c, sites, meters, wires)


def mid(turns: Sequence[Turn], of: Callable[[Turn], float]) -> float:
    """The median round's."""
    return median(map(of, turns))


def against(base: Sequence[Turn], other: Sequence[Turn], of: Callable[[Turn], float]) -> Interval:
    """How many times the base's, by rounds."""
    return ratio([of(each) for each in base], [of(each) for each in other])


def throughput(turn: Turn) -> float:
    return turn.load.per_second


def raw(said: Mapping[str, Sequence[Turn]]) -> dict[str, Any]:
    return {name: [each.as_json() for each in turns] for name, turns in said.items()}
