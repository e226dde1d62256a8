"""Judges SQL text, fragments of it, and names of functions. Never raises on any string, in linear time.

:func:`judge_text` cuts the text into tokens by the engine's own rules (``lexer.py``), takes every statement in
it (``statements.py``), walks over each query (``scan.py``) and looks words and functions up in the engine's tables
(``rules_*.py``). Where text can be read in two ways, depending on a server's version or settings, all readings
must be reads.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from rds_router.classify.lexer import Lexis, Unreadable, ends_in_line_comment, readings
from rds_router.classify.lexer import split as split_text
from rds_router.classify.rules_base import Rules, listed
from rds_router.classify.rules_mysql import mariadb, mysql
from rds_router.classify.rules_postgresql import postgresql
from rds_router.classify.rules_sqlite import sqlite
from rds_router.classify.scan import Clause, effect_of_function, scan
from rds_router.classify.statements import judge_tokens
from rds_router.core.statement import Kind, Statement

DIALECTS: dict[str, Callable[[], Rules]] = {
    "mysql": mysql,
    "mariadb": mariadb,
    "postgresql": postgresql,
    "sqlite": sqlite,
}
"""The engines whose SQL is known by name. Any other name is judged by all of them at once."""

UNSURE = {
    "oracle": "on Oracle a name without parentheses may be a function",
    "mssql": "T-SQL needs nothing between two statements",
}
"""Engines whose text with a name in it may do anything, as long as nobody reads it by their own grammar; and why."""

LONGEST = 2_000_000
"""Characters. Longer text is not looked at: it is UNKNOWN. A quarter of it for an engine not known by name."""


@functools.cache
def rules_of(dialect: str) -> Rules:
    """Return the tables of an engine in :data:`DIALECTS`, built on first use. Raises KeyError on others."""
    return DIALECTS[dialect]()


def judge_text(sql: str, *, dialect: str, pure_functions: frozenset[str] = frozenset()) -> Statement:
    """Judge SQL text: one statement or several.

    Args:
        sql: any string; driver placeholders may be in it.
        dialect: ``mysql``, ``mariadb``, ``postgresql`` or ``sqlite``; text of any other engine is a read only if
            all four call it one, and that of an engine in :data:`UNSURE` never.
        pure_functions: the user's own functions that only compute, lower case, schema-qualified if so called.

    Returns:
        READ only if nothing in the text writes, locks, or reads or changes the state of a connection.
    """
    return _strictest(sql, dialect, pure_functions, judge_tokens)


def judge_fragment(sql: str, *, dialect: str, pure_functions: frozenset[str] = frozenset()) -> Statement:
    """Judge text that stands in the middle of a SELECT: a prefix, a hint, a literal column, a text() clause.

    READ only if nothing in it writes, locks or binds, and it can neither begin, end nor swallow anything of
    what surrounds it.
    """
    if any(ends_in_line_comment(sql, rules.lexis) for rules in _rules(dialect)):
        return Statement(Kind.UNKNOWN, "comment without an end")
    return _strictest(sql, dialect, pure_functions, _judge_fragment_tokens)


def judge_function(name: str, *, dialect: str, pure_functions: frozenset[str] = frozenset()) -> Statement:
    """Judge a call of a function by its name, possibly qualified by a schema (``pg_catalog.nextval``)."""
    schema, _, own = name.lower().rpartition(".")
    verdict = Statement(Kind.READ, "", frozenset())
    for each in _rules(dialect):
        effect = effect_of_function(own, each, pure_functions, schema=schema)
        if effect is not None:
            return Statement(*effect)
    return verdict


def split(sql: str, *, dialect: str) -> list[str]:
    """Cut a script into its statements at the semicolons between them, by the engine's own quoting."""
    return split_text(sql, _rules(dialect)[0].lexis)


_Judge = Callable[[list[str], Rules, frozenset[str]], Statement]


def _rules(dialect: str) -> tuple[Rules, ...]:
    if dialect in DIALECTS:
        return (rules_of(dialect),)
    return tuple(rules_of(name) for name in DIALECTS)


def _strictest(sql: object, dialect: str, pure_functions: frozenset[str], judge: _Judge) -> Statement:
    """Judge all readings under all rules that apply: the first verdict that is not READ, or READ."""
    if not isinstance(sql, str):
        return Statement(Kind.UNKNOWN, "not text")
    if dialect in UNSURE:
        found = _strictest(sql, "generic", pure_functions, judge)
        is_sure = found.kind is not Kind.READ or not _NAME.search(sql)
        return found if is_sure else Statement(Kind.UNKNOWN, UNSURE[dialect])
    longest = LONGEST if dialect in DIALECTS else LONGEST // 4
    if len(sql) > longest:
        return Statement(Kind.UNKNOWN, f"longer than {longest} characters")
    if "\0" in sql:
        # Servers and drivers disagree on whether the text ends here.
        return Statement(Kind.UNKNOWN, "NUL character")
    verdict = Statement(Kind.UNKNOWN, "no statement")
    for rules in _rules(dialect):
        try:
            for tokens in readings(sql, rules.lexis):
                found = judge(tokens, rules, pure_functions)
                if found.because == "no statement" and verdict.kind is Kind.READ:
                    continue
                if found.kind is not Kind.READ and found.because != "no statement":
                    return found
                verdict = found
        except Unreadable as unreadable:
            return Statement(Kind.UNKNOWN, str(unreadable))
        if verdict.kind is not Kind.READ:
            return verdict
        if rules.lexis.other is not None and "\\" in sql:
            found = _other_backslashes(sql, rules, rules.lexis.other, pure_functions, judge)
            if found.kind is not Kind.READ:
                return found
    return verdict


def _other_backslashes(
    sql: str, rules: Rules, lexis: Lexis, pure_functions: frozenset[str], judge: _Judge
) -> Statement:
    """Judge as a server with the unusual backslash setting would read; what it cannot read does no harm."""
    read = Statement(Kind.READ)
    try:
        for tokens in readings(sql, lexis):
            if "\\" in tokens:
                return read
            found = judge(tokens, rules, pure_functions)
            if found.kind is not Kind.READ and found.because != "no statement":
                return Statement(Kind.UNKNOWN, f"backslashes: {found.because}, if the server reads them so")
    except Unreadable:
        return read
    return read


def _judge_fragment_tokens(tokens: list[str], rules: Rules, pure_functions: frozenset[str]) -> Statement:
    lowered = [t.lower() for t in tokens]
    if ";" in tokens:
        return Statement(Kind.UNKNOWN, "semicolon in a fragment")
    for word in lowered:
        if word in _NOT_IN_FRAGMENTS:
            return Statement(Kind.UNKNOWN, f"{word.upper()} in a fragment")
    if lowered and (lowered[-1] in _NOT_AT_AN_END or lowered[-1] in rules.effects):
        return Statement(Kind.UNKNOWN, f"{lowered[-1].upper()[:40]} at the end of a fragment")
    verdict = scan(tokens, rules, pure_functions=pure_functions, clause=Clause.QUERY)
    if verdict.kind is Kind.READ:
        names_tables = not _NAMES_TABLES.isdisjoint(lowered)
        return Statement(Kind.READ, "", None if names_tables else frozenset())
    return verdict


_NAME = re.compile(r'[^\W\d]|"')
_NOT_IN_FRAGMENTS = listed("insert update delete merge share truncate lock into call \\") - {"insert"}
_NOT_AT_AN_END = listed("for next previous value no key lock in share with @ : . into as") - {"as", "in"}
_NAMES_TABLES = listed("from join table select straight_join")
