"""Where a replica's tables differ from its primary's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rds_router.doctor.facts import Facts, Table
from rds_router.doctor.finding import Finding, Severity

SHOWN = 10
"""Differences told of one replica; the rest is counted."""


def schemas(facts: Facts) -> Iterator[Finding]:
    """One finding for each replica, and one for each of its first differences."""
    expected = facts.primary.tables
    if expected is None:
        return
    for each in facts.replicas:
        if each.tables is None:
            continue
        differences = list(drift(expected, each.tables))
        if not differences:
            yield Finding(Severity.OK, "schema", each.name, f"{len(expected)} tables, as on the primary")
        for severity, says in differences[:SHOWN]:
            do = "if a migration ran just now, look again; else repair it, or make the replica anew"
            yield Finding(severity, "schema", each.name, says, do)
        if len(differences) > SHOWN:
            says = f"{len(differences) - SHOWN} more differences"
            yield Finding(max(severity for severity, _ in differences[SHOWN:]), "schema", each.name, says)


def drift(expected: Mapping[str, Table], found: Mapping[str, Table]) -> Iterator[tuple[Severity, str]]:
    """What differs, the worst first: a read that names what is missing fails."""
    told = [
        *_missing("table", expected, found),
        *(
            each
            for name in sorted(expected.keys() & found.keys())
            for each in _of_table(name, expected[name], found[name])
        ),
    ]
    yield from sorted(told, key=lambda each: -each[0])


def _of_table(name: str, expected: Table, found: Table) -> Iterator[tuple[Severity, str]]:
    yield from _missing(f"column {name}.", expected.columns, found.columns)
    yield from _missing(f"index of {name}:", expected.indexes, found.indexes, Severity.WARNING)
    for what, ours, theirs in (
        (f"column {name}.", expected.columns, found.columns),
        (f"index of {name}: ", expected.indexes, found.indexes),
    ):
        for each in sorted(ours.keys() & theirs.keys()):
            if ours[each] != theirs[each]:
                yield Severity.WARNING, f"{what}{each} is {theirs[each]}, but {ours[each]} on the primary"


def _missing(
    what: str, expected: Mapping[str, object], found: Mapping[str, object], severity: Severity = Severity.ERROR
) -> Iterator[tuple[Severity, str]]:
    what += "" if what.endswith(".") else " "
    for each in sorted(expected.keys() - found.keys()):
        yield severity, f"{what}{each} is missing"
    for each in sorted(found.keys() - expected.keys()):
        yield Severity.WARNING, f"{what}{each} is not on the primary"
