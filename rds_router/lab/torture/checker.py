"""Was every promise kept? Pure: a history, what the servers held at the end and what was done to them go in.

1. Nothing is lost: each write that was acknowledged is in the ledger. Exempt, since replication is asynchronous: what a
   server confirmed that was lost for good afterwards, if the process that was told so has announced the loss. Where
   nobody can announce anything, as a proxy: what it confirmed shortly before, or to somebody who had been waiting.
2. Nothing is applied twice, nothing is applied that was reported as undone, and a write is applied as a whole.
3. No write is acknowledged by a server that was not the primary; all servers hold the same at the end.
4. No read fails, except while there was nobody who could have answered.
5. A client sees what he has written before (own writes), and never less than he has seen (monotonic reads), whichever
   process serves him.
6. Nobody sees less than what was confirmed to anybody ``staleness`` seconds ago (bounded staleness).
7. Nobody sees what was never written or was reported as undone.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rds_router.lab.torture.history import READ_OF, Action, Contents, Outcome, Record
from rds_router.lab.torture.reading import Readers


class Rule(enum.Enum):
    """What can be broken."""

    LOST = "an acknowledged write is lost"
    TWICE = "a write is applied twice"
    UNDONE = "a write reported as undone was done"
    TORN = "a write is applied in part"
    ON_REPLICA = "a write is acknowledged by a server that is not the primary"
    DIFFERENT = "servers hold different contents at the end"
    READ_ERROR = "a read failed"
    OWN_WRITES = "a client misses his own write"
    MONOTONIC = "a client sees less than before"
    STALE = "a read is staler than allowed"
    PHANTOM = "a read shows what was not written"


@dataclass(frozen=True, slots=True)
class Violation:
    rule: Rule
    text: str
    at: float = 0.0

    def __str__(self) -> str:
        return f"{self.rule.value}: {self.text}"


@dataclass(frozen=True, slots=True)
class Span:
    """Something that was so on a server from one moment to another."""

    server: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Announced:
    """A process was told by its router that what a former primary had confirmed may be lost."""

    process: str
    """The beginning of its workers' names."""
    server: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """What is held against the history."""

    own_writes: bool = True
    monotonic: bool = True
    staleness: float | None = None
    """Seconds; None: nothing is promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was done to the servers."""

    tenures: Sequence[Span] = ()
    """Who was the primary when. While a promotion is under way both are."""
    losses: Sequence[Span] = ()
    """A primary's last moments: what it confirmed in such a span may be lost with it."""
    announced: Sequence[Announced] | None = None
    """What was announced of that; None: there is nobody to do it."""
    outages: Sequence[Span] = ()
    """When a read may fail, because nobody could have answered it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    violations: tuple[Violation, ...]
    lost: tuple[Record, ...] = ()
    """Acknowledged writes that were lost with a primary, as may be: see ``Facts.announced``."""
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        return not self.violations


def check(
    history: Sequence[Record], contents: Sequence[Contents], promises: Promises, facts: Facts | None = None
) -> Verdict:
    """``contents``: of all servers at the end, the primary's first. ``history`` is in the order of its starts."""
    facts = facts or Facts()
    primary = contents[0]
    found = [*_differences(contents), *_torn(history, primary)]
    applied = Counter(primary.ledger)
    lost: list[Record] = []
    gone: list[Record] = []
    for record in history:
        if record.action.is_read:
            if record.outcome is not Outcome.OK and not _during(facts.outages, record):
                found.append(Violation(Rule.READ_ERROR, f"{_who(record)}: {record.error}", record.end))
            continue
        times = applied[record.number]
        if times > 1:
            found.append(Violation(Rule.TWICE, f"{_who(record)} is there {times} times", record.end))
        if record.outcome is Outcome.FAILED and times:
            found.append(Violation(Rule.UNDONE, f"{_who(record)}: {record.error}", record.end))
        if record.outcome is Outcome.OK:
            if not times and _may_be_lost(record, facts):
                lost.append(record)
            elif not times:
                found.append(Violation(Rule.LOST, f"{_who(record)} on {record.server}", record.end))
            if facts.tenures and not _is_on(facts.tenures, record):
                found.append(Violation(Rule.ON_REPLICA, f"{_who(record)} on {record.server}", record.end))
        was_run_again = record.attempts > 1 and _during(facts.losses, record)
        if record.outcome is not Outcome.FAILED and (was_run_again or (not times and _may_have_gone(record, facts))):
            gone.append(record)  # somebody may have seen it before it went, and before it came again
    found += _reads(history, gone, primary, promises)
    counts = Counter(f"{record.action.value} {record.outcome.value}" for record in history)
    return Verdict(tuple(sorted(found, key=lambda each: each.at)), tuple(lost), counts)


