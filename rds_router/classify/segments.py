"""A bounded cache in two segments: what is seen once cannot push out what is seen often.

A new key is on probation; seen a second time it is promoted. SQL with literals in it, each text seen once,
therefore only ever passes through probation. Each segment is a pair of dicts, young and old: when the young
one is full it becomes the old one and the old one's contents are forgotten, unless they were asked for in the
meantime. A hit is one dict look-up without a lock; only misses and promotions take it.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class _Segment(Generic[V]):
    """Two generations of entries, bounded by number and by total weight."""

    __slots__ = ("max_entries", "max_weight", "old", "weight", "young")

    def __init__(self, *, max_entries: int, max_weight: int) -> None:
        # Half for each generation, so that both together keep the bound.
        self.max_entries = max(1, max_entries // 2)
        self.max_weight = max(1, max_weight // 2)
        self.young: dict[Hashable, V] = {}
        self.old: dict[Hashable, V] = {}
        self.weight = 0

    def add(self, key: Hashable, value: V, weight: int) -> None:
        if len(self.young) >= self.max_entries or self.weight + weight > self.max_weight:
            self.old, self.young, self.weight = self.young, {}, 0
        self.young[key] = value
        self.weight += weight

    def discard(self, key: Hashable) -> None:
        # The weight stays counted until the generation ends: it may only be too high.
        self.young.pop(key, None)
        self.old.pop(key, None)

    def clear(self) -> None:
        self.young, self.old, self.weight = {}, {}, 0

    def __len__(self) -> int:
        return len(self.young) + len(self.old)


class SegmentedCache(Generic[V]):
    """Key -> value; values are never None. Any thread may call any method."""

    __slots__ = ("_kept", "_lock", "_max_weight_of_one", "_probation")

    def __init__(self, *, max_entries: int = 4096, max_weight: int = 4_000_000) -> None:
        """At most ``max_entries`` keys of together at most ``max_weight``, a quarter of it on probation.

        A key heavier than a sixteenth of ``max_weight`` is not kept at all.
        """
        self._kept: _Segment[V] = _Segment(max_entries=max_entries * 3 // 4, max_weight=max_weight * 3 // 4)
        self._probation: _Segment[V] = _Segment(max_entries=max_entries // 4, max_weight=max_weight // 4)
        self._max_weight_of_one = max_weight // 16
        self._lock = threading.Lock()

    def get(self, key: Hashable, weight: int = 1) -> V | None:
        """The value, or None. ``weight`` is the one given to ``put``."""
        value = self._kept.young.get(key)
        return value if value is not None else self._look_further(key, weight)

    def put(self, key: Hashable, value: V, weight: int = 1) -> None:
        """Keeps a value, on probation."""
        if weight <= self._max_weight_of_one:
            with self._lock:
                self._probation.add(key, value, weight)

    def discard(self, key: Hashable) -> None:
        """Forgets one key."""
        with self._lock:
            self._kept.discard(key)
            self._probation.discard(key)

    def clear(self) -> None:
        """Forgets every key."""
        with self._lock:
            self._kept.clear()
            self._probation.clear()

    def forked(self) -> None:
        """In a forked child: whoever held the lock does not live here. At worst a count is off by one entry."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept) + len(self._probation)

    def __repr__(self) -> str:
        return f"<SegmentedCache {len(self._kept)} kept, {len(self._probation)} on probation>"

    def _look_further(self, key: Hashable, weight: int) -> V | None:
        if key not in self._kept.old and key not in self._probation.young and key not in self._probation.old:
            return None
        with self._lock:
            for entries in (self._kept.young, self._kept.old, self._probation.young, self._probation.old):
                value = entries.get(key)
                if value is not None:
                    break
            else:
                return None
            if entries is not self._kept.young:
                self._probation.discard(key)
                self._kept.old.pop(key, None)
                self._kept.add(key, value, weight)
            return value
