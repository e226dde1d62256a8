"""What the classifier costs: CPU time a statement, in pairs, against the budget of the design.

A statement that was judged before must cost next to nothing; one seen for the first time may cost what one parameter
of its compilation costs. The base of each pair does the same without the classifier: nothing, or building the statement
and making the cache key that its execution makes anyway. Then what importing the package costs (``imports.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import joinedload

from benchmarks.blog_tables import LONG, SHORT, THREE_TABLES, Post, point, three_tables
from benchmarks.context import Context
from benchmarks.imports import measure as measure_imports
from benchmarks.paired import Difference, compare
from benchmarks.report import Column, Section, said
from rds_router.classify.cache import Classifier
from rds_router.classify.constructs import classify


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison and what it may add, in microseconds; None where the design names no budget."""

    name: str
    without: Callable[[], object]
    with_: Callable[[], object]
    budget: float | None = None
    calls: int = 200


def measure(context: Context) -> Iterator[Section]:
    table = cases()
    found: list[Difference] = []
    for number, case in enumerate(table):
        context.progress(number / len(table) * 0.7, case.name)
        found.append(
            compare(
                case.name, case.without, case.with_, calls=case.calls, rounds=context.pick(10, 60), seed=context.seed
            )
        )
    noise = found[0].microseconds
    slowest = max(
        (each for each, case in zip(found, table, strict=True) if case.budget in (1, 2)), key=lambda d: d.added
    )
    yield Section(
        name="classify",
        title="Classifying a statement",
        question="What does it cost to tell a read from a write?",
        answer=f"Text that was seen before at most {said(slowest.microseconds, noise, unit='us')} ({slowest.name}).",
        columns=(
            Column("statement"),
            Column("added CPU", "us", noise=noise),
            Column("budget", "us", digits=0),
        ),
        rows=[(each.name, each.microseconds, case.budget) for each, case in zip(found, table, strict=True)],
        broken=[
            f"{case.name}: {each.microseconds.value:.2f} us > {case.budget:g} us"
            for each, case in zip(found, table, strict=True)
            if case.budget is not None and each.low * 1e6 > case.budget
        ],
    )
    context.progress(0.7, "imports")
    costs = measure_imports(runs=context.pick(1, 5))
    yield Section(
        name="imports",
        title="Importing the package",
        question="What does the import add to the start of a program?",
        answer=f"`import rds_router` takes {costs[1].added:.0f} ms of CPU beyond SQLAlchemy.",
        columns=(Column("import"), Column("beyond"), Column("that takes", "ms", 1), Column("added", "ms", 1)),
        rows=[(each.of.what, each.of.above, each.base, each.added) for each in costs],
        notes=["Medians of fresh interpreters, CPU time. The first line imports nothing new: it shows the noise."],
        broken=[str(each) for each in costs if not each.is_within],
    )


def cases() -> list[Case]:
    """Every way a statement reaches the classifier."""
    classifier = Classifier("mysql")
    memoised, textual, joined = point(), text(SHORT), select(Post).options(joinedload(Post.comments))
    core = three_tables()
    fresh = text(SHORT)
    for each in (SHORT, memoised, textual, fresh, memoised, textual, SHORT):
        classifier.judge(each)
    textual._generate_cache_key()
    classifier.judge(textual)
    classifier.judge(point())

    def keyed() -> object:
        return point()._generate_cache_key()

    def judged() -> object:
        statement = point()
        classifier.judge(statement)
        return statement._generate_cache_key()

    def nothing() -> None:
        return None

    return [
        Case("A/A: nothing", nothing, lambda: None),
        Case("seen before: text as a string", nothing, lambda: classifier.judge(SHORT), 2),
        Case("seen before: text(), first execution", nothing, lambda: classifier.judge(fresh), 2),
        Case("seen before: text(), executed before", nothing, lambda: classifier.judge(textual), 1),
        Case("seen before: ORM select", nothing, lambda: classifier.judge(memoised), 1),
        Case("seen before: ORM select built anew", keyed, judged, None),
        Case("first sight: ORM point select", nothing, lambda: classify(memoised), 150, 20),
        Case("first sight: ORM three tables", nothing, lambda: classify(core), 150, 20),
        Case("first sight: ORM joinedload", nothing, lambda: classify(joined), 150, 20),
        Case("first sight: short text", nothing, lambda: classify(SHORT), 150, 20),
        Case("first sight: three-table text", nothing, lambda: classify(THREE_TABLES), 150, 20),
        Case(f"first sight: long text ({len(LONG)} characters)", nothing, lambda: classify(LONG), 700, 20),
    ]
