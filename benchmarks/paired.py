"""Two things compared on a machine that is never quiet: in turns, as ratios or differences, with their intervals.

``compare()`` takes the CPU time of calls in this process. ``interleaved()`` and ``ratio()`` are for whatever takes
longer: a load of some seconds, a session on a real server.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float
    neutral: float = 1.0
    """What it is when nothing differs: 1 for a ratio, 0 for a difference."""

    def is_within(self, noise: Interval) -> bool:
        """True if this says no more than that: it holds the neutral value, or an A/A pair differs as much."""
        if self.low <= self.neutral <= self.high:
            return True
        return self._distance(self.value) <= max(noise._distance(noise.low), noise._distance(noise.high))

    def scaled(self, factor: float) -> Interval:
        """A difference in another unit."""
        return Interval(self.value * factor, self.low * factor, self.high * factor, self.neutral)

    def _distance(self, value: float) -> float:
        return abs(value) if self.neutral == 0 else abs(math.log(value)) if value > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Difference:
    """What B costs more than A, per call."""

    name: str
    base: float
    """Seconds of CPU one call of A takes, median."""
    added: float
    """Seconds of CPU that B takes more, median of the pairs."""
    low: float
    high: float
    """Bounds of the 95 % bootstrap interval of ``added``."""

    @property
    def ratio(self) -> float:
        return (self.base + self.added) / self.base

    @property
    def microseconds(self) -> Interval:
        """``added``, as a cell of a report."""
        return Interval(self.added, self.low, self.high, neutral=0.0).scaled(1e6)

    def __str__(self) -> str:
        return (
            f"{self.name:<34} base {self.base * 1e6:8.2f} us   added {self.added * 1e6:+7.2f} us "
            f"[{self.low * 1e6:+.2f}, {self.high * 1e6:+.2f}]   x{self.ratio:.3f}"
        )


def compare(
    name: str, a: Callable[[], object], b: Callable[[], object], *, rounds: int = 60, calls: int = 200, seed: int = 1
) -> Difference:
    """Run ``a`` and ``b`` in interleaved batches of ``calls``; who goes first is drawn anew each round."""
    return compare_all(a, {name: b}, rounds=rounds, calls=calls, seed=seed)[name]


def compare_all(
    base: Callable[[], object],
    others: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 60,
    calls: int = 200,
    seed: int = 1,
) -> dict[str, Difference]:
    """Each of ``others`` against ``base``, all in the same rounds, in an order drawn anew each round."""
    dice = random.Random(seed)
    ways = [base, *others.values()]
    for _ in range(calls // 2):
        for each in ways:
            each()
    costs: list[list[float]] = [[] for _ in ways]
    order = list(range(len(ways)))
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            dice.shuffle(order)
            for place in order:
                costs[place].append(_batch(ways[place], calls))
    finally:
        gc.enable()
    found = {}
    for name, cost in zip(others, costs[1:], strict=True):
        added = [b - a for a, b in zip(costs[0], cost, strict=True)]
        found[name] = Difference(name, statistics.median(costs[0]), statistics.median(added), *bounds(added, dice))
    return found


def interleaved(
    ways: Mapping[str, Callable[[], T]],
    *,
    rounds: int,
    seed: int = 1,
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, list[T]]:
    """Each way once a round, in an order drawn anew each round; what each said, by its name."""
    dice, names = random.Random(seed), list(ways)
    said: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        dice.shuffle(names)
        for place, name in enumerate(names):
            if progress is not None:
                progress((number * len(names) + place) / (rounds * len(names)), f"{name}, round {number + 1}")
            said[name].append(ways[name]())
    return said


def ratio(base: Sequence[float], other: Sequence[float], *, seed: int = 1) -> Interval:
    """How many times ``base`` the other is: the median of the rounds' ratios. Both are of the same rounds.

    Of fewer than three rounds it has no interval that says anything: from 0 to infinity.
    """
    ratios = [b / a if a else math.inf if b else 1.0 for a, b in zip(base, other, strict=True)]
    if len(ratios) < 3:
        return Interval(statistics.median(ratios), 0.0, math.inf)
    return Interval(statistics.median(ratios), *bounds(ratios, random.Random(seed)))


def bounds(values: Sequence[float], dice: random.Random) -> tuple[float, float]:
    """95 % bootstrap interval of the median. Of a handful of rounds it is nearly the least and the greatest."""
    medians = sorted(statistics.median(dice.choices(values, k=len(values))) for _ in range(400))
    return medians[10], medians[-11]


def _batch(work: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls
