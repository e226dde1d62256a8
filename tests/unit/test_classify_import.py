"""``rds_router.classify`` is a function and a package; importing it loads nothing heavy."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

import rds_router

HEAVY = {
    "asyncio", "boto3", "click", "flask", "flask_sqlalchemy", "hypothesis", "psycopg", "pymysql", "prometheus_client",
    "rich", "sqlglot", "testcontainers",
}  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """The modules a fresh interpreter has loaded on top of ``import sqlalchemy``."""
    code = (
        "import json, sys, sqlalchemy; before = set(sys.modules)\n"
        f"{statement}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_no_library_but_sqlalchemy() -> None:
    loaded = loaded_by("import rds_router")
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
    assert not any(name.startswith(("rds_router.cli", "rds_router.flask", "rds_router.lab")) for name in loaded)


def test_the_classifier_knows_dialects_without_loading_them() -> None:
    loaded = loaded_by("from rds_router.classify import classify; classify(sqlalchemy.select(sqlalchemy.func.now()))")
    assert not any(name.startswith("sqlalchemy.dialects.") for name in loaded)
    assert "rds_router.classify.orm_rules" not in loaded


def test_it_is_called_by_the_packages_name() -> None:
    assert rds_router.classify("SELECT 1", dialect="mysql").is_read
    assert not rds_router.classify("DELETE FROM t", dialect="postgresql").is_read


@pytest.mark.parametrize("first", ["import rds_router.classify.constructs", "import rds_router", ""])
def test_it_can_be_called_whatever_was_imported_first(first: str) -> None:
    code = f"{first}\nimport rds_router, rds_router.classify.hints\nprint(rds_router.classify('SELECT 1'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "read\n"


def test_the_package_itself_answers_a_call() -> None:
    package = importlib.import_module("rds_router.classify")
    assert callable(package)
    assert package("SELECT 1", dialect="mariadb").is_read
    assert set(package.__all__) == {"Classifier", "classify", "max_staleness_of", "route_of"}
