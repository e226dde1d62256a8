"""Reads the classification cases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent / "classify"
FILES = ("words_that_are_not", "shapes_of_reads", "writes_inside_reads", "runs_without_refusal")
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\t": "\t", "\\r": "\r"}


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled statement."""

    dialect: str
    sql: str
    is_read: bool


def unescape(text: str) -> str:
    """Undo the file's escapes."""
    return re.sub(r"\\[\\ntr]", lambda found: _ESCAPES[found.group()], text)


def read_cases(name: str) -> list[Case]:
    """Read one file of cases."""
    header, *lines = (HERE / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    assert header == "dialect\tstatement\texpected"
    cases = []
    for line in lines:
        dialect, statement, expected = line.split("\t")
        assert expected in {"read", "write"}, line
        cases.append(Case(dialect, unescape(statement), expected == "read"))
    return cases


ALL = [case for name in FILES for case in read_cases(name)]
