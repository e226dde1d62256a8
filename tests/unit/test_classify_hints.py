"""A statement's own wish is read from its execution options, and a wrong one is an error that says what to use."""

from __future__ import annotations

from typing import Any

import pytest
from constructs_models import User, users
from sqlalchemy import func, insert, lambda_stmt, select, text, union
from sqlalchemy.orm import Query

from rds_router.classify.hints import max_staleness_from, max_staleness_of, route_from, route_of

STATEMENTS: list[Any] = [
    select(User),
    select(users.c.id),
    text("SELECT 1"),
    insert(users),
    union(select(users.c.id), select(users.c.x)),
    func.now().select(),
    Query([User]),
    text("SELECT 1").columns(users.c.id),
]


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("wish", ["primary", "replica", None])
def test_a_wish_is_read_from_any_statement(statement: Any, wish: str | None) -> None:
    assert route_of(statement) is None
    assert route_of(statement.execution_options(rds_route=wish)) == wish


def test_a_lambda_statement_carries_its_own_wish() -> None:
    statement = lambda_stmt(lambda: select(User).execution_options(rds_route="primary"))
    assert route_of(statement) == "primary"


@pytest.mark.parametrize("wish", ["master", "PRIMARY", "", 1, True, ["replica"]])
def test_a_wrong_wish_names_the_accepted_values(wish: Any) -> None:
    with pytest.raises(ValueError, match=r"rds_route=.*: use 'primary' or 'replica'"):
        route_of(select(User).execution_options(rds_route=wish))


@pytest.mark.parametrize("seconds", [0, 2, 0.5, float("inf")])
def test_a_staleness_is_seconds(seconds: float) -> None:
    found = max_staleness_of(select(User).execution_options(rds_max_staleness=seconds))
    assert found == seconds
    assert isinstance(found, float)


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan"), "2", True, False, [1]])
def test_a_wrong_staleness_says_what_to_use(seconds: Any) -> None:
    with pytest.raises(ValueError, match=r"rds_max_staleness=.*: use a number of seconds, 0 or more"):
        max_staleness_of(select(User).execution_options(rds_max_staleness=seconds))


@pytest.mark.parametrize("thing", [None, "SELECT 1", object()])
def test_what_has_no_options_has_no_wish(thing: Any) -> None:
    assert route_of(thing) is None
    assert max_staleness_of(thing) is None


def test_wishes_are_read_from_a_mapping_too() -> None:
    assert route_from({"rds_route": "replica"}) == "replica"
    assert max_staleness_from({"rds_max_staleness": 1}) == 1.0
    assert route_from({}) is None
    assert max_staleness_from({}) is None
