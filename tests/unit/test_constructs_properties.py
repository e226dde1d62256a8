"""Random trees: what the tree is judged to be, and what the SQL compiled from it is judged to be, agree."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from constructs_models import Desk, Locker, Order, Ticket, User, things, users
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Integer,
    Sequence,
    and_,
    case,
    cast,
    column,
    delete,
    exists,
    extract,
    func,
    insert,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    true,
    type_coerce,
    union_all,
    update,
    values,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import aliased, joinedload, with_loader_criteria

from rds_router.classify.cache import Classifier
from rds_router.classify.constructs import classify
from rds_router.classify.text import judge_text
from rds_router.core.statement import Kind

COMPILERS = {
    "mysql": mysql.dialect(),
    "mariadb": mysql.dialect(is_mariadb=True),
    "postgresql": postgresql.dialect(),
}
PURE = ["lower", "count", "coalesce", "now", "abs", "max", "concat"]
IMPURE = [
    "get_lock",
    "nextval",
    "last_insert_id",
    "pg_advisory_lock",
    "currval",
    "do_something",
    "set_config",
    "lastval",
]
FRAGMENTS = [
    "1", "id", "id + 1", "'for update'", "(SELECT 1)", "x /* delete */", "CASE WHEN 1 THEN 2 END",
    "nextval('s')", "@a := 1", "id FOR UPDATE", "(SELECT id FROM u FOR UPDATE)", "get_lock('a', 1)", "last_insert_id()",
]  # fmt: skip
OPERATORS = ["+", "||", "->", "~*", "REGEXP", "DIV", "IS DISTINCT FROM", "AT TIME ZONE", ":=", "@@"]
PREFIXES = ["ALL", "SQL_NO_CACHE", "SQL_CALC_FOUND_ROWS", "HIGH_PRIORITY", "/*+ NO_INDEX(u) */"]
SUFFIXES = ["FOR UPDATE", "LOCK IN SHARE MODE", "FOR SHARE OF u NOWAIT", "INTO @a", "INTO OUTFILE '/tmp/x'", "-- done"]


@st.composite
def expressions(draw: st.DrawFn, depth: int) -> Any:
    """A scalar expression."""
    u = draw(st.sampled_from([users.c, users.alias("a").c]))
    leaves: list[Any] = [u.id, u.name, u.x, literal(1), literal("for update"), null(), true()]
    if depth <= 0:
        return draw(st.sampled_from(leaves))
    part = expressions(depth - 1)
    sort = draw(st.integers(0, 17))
    if sort <= 3:
        return draw(st.sampled_from(leaves))
    if sort <= 6:
        return getattr(func, draw(st.sampled_from(PURE)))(draw(part))
    if sort == 7:
        return getattr(func, draw(st.sampled_from(IMPURE)))(draw(part))
    if sort == 8:
        return literal_column(draw(st.sampled_from(FRAGMENTS)))
    if sort == 9:
        return draw(part).op(draw(st.sampled_from(OPERATORS)))(draw(part))
    if sort == 10:
        return case((draw(part) == 1, draw(part)), else_=draw(part))
    if sort == 11:
        return cast(draw(part), Integer)
    if sort == 12:
        return draw(selects(depth - 1)).limit(1).with_only_columns(draw(part)).scalar_subquery()
    if sort == 13:
        return func.sum(draw(part)).over(partition_by=draw(part), order_by=draw(part))
    if sort == 14:
        return exists(draw(selects(depth - 1)))
    if sort == 15:
        return type_coerce(draw(part), Integer).label(draw(st.sampled_from(["a", "delete", "for update"])))
    if sort == 16:
        return Sequence("numbers").next_value()
    return extract("year", draw(part))


@st.composite
def conditions(draw: st.DrawFn, depth: int) -> Any:
    """Something for WHERE."""
    left = draw(expressions(depth))
    sort = draw(st.integers(0, 5))
    if sort == 0:
        return left == draw(expressions(depth - 1))
    if sort == 1:
        return users.c.id.in_([1, 2])
    if sort == 2:
        return users.c.id.in_(draw(selects(depth - 1)).with_only_columns(users.c.id))
    if sort == 3:
        return and_(left.is_(None), or_(users.c.x > 1, users.c.name.like("%delete%")))
    if sort == 4:
        return text(draw(st.sampled_from(FRAGMENTS)))
    return left != None  # noqa: E711


@st.composite
def froms(draw: st.DrawFn, depth: int) -> Any:
    """Something for FROM."""
    sort = draw(st.integers(0, 8)) if depth > 0 else 0
    if sort == 1:
        return things
    if sort == 2:
        return draw(selects(depth - 1)).subquery()
    if sort == 3:
        return draw(selects(depth - 1)).cte()
    if sort == 4:
        return draw(selects(depth - 1)).lateral()
    if sort == 5:
        return values(column("a", Integer), name="v").data([(draw(expressions(depth - 1)),)])
    if sort == 6:
        dml = draw(st.sampled_from([delete(users), update(users).values(x=1), insert(users).values(x=1)]))
        return dml.returning(users.c.id).cte()
    if sort == 7:
        return users.join(things, draw(conditions(depth - 1)))
    if sort == 8:
        return func.generate_series(1, draw(expressions(depth - 1))).table_valued("n")
    return users


@st.composite
def selects(draw: st.DrawFn, depth: int) -> Any:
    """A SELECT of Core."""
    columns = draw(st.lists(expressions(depth), min_size=1, max_size=2))
    statement = select(*columns).select_from(draw(froms(depth)))
    if draw(st.booleans()):
        statement = statement.where(draw(conditions(depth)))
    sort = draw(st.integers(0, 24))
    if sort == 0:
        return statement.with_for_update(read=draw(st.booleans()), nowait=draw(st.booleans()))
    if sort == 1:
        return statement.prefix_with(draw(st.sampled_from(PREFIXES)))
    if sort == 2:
        return statement.suffix_with(draw(st.sampled_from(SUFFIXES)))
    if sort == 3:
        return statement.with_statement_hint(draw(st.sampled_from(SUFFIXES)))
    if sort == 4:
        return statement.with_hint(users, draw(st.sampled_from(["USE INDEX (i)", "FOR UPDATE", "-- x"])))
    if sort == 5:
        return statement.group_by(draw(expressions(depth - 1))).having(draw(conditions(depth - 1)))
    if sort == 6:
        return statement.order_by(draw(expressions(depth - 1))).limit(3)
    if sort == 7:
        return statement.add_cte(delete(things).cte("gone"))
    if sort == 8 and depth > 0:
        return select(union_all(statement, statement).subquery())
    if sort == 9:
        return statement.distinct()
    return statement


@st.composite
def orm_selects(draw: st.DrawFn, depth: int) -> Any:
    """A SELECT of mapped classes, whose mappers and options add to it."""
    entity = draw(st.sampled_from([User, User, User, Order, Ticket, Desk, Locker, aliased(User), aliased(Ticket)]))
    statement = select(entity)
    for _ in range(draw(st.integers(0, 2))):
        sort = draw(st.integers(0, 6))
        if sort == 0 and entity is User:
            statement = statement.join(User.orders)
        elif sort == 1 and entity is User:
            statement = statement.options(joinedload(User.orders))
        elif sort == 2 and entity is Locker:
            statement = statement.options(joinedload(Locker.owner))
        elif sort == 3:
            inner = draw(selects(depth)).with_only_columns(users.c.id)
            statement = statement.options(with_loader_criteria(User, User.id.in_(inner)))
        elif sort == 4:
            statement = statement.where(draw(conditions(depth)))
        elif sort == 5:
            statement = statement.add_columns(draw(expressions(depth)))
        else:
            statement = statement.with_for_update()
    return statement


def compiled(statement: Any, dialect: str) -> str:
    """The SQL the dialect would send; the example is dropped if it cannot be said in that dialect."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(statement.compile(dialect=COMPILERS[dialect], compile_kwargs={"render_postcompile": True}))
        except (SQLAlchemyError, NotImplementedError, TypeError):
            assume(False)
            raise AssertionError from None


