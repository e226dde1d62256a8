"""Each construct of SQLAlchemy Core that can write, lock or bind to a connection is known for what it is."""

from __future__ import annotations

from typing import Any

import pytest
from constructs_models import Custom, Geometry, Wrapped, deleting, distinct_on, locked, opaque, places, things, users
from sqlalchemy import (
    DDL,
    JSON,
    Column,
    Executable,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    String,
    Table,
    bindparam,
    case,
    cast,
    column,
    delete,
    distinct,
    except_,
    exists,
    extract,
    func,
    insert,
    intersect,
    lambda_stmt,
    lateral,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
    table,
    text,
    true,
    try_cast,
    tuple_,
    type_coerce,
    union,
    union_all,
    update,
    values,
    within_group,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateSchema, CreateTable, DropTable
from sqlalchemy.sql.elements import (
    ClauseElement,
    ReleaseSavepointClause,
    RollbackToSavepointClause,
    SavepointClause,
    quoted_name,
)
from sqlalchemy.sql.functions import GenericFunction

from rds_router.classify.constructs import classify
from rds_router.core.statement import Kind

READ, LOCKING, WRITE = Kind.READ, Kind.LOCKING_READ, Kind.WRITE
DDL_, SESSION, UNKNOWN = Kind.DDL, Kind.SESSION, Kind.UNKNOWN

u = users.c
seq = Sequence("numbers", metadata=MetaData())
v = values(column("a", Integer), name="v")


class disguised(GenericFunction[Any]):
    """Called lower, rendered as something else."""

    type = String()
    name = "lower"
    identifier = "disguised"
    inherit_cache = True


@compiles(disguised)
def _disguised(element: Any, compiler: Any, **kw: Any) -> str:
    return "nextval('numbers')"


class honest(GenericFunction[Any]):
    """The user's own class for a function of the server."""

    type = String()
    name = "lower"
    identifier = "honest"
    inherit_cache = True


class elsewhere(GenericFunction[Any]):
    """Rendered by the user on another database only."""

    type = String()
    name = "upper"
    identifier = "elsewhere"
    inherit_cache = True


@compiles(elsewhere, "sqlite")
def _elsewhere(element: Any, compiler: Any, **kw: Any) -> str:
    return "up()"


class CustomStatement(Executable, ClauseElement):
    inherit_cache = False


@compiles(CustomStatement)
def _custom_statement(element: Any, compiler: Any, **kw: Any) -> str:
    return "DELETE FROM u"


class PlainColumn(Column[Any]):
    inherit_cache = True


class OwnColumn(Column[Any]):
    __visit_name__ = "own_column"
    inherit_cache = True


READS: dict[str, Any] = {
    "columns": select(u.id, u.name),
    "table": select(users),
    "literal": select(literal(1), null(), true()),
    "where": select(users).where(u.id == 1, or_(u.x > 2, not_(u.name.like("a%")))),
    "in": select(users).where(u.id.in_([1, 2, 3])),
    "in select": select(users).where(u.id.in_(select(u.id))),
    "between": select(users).where(u.x.between(1, 2)),
    "is null": select(users).where(u.name.is_(None)),
    "order, group, having": select(func.count())
    .group_by(u.x)
    .having(func.max(u.x) > 3)
    .order_by(u.x.desc().nulls_last()),
    "order by label": select(u.x.label("l")).order_by("l"),
    "limit": select(users).limit(3).offset(4),
    "distinct": select(distinct(u.x)).distinct(),
    "alias": select(users.alias("a")),
    "join": select(users.join(things, things.c.id == u.id)),
    "outer join": select(users.outerjoin(things, things.c.id == u.id).select().subquery()),
    "subquery": select(select(u.id).subquery("s")),
    "scalar subquery": select(select(func.max(u.x)).scalar_subquery()),
    "exists": select(users).where(exists().where(u.id == things.c.id)),
    "exists statement": exists(select(users)).select(),
    "cte": select(select(users).cte("c")),
    "recursive cte": (lambda c: select(c.union_all(select(c.c.id + 1).where(c.c.id < 9))))(
        select(literal(1).label("id")).cte("r", recursive=True)
    ),
    "union": union(select(u.id), select(things.c.id)),
    "union all, limited": union_all(select(u.id).limit(1), select(things.c.id)).order_by("id").limit(3),
    "intersect, except": intersect(select(u.id), except_(select(u.id), select(things.c.id))),
    "case": select(case((u.x == 1, "one"), else_=u.name)),
    "case of value": select(case({1: "one"}, value=u.x)),
    "cast": select(cast(u.x, String(10)), type_coerce(u.name, LargeBinary)),
    "try cast": select(try_cast(u.x, Integer)),
    "collate": select(u.name.collate("utf8mb4_bin")),
    "extract": select(extract("year", u.x)),
    "tuple": select(users).where(tuple_(u.id, u.x).in_([(1, 2)])),
    "values": select(v.data([(1,), (2,)])),
    "lateral": select(users, lateral(select(things.c.id).where(things.c.id == u.id))),
    "table construct": select(table("t", column("a"))),
    "count": select(func.count()).select_from(users),
    "window": select(func.row_number().over(partition_by=u.x, order_by=u.id, rows=(-1, 0))),
    "filter": select(func.sum(u.x).filter(u.x > 1)),
    "now": select(func.now(), func.current_timestamp()),
    "function statement": func.now(),
    "concat": select(u.name + "a", func.concat(u.name, "b"), func.coalesce(u.name, "c")),
    "json": select(type_coerce(u.name, JSON)["a"]["b"].as_string()),
    "bind parameter": select(users).where(u.id == bindparam("i")),
    "decorated type": select(type_coerce(u.name, Wrapped)),
    "textual select": text("SELECT id FROM u").columns(u.id),
    "textual subquery": select(text("SELECT id FROM u").columns(u.id).subquery()),
    "text": text("SELECT * FROM u WHERE id = :i"),
    "text fragment": select(text("id")).select_from(text("u")).where(text("id = 1")).order_by(text("id DESC")),
    "literal column": select(literal_column("id + 1")),
    "quoted names": select(table("for update", column("delete"))),
    "prefix": select(users).prefix_with("ALL"),
    "lambda": lambda_stmt(lambda: select(users).where(u.id == 1)),
    "lambda, extended": lambda_stmt(lambda: select(users)) + (lambda s: s.where(u.id == 2)),
    "lambda criterion": select(users).where(lambda: u.id == 3),
    "own function class": select(honest(u.name)),
    "function rendered elsewhere": select(elsewhere(u.name)),
    "own column class": select(Table("p", MetaData(), PlainColumn("id", Integer))),
    "regexp": select(users).where(u.name.regexp_match("^a", flags="i")),
    "bitwise": select(u.x.bitwise_and(3)),
    "add_cte": select(users).add_cte(select(things.c.id).cte("unused")),
    "correlate": select(users).where(exists().where(things.c.id == u.id).correlate(users)),
    "group concat": select(func.aggregate_strings(u.name, ",")),
    "operator": select(u.x.op("+")(1), u.x.op("<>")(2)),
    "with_only_columns": select(users).with_only_columns(u.id, func.count()),
    "other dialect's prefix": select(users).prefix_with("INTO nowhere", dialect="oracle"),
    "other dialect's hint": select(users).with_hint(users, "WITH (UPDLOCK)", "mssql"),
    "statement hint elsewhere": select(users).with_statement_hint("FOR UPDATE", "oracle"),
}


@pytest.mark.parametrize("dialect", ["mysql", "mariadb", "postgresql"])
@pytest.mark.parametrize("statement", READS.values(), ids=READS.keys())
def test_a_plain_read_may_go_to_a_replica(statement: Any, dialect: str) -> None:
    assert classify(statement, dialect=dialect).kind is READ, classify(statement, dialect=dialect)


OTHERS: dict[str, tuple[Any, Kind, str]] = {
    # DML
    "insert": (insert(users), WRITE, "INSERT"),
    "insert values": (insert(users).values([{"id": 1}, {"id": 2}]), WRITE, "INSERT"),
    "insert from select": (insert(users).from_select(["id"], select(things.c.id)), WRITE, "INSERT"),
    "insert returning": (insert(users).returning(u.id), WRITE, "INSERT"),
    "update": (update(users).values(x=1), WRITE, "UPDATE"),
    "update ordered": (update(users).ordered_values((u.x, 1)), WRITE, "UPDATE"),
    "delete": (delete(users).where(u.id == 1), WRITE, "DELETE"),
    "mysql upsert": (mysql.insert(users).on_duplicate_key_update(x=1), WRITE, "INSERT"),
    "postgresql upsert": (
        postgresql.insert(users).on_conflict_do_update(index_elements=["id"], set_={"x": 1}), WRITE, "INSERT",
    ),
    "postgresql ignore": (postgresql.insert(users).on_conflict_do_nothing(), WRITE, "INSERT"),
    "sqlite upsert": (sqlite.insert(users).on_conflict_do_nothing(), WRITE, "INSERT"),
    # DML within a SELECT
    "delete in cte": (select(deleting.cte()), WRITE, "DELETE within"),
    "insert in cte": (select(insert(users).returning(u.id).cte()), WRITE, "INSERT within"),
    "update in cte": (select(update(users).values(x=1).returning(u.id).cte()), WRITE, "UPDATE within"),
    "delete in unused cte": (select(users).add_cte(delete(things).cte("gone")), WRITE, "DELETE within"),
    "delete in nested cte": (
        select(select(deleting.cte("inner", nesting=True)).cte("outer")), WRITE, "DELETE within",
    ),
    "delete in cte in subquery": (select(select(deleting.cte()).subquery()), WRITE, "DELETE within"),
    "delete in cte in where": (select(users).where(u.id.in_(select(deleting.cte().c.id))), WRITE, "DELETE within"),
    "delete in cte in union": (union(select(u.id), select(deleting.cte().c.id)), WRITE, "DELETE within"),
    "delete in cte in exists": (
        select(users).where(exists(select(deleting.cte()))), WRITE, "DELETE within",
    ),
    "textual delete as cte": (
        select(text("DELETE FROM u RETURNING id").columns(u.id).cte()), WRITE, "",
    ),
    "textual select that deletes": (text("DELETE FROM u RETURNING id").columns(u.id), WRITE, ""),
    # Locks
    "for update": (select(users).with_for_update(), LOCKING, "FOR UPDATE"),
    "for update of": (select(users).with_for_update(of=users), LOCKING, "FOR UPDATE"),
    "for update nowait": (select(users).with_for_update(nowait=True), LOCKING, "FOR UPDATE"),
    "for update skip locked": (select(users).with_for_update(skip_locked=True), LOCKING, "FOR UPDATE"),
    "for share": (select(users).with_for_update(read=True), LOCKING, "FOR SHARE"),
    "for no key update": (select(users).with_for_update(key_share=True), LOCKING, "FOR NO KEY UPDATE"),
    "for key share": (select(users).with_for_update(read=True, key_share=True), LOCKING, "FOR KEY SHARE"),
    "lock in subquery": (select(locked.subquery()), LOCKING, "FOR UPDATE"),
    "lock in scalar subquery": (select(locked.limit(1).scalar_subquery()), LOCKING, "FOR UPDATE"),
    "lock in cte": (select(locked.cte()), LOCKING, "FOR UPDATE"),
    "lock in where": (select(users).where(u.id.in_(locked)), LOCKING, "FOR UPDATE"),
    "lock in exists": (select(users).where(exists(locked)), LOCKING, "FOR UPDATE"),
    "lock in join": (select(users).join(locked.subquery("j"), true()), LOCKING, "FOR UPDATE"),
    "lock behind a column": (select(locked.subquery("j").c.id), LOCKING, "FOR UPDATE"),
    "lock behind a column in where": (
        select(things.c.id).where(things.c.id == locked.subquery("j").c.id), LOCKING, "FOR UPDATE",
    ),
    "lock in union": (union_all(locked, select(things.c.id)), LOCKING, "FOR UPDATE"),
    "lock on union": (union_all(select(u.id), select(things.c.id)).with_for_update(), LOCKING, "FOR UPDATE"),
    "lock in lateral": (select(users, locked.lateral()), LOCKING, "FOR UPDATE"),
    "lock in order by": (select(users).order_by(locked.limit(1).scalar_subquery()), LOCKING, "FOR UPDATE"),
    "lock in limit": (select(users).limit(locked.limit(1).scalar_subquery()), LOCKING, "FOR UPDATE"),
    "lock in case": (select(case((u.x == 1, locked.limit(1).scalar_subquery()), else_=2)), LOCKING, "FOR UPDATE"),
    "lock in function": (select(func.coalesce(locked.limit(1).scalar_subquery(), 1)), LOCKING, "FOR UPDATE"),
    "lock in window": (
        select(func.count().over(partition_by=locked.limit(1).scalar_subquery())), LOCKING, "FOR UPDATE",
    ),
    "lock in filter": (select(func.count().filter(u.id.in_(locked))), LOCKING, "FOR UPDATE"),
    "lock in values": (select(v.data([(locked.limit(1).scalar_subquery(),)])), LOCKING, "FOR UPDATE"),
    "lock in distinct on": (
        distinct_on(locked.limit(1).scalar_subquery()), LOCKING, "FOR UPDATE",
    ),
    "lock in lambda": (lambda_stmt(lambda: select(users).with_for_update()), LOCKING, "FOR UPDATE"),
    "lock in lambda criterion": (select(users).where(lambda: u.id.in_(locked)), LOCKING, "FOR UPDATE"),
    "lock in cte's suffix": (select(select(users).cte().suffix_with("FOR UPDATE")), LOCKING, "FOR UPDATE"),
    # Text in a construct
    "suffix": (select(users).suffix_with("FOR UPDATE"), LOCKING, "FOR UPDATE"),
    "suffix into": (select(users).suffix_with("INTO OUTFILE '/tmp/x'"), WRITE, ""),
    "statement hint": (select(users).with_statement_hint("FOR UPDATE"), LOCKING, "FOR UPDATE"),
    "table hint": (select(users).with_hint(users, "FOR UPDATE"), LOCKING, "FOR UPDATE"),
    "text in where": (select(users).where(text("id = 1 FOR UPDATE")), LOCKING, "FOR UPDATE"),
    "text in order by": (select(users).order_by(text("id FOR UPDATE")), LOCKING, "FOR UPDATE"),
    "literal column": (select(literal_column("id FROM u FOR UPDATE")), LOCKING, "FOR UPDATE"),
    "text update": (text("UPDATE u SET x = 1"), WRITE, "UPDATE"),
    "raw name": (
        select(table(quoted_name("u FOR UPDATE", quote=False), column("id"))), LOCKING, "FOR UPDATE",
    ),
    "raw label": (
        select(u.id.label(quoted_name("i FROM u FOR UPDATE", quote=False))), LOCKING, "FOR UPDATE",
    ),
    "raw collation": (
        select(u.name.collate(quoted_name("x FROM u FOR UPDATE", quote=False))), LOCKING, "FOR UPDATE",
    ),
    "extract field": (select(extract("year FROM now()) FROM u FOR UPDATE --", u.x)), UNKNOWN, "extract"),
    # Functions and sequences
    "nextval": (select(seq.next_value()), WRITE, "numbers"),
    "sequence executed": (seq, WRITE, "numbers"),
    "nextval in where": (select(users).where(u.id == seq.next_value()), WRITE, "numbers"),
    "unknown function": (select(func.do_something()), UNKNOWN, "do_something"),
    "unknown function executed": (func.do_something(), UNKNOWN, "do_something"),
    "unknown function in where": (select(users).where(u.x == func.do_something()), UNKNOWN, "do_something"),
    "unknown function in from": (select(func.do_something().table_valued("x")), UNKNOWN, "do_something"),
    "unknown function in column": (select(func.do_something().column_valued()), UNKNOWN, "do_something"),
    "unknown table function's column": (select(func.do_something().table_valued("x").c.x), UNKNOWN, "do_something"),
    "unknown function in window": (select(func.do_something().over()), UNKNOWN, "do_something"),
    "unknown function within group": (select(within_group(func.do_something(), u.x)), UNKNOWN, "do_something"),
    "unknown function in cast": (select(cast(func.do_something(), Integer)), UNKNOWN, "do_something"),
    "unknown function in values": (select(v.data([(func.do_something(),)])), UNKNOWN, "do_something"),
    "unknown function as comparison": (
        select(users).where(func.do_something(u.x, u.id).as_comparison(1, 2)), UNKNOWN, "do_something",
    ),
    "unknown function of a package": (select(func.pkg.lower(u.name)), UNKNOWN, "pkg.lower"),
    "own rendering": (select(opaque()), UNKNOWN, "opaque"),
    "own rendering under a known name": (select(disguised(u.name)), UNKNOWN, "disguised"),
    # Types that bring functions
    "bind expression": (
        select(users).where(bindparam("g", type_=Geometry()) == u.x), UNKNOWN, "keep_geometry",
    ),
    "bind expression in text": (
        text("SELECT :g").bindparams(bindparam("g", type_=Geometry())), UNKNOWN, "keep_geometry",
    ),
    "bind expression of a variant": (
        select(literal("p", String().with_variant(Geometry(), "mysql"))), UNKNOWN, "geometry",
    ),
    "column expression": (select(places.c.shape), UNKNOWN, "show_geometry"),
    "column expression of a table": (select(places), UNKNOWN, "show_geometry"),
    "column expression of a cast": (select(type_coerce(u.name, Geometry())), UNKNOWN, "show_geometry"),
    # DDL and session
    "create table": (CreateTable(users), DDL_, "CreateTable"),
    "drop table": (DropTable(users), DDL_, "DropTable"),
    "create schema": (CreateSchema("s"), DDL_, "CreateSchema"),
    "create index": (CreateIndex(Index("i", u.x)), DDL_, "CreateIndex"),
    "ddl text": (DDL("SELECT 1"), DDL_, "DDL"),
    "savepoint": (SavepointClause("s"), SESSION, "SAVEPOINT"),
    "rollback to savepoint": (RollbackToSavepointClause("s"), SESSION, "ROLLBACK TO SAVEPOINT"),
    "release savepoint": (ReleaseSavepointClause("s"), SESSION, "RELEASE SAVEPOINT"),
    # What is not known
    "custom element": (select(Custom()), UNKNOWN, "Custom"),
    "custom statement": (CustomStatement(), UNKNOWN, "CustomStatement"),
    "custom element in where": (select(users).where(Custom() == 1), UNKNOWN, "Custom"),
    "custom column class": (select(Table("p", MetaData(), OwnColumn("id", Integer))), UNKNOWN, "OwnColumn"),
    "empty operator": (select(literal_column("lower").op("")(tuple_(u.x))), UNKNOWN, "empty operator"),
}  # fmt: skip


@pytest.mark.parametrize("dialect", ["mysql", "mariadb", "postgresql"])
@pytest.mark.parametrize(("statement", "kind", "because"), OTHERS.values(), ids=OTHERS.keys())
def test_whatever_writes_locks_or_is_not_known_is_no_read(
    statement: Any, kind: Kind, because: str, dialect: str
) -> None:
    verdict = classify(statement, dialect=dialect)
    assert not verdict.is_read
    if kind is WRITE and because == "":
        return  # how text is called where the dialect has no such statement is the text classifier's matter
    assert verdict.kind is kind, verdict
    assert because.lower() in verdict.because.lower(), verdict
