"""Names of functions, pure functions, strange renderings, and what judging a construct must not do."""

from __future__ import annotations

from typing import Any

import pytest
from constructs_models import Custom, Geometry, deleting, distinct_on, locked, opaque, things, users
from sqlalchemy import (
    DDL,
    Column,
    Integer,
    MetaData,
    Table,
    column,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    table,
    tablesample,
    text,
    true,
    tuple_,
    union,
    update,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    ClauseElement,
    ClauseList,
    TextClause,
    UnaryExpression,
    quoted_name,
)

from rds_router.classify.cache import Classifier
from rds_router.classify.constructs import classify, judge_construct
from rds_router.core.statement import Kind, Statement

READ, LOCKING, WRITE = Kind.READ, Kind.LOCKING_READ, Kind.WRITE
DDL_, SESSION, UNKNOWN = Kind.DDL, Kind.SESSION, Kind.UNKNOWN

u = users.c


@pytest.mark.parametrize(
    ("dialect", "statement"),
    [
        ("mysql", select(func.get_lock("a", 1))),
        ("mysql", select(func.last_insert_id())),
        ("mysql", select(func.found_rows())),
        ("mysql", select(users).prefix_with("SQL_CALC_FOUND_ROWS")),
        ("mysql", select(literal_column("@a").op(":=")(1))),
        ("mysql", select(literal_column("@a := 1"))),
        ("mysql", text(r"SELECT @a \:= 1")),
        ("mysql", select(text(r"@a \:= 1"))),
        ("mysql", select(UnaryExpression(u.x, operator=operators.custom_op("@a :=")))),
        ("mysql", select(UnaryExpression(u.x, modifier=operators.custom_op("INTO @a")))),
        ("mysql", select(users).suffix_with("LOCK IN SHARE MODE")),
        ("mysql", select(users).with_hint(users, "PROCEDURE ANALYSE()")),
        ("mysql", select(func.last_insert_id(5))),
        ("mysql", select(func.sleep(1), func.release_all_locks())),
        ("mariadb", select(func.nextval(literal_column("s")))),
        ("mariadb", select(func.lastval(literal_column("s")))),
        ("mariadb", select(table("s", column("nextval")).c.nextval)),
        ("mysql", select(table("processlist", column("id"), schema="information_schema"))),
        ("mysql", select(table("threads", column("id"), schema="performance_schema").c.id)),
        ("postgresql", select(table("pg_locks", column("pid")))),
        ("postgresql", select(users).where(exists(select(table("pg_stat_activity", column("pid")).alias())))),
        ("postgresql", select(getattr(func, quoted_name("lower", True))(u.name))),
        ("postgresql", select(users).prefix_with("SQL_NO_CACHE")),
        ("postgresql", select(tuple_(literal("s"))).prefix_with("nextval /* x */")),
        ("postgresql", select(tuple_(literal("s"))).prefix_with("ALL").prefix_with('"nextval"')),
        ("postgresql", select(ClauseList(literal_column("nextval"), tuple_(literal("s")), operator=None, group=False))),
        ("generic", select(func.lastval())),
        ("generic", select(literal_column("@a := 1"))),
        ("postgresql", select(func.nextval("s"))),
        ("postgresql", select(func.pg_catalog.nextval("s"))),
        ("postgresql", select(func.currval("s"))),
        ("postgresql", select(func.lastval())),
        ("postgresql", select(func.setval("s", 1))),
        ("postgresql", select(func.pg_advisory_lock(1))),
        ("postgresql", select(func.set_config("a", "b", False))),
        ("postgresql", select(func.pg_notify("a", "b"))),
        ("postgresql", select(func.lo_create(0))),
        ("postgresql", select(func.txid_current())),
        ("postgresql", select(func.pg_export_snapshot())),
        ("postgresql", select(func.dblink("a", "b"))),
        ("postgresql", select(users).prefix_with("nextval").with_only_columns(tuple_(literal("s")))),
        ("postgresql", select(literal_column("a").op(", nextval")(tuple_(literal("s"))))),
    ],
)
def test_functions_and_operators_that_bind_to_the_primary_are_known_by_name(dialect: str, statement: Any) -> None:
    verdict = classify(statement, dialect=dialect)
    assert not verdict.is_read, verdict


