"""Judging text: tables, functions, fragments, the user's own functions, and what cannot be read at all."""

from __future__ import annotations

from typing import Any

import pytest

from rds_router.classify.text import DIALECTS, LONGEST, judge_fragment, judge_function, judge_text, split
from rds_router.core.statement import Kind

MYSQL, MARIADB, POSTGRESQL = "mysql", "mariadb", "postgresql"


@pytest.mark.parametrize(
    ("dialect", "sql", "kind"),
    [
        (MYSQL, "SELECT 1", Kind.READ),
        (MYSQL, "SELECT * FROM t FOR UPDATE", Kind.LOCKING_READ),
        (MYSQL, "LOCK TABLES t WRITE", Kind.LOCKING_READ),
        (MYSQL, "INSERT INTO t VALUES (1)", Kind.WRITE),
        (MYSQL, "CREATE TABLE t (a int)", Kind.DDL),
        (MYSQL, "SET @a = 1", Kind.SESSION),
        (MYSQL, "BEGIN", Kind.SESSION),
        (MYSQL, "SELECT LAST_INSERT_ID()", Kind.SESSION),
        (MYSQL, "SELECT f()", Kind.UNKNOWN),
        (MYSQL, "gibberish", Kind.UNKNOWN),
        (POSTGRESQL, "VACUUM t", Kind.DDL),
        (POSTGRESQL, "COPY t FROM STDIN", Kind.WRITE),
        (POSTGRESQL, "SELECT nextval('s')", Kind.WRITE),
        (POSTGRESQL, "SELECT pg_advisory_lock(1)", Kind.LOCKING_READ),
        (POSTGRESQL, "LISTEN c", Kind.SESSION),
        (MARIADB, "SELECT NEXT VALUE FOR s", Kind.WRITE),
    ],
)
def test_the_kind_says_what_sort_of_thing_it_is(dialect: str, sql: str, kind: Kind) -> None:
    """Not only read or not."""
    assert judge_text(sql, dialect=dialect).kind is kind


@pytest.mark.parametrize(
    ("dialect", "sql", "because"),
    [
        (MYSQL, "SELECT * FROM t FOR UPDATE", "locking read (FOR UPDATE)"),
        (MYSQL, "SELECT * FROM t LOCK IN SHARE MODE", "locking read (LOCK IN SHARE MODE)"),
        (MYSQL, "SELECT @a", "session (user variable @a)"),
        (MYSQL, "SELECT my_f(1)", "unknown (function my_f())"),
        (MYSQL, "SELECT @@identity", "session (variable @@identity)"),
        (MYSQL, "SELECT GET_LOCK('a', 1)", "locking read (GET_LOCK(): a named lock)"),
        (POSTGRESQL, "SELECT nextval('s')", "write (NEXTVAL(): a sequence)"),
        (POSTGRESQL, "SELECT 'x", "unknown (a string or quoted name does not end)"),
        (POSTGRESQL, "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", "write (DELETE)"),
        (MYSQL, "SHOW PROCESSLIST", "session (SHOW PROCESSLIST: answers about this server)"),
        (MYSQL, "", "unknown (no statement)"),
    ],
)
def test_the_reason_is_a_few_words(dialect: str, sql: str, because: str) -> None:
    """They appear in logs and on the dashboard."""
    assert str(judge_text(sql, dialect=dialect)) == because


@pytest.mark.parametrize(
    ("dialect", "sql", "tables"),
    [
        (MYSQL, "SELECT 1", set()),
        (MYSQL, "SELECT 1 FROM dual", set()),
        (MYSQL, "SELECT * FROM T a JOIN `U` b ON a.id = b.id, v", {"t", "u", "v"}),
        (MYSQL, "SELECT * FROM shop.orders o, shop.`order lines`", {"shop.orders", "shop.order lines"}),
        (MYSQL, "SELECT (SELECT max(a) FROM u) FROM t WHERE x IN (SELECT y FROM v)", {"t", "u", "v"}),
        (MYSQL, "SELECT * FROM t USE INDEX (i), u FORCE INDEX FOR JOIN (j) WHERE 1", {"t", "u"}),
        (MYSQL, "(SELECT a FROM t) UNION (SELECT b FROM u)", {"t", "u"}),
        (MYSQL, "SELECT extract(year FROM d), trim(BOTH FROM e) FROM t", {"t"}),
        (MYSQL, "SELECT 1 FROM t; SELECT 2 FROM u", {"t", "u"}),
        (MYSQL, "TABLE t", {"t"}),
        (MYSQL, "DESCRIBE t", {"t"}),
        (POSTGRESQL, 'SELECT * FROM "Mixed"."Case" AS x(a, b)', {"mixed.case"}),
        (POSTGRESQL, "SELECT * FROM generate_series(1, 2) g JOIN t USING (g)", {"t"}),
        (POSTGRESQL, "WITH a AS (SELECT * FROM t) SELECT * FROM a, u", {"t", "u"}),
        (POSTGRESQL, "SELECT * FROM t LEFT JOIN LATERAL (SELECT * FROM u) x ON true", {"t", "u"}),
        (POSTGRESQL, "SELECT * FROM ONLY t, (u JOIN v ON true)", {"t", "u", "v"}),
        (POSTGRESQL, "SELECT a IS DISTINCT FROM b FROM t", {"t"}),
        (POSTGRESQL, "WITH a AS (SELECT 1) SELECT * FROM s.a", {"s.a"}),
        # Here the name inside is the table, the name outside is not: not surely known.
        (POSTGRESQL, "WITH t AS (SELECT * FROM t) SELECT * FROM t", None),
        (POSTGRESQL, "SELECT * FROM ROWS FROM (generate_series(1, 2)) r", None),
        (MYSQL, "SELECT * FROM {oj t LEFT JOIN u ON t.a = u.a}", None),
        (MYSQL, "DELETE FROM t", None),
        (MYSQL, "SELECT * FROM t FOR UPDATE", None),
    ],
)
def test_tables_are_named_when_surely_known(dialect: str, sql: str, tables: set[str] | None) -> None:
    """Lower case, qualified as written; None when in doubt or when it is no read."""
    assert judge_text(sql, dialect=dialect).tables == tables


