"""What each read must have shown. Goes through a history once, in the order of its starts.

Writes that are gone (never applied, or lost with a primary) are asked of nobody: numbers are left out of lists, and a
register's version or a counter's value may be lower by as many as are gone from it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from rds_router.lab.torture.history import READ_OF, Action, Outcome, Record

Place = tuple[Action, int]
"""Kind and key of what is read."""


class Readers:
    """Ask about the reads of ``history`` in its order: what a client has written and seen is remembered on the way."""

    def __init__(self, history: Sequence[Record], gone: Sequence[Record], *, staleness: float | None) -> None:
        self._staleness = staleness
        self._gone = {record.number for record in gone}
        self._gone_from = Counter(_place(record) for record in gone)
        self._writes = {record.number: record for record in history if not record.action.is_read}
        self._own: dict[int, list[Record]] = defaultdict(list)
        by_place: dict[Place, list[Record]] = defaultdict(list)
        for record in history:
            if not record.action.is_read and record.outcome is Outcome.OK:
                self._own[record.client].append(record)
                by_place[_place(record)].append(record)
        self._ended: dict[Place, list[tuple[float, Record]]] = {}
        self._versions: dict[Place, list[int]] = {}
        for place, records in by_place.items():
            self._ended[place] = sorted(((record.end, record) for record in records), key=lambda each: each[0])
            self._versions[place] = _highest(record for _, record in self._ended[place])
        self._next_own: Counter[int] = Counter()
        self._written: dict[tuple[int, Place], set[int]] = defaultdict(set)
        self._level: Counter[tuple[int, Place]] = Counter()
        self._seen: dict[tuple[int, Place], set[int]] = defaultdict(set)
        self._seen_level: Counter[tuple[int, Place]] = Counter()

    def unwritten(self, record: Record) -> list[int]:
        """Numbers shown that were never written there, are reported as undone, or are shown more than once."""
        numbers = record.seen if record.action is Action.LIST else record.seen[1:]
        wrong = [number for number, times in Counter(numbers).items() if number and times > 1]
        for number in numbers:
            write = self._writes.get(number)
            if number and (write is None or write.outcome is Outcome.FAILED or _place(write) != _place(record)):
                wrong.append(number)
        return sorted(set(wrong))

    def missing_own(self, record: Record) -> str:
        """What the client had written before and does not see."""
        self._note_own(record)
        who = record.client, _place(record)
        if record.action is Action.LIST:
            return _numbers(self._written[who].difference(record.seen, self._gone))
        return self._below(record, self._level[who])

    def missing_seen(self, record: Record) -> str:
        """What the client had seen before and does not see."""
        who = record.client, _place(record)
        if record.action is Action.LIST:
            missing = self._seen[who].difference(record.seen, self._gone)
            self._seen[who].update(record.seen)
            return _numbers(missing)
        missing_text = self._below(record, self._seen_level[who])
        self._seen_level[who] = max(self._seen_level[who], record.seen[0])
        return missing_text

    def missing_old(self, record: Record) -> str:
        """What had been confirmed, to whomever, for longer than the bound, and is not seen."""
        place = _place(record)
        if self._staleness is None or place not in self._ended:
            return ""
        ended = self._ended[place]
        count = bisect_left(ended, record.start - self._staleness, key=lambda each: each[0])
        if not count:
            return ""
        if record.action is Action.LIST:
            return _numbers({write.number for _, write in ended[:count]}.difference(record.seen, self._gone))
        return self._below(record, self._versions[place][count - 1])

    def _note_own(self, record: Record) -> None:
        """Take notice of what the client's writes had done by the time he began to read."""
        own = self._own[record.client]
        while self._next_own[record.client] < len(own):
            write = own[self._next_own[record.client]]
            if write.end > record.start:
                break
            who = record.client, _place(write)
            self._written[who].add(write.number)
            if write.seen:
                self._level[who] = max(self._level[who], write.seen[0])
            self._next_own[record.client] += 1

    def _below(self, record: Record, level: int) -> str:
        value, gone = record.seen[0], self._gone_from[_place(record)]
        return f"{level} (saw {value})" if value < level - gone else ""


def _place(record: Record) -> Place:
    return READ_OF.get(record.action, record.action), record.key


def _highest(records: Iterable[Record]) -> list[int]:
    """The highest version or value so far, record by record."""
    highest, found = 0, []
    for record in records:
        highest = max(highest, record.seen[0] if record.seen else 0)
        found.append(highest)
    return found


def _numbers(missing: set[int]) -> str:
    shown = ", ".join(str(number) for number in sorted(missing)[:5])
    return shown + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
