"""docs/classification.md says what the code does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_classification", DOCS / "generate_classification.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_page_is_up_to_date(generator: ModuleType) -> None:
    committed = (DOCS / "classification.md").read_text(encoding="utf-8")
    assert committed == generator.page(), "run: python docs/generate_classification.py"


def test_the_page_shows_what_each_engine_is_known_by(generator: ModuleType) -> None:
    page = generator.page()
    for wanted in ("## MySQL", "## MariaDB", "## PostgreSQL", "`get_lock`", "`pg_notify`", "`Select`", "`@@gtid_...`"):
        assert wanted in page


def test_no_example_is_judged_otherwise_than_its_heading_says(generator: ModuleType) -> None:
    for heading, statements in generator.EXAMPLES.items():
        reads = {
            (sql, dialect)
            for sql, whose in statements.items()
            for dialect in whose
            if generator.classify(sql, dialect=dialect).is_read
        }
        if heading == "Reads":
            unread = {sql for sql, whose in statements.items() for dialect in whose if (sql, dialect) not in reads}
            assert unread == {"SELECT my_function(1)"}
        elif heading == "Locks":
            assert reads == set()
