"""What routing costs: CPU a statement against a plain Session, beside its peers, in the same rounds.

``peers/costs.py`` measures, under the interpreter that has the peers (``peers/here.py``). Budgets are the design's.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.context import Context
from benchmarks.paired import Difference, Interval
from benchmarks.peers import here
from benchmarks.report import Cell, Column, Plot, Section, said
from rds_router.lab import EngineMissing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AGAIN, OURS = "plain again", "rds_router"
BUDGETS: Mapping[str, float] = {
    "ORM select": 8.0,
    "Core select": 8.0,
    "text": 2.0,
    "ORM, again": 1.5,
    "text, again": 1.5,
    "first of a session": 1.5,
    "first, of 3 idle replicas": 1.5,
    "first, of 3 busy replicas": 1.5,
}
"""Microseconds. A whole session has none: it also checks out the replica's connection."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one kind of statement costs more, by the way it goes."""

    part: str
    kind: str
    ways: Mapping[str, Difference]


def measure(context: Context) -> Iterator[Section]:
    found = _measured(context)
    versions = here.versions()
    in_memory = [each for each in found if each.part == "memory"]
    statements = [each for each in in_memory if not each.kind.startswith("session")]
    sessions = [each for each in in_memory if each.kind.startswith("session")]
    yield _statements(
        statements,
        widest([each.ways[AGAIN].microseconds for each in statements]),
        name="routing",
        title="Routing a statement",
        question="How much CPU does a statement cost more than with a plain Session, when the database costs nothing?",
        notes=["SQLite in memory, fixed topology, no monitor. The wrapper has no driver for it.", *_who(versions)],
    )
    yield _statements(
        sessions,
        widest([each.ways[AGAIN].microseconds for each in sessions]),
        name="routing-sessions",
        title="Routing a whole session",
        question="And a session with all that belongs to it: made, used, its connections given back?",
        notes=["Who reads on a replica and then writes uses two connections, where the plain session uses one."],
        budgets={},
    )
    yield _binds([each for each in found if each.part == "get_bind"])
    on_mysql = [each for each in found if each.part == "mysql"]
    if on_mysql:
        yield _statements(
            on_mysql,
            widest([each.ways[AGAIN].microseconds for each in on_mysql]),
            name="routing-mysql",
            title="Routing a statement, MySQL Connector",
            question="And on a real MySQL, through the driver that aws-advanced-python-wrapper needs?",
            notes=[
                "MySQL Connector in pure Python over TLS, a primary and a replica; CPU of the client's process only.",
                *_who(versions),
            ],
            budgets={},
        )


def widest(noises: Sequence[Interval]) -> Interval:
    """Of the A/A pairs of all kinds the one that differs most: what a column's figures must exceed."""
    return max(noises, key=lambda each: max(abs(each.low), abs(each.high)))


def _measured(context: Context) -> list[Found]:
    """Runs ``peers/costs.py`` and hears how far it is."""
    try:
        c = context.cluster("mysql")
        urls = [c.primary.url, c.replicas[0].url]
    except EngineMissing:
        urls = []
    task = {"seed": context.seed, "rounds": context.pick(6, 40), "mysql": urls}
    command = [here.python(), "-m", "benchmarks.peers.costs", json.dumps(task)]
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here.ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "part" in told:
                ways = {name: Difference(**each) for name, each in told["ways"].items()}
                found.append(Found(told["part"], told["kind"], ways))
            elif "text" in told:
                context.progress(told["done"] / 2 + (0.5 if told["text"].startswith("mysql") else 0), told["text"])
    if process.returncode != 0:
        raise RuntimeError(f"benchmarks.peers.costs ended with {process.returncode}")
    return found