@pytest.mark.parametrize(
    ("dialect", "statement"),
    [
        ("mysql", select(users).prefix_with("SQL_NO_CACHE").prefix_with("STRAIGHT_JOIN")),
        ("mysql", select(users).prefix_with("/*+ MAX_EXECUTION_TIME(1000) */")),
        ("mysql", select(users).with_hint(users, "USE INDEX (ix)", "mysql")),
        ("mysql", select(users).with_hint(users, "FORCE INDEX FOR ORDER BY (ix)")),
        ("mysql", select(mysql.match(u.name, against="x").in_boolean_mode())),
        ("mysql", select(users).where(u.name.op("REGEXP")("^a"))),
        ("mysql", select(users).where(u.name.op("SOUNDS LIKE")("a"))),
        ("mysql", select(u.x.op("DIV")(2))),
        ("mysql", select(func.random())),
        ("mysql", select(func.count()).group_by(func.rollup(u.x))),
        ("postgresql", select(postgresql.array([1, 2]))),
        ("postgresql", select(func.array_agg(postgresql.aggregate_order_by(u.x, u.id.desc())))),
        ("postgresql", select(func.string_agg(u.name, literal(",")).within_group(u.x))),
        ("postgresql", select(tablesample(users, func.bernoulli(10), seed=func.random()))),
        ("postgresql", select(tablesample(users, 5))),
        ("postgresql", distinct_on(u.x)),
        ("postgresql", select(func.generate_series(1, 3).table_valued("n"))),
        (
            "postgresql",
            select(func.json_each(u.name).table_valued("key", "value", with_ordinality="o").render_derived()),
        ),
        ("postgresql", select(func.unnest(postgresql.array([1])).column_valued("x"))),
        ("postgresql", select(u.name.op("AT TIME ZONE")("UTC"))),
        ("postgresql", select(users).where(u.name.op("IS DISTINCT FROM")("a"))),
        ("postgresql", select(users).where(u.name.op("~*")("a"))),
        ("postgresql", select(select(users).cte().prefix_with("MATERIALIZED"))),
        ("postgresql", select(select(users).cte().prefix_with("NOT MATERIALIZED"))),
        ("postgresql", select(func.to_tsvector("a").op("@@")(func.to_tsquery("b")))),
        ("postgresql", select(func.count()).group_by(func.grouping_sets(tuple_(u.x), tuple_(u.id)), func.cube(u.x))),
        ("postgresql", select(func.percentile_cont(0.5).within_group(u.x))),
    ],
)
def test_reads_in_an_engines_own_words_stay_reads(dialect: str, statement: Any) -> None:
    verdict = classify(statement, dialect=dialect)
    assert verdict.is_read, verdict


def test_pure_functions_of_the_policy_are_believed() -> None:
    statement = select(func.do_something(), func.app.Other())
    believed = frozenset({"do_something", "app.other"})
    assert classify(statement, pure_functions=believed).is_read
    assert classify(statement, pure_functions=believed).tables is None
    assert not classify(statement, pure_functions=frozenset({"do_something"})).is_read
    assert not classify(select(func.do_something(locked.limit(1).scalar_subquery())), pure_functions=believed).is_read


def test_a_function_with_its_own_rendering_is_believed_when_named_but_its_arguments_are_not() -> None:
    believed = frozenset({"opaque"})
    assert classify(select(opaque(u.x)), pure_functions=believed).is_read
    assert not classify(select(opaque(locked.limit(1).scalar_subquery())), pure_functions=believed).is_read


def test_replacing_the_rendering_of_a_known_class_makes_it_unknown_even_after_its_first_use() -> None:
    class Late(Column[Any]):
        inherit_cache = True

    statement = select(Table("late", MetaData(), Late("id", Integer)))
    assert classify(statement).is_read

    @compiles(Late, "postgresql")
    def _late(element: Any, compiler: Any, **kw: Any) -> str:
        return "nextval('numbers')"

    assert classify(statement, dialect="mysql").is_read
    assert classify(statement, dialect="postgresql").kind is UNKNOWN


def test_a_statement_compiled_by_a_strangers_plugin_is_unknown() -> None:
    statement = select(users)
    statement._propagate_attrs = statement._propagate_attrs.union({"compile_state_plugin": "strange"})
    assert str(classify(statement)) == "unknown (compiled by the plugin 'strange')"