def _reads(
    history: Sequence[Record], gone: Sequence[Record], primary: Contents, promises: Promises
) -> Iterator[Violation]:
    readers = Readers(history, gone, staleness=promises.staleness)
    for record in history:
        if record.outcome is not Outcome.OK or not record.action.is_read:
            continue
        if extra := readers.unwritten(record):
            yield Violation(Rule.PHANTOM, f"{_who(record)} saw {extra}", record.end)
        if promises.own_writes and (missing := readers.missing_own(record)):
            yield Violation(Rule.OWN_WRITES, f"{_who(record)} on {record.server} misses {missing}", record.end)
        if promises.monotonic and (missing := readers.missing_seen(record)):
            yield Violation(Rule.MONOTONIC, f"{_who(record)} on {record.server} misses {missing}", record.end)
        if missing := readers.missing_old(record):
            yield Violation(Rule.STALE, f"{_who(record)} on {record.server} misses {missing}", record.end)


def _torn(history: Sequence[Record], primary: Contents) -> Iterator[Violation]:
    """A list, register or counter and the ledger were written together: they tell the same."""
    writes = {record.number: record for record in history if not record.action.is_read}
    by_place: dict[tuple[Action, int], list[int]] = {}
    for number in primary.ledger:
        if number not in writes:
            yield Violation(Rule.PHANTOM, f"the ledger holds {number}, which nobody wrote")
        else:
            by_place.setdefault((READ_OF[writes[number].action], writes[number].key), []).append(number)
    for key in {key for action, key in by_place if action is Action.LIST} | primary.lists.keys():
        told, held = Counter(by_place.get((Action.LIST, key), ())), Counter(primary.lists.get(key, ()))
        if told != held:
            yield Violation(Rule.TORN, f"list {key} and the ledger differ by {sorted((told - held) | (held - told))}")
    for action, values in (
        (Action.REGISTER, {key: version for key, (version, _) in primary.registers.items()}),
        (Action.COUNTER, primary.counters),
    ):
        for key in {key for kind, key in by_place if kind is action} | values.keys():
            told_times = len(by_place.get((action, key), ()))
            if told_times != values.get(key, 0):
                yield Violation(
                    Rule.TORN, f"{action.value} {key} stands at {values.get(key, 0)}, the ledger says {told_times}"
                )


def _differences(contents: Sequence[Contents]) -> Iterator[Violation]:
    first, *others = contents
    for other in others:
        for what in ("ledger", "lists", "registers", "counters"):
            mine, theirs = getattr(first, what), getattr(other, what)
            if what == "ledger":
                mine, theirs = sorted(mine), sorted(theirs)
            if mine != theirs:
                yield Violation(Rule.DIFFERENT, f"{what} of {first.server} and of {other.server}")


def _may_be_lost(record: Record, facts: Facts) -> bool:
    """An acknowledged write that went with its primary, which was lost for good later."""
    if facts.announced is None:
        return _is_on(facts.losses, record)
    return _went(record, facts) and any(_announces(each, record, facts) for each in facts.announced)


def _may_have_gone(record: Record, facts: Facts) -> bool:
    if record.outcome is Outcome.OK:
        return _may_be_lost(record, facts)
    return _is_on(facts.losses, record)


def _went(record: Record, facts: Facts) -> bool:
    """The server was lost for good while it was the primary that had confirmed this."""
    return any(
        loss.server == record.server and record.start <= loss.end and not _began_anew(record, loss.start, facts)
        for loss in facts.losses
    )


def _announces(each: Announced, record: Record, facts: Facts) -> bool:
    """By the process that was told of the commit, after it, and before its server was the primary once more."""
    is_of_it = record.worker.startswith(f"{each.process}/") and each.server == record.server and each.at >= record.start
    return is_of_it and not _began_anew(record, each.at, facts)


def _began_anew(record: Record, until: float, facts: Facts) -> bool:
    """Its server became the primary again, after the write and before ``until``."""
    return any(span.server == record.server and record.end < span.start <= until for span in facts.tenures)


def _is_on(spans: Iterable[Span], record: Record) -> bool:
    """The record's server, or any if a proxy hides it, was so at some moment between its start and its end."""
    return _during((span for span in spans if record.server in ("", span.server)), record)


def _during(spans: Iterable[Span], record: Record) -> bool:
    return any(span.start <= record.end and record.start <= span.end for span in spans)


def _who(record: Record) -> str:
    what = f"{record.action.value} {record.key}" + (f" ({record.number})" if record.number else "")
    return f"client {record.client}, served by {record.worker}, {what}"
