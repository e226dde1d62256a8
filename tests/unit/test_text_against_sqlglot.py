"""A second opinion: where sqlglot can parse a statement we call a read, it must see no write and no lock in it."""

from __future__ import annotations

import logging

import pytest

from rds_router.classify.text import judge_text
from tests.spec.classify_cases import ALL

sqlglot = pytest.importorskip("sqlglot")

DIALECTS = {"mysql": "mysql", "mariadb": "mysql", "postgresql": "postgres"}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("sqlglot").setLevel(logging.ERROR)


def test_sqlglot_sees_no_write_in_what_is_called_a_read() -> None:
    """Differential: it parses, we do not; neither may find what the other calls harmless."""
    from sqlglot import exp

    dangerous = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into, exp.Lock, exp.Create, exp.Drop, exp.Set)
    compared = 0
    for case in ALL:
        # A plan of a write is a read, and sqlglot does not know EXPLAIN from what it explains.
        if not judge_text(case.sql, dialect=case.dialect).is_read or case.sql.upper().startswith("EXPLAIN"):
            continue
        try:
            trees = sqlglot.parse(case.sql, read=DIALECTS[case.dialect])
        except (sqlglot.errors.SqlglotError, TypeError):
            continue  # not all SQL of all versions, and now and then a fault of its own
        compared += 1
        for tree in trees:
            found = tree.find(*dangerous) if tree is not None else None
            assert found is None, f"{case.sql!r}: {found!r}"
    assert compared > 200