def test_no_statement_is_unknown_and_a_flush_writes() -> None:
    assert str(classify(None)) == "unknown (no statement to look at)"
    assert str(classify(None, flushing=True)) == "write (a flush)"
    assert classify(select(users), flushing=True).kind is WRITE


@pytest.mark.parametrize("thing", [u.id, users, 7, object(), b"SELECT 1", Integer(), u.x == 1])
def test_what_is_no_statement_is_unknown(thing: Any) -> None:
    assert classify(thing).kind is UNKNOWN


def test_an_element_that_breaks_when_looked_at_is_unknown() -> None:
    class Broken(Geometry):
        cache_ok = True

        def bind_expression(self, bindvalue: Any) -> Any:
            raise RuntimeError("no")

    assert str(classify(select(literal("p", Broken())))) == "unknown (Select could not be examined: RuntimeError)"


def test_the_gravest_finding_is_the_verdict() -> None:
    statement = select(users, func.do_something()).where(u.id.in_(select(deleting.cte().c.id))).with_for_update()
    assert classify(statement).kind is WRITE
    assert classify(select(func.do_something()).with_for_update()).kind is UNKNOWN


def test_a_type_that_wraps_values_of_its_own_type_comes_to_an_end() -> None:
    class Nested(Geometry):
        cache_ok = True

        def bind_expression(self, bindvalue: Any) -> Any:
            return func.lower(bindvalue, literal("x", Nested()))

    assert "types that wrap their values" in classify(select(literal("p", Nested()))).because


def test_a_text_construct_with_its_own_rendering_is_unknown() -> None:
    class Template(TextClause):
        inherit_cache = True

    @compiles(Template)
    def _template(element: Any, compiler: Any, **kw: Any) -> str:
        return "DELETE FROM u"

    for statement in (Template("SELECT 1"), Template("SELECT 1").columns(u.id), select(Template("1"))):
        assert str(classify(statement)) == "unknown (Template, a construct the classifier does not know)"
        assert Classifier("mysql").judge(statement).kind is UNKNOWN


@pytest.mark.skipif(not hasattr(select, "ext") and not hasattr(users.select(), "ext"), reason="SQLAlchemy 2.1")
def test_a_syntax_extension_of_the_users_own_is_unknown() -> None:
    from sqlalchemy.sql import SyntaxExtension

    class Into(SyntaxExtension, ClauseElement):
        _traverse_internals: Any = ()

        def apply_to_select(self, select_stmt: Any) -> None:
            select_stmt.apply_syntax_extension_point(self.append_replacing_same_type, "post_body")

    verdict = classify(select(users).ext(Into()))
    assert str(verdict) == "unknown (Into, a construct the classifier does not know)"


def test_a_deep_tree_is_walked_without_recursion() -> None:
    statement: Any = locked
    for _ in range(40):
        statement = select(statement.subquery())
    assert classify(statement).kind is LOCKING
    expression: Any = u.x
    for _ in range(20_000):
        expression = UnaryExpression(expression, operator=operators.neg)
    assert classify(select(expression)).is_read


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        (select(users), {"u"}),
        (select(things.c.id), {"geo.things"}),
        (select(users.alias("a")).join(things, true()), {"u", "geo.things"}),
        (insert(users).from_select(["id"], select(things.c.id)), {"u", "geo.things"}),
        (update(users).where(u.id.in_(select(things.c.id))), {"u", "geo.things"}),
        (select(deleting.cte()), {"u"}),
        (union(select(u.id), select(table("Other", column("id")))), {"u", "other"}),
        (select(func.now()), set()),
        (select(func.do_something()), None),
        (DDL("x"), None),
        (select(Custom()), None),
    ],
)
def test_the_tables_are_gathered(statement: Any, tables: set[str] | None) -> None:
    assert classify(statement).tables == (None if tables is None else frozenset(tables))


def test_judging_changes_nothing_about_the_statement() -> None:
    statement = select(users).where(u.id == 1)
    before = dict(statement.__dict__)
    judge_construct(statement, dialect="mysql")
    assert statement.__dict__ == before


def test_a_verdict_reads_as_one_line() -> None:
    assert classify(select(users)) == Statement(READ, "", frozenset({"u"}))
    assert str(classify(select(users))) == "read"
    assert str(classify(locked)) == "locking read (FOR UPDATE)"
    assert str(classify(select(deleting.cte()))) == "write (DELETE within the statement)"