def test_the_users_pure_functions_are_reads() -> None:
    """By name, schema-qualified when so called."""
    own = frozenset({"price_of", "shop.stock_of"})
    for dialect in (MYSQL, MARIADB, POSTGRESQL, "other"):
        assert judge_text("SELECT price_of(a), shop.stock_of(b) FROM t", dialect=dialect, pure_functions=own).is_read
        assert not judge_text("SELECT stock_of(b) FROM t", dialect=dialect, pure_functions=own).is_read
        assert not judge_text("SELECT shop.price_of(b) FROM t", dialect=dialect, pure_functions=own).is_read


@pytest.mark.parametrize(
    ("dialect", "name", "kind"),
    [
        (MYSQL, "lower", Kind.READ),
        (MYSQL, "COUNT", Kind.READ),
        (MYSQL, "get_lock", Kind.LOCKING_READ),
        (MYSQL, "mine", Kind.UNKNOWN),
        (MYSQL, "db.lower", Kind.UNKNOWN),
        (POSTGRESQL, "pg_catalog.lower", Kind.READ),
        (POSTGRESQL, "pg_catalog.nextval", Kind.WRITE),
        (POSTGRESQL, "public.lower", Kind.UNKNOWN),
        (POSTGRESQL, "now", Kind.READ),
        (POSTGRESQL, "random", Kind.READ),
        (POSTGRESQL, "setseed", Kind.SESSION),
        ("sqlite", "abs", Kind.READ),
        ("sqlite", "last_insert_rowid", Kind.SESSION),
        ("mssql", "count", Kind.READ),
        ("mssql", "newid", Kind.UNKNOWN),
        (MYSQL, "", Kind.UNKNOWN),
    ],
)
def test_a_function_is_judged_by_its_name(dialect: str, name: str, kind: Kind) -> None:
    """Known to compute, known to do more, or unknown."""
    assert judge_function(name, dialect=dialect).kind is kind


@pytest.mark.parametrize(
    "sql",
    [
        "t.a + 1",
        "SQL_NO_CACHE",
        "STRAIGHT_JOIN",
        "DISTINCT",
        "lower(name) AS n",
        "(a + b) * 2",
        "a BETWEEN :low AND :high",
        "'; delete'",
        "/*+ MAX_EXECUTION_TIME(100) */",
        "USE INDEX (ix_a)",
        "(SELECT max(a) FROM u)",
        "a -- note\n",
        "count(*) OVER (PARTITION BY a)",
        "x.insert_count",
        "NULLS LAST",
        "",
    ],
)
def test_a_harmless_fragment_is_a_read(sql: str) -> None:
    """What people put into prefix_with(), with_hint(), literal_column() and text()."""
    assert judge_fragment(sql, dialect=MYSQL).is_read


@pytest.mark.parametrize(
    "sql",
    [
        "FOR UPDATE",
        "LOCK IN SHARE MODE",
        "FOR",
        "UPDATE",
        "SHARE",
        "INTO OUTFILE 'x'",
        "INTO @a",
        "@a := 1",
        "@a",
        "GET_LOCK('a', 1)",
        "get_lock",
        "my_function(1)",
        "a)",
        "(a",
        ") OR (",
        "a; DELETE FROM t",
        "a;",
        "a -- swallows what follows",
        "a # swallows what follows",
        "a --",
        "/* open",
        "'open",
        "`open",
        "NEXT VALUE",
        "SQL_CALC_FOUND_ROWS",
        "LAST_INSERT_ID()",
        "a /*! FOR UPDATE */",
        "(SELECT 1 FROM t FOR UPDATE)",
        "a\0",
    ],
)
def test_a_fragment_that_writes_locks_binds_or_escapes_is_not_a_read(sql: str) -> None:
    """Nor one that could do so together with what stands beside it."""
    assert not judge_fragment(sql, dialect=MYSQL).is_read
    assert not judge_fragment(sql, dialect="other").is_read