@pytest.mark.parametrize("dialect", list(COMPILERS))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_tree_judged_a_read_compiles_to_text_judged_a_read(dialect: str, data: st.DataObject) -> None:
    statement = data.draw(st.one_of(selects(1), selects(2), orm_selects(1)))
    sql = compiled(statement, dialect)
    tree, text_ = classify(statement, dialect=dialect), judge_text(sql, dialect=dialect)
    event(f"tree {'read' if tree.is_read else 'no read'}, text {'read' if text_.is_read else 'no read'}")
    if tree.is_read:
        assert text_.is_read, f"tree: {tree}\ntext: {text_}\n{sql}"
    elif text_.is_read and not statement._with_options:
        # The safe direction; but DML in a tree is always compiled, unless it is in an option of another class.
        assert tree.kind is not Kind.WRITE or "within" not in tree.because, f"tree: {tree}\n{sql}"


@pytest.mark.parametrize("dialect", list(COMPILERS))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_cached_verdict_is_the_verdict(dialect: str, data: st.DataObject) -> None:
    classifier = Classifier(dialect)
    statement = data.draw(st.one_of(selects(2), orm_selects(1)))
    expected = classify(statement, dialect=dialect)
    assert [classifier.judge(statement) for _ in range(3)] == [expected] * 3
    copy = statement.where(true())
    assert classifier.judge(copy).kind is classify(copy, dialect=dialect).kind
    assert classifier.judge(copy.with_for_update()).kind is not Kind.READ


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_statements_with_equal_cache_keys_have_equal_verdicts(data: st.DataObject) -> None:
    statements = data.draw(st.lists(selects(2), min_size=4, max_size=8))
    seen: dict[Any, Kind] = {}
    for statement in statements:
        key = statement._generate_cache_key()
        if key is not None:
            kind = classify(statement, dialect="mysql").kind
            assert seen.setdefault(key.key, kind) is kind
