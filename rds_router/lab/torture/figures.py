"""Throughput and outages, from a history. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rds_router.lab.torture.history import Outcome, Record

_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which nobody succeeded, though somebody tried."""

    start: float
    seconds: float


def longest_outage(records: Iterable[Record], start: float, end: float) -> Outage:
    """The longest time between two successes, or between a success and the beginning or the end."""
    ends = sorted(record.end for record in records if record.outcome is Outcome.OK and start <= record.end <= end)
    moments = [start, *ends, end]
    gaps = (Outage(before, after - before) for before, after in pairwise(moments))
    return max(gaps, key=lambda each: each.seconds)


def per_slice(records: Iterable[Record], start: float, slices: int, width: float) -> list[int]:
    """How many ended in each slice of ``width`` seconds."""
    counts = [0] * slices
    for record in records:
        place = int((record.end - start) / width)
        if 0 <= place < slices:
            counts[place] += 1
    return counts


def reads(history: Sequence[Record]) -> list[Record]:
    return [record for record in history if record.action.is_read]


def writes(history: Sequence[Record]) -> list[Record]:
    return [record for record in history if not record.action.is_read]


def errors(history: Iterable[Record]) -> Counter[str]:
    """How often each kind of error was met, by "reads" and "writes" and its text without numbers."""
    return Counter(
        f"{'read' if record.action.is_read else 'write'} {record.outcome.value}: {_DIGITS.sub('N', record.error)[:160]}"
        for record in history
        if record.outcome is not Outcome.OK
    )


def slowest(records: Iterable[Record]) -> float:
    """Seconds that the slowest success took."""
    return max((record.end - record.start for record in records if record.outcome is Outcome.OK), default=0.0)
