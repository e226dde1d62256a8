"""The normal form of SQL text: alike for other values, free of values, and made of any string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rds_router import Router
from rds_router.classify import shape
from rds_router.classify.shape import normal_form
from rds_router.classify.text import DIALECTS

ENGINES = (*DIALECTS, "another")


@pytest.mark.parametrize("dialect", ENGINES)
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT A FROM t WHERE b = 1 AND c = 'x' LIMIT 5",
        "select a\n\tfrom T where b=2.5e3 and c='it''s' limit 10",
        "select a from t where b = ? and c=? limit ?",
        "SELECT a FROM t WHERE b = %s AND c=%s LIMIT %s",
        "SELECT a FROM t WHERE b = %(b)s AND c=%(c)s LIMIT %(d)s",
        "SELECT a FROM t WHERE b = :b AND c=:c LIMIT :d",
        "/* who */ SELECT a -- why\n FROM t WHERE b = 0 AND c = '/* no comment' LIMIT 1",
    ],
)
def test_values_placeholders_case_space_and_comments_are_no_part_of_it(sql: str, dialect: str) -> None:
    assert normal_form(sql, dialect=dialect) == "select a from t where b = ? and c = ? limit ?"


@pytest.mark.parametrize(
    ("dialect", "sql", "form"),
    [
        ("mysql", "SELECT \"x\", 0xFF, x'ab', B'01', _utf8mb4'a', N'b'", "select ?, ?, ?, ?, _utf8mb4 ?, ?"),
        ("mysql", "SELECT `Aa`, @V, @v := 1 # 2", "select `Aa`, @v, @v := ?"),
        ("mysql", "SELECT /*!80000 f(1), */ 2", "select ? /* or */ select f (?), ?"),
        ("mysql", r"SELECT 'a\'b', c", "select ?, c"),
        ("postgresql", "SELECT 0x1F, 1_000, $$a$$, $t$b$t$, $1", "select ?, ?, ?, ?, ?"),
        (
            "postgresql",
            r"""SELECT E'\'a', x'1f', "Aa", 'b'::Text, d ?| e, f @? g""",
            'select ?, ?, "Aa", ? :: text, d ?| e, f @? g',
        ),
        ("postgresql", "SELECT 'a'\n'b' /* c /* d */ e */", "select ?"),
        ("sqlite", "SELECT @a, $b, ?1, [Cc]", "select ?, ?, ?, [Cc]"),
        ("mysql", "", ""),
    ],
)
def test_each_engine_has_its_own_literals(dialect: str, sql: str, form: str) -> None:
    assert normal_form(sql, dialect=dialect) == form


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        ("mysql", "SELECT 'secret"),
        ("mysql", r"SELECT '\', secret \', a'"),
        ("postgresql", r"SELECT '\', secret \', a'"),
        ("postgresql", "SELECT $a$secret"),
        ("sqlite", "SELECT 'secret\ud800"),
    ],
)
def test_text_that_cannot_be_read_in_one_way_is_a_digest(dialect: str, sql: str) -> None:
    form = normal_form(sql, dialect=dialect)
    assert form.startswith("sha256:")
    assert len(form) == 71
    assert form != normal_form(sql + "x", dialect=dialect)


def test_text_too_long_to_look_at_is_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape, "LONGEST", 8)
    assert normal_form("SELECT a", dialect="mysql") == "select a"
    assert normal_form("SELECT aa", dialect="mysql").startswith("sha256:")


@given(st.text(), st.sampled_from(ENGINES))
def test_any_string_has_one(sql: str, dialect: str) -> None:
    assert isinstance(normal_form(sql, dialect=dialect), str)


@given(st.text(alphabet=st.characters(blacklist_characters="\\")), st.sampled_from(ENGINES))
def test_what_is_in_a_string_is_not_in_it(value: str, dialect: str) -> None:
    quoted = value.replace("'", "''")
    assert normal_form(f"SELECT a FROM t WHERE b = '{quoted}' AND c", dialect=dialect) in (
        "select a from t where b = ? and c",
        normal_form("SELECT a FROM t WHERE b = '/*!80000' AND c", dialect=dialect),
    )


def test_refusals_are_counted_by_shape_in_bounded_space() -> None:
    with Router("mysql+pymysql://db/app") as router:
        for number in range(3):
            router.healed(f"SELECT f FROM v WHERE a = {number}", "r1", ValueError("no"))  # type: ignore[arg-type]
        assert router.healed_shapes == {"select f from v where a = ?": 3}
        for number in range(1024):
            router.healed(f"SELECT c{number}", "r1", ValueError("no"))  # type: ignore[arg-type]
        assert len(router.healed_shapes) == 1024
        assert "select f from v where a = ?" not in router.healed_shapes
