"""Judges SQLAlchemy constructs on their tree: which kind of statement it is, why, and on which tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import TextClause

from rds_router.classify import element_rules
from rds_router.classify.elements import plan_of
from rds_router.classify.text import judge_text
from rds_router.classify.walk import Walk
from rds_router.core.statement import Kind, Statement

FLUSH = Statement(Kind.WRITE, "a flush")
NO_STATEMENT = Statement(Kind.UNKNOWN, "no statement to look at")


def classify(
    clause: Executable | str | None,
    *,
    flushing: bool = False,
    dialect: str = "mysql",
    pure_functions: frozenset[str] = frozenset(),
) -> Statement:
    """The verdict on one statement: a SQLAlchemy construct or SQL text. Runs nothing.

    Args:
        clause: what is about to be executed; None when the caller has no statement to show.
        flushing: True within a flush, which writes whatever the clause is.
        dialect: ``mysql``, ``mariadb`` or ``postgresql``: by whose rules text is read and functions are known.
        pure_functions: names of functions, lower case, that the user vouches for: they write and lock nothing.

    Never raises for any string: what is not understood is UNKNOWN, and UNKNOWN goes to the primary.
    """
    if flushing:
        return FLUSH
    if clause is None:
        return NO_STATEMENT
    if isinstance(clause, str):
        return judge_text(clause, dialect=dialect, pure_functions=pure_functions)
    return judge_construct(clause, dialect=dialect, pure_functions=pure_functions)


def judge_construct(clause: Any, *, dialect: str, pure_functions: frozenset[str] = frozenset()) -> Statement:
    """The verdict on a SQLAlchemy construct. A construct that breaks while it is looked at is UNKNOWN."""
    if not (isinstance(clause, Executable) or getattr(clause, "_is_lambda_element", False)):
        return Statement(Kind.UNKNOWN, f"{type(clause).__name__} is not a statement")
    walk = Walk(clause, plan_of, dialect=dialect, pure_functions=pure_functions)
    try:
        if isinstance(clause, TextClause):
            element_rules.whole_text(walk, clause)
        return walk.run()
    except Exception as error:
        # Custom elements and types run the user's code here; compiling will show him the same error.
        return Statement(Kind.UNKNOWN, f"{type(clause).__name__} could not be examined: {type(error).__name__}")
