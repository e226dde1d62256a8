"""Scores the classifier on a file of labelled statements."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from rds_router.classify.text import judge_text
from rds_router.core.statement import Statement

COLUMNS: Final = ("dialect", "statement", "expected")

Expected = Literal["read", "write"]
"""``write`` must reach the primary; ``read`` gives the same answer on a replica, but for lag."""

_ESCAPED: Final = {"\\\\": "\\", "\\n": "\n", "\\t": "\t", "\\r": "\r"}
_ESCAPE: Final = re.compile(r"\\[\\ntr]")


@dataclass(frozen=True, slots=True)
class Labelled:
    """One line of the file."""

    line: int
    dialect: str
    sql: str
    expected: Expected


@dataclass(frozen=True, slots=True)
class Mistake:
    """A line that was not judged as labelled."""

    labelled: Labelled
    verdict: Statement

    @property
    def is_dangerous(self) -> bool:
        """A write taken for a read. The other way round only costs a replica's work."""
        return self.verdict.is_read


@dataclass(frozen=True, slots=True)
class Score:
    """What came out."""

    reads: int
    writes: int
    mistakes: tuple[Mistake, ...]

    @property
    def dangerous(self) -> int:
        """Writes taken for reads."""
        return sum(mistake.is_dangerous for mistake in self.mistakes)

    @property
    def lost(self) -> int:
        """Reads sent to the primary."""
        return len(self.mistakes) - self.dangerous

    def __str__(self) -> str:
        share = f" ({100 * self.lost / self.reads:.1f} % of the reads)" if self.reads else ""
        return (
            f"{self.reads + self.writes} statements ({self.writes} writes, {self.reads} reads): "
            f"{self.dangerous} dangerous, {self.lost} lost{share}"
        )


def escape(text: str) -> str:
    """Text as it stands in a TSV file."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def unescape(text: str) -> str:
    """Text as it was before :func:`escape`; any other backslash stays as it is."""
    return _ESCAPE.sub(lambda found: _ESCAPED[found.group()], text)


def read_labelled(lines: Iterable[str]) -> Iterator[Labelled]:
    """The statements of a file: ``dialect<TAB>statement<TAB>expected`` with escapes, under a header or none.

    A header may name the columns in another order, and others besides.

    Raises:
        ValueError: a line is not of this form; the message names the line.
    """
    columns: Sequence[str] = COLUMNS
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        fields = line.split("\t")
        if number == 1 and set(COLUMNS) <= set(fields):
            columns = fields
            continue
        if not line:
            continue
        if len(fields) != len(columns):
            wanted = ", ".join(columns)
            raise ValueError(f"line {number}: {len(fields)} fields instead of {len(columns)} ({wanted})")
        named = dict(zip(columns, fields, strict=True))
        if named["expected"] not in ("read", "write"):
            raise ValueError(f"line {number}: expected is {named['expected']!r}, not 'read' or 'write'")
        yield Labelled(number, named["dialect"], unescape(named["statement"]), cast("Expected", named["expected"]))


def score(labelled: Iterable[Labelled], *, pure_functions: frozenset[str] = frozenset()) -> Score:
    """Judges every statement and compares."""
    counts = {"read": 0, "write": 0}
    mistakes = []
    for each in labelled:
        counts[each.expected] += 1
        verdict = judge_text(each.sql, dialect=each.dialect, pure_functions=pure_functions)
        if verdict.is_read != (each.expected == "read"):
            mistakes.append(Mistake(each, verdict))
    return Score(counts["read"], counts["write"], tuple(mistakes))
