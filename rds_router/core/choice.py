"""Which of several servers, all of which may answer: by weight, and then the less loaded of two.

1. One candidate is drawn by weight, which counts in part during a slow start, and a second among the others.
2. Of the two, one whose probes take longer than the other's by more than ``latency_window`` loses.
3. Otherwise the one with more connections in use, for its weight, loses; the first drawn, if they are equal.

Two are enough: the best of all would draw every process at once (https://doi.org/10.1109/71.963420). Without load
and within the window the shares are those of the weights. ``policy.balance`` ends the rule after its first step:
"random" draws, "round_robin" takes turns (:func:`turn`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from rds_router.core.policy import RoutingPolicy

if TYPE_CHECKING:
    from rds_router.core.topology import Seen

Load: TypeAlias = Callable[[str], int]
"""How many connections to this replica are in use in this process."""


def idle(name: str) -> int:
    """No load anywhere."""
    return 0


def choose(candidates: Sequence[Seen], policy: RoutingPolicy, *, now: float, draw: float, load: Load) -> Seen:
    """One of the candidates (at least one). ``draw`` is in [0, 1)."""
    if len(candidates) == 1:
        return candidates[0]
    weights = [seen.weight_at(now, policy) for seen in candidates]
    place, rest = drawn(weights, draw)
    first = candidates[place]
    if policy.balance != "least_loaded":
        return first
    weight = weights[place]
    weights[place] = 0.0
    place, _ = drawn(weights, rest)
    second = candidates[place]
    gap = first.latency - second.latency
    if abs(gap) > policy.latency_window:
        return second if gap > 0 else first
    return second if load(first.server.name) * weights[place] > load(second.server.name) * weight else first


Pairs: TypeAlias = tuple[tuple[str, str], ...]
"""Whom a draw compares: each server with each other one, both ways round."""


@functools.lru_cache(maxsize=256)
def pairs_of(names: tuple[str, ...]) -> Pairs:
    """All that :func:`choose_among_equals` may compare."""
    return tuple(itertools.permutations(names, 2))


def choose_among_equals(pairs: Pairs, *, draw: float, load: Load) -> str:
    """:func:`choose`, least loaded, of two or more servers of the same weight and latency: most reads ask this."""
    first, second = pairs[int(draw * len(pairs))]
    in_use = load(first)
    # With nothing in use there, nobody has less to do.
    return second if in_use and in_use > load(second) else first


def drawn(weights: Sequence[float], draw: float) -> tuple[int, float]:
    """The place in whose share of the line the draw lies, and where in that share: another draw in [0, 1)."""
    point = draw * sum(weights)
    last = 0
    for place, weight in enumerate(weights):
        if weight <= 0.0:
            continue
        if point < weight:
            return place, point / weight
        point -= weight
        last = place
    return last, 0.0


def turn(number: int, weights: Sequence[float]) -> float:
    """The draw of a turn: equal servers come strictly one after the other, unequal ones evenly in between."""
    if len(set(weights)) == 1:
        return (number % len(weights) + 0.5) / len(weights)
    return number * _GOLDEN % 1.0


_GOLDEN: Final = (5**0.5 - 1) / 2
"""Its multiples, without their whole part, leave the most even gaps of all numbers."""


def admits(in_use: int, places: float, share: float, draw: float) -> bool:
    """Whether the primary takes one more read in the replicas' stead.

    ``in_use``: of its ``places`` connections in this process. The last place may be a part of one: it is taken with
    that chance, so that ``share`` means something in processes of one thread too; but half a place, of a pool of one
    connection, is one. A share of 1 admits everything.
    """
    if share >= 1.0:
        return True
    given = share * places
    return draw < (1.0 if 0.5 <= given < 1.0 else given) - in_use