def _statements(
    found: Sequence[Found],
    noise: Interval,
    *,
    name: str,
    title: str,
    question: str,
    notes: Sequence[str],
    budgets: Mapping[str, float] = BUDGETS,
) -> Section:
    ways = list(found[0].ways)
    rows: list[list[Cell]] = []
    for each in found:
        base = each.ways[AGAIN].base * 1e6
        row: list[Cell] = [each.kind, base, *(each.ways[way].microseconds for way in ways)]
        rows.append([*row, budgets.get(each.kind)] if budgets else row)
    columns = [Column("statement"), Column("plain", "us", 1), *(Column(way, "us", 1, noise=noise) for way in ways)]
    peers = [way for way in ways if way not in (AGAIN, OURS)]
    first = found[0]
    words = ", ".join(f"{way} {said(first.ways[way].microseconds, noise, unit='us', digits=1)}" for way in peers)
    return Section(
        name=name,
        title=title,
        question=question,
        answer=f"{first.kind}: rds_router {said(first.ways[OURS].microseconds, noise, unit='us', digits=1)} on "
        f"{first.ways[OURS].base * 1e6:.0f} us; {words}.",
        columns=[*columns, Column("budget", "us", 0)] if budgets else columns,
        rows=rows,
        notes=[
            "Added CPU; all ways in the same rounds. The noise is that of the kind whose A/A pair differs most.",
            *notes,
        ],
        plots=[Plot("Added CPU a statement, with 95 % intervals; the grey band is the noise.", _bars(found, noise))],
        raw={each.kind: {way: vars_of(one) for way, one in each.ways.items()} for each in found},
        broken=_broken(found, budgets),
    )


def _binds(found: Sequence[Found]) -> Section:
    worst = max(found, key=lambda each: each.ways[OURS].added)
    nothing = Interval(0.0, 0.0, 0.0, neutral=0.0)  # paired loops of nanoseconds: their noise is in their intervals
    return Section(
        name="get-bind",
        title="get_bind alone",
        question="What does the decision itself cost, in microseconds?",
        answer=f"At most {said(worst.ways[OURS].microseconds, nothing, unit='us')} ({worst.kind}).",
        columns=(Column("get_bind"), Column("added", "us", noise=nothing), Column("budget", "us", 1)),
        rows=[(each.kind, each.ways[OURS].microseconds, BUDGETS.get(each.kind)) for each in found],
        raw={each.kind: vars_of(each.ways[OURS]) for each in found},
        broken=_broken(found, BUDGETS),
    )


def _broken(found: Sequence[Found], budgets: Mapping[str, float]) -> list[str]:
    """What is over its budget by more than the noise of its own kind."""
    broken = []
    for each in found:
        again = each.ways[AGAIN].microseconds if AGAIN in each.ways else Interval(0.0, 0.0, 0.0, neutral=0.0)
        ours, slack = each.ways[OURS].microseconds, max(abs(again.low), abs(again.high))
        if each.kind in budgets and ours.low > budgets[each.kind] + slack:
            broken.append(f"{each.kind}: {ours.value:.2f} us > {budgets[each.kind]:g} us")
    return broken


def _bars(found: Sequence[Found], noise: Interval) -> Any:
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        ways = [way for way in found[0].ways if way != AGAIN]
        height = 0.8 / len(ways)
        for place, way in enumerate(ways):
            each = [one.ways[way].microseconds for one in found]
            lines = [number + place * height for number in range(len(found))]
            errors = [[one.value - one.low for one in each], [one.high - one.value for one in each]]
            axes.barh(lines, [one.value for one in each], height * 0.9, xerr=errors, label=way, error_kw={"lw": 0.8})
        axes.axvspan(noise.low, noise.high, color="lightgray", alpha=0.6, zorder=0)
        axes.set_yticks([number + 0.4 - height / 2 for number in range(len(found))], [each.kind for each in found])
        axes.invert_yaxis()
        axes.set_xlabel("us more than a plain Session")
        axes.legend()

    return draw


def vars_of(each: Difference) -> dict[str, float]:
    """As it goes into the JSON, in seconds."""
    return {"base": each.base, "added": each.added, "low": each.low, "high": each.high}


def _who(versions: Mapping[str, str]) -> list[str]:
    there = ", ".join(f"{name} {version}" for name, version in versions.items())
    lacking = [name for name in here.PACKAGES if name not in versions]
    return [f"Peers: the recipe of SQLAlchemy's documentation{', ' + there if there else ''}."] + (
        [f"Not here: {', '.join(lacking)} ({here.HOW})."] if lacking else []
    )
