"""One walk over one statement's tree: what was found so far, and what is still to be looked at.

The walk knows no SQLAlchemy class: :mod:`rds_router.classify.elements` says for each class what to read and
what it means. Iterative, so a tree of any depth is walked in bounded stack.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final

from rds_router.classify.rules_base import Rules
from rds_router.classify.text import DIALECTS, judge_fragment, judge_function, judge_text, rules_of
from rds_router.core.statement import Kind, Statement

GRAVITY: Final = {
    Kind.READ: 0,
    Kind.SESSION: 1,
    Kind.LOCKING_READ: 2,
    Kind.UNKNOWN: 3,
    Kind.WRITE: 4,
    Kind.DDL: 5,
}
"""Of several findings in one statement the gravest is the verdict; of equals, the first."""

Rule = Callable[["Walk", Any], None]
"""Notes what an element means, and pushes what its own attributes do not lead to."""

Reader = Callable[["Walk", Any], None]
"""Takes one attribute's value and pushes the elements in it."""


class Plan:
    """How to look at the elements of one class."""

    __slots__ = ("many", "others", "rule", "single")

    def __init__(
        self,
        *,
        rule: Rule | None = None,
        single: tuple[str, ...] = (),
        many: tuple[str, ...] = (),
        others: tuple[tuple[str, Reader], ...] = (),
    ) -> None:
        self.rule = rule
        self.single = single
        """Attributes that hold one element or None."""
        self.many = many
        """Attributes that hold a sequence of elements."""
        self.others = others
        """Attributes of any other form, each with what reads it."""