def test_a_fragment_names_no_tables_or_says_that_it_does_not_know() -> None:
    """An empty set is a statement, None is not."""
    assert judge_fragment("t.a + 1", dialect=MYSQL).tables == frozenset()
    assert judge_fragment("(SELECT 1 FROM u)", dialect=MYSQL).tables is None


@pytest.mark.parametrize("dialect", [*DIALECTS, "other"])
@pytest.mark.parametrize(
    "sql",
    [
        "",
        " ",
        ";",
        ";;;",
        "\0",
        "SELECT 1\0; DELETE FROM t",
        "\ud800",
        "SELECT \udfff FROM t",
        "'",
        '"',
        "`",
        "$",
        "$$",
        "$a",
        "/*",
        "/*!",
        "/*!5",
        "*/",
        "--",
        "#",
        "\\",
        "@",
        "@@",
        ":",
        "(",
        ")",
        "()",
        "EXPLAIN",
        "EXPLAIN (",
        "EXPLAIN ()",
        "EXPLAIN INSERT INTO t (",
        "SHOW",
        "COPY",
        "COPY (",
        "COPY () TO STDOUT",
        "WITH",
        "VALUES",
        "TABLE",
        "SELECT .",
        "SELECT ..(",
        ".(",
        "SELECT x.(",
        "SELECT \u212aelvin",
        "SELECT '\ud800'",
        "\u017felect 1",
    ],
)
def test_nothing_raises(dialect: str, sql: str) -> None:
    """Any string has a verdict; what is not understood is no read."""
    judge_fragment(sql, dialect=dialect)
    judge_function(sql, dialect=dialect)
    split(sql, dialect=dialect)
    verdict = judge_text(sql, dialect=dialect)
    assert not verdict.is_read or sql.upper().startswith(("SELECT", "VALUES", "TABLE", "WITH", "EXPLAIN", "SHOW"))


@pytest.mark.parametrize("garbage", [b"SELECT 1", None, 5, object()])
def test_what_is_no_text_is_unknown(garbage: Any) -> None:
    """Bytes are not decoded by guess."""
    assert judge_text(garbage, dialect=MYSQL).kind is Kind.UNKNOWN


def test_ten_thousand_parentheses_are_no_deeper_than_one() -> None:
    """There is no recursion in the walk."""
    deep = "SELECT " + "(" * 10_000 + "1" + ")" * 10_000
    for dialect in (*DIALECTS, "other"):
        assert judge_text(deep, dialect=dialect).is_read
        assert not judge_text(deep[:-1], dialect=dialect).is_read
        assert not judge_text(deep + " FOR UPDATE", dialect=dialect).is_read


def test_text_beyond_the_limit_is_not_looked_at() -> None:
    """Time and memory stay bounded."""
    huge = "SELECT " + "1," * (LONGEST // 2) + "1"
    assert judge_text(huge, dialect=MYSQL).kind is Kind.UNKNOWN
    assert judge_text(huge[:1_000_001], dialect=MYSQL).is_read


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT '" + "\\'" * 50_000,
        "/*" * 50_000,
        "SELECT " + "/*/" * 37_000,
        "$a$" * 37_000,
        "".join(f"$a{i}$" for i in range(12_000)),
        "SELECT E'" + "''" * 50_000,
        "SELECT E''" + "\n''" * 25_000,
        "SELECT E''" + "\n--x" * 25_000,
        "`" * 100_001,
        '"' * 100_001,
        "SELECT 1 " + "/*!50000 x */" * 8_000,
        "/*!1" * 25_000,
        "(" * 100_000,
        ";" * 100_000,
        "SELECT 1;" * 10_000,
        "@" * 100_000,
    ],
    ids=range(16),
)
def test_hostile_text_takes_linear_time(sql: str) -> None:
    """A hundred kilobytes each; anything worse would take minutes and trip the suite's time limit."""
    for dialect in (*DIALECTS, "other"):
        judge_text(sql, dialect=dialect)
        judge_fragment(sql, dialect=dialect)


def test_a_script_is_cut_at_its_semicolons() -> None:
    """Not at those in strings, comments and dollar quotes."""
    script = "SELECT ';' ; -- a;b\nSELECT $$;$$; /* ; /* ; */ */ SELECT 2;;\n"
    assert split(script, dialect=POSTGRESQL) == [
        "SELECT ';'",
        "-- a;b\nSELECT $$;$$",
        "/* ; /* ; */ */ SELECT 2",
    ]
    assert split("SELECT 1 # ;\n; /*!50000 SET a = ';' */; SELECT '\\';'", dialect=MYSQL) == [
        "SELECT 1 # ;",
        "/*!50000 SET a = ';' */",
        "SELECT '\\';'",
    ]
    assert split("SELECT 'open; SELECT 2", dialect=MYSQL) == ["SELECT 'open; SELECT 2"]
