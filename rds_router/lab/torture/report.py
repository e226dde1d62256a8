"""What a run was and what it found, as tables for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rds_router.lab.torture.figures import errors, longest_outage, reads, slowest, writes
from rds_router.lab.torture.history import Outcome
from rds_router.lab.torture.run import Result

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 20  # violations


def figures(result: Result) -> dict[str, Any]:
    """The run in numbers, as plain data."""
    history, seconds = result.history, result.end - result.start
    told: dict[str, Any] = {
        "engine": result.settings.engine,
        "seed": result.settings.seed,
        "through": dict(result.settings.through),
        "seconds": round(seconds, 1),
        "operations": len(history),
        "faults": dict(Counter(fault.kind for fault in result.schedule)),
        "violations": dict(Counter(each.rule.name.lower() for each in result.verdict.violations)),
        "lost_with_a_primary": len(result.verdict.lost),
        "events": dict(result.events),
    }
    for name, records in (("reads", reads(history)), ("writes", writes(history))):
        outage = longest_outage(records, result.start, result.end)
        told[name] = {
            **{outcome.value: sum(each.outcome is outcome for each in records) for outcome in Outcome},
            "longest_outage": round(outage.seconds, 3),
            "longest_outage_at": round(outage.start - result.start, 3),
            "slowest": round(slowest(records), 3),
            "servers": dict(Counter(each.server for each in records)),
        }
    return told


def print_report(result: Result, console: Console) -> None:
    """Operations, faults, outages and violations; and the seed that repeats them."""
    from rich.table import Table

    told, settings = figures(result), result.settings
    table = Table(title=f"{settings.engine}, seed {settings.seed}, {told['seconds']:g} s", title_justify="left")
    for heading in ("", "ok", "failed", "in doubt", "longest time without one", "slowest"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name in ("reads", "writes"):
        row = told[name]
        table.add_row(
            name,
            *(f"{row[outcome.value]:,}" for outcome in Outcome),
            f"{row['longest_outage']:.2f} s (at {row['longest_outage_at']:.1f} s)",
            f"{row['slowest']:.2f} s",
        )
    console.print(table)
    faults = Table(title=f"{len(result.schedule)} faults", title_justify="left")
    for heading in ("at", "fault", "done", "to", "took", ""):
        faults.add_column(heading)
    for done in result.done:
        at, took = done.start - result.start, done.end - done.start
        faults.add_row(f"{at:.2f} s", done.kind, done.verb.value, done.server, f"{took:.2f} s", done.trouble)
    console.print(faults)
    for text, times in errors(result.history).most_common(SHOWN):
        console.print(f"{times:6} x {text}", markup=False, highlight=False)
    if result.events:
        console.print("events: " + ", ".join(f"{name} {count}" for name, count in sorted(result.events.items())))
    if result.verdict.lost:
        console.print(f"{len(result.verdict.lost)} acknowledged writes went with a primary that was lost for good")
    for violation in result.verdict.violations[:SHOWN]:
        console.print(f"{violation.at - result.start:8.3f} s  {violation}", markup=False, highlight=False)
    count = len(result.verdict.violations)
    if count > SHOWN:
        console.print(f"... and {count - SHOWN} more")
    verdict = "no violation" if not count else f"{count} violations: repeat them with --seed {settings.seed}"
    console.print(f"{told['operations']:,} operations, {verdict}")
