"""Paired measurement: A and B in turns, by CPU time, so that a noisy machine is noisy to both."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


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

    def __str__(self) -> str:
        return (
            f"{self.name:<34} base {self.base * 1e6:8.2f} us   added {self.added * 1e6:+7.2f} us "
            f"[{self.low * 1e6:+.2f}, {self.high * 1e6:+.2f}]   x{self.ratio:.3f}"
        )


def compare(
    name: str, a: Callable[[], object], b: Callable[[], object], *, rounds: int = 60, calls: int = 200, seed: int = 1
) -> Difference:
    """Run ``a`` and ``b`` in interleaved batches of ``calls``; who goes first is drawn anew each round."""
    dice = random.Random(seed)
    for _ in range(calls // 2):
        a()
        b()
    base: list[float] = []
    added: list[float] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            pair = [a, b]
            if dice.random() < 0.5:
                pair.reverse()
            cost = {each: _batch(each, calls) for each in pair}
            base.append(cost[a])
            added.append(cost[b] - cost[a])
    finally:
        gc.enable()
    low, high = _interval(added, dice)
    return Difference(name, statistics.median(base), statistics.median(added), low, high)


def _batch(work: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls


def _interval(values: list[float], dice: random.Random) -> tuple[float, float]:
    medians = sorted(statistics.median(dice.choices(values, k=len(values))) for _ in range(400))
    return medians[10], medians[-11]
