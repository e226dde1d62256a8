"""Asks a server the questions of its dialect, one after the other, and reads the answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from rds_router.core.observation import Report
from rds_router.dialects.base import Answers, Denied, Dialect, Query, Row, Verdict


def run_probe(dialect: Dialect, execute: Callable[[str], Sequence[Row]]) -> Report:
    """What one server says of itself.

    ``execute`` runs one statement in autocommit and returns its rows. A question the account may not ask is
    left out, and the report names the grant; of a question with several spellings the first one that the server
    understands is asked. Any other error of the driver is raised: the server has not been observed.
    """
    answers = ask_all(dialect.probe, dialect, execute)
    missing = [
        missing_grant(query.grant, query.without) for query in dialect.probe if isinstance(answers[query.name], Denied)
    ]
    report = dialect.read(answers)
    return dataclasses.replace(report, missing=(*missing, *report.missing)) if missing else report


def ask_all(questions: Iterable[Query], dialect: Dialect, execute: Callable[[str], Sequence[Row]]) -> Answers:
    """The answers to all questions, in order; Denied for those that the account may not ask."""
    return {query.name: _ask(query, dialect, execute) for query in questions}


def missing_grant(grant: str, without: str) -> str:
    """One line for people: the grant that is missing, and what therefore stays unknown."""
    return f"GRANT {grant}{_MISSING}{without}"


def told_grant(missing: str) -> tuple[str, str] | None:
    """The grant and what it is for, of a line that :func:`missing_grant` made; None for any other line."""
    grant, found, without = missing.partition(_MISSING)
    return (grant.removeprefix("GRANT "), without) if found else None


_MISSING: Final = " is missing; without it these stay unknown: "


def _ask(query: Query, dialect: Dialect, execute: Callable[[str], Sequence[Row]]) -> Sequence[Row] | Denied:
    for sql in (query.sql, *query.otherwise):
        try:
            return execute(sql)
        except Exception as error:
            verdict = _verdict(dialect, error)
            if verdict is Verdict.DENIED and query.grant:
                return Denied(query.grant)
            if verdict is not Verdict.STATEMENT:
                raise
            not_known = error
    raise not_known


def _verdict(dialect: Dialect, error: BaseException) -> Verdict:
    # SQLAlchemy wraps the driver's error and keeps it in .orig.
    return dialect.verdict_of_error(getattr(error, "orig", None) or error)
