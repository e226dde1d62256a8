"""What must hold for every string, tried on random ones."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rds_router.classify.lexer import readings
from rds_router.classify.text import DIALECTS, judge_fragment, judge_function, judge_text, rules_of, split
from rds_router.core.statement import Statement
from tests.spec.classify_cases import ALL

dialects = st.sampled_from([*DIALECTS, "other"])
engines = st.sampled_from(["mysql", "mariadb", "postgresql"])

PIECES = [
    *"()[]{},.;:@#$%?!*/\\'\"`+-=<> \n\t\r\0",
    *"SELECT FROM WHERE WITH AS IN FOR UPDATE SHARE INTO LOCK TABLE VALUES INSERT DELETE EXPLAIN SHOW COPY".split(),
    *"ON JOIN UNION ALL DISTINCT ONLY LATERAL OVER FILTER ROWS NEXT VALUE SET BEGIN RECURSIVE ANALYZE".split(),
    *"t u x nextval lower get_lock pg_catalog public @@identity @@ @a := :: :n %s %(n)s $1 $$ $a$".split(),
    *"/* */ /*! /*!50000 /*M! -- --x E' U&\" N' b' 1 1. .5 1e5 0x1f 1for -- '' \"\" `` \\' \\\\ ''''".split(),
    " ",
    "\u212a",
    "\ud800",
    "é",
    "\u3000",
]
soups = st.lists(st.sampled_from(PIECES), max_size=25).flatmap(
    lambda pieces: st.sampled_from(["", " "]).map(lambda gap: gap.join(pieces))
)
strings = st.one_of(st.text(max_size=60), soups, soups.map(lambda soup: "SELECT " + soup))


@settings(max_examples=500, deadline=None)
@given(strings, dialects)
def test_every_string_has_a_verdict(sql: str, dialect: str) -> None:
    """No exception, whatever the text."""
    for verdict in (
        judge_text(sql, dialect=dialect),
        judge_fragment(sql, dialect=dialect),
        judge_function(sql, dialect=dialect),
    ):
        assert isinstance(verdict, Statement)
        assert verdict.is_read or (verdict.because and verdict.tables is None)


@settings(max_examples=300, deadline=None)
@given(strings, dialects)
def test_splitting_loses_nothing(sql: str, dialect: str) -> None:
    """A script's pieces are in it, in order."""
    position = 0
    for piece in split(sql, dialect=dialect):
        found = sql.find(piece, position)
        assert found >= position
        position = found + len(piece)


@settings(max_examples=300, deadline=None)
@given(strings, engines)
def test_a_read_cut_into_statements_is_all_reads(sql: str, dialect: str) -> None:
    """Each statement of a text counts."""
    if judge_text(sql, dialect=dialect).is_read:
        assert all(judge_text(piece, dialect=dialect).is_read for piece in split(sql, dialect=dialect))


@settings(max_examples=500, deadline=None)
@given(soups, engines)
def test_a_fragment_that_is_a_read_hides_nothing_behind_it(fragment: str, dialect: str) -> None:
    """Whatever stands around a harmless fragment keeps its meaning."""
    if not judge_fragment(fragment, dialect=dialect).is_read:
        return
    assert not judge_text(f"SELECT {fragment} FROM t FOR UPDATE", dialect=dialect).is_read
    assert not judge_text(f"SELECT a {fragment} ; DELETE FROM t", dialect=dialect).is_read
    assert not judge_text(f"SELECT (SELECT {fragment} FROM t) INTO x FROM t", dialect=dialect).is_read


READS = {dialect: [c.sql for c in ALL if c.dialect == dialect and c.is_read] for dialect in DIALECTS}
WRITES = {
    # What stands behind a quote or comment left open may close it.
    dialect: [c.sql for c in ALL if c.dialect == dialect and not c.is_read and "unfinished" not in c.sql]
    for dialect in DIALECTS
}


@settings(max_examples=200, deadline=None)
@given(st.data(), engines)
def test_one_write_among_reads_is_always_seen(data: st.DataObject, dialect: str) -> None:
    """In any place of a batch."""
    reads = data.draw(st.lists(st.sampled_from(READS[dialect]), max_size=4))
    write = data.draw(st.sampled_from(WRITES[dialect]))
    at = data.draw(st.integers(0, len(reads)))
    batch = "\n;\n".join([*reads[:at], write, *reads[at:]])
    assert not judge_text(batch, dialect=dialect).is_read


