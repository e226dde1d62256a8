"""Fuzzes the text classifier with atheris (libFuzzer). Run by hand, for a stated time:

    python tests/fuzz/fuzz_text.py -max_total_time=120 tests/fuzz/corpus

The first byte of an input chooses the engine, the rest is the text. Looked for: exceptions, slow inputs
(``-timeout=5``), reads that stop being reads when a comment is put in front, and harmless fragments that hide
what stands behind them.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["rds_router.classify"]):
    from rds_router.classify.text import judge_fragment, judge_function, judge_text, split

ENGINES = ("mysql", "mariadb", "postgresql", "sqlite", "other")


def one_input(data: bytes) -> None:
    """Judge one input in every way and compare."""
    if not data:
        return
    dialect = ENGINES[data[0] % len(ENGINES)]
    sql = data[1:].decode("utf-8", "surrogateescape")
    verdict = judge_text(sql, dialect=dialect)
    judge_function(sql, dialect=dialect)
    pieces = split(sql, dialect=dialect)
    if verdict.is_read:
        assert judge_text(f"/* note */ {sql}", dialect=dialect).is_read, sql
        assert not judge_text(f"{sql}\n;DELETE FROM t", dialect=dialect).is_read, sql
        assert all(judge_text(piece, dialect=dialect).is_read for piece in pieces), sql
    if judge_fragment(sql, dialect=dialect).is_read and dialect != "other":
        assert not judge_text(f"SELECT {sql} FROM t FOR UPDATE", dialect=dialect).is_read, sql
        assert not judge_text(f"SELECT a {sql} ; DELETE FROM t", dialect=dialect).is_read, sql


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
