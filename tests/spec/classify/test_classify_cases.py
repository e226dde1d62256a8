"""Every labelled statement is judged as labelled, also when it is written differently."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from rds_router.classify.lexer import readings
from rds_router.classify.text import judge_text, rules_of
from rds_router.core.statement import Kind
from tests.spec.classify_cases import ALL, FILES, Case, read_cases


@pytest.mark.parametrize("name", FILES)
def test_no_statement_is_judged_otherwise_than_labelled(name: str) -> None:
    """Zero dangerous errors and zero lost reads on our own cases."""
    wrong = [
        f"{case.dialect}: {case.sql!r} should be {'read' if case.is_read else 'write'}, is {verdict}"
        for case in read_cases(name)
        if (verdict := judge_text(case.sql, dialect=case.dialect)).is_read is not case.is_read
    ]
    assert wrong == []


def test_there_are_hundreds_of_cases_for_each_engine() -> None:
    """The lists are not emptied by accident."""
    for dialect in ("mysql", "mariadb", "postgresql"):
        assert sum(case.dialect == dialect for case in ALL) > 250
    assert len(read_cases("runs_without_refusal")) > 200


def test_every_refusal_says_why() -> None:
    """A developer must be able to see what sent his statement to the primary."""
    for case in ALL:
        verdict = judge_text(case.sql, dialect=case.dialect)
        assert verdict.is_read or verdict.because, case


Writing = Callable[[list[str]], str]


def _spaced(separator: str) -> Writing:
    return separator.join


def _swapped_case(tokens: list[str]) -> str:
    return " ".join(t.swapcase() if re.fullmatch(r"[A-Za-z_]+", t) else t for t in tokens)


def _random_space(tokens: list[str]) -> str:
    dice = random.Random(len(tokens))
    gaps = [" ", "\n", "\t", "\r\n", "  ", "/**/", " /* for update; */ ", " -- delete\n", "/*'*/", '/*"*/']
    return "".join(token + dice.choice(gaps) for token in tokens)


WRITINGS: dict[str, Writing] = {
    "lines": _spaced("\n"),
    "tabs": _spaced("\t"),
    "empty comments": _spaced("/**/"),
    "comments with a quote in them": _spaced(" /* it's */ "),
    "line comments": _spaced(" -- it's for update\n"),
    "swapped case": _swapped_case,
    "random": _random_space,
}


@pytest.mark.parametrize("writing", WRITINGS)
def test_white_space_comments_and_case_change_nothing(writing: str) -> None:
    """The verdict belongs to the tokens, not to how they are laid out."""
    wrong = []
    for case in ALL:
        if "/*!" in case.sql or "/*M!" in case.sql:
            continue  # has several readings; its tokens are only one of them
        tokens = _tokens(case)
        if tokens is None:
            continue
        sql = WRITINGS[writing](tokens)
        if judge_text(sql, dialect=case.dialect).is_read is not case.is_read:
            wrong.append(sql)
    assert wrong == []


SURROUNDINGS = [
    "{};",
    " \n{}\n",
    "/* a comment */ {}",
    "-- a comment\n{}",
    "{} -- a comment",
    "{} /* for update */",
    "SELECT 1; {}",
    "{}; SELECT 1",
    ";;{};;",
]


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_harmless_surroundings_change_nothing(surrounding: str) -> None:
    """Comments around a statement, and reads beside it, neither hide nor taint it."""
    wrong = []
    for case in ALL:
        sql = surrounding.replace("{}", case.sql.rstrip())
        if "--" in case.sql or "#" in case.sql or _tokens(case) is None:
            continue  # what follows would be part of the case's own comment or string
        if judge_text(sql, dialect=case.dialect).is_read is not case.is_read:
            wrong.append(sql)
    assert wrong == []


def test_a_write_beside_any_read_is_seen() -> None:
    """Every statement of a text counts, whatever quoting the ones before it use."""
    for case in ALL:
        if case.is_read:
            assert not judge_text(f"{case.sql}\n; DELETE FROM t", dialect=case.dialect).is_read, case
            assert not judge_text(f"DELETE FROM t; {case.sql}", dialect=case.dialect).is_read, case


def test_parentheses_around_a_query_change_nothing() -> None:
    """One and two pairs."""
    for case in ALL:
        sql = case.sql.strip().rstrip(";").strip()
        tokens = _tokens(case)
        if not tokens or tokens[0].lower() not in {"select", "values"} or ";" in tokens or "--" in sql or "#" in sql:
            continue
        for wrapped in (f"({sql})", f"( ( {sql} ) )"):
            assert judge_text(wrapped, dialect=case.dialect).is_read is case.is_read, wrapped


def test_a_read_in_a_subquery_or_a_common_table_expression_stays_what_it_is() -> None:
    """Depth neither hides a write nor taints a read."""
    for case in ALL:
        sql = case.sql.strip().rstrip(";").strip()
        tokens = _tokens(case)
        if not tokens or tokens[0].lower() != "select" or ";" in tokens or "--" in sql or "#" in sql:
            continue
        for wrapped in (f"SELECT * FROM ({sql}) AS x", f"WITH q AS ({sql}) SELECT * FROM q", f"SELECT ({sql})"):
            assert judge_text(wrapped, dialect=case.dialect).is_read is case.is_read, wrapped


def test_an_engine_not_known_by_name_gets_the_strictest_common_rules() -> None:
    """A read there must be a read under the rules of all engines that are known."""
    for case in ALL:
        verdict = judge_text(case.sql, dialect="db2")
        if not case.is_read:
            assert not verdict.is_read, case
    assert judge_text("SELECT a, count(*) FROM t WHERE b = :b GROUP BY a", dialect="db2").is_read
    assert judge_text("SELECT * FROM t WITH (UPDLOCK)", dialect="db2").kind is Kind.UNKNOWN


def _tokens(case: Case) -> list[str] | None:
    try:
        return next(readings(case.sql, rules_of(case.dialect).lexis))
    except ValueError:
        return None