NAMES = st.sampled_from(["a", "b", "t.c", "updated", "lock_no", '"q"', "n1"])
POISONS = {
    "mysql": ["get_lock('a', 1)", "last_insert_id()", "@v", "@v := 1", "own_f(1)", "(SELECT 1 FROM t FOR UPDATE)"],
    "mariadb": ["nextval(s)", "NEXT VALUE FOR s", "@@identity", "(SELECT 1 FROM t LOCK IN SHARE MODE)"],
    "postgresql": ["nextval('s')", "pg_catalog . \"nextval\" ('s')", "own_f(1)", "(SELECT 1 FROM t FOR KEY SHARE)"],
}


def _expressions(leaf: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pair = st.tuples(inner, inner)
        return st.one_of(
            inner.map(lambda e: f"({e})"),
            inner.map(lambda e: f"lower({e})"),
            pair.map(lambda p: f"coalesce({p[0]}, {p[1]})"),
            pair.map(lambda p: f"{p[0]} + {p[1]}"),
            pair.map(lambda p: f"CASE WHEN {p[0]} > 0 THEN {p[1]} ELSE 0 END"),
            pair.map(lambda p: f"{p[0]} IN ({p[1]}, 2)"),
            inner.map(lambda e: f"sum({e}) OVER (PARTITION BY a)"),
            inner.map(lambda e: f"(SELECT {e} FROM u AS x WHERE x.a = 1)"),
            inner.map(lambda e: f"EXISTS (SELECT 1 FROM u WHERE {e} = 1)"),
            inner.map(lambda e: f"CAST({e} AS decimal(10, 2))"),
            inner.map(lambda e: f"trim(BOTH ' ' FROM {e})"),
        )

    return st.recursive(leaf, grow, max_leaves=6)


QUERIES = [
    "SELECT {} FROM t",
    "SELECT a FROM t WHERE {} = 1",
    "SELECT a FROM t JOIN u ON {} = 1 JOIN v ON true",
    "SELECT a FROM t GROUP BY {} HAVING count(*) > 1",
    "SELECT a FROM t ORDER BY {}",
    "SELECT a FROM (SELECT {} AS z FROM u) AS d",
    "WITH c AS (SELECT {} AS z) SELECT * FROM c, t AS x",
    "SELECT a FROM t UNION ALL SELECT {} FROM u",
    "(SELECT {}) UNION (SELECT 2)",
    "VALUES ({})",
]


@settings(max_examples=300, deadline=None)
@given(st.data(), engines, st.sampled_from(QUERIES))
def test_harmless_expressions_make_reads(data: st.DataObject, dialect: str, query: str) -> None:
    """Depth and nesting lose no read."""
    sql = query.replace("{}", data.draw(_expressions(NAMES)))
    assert judge_text(sql, dialect=dialect).is_read, sql


@settings(max_examples=300, deadline=None)
@given(st.data(), engines, st.sampled_from(QUERIES))
def test_one_poisoned_leaf_is_found_anywhere(data: st.DataObject, dialect: str, query: str) -> None:
    """The same queries with one dangerous leaf: never a read."""
    poison = data.draw(st.sampled_from(POISONS[dialect]))
    grown = data.draw(_expressions(st.just("\x01")))
    sql = query.replace("{}", grown.replace("\x01", poison, 1).replace("\x01", "a"))
    assert not judge_text(sql, dialect=dialect).is_read, sql


@settings(max_examples=500, deadline=None)
@given(strings, engines)
def test_tokens_hold_every_letter_outside_of_comments(sql: str, dialect: str) -> None:
    """The lexer drops white space and comments and nothing else."""
    if "--" in sql or "/*" in sql or "#" in sql:
        return
    try:
        (tokens,) = readings(sql, rules_of(dialect).lexis)
    except ValueError:
        return
    white = str.maketrans("", "", " \t\n\r\f\v")
    assert "".join(tokens).translate(white) == sql.translate(white)