class Walk:
    """What one statement's tree has shown so far."""

    __slots__ = (
        "because", "dialect", "expanded", "finishers", "gravity", "kind", "mappers", "plan_of", "pure_functions",
        "rules", "seen", "sequence_columns", "tables", "todo", "top",
    )  # fmt: skip

    def __init__(
        self,
        top: Any,
        plan_of: Callable[[type, str], Plan | None],
        *,
        dialect: str,
        pure_functions: frozenset[str],
    ) -> None:
        self.top = top
        self.plan_of = plan_of
        self.dialect = dialect
        self.pure_functions = pure_functions
        self.rules, self.sequence_columns = _rules_for(dialect)
        self.kind = Kind.READ
        self.gravity = 0
        self.because = ""
        self.tables: set[str] | None = set()
        self.todo: list[Any] = [top]
        # id -> element: the value keeps the element alive, or its id could be given out again.
        self.seen: dict[int, Any] = {}
        self.mappers: set[Any] = set()
        """Mapped classes the statement selects from, as far as no element shows them."""
        self.expanded: dict[int, Any] = {}
        """Types whose expressions have been asked for."""
        self.finishers: list[Callable[[Walk], None]] = []

    def run(self) -> Statement:
        """Looks at everything that can be reached from the top and returns the verdict."""
        self._drain()
        while self.finishers:
            for finish in self.finishers:
                finish(self)
            if not self.todo:
                break
            self._drain()
        return Statement(
            self.kind,
            self.because,
            None if self.tables is None else frozenset(self.tables),
        )

    def _drain(self) -> None:
        todo, seen, dialect, plan_of = self.todo, self.seen, self.dialect, self.plan_of
        while todo:
            element = todo.pop()
            if id(element) in seen or element is None:
                continue
            seen[id(element)] = element
            plan = plan_of(type(element), dialect)
            if plan is None:
                self.note_unknown(f"{type(element).__name__}, a construct the classifier does not know")
                continue
            if plan.rule is not None:
                plan.rule(self, element)
            for name in plan.single:
                value = getattr(element, name)
                if value is not None:
                    todo.append(value)
            for name in plan.many:
                value = getattr(element, name)
                if value:
                    todo.extend(value)
            for name, reader in plan.others:
                reader(self, getattr(element, name))

    def finish_with(self, finish: Callable[[Walk], None]) -> None:
        """Calls this when everything has been looked at, again each time it has pushed something new."""
        self.finishers.append(finish)

    def push(self, *elements: Any) -> None:
        """These elements are part of the statement too."""
        self.todo.extend(elements)

    def skip(self, element: Any) -> None:
        """This element has been dealt with by its parent."""
        self.seen[id(element)] = element

    def note(self, kind: Kind, because: str) -> None:
        """A finding."""
        if GRAVITY[kind] > self.gravity:
            self.kind, self.because, self.gravity = kind, because, GRAVITY[kind]

    def note_unknown(self, because: str) -> None:
        """Something that is not understood, and may touch any table."""
        self.note(Kind.UNKNOWN, because)
        self.tables = None

    def note_text(self, verdict: Statement, where: str = "") -> None:
        """The verdict on a piece of text within the statement."""
        if not verdict.is_read:
            self.note(verdict.kind, f"{where}: {verdict.because}" if where else verdict.because)
        self.note_tables(verdict.tables)

    def note_tables(self, names: Iterable[str] | None) -> None:
        """Tables the statement touches; None when that is not known."""
        if names is None:
            self.tables = None
        elif self.tables is not None:
            self.tables.update(names)

    def relation(self, name: str, schema: str | None) -> None:
        """A table or view by name: some answer about the server they are asked on."""
        written = f"{schema}.{name}".lower() if schema else name.lower()
        parts = tuple(written.split(".")) if schema else (written,)
        for rules in self.rules:
            effect = rules.relation(parts)
            if effect is not None:
                self.note(*effect)
        self.note_tables((written,))

    def text(self, sql: str) -> None:
        """A whole statement written as text."""
        self.note_text(judge_text(sql, dialect=self.dialect, pure_functions=self.pure_functions))

    def fragment(self, sql: str, where: str, *, before: str = "") -> None:
        """A piece of SQL text in its place within the statement, or the beginning of one behind ``before``."""
        if before:
            verdict = judge_text(f"{before} {sql}", dialect=self.dialect, pure_functions=self.pure_functions)
        else:
            verdict = judge_fragment(sql, dialect=self.dialect, pure_functions=self.pure_functions)
            if verdict.kind is Kind.UNKNOWN:
                # No read whatever comes out here; but behind a SELECT it may show what it is.
                known = judge_text(f"SELECT 1 {sql}", dialect=self.dialect, pure_functions=self.pure_functions)
                verdict = verdict if known.kind in (Kind.READ, Kind.UNKNOWN) else known
        self.note_text(verdict, where)

    def function(self, name: str) -> None:
        """A call of a function by name."""
        verdict = judge_function(name, dialect=self.dialect, pure_functions=self.pure_functions)
        if not verdict.is_read:
            self.note(verdict.kind, verdict.because)
        if verdict.kind is Kind.UNKNOWN or name.lower() in self.pure_functions:
            # The user vouches that it writes nothing, not that it reads nothing.
            self.tables = None

    def speaks(self, dialect_name: str | None) -> bool:
        """True if text meant for this SQLAlchemy dialect is rendered by ours."""
        if dialect_name in (None, "*", "default", self.dialect):
            return True
        if self.dialect == "generic":  # nobody said which one it is
            return dialect_name not in DIALECTS
        # A mysql:// URL may lead to MariaDB, and the other way round.
        return dialect_name in ("mysql", "mariadb") and self.dialect in ("mysql", "mariadb")


@functools.cache
def _rules_for(dialect: str) -> tuple[tuple[Rules, ...], frozenset[str]]:
    """The tables that apply, of every engine if the dialect is none of them; and the columns that move sequences."""
    names = (dialect,) if dialect in DIALECTS else tuple(DIALECTS)
    rules = tuple(rules_of(name) for name in names)
    return rules, frozenset().union(*(each.sequence_columns for each in rules))
