"""Ratios with intervals, and which of them are more than noise. Pure: numbers in, numbers out.

The unit is the round. What is drawn anew for an interval are whole rounds, with A's, A's second and B's slice of each:
what shook the machine for a while shook all three, and cancels out.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Measure = Literal["median", "p99", "rate"]
WHOLE: Final = "whole"
RESAMPLES: Final = 400
FEWEST_FOR_P99: Final = 100
"""Fewer answers than this have no hundredth worth a name."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one slice of a round found of one operation."""

    took: Sequence[float]
    """Seconds each, in order of size."""
    busy: float
    """Client-seconds in which they were done: ``count / busy * clients`` is a rate."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A ratio and the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """How far from 1 it may be, as a logarithm."""
        return max(abs(math.log(self.low)), abs(math.log(self.high)))


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the answer."""

    operation: str
    measure: Measure
    a: float
    b: float
    """Seconds, or operations a second."""
    ratio: Interval
    """B / A."""
    noise: Interval
    """A again / A: what the same database differs from itself."""

    @property
    def is_noise(self) -> bool:
        """True if the interval holds 1, or if A differs from itself as much."""
        return self.ratio.low <= 1 <= self.ratio.high or abs(math.log(self.ratio.value)) <= self.noise.reach

    @property
    def verdict(self) -> str:
        """``B 1.31 x faster``, or ``inside the noise``."""
        if self.is_noise:
            return "inside the noise"
        speed = self.ratio.value if self.measure == "rate" else 1 / self.ratio.value
        return f"B {speed:.2f} x faster" if speed > 1 else f"A {1 / speed:.2f} x faster"


def figures(
    a: Mapping[str, Sequence[Sample]],
    again: Mapping[str, Sequence[Sample]],
    b: Mapping[str, Sequence[Sample]],
    *,
    clients: int,
    seed: int,
) -> list[Figure]:
    """All that can be said of each operation that both sides have done; a sequence holds one sample a round."""
    found = []
    for operation in a:
        sides = (a[operation], again[operation], b[operation])
        counts = [sum(len(each.took) for each in side) for side in sides]
        if not all(counts):
            continue
        for measure, of in _MEASURES.items():
            if measure == "p99" and min(counts) < FEWEST_FOR_P99:
                continue
            found.append(_figure(operation, measure, of, sides, clients, random.Random(seed)))
    return found


def quantile(samples: Sequence[Sample], weights: Sequence[int], share: float) -> float:
    """The least value that ``share`` of all do not exceed, each round's counted ``weights`` times."""
    drawn = [(each.took, weight) for each, weight in zip(samples, weights, strict=True) if weight and each.took]
    wanted = share * sum(len(took) * weight for took, weight in drawn)
    low, high = min(took[0] for took, _ in drawn), max(took[-1] for took, _ in drawn)
    if sum(bisect_right(took, low) * weight for took, weight in drawn) >= wanted:
        return low
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        if sum(bisect_right(took, middle) * weight for took, weight in drawn) >= wanted:
            high = middle
        else:
            low = middle
    return high


def rate(samples: Sequence[Sample], weights: Sequence[int]) -> float:
    """Operations in each client-second, each round's counted ``weights`` times."""
    count = sum(len(each.took) * weight for each, weight in zip(samples, weights, strict=True))
    return count / sum(each.busy * weight for each, weight in zip(samples, weights, strict=True))


_MEASURES: Final[Mapping[Measure, Callable[[Sequence[Sample], Sequence[int]], float]]] = {
    "median": lambda samples, weights: quantile(samples, weights, 0.5),
    "p99": lambda samples, weights: quantile(samples, weights, 0.99),
    "rate": rate,
}


def _figure(
    operation: str,
    measure: Measure,
    of: Callable[[Sequence[Sample], Sequence[int]], float],
    sides: tuple[Sequence[Sample], Sequence[Sample], Sequence[Sample]],
    clients: int,
    dice: random.Random,
) -> Figure:
    once = [1] * len(sides[0])
    a, again, b = (of(side, once) for side in sides)
    ratios, noises = [], []
    for _ in range(RESAMPLES):
        weights = [0] * len(once)
        for place in dice.choices(range(len(once)), k=len(once)):
            weights[place] += 1
        if all(any(len(each.took) * weight for each, weight in zip(side, weights, strict=True)) for side in sides):
            drawn = [of(side, weights) for side in sides]
            ratios.append(drawn[2] / drawn[0])
            noises.append(drawn[1] / drawn[0])
    scale = clients if measure == "rate" else 1
    return Figure(operation, measure, a * scale, b * scale, _interval(b / a, ratios), _interval(again / a, noises))


def _interval(value: float, resampled: list[float]) -> Interval:
    resampled.sort()
    cut = len(resampled) // 40
    return Interval(value, min(value, resampled[cut]), max(value, resampled[-1 - cut]))
