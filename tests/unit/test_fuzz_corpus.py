"""What fuzzing kept (``tests/fuzz/corpus``), replayed: no engine's rules stumble over any of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rds_router.classify.shape import normal_form
from rds_router.classify.text import DIALECTS, judge_fragment, judge_function, judge_text, split
from rds_router.core.statement import Kind, Statement

CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "corpus").iterdir())


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) >= 60


@pytest.mark.parametrize("dialect", [*DIALECTS, "another"])
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_nothing_fuzzing_found_breaks_the_classifier(path: Path, dialect: str) -> None:
    # The first byte chose the engine; here it is each in turn.
    sql = path.read_bytes()[1:].decode("utf-8", "surrogateescape")
    verdict = judge_text(sql, dialect=dialect)
    assert isinstance(verdict, Statement)
    assert isinstance(judge_fragment(sql, dialect=dialect), Statement)
    assert isinstance(judge_function(sql, dialect=dialect), Statement)
    assert isinstance(normal_form(sql, dialect=dialect), str)
    pieces = split(sql, dialect=dialect)
    if verdict.kind is Kind.READ:
        assert all(judge_text(piece, dialect=dialect).is_read for piece in pieces)
        assert not judge_text(f"{sql}\n;DELETE FROM t", dialect=dialect).is_read
