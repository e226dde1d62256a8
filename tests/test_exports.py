"""What ``import rds_router`` gives, and what it leaves alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rds_router

PUBLIC = [
    "CommitInDoubt",
    "ConfigurationError",
    "Contract",
    "Decision",
    "DiscoveryError",
    "Find",
    "IamAuth",
    "Kind",
    "NoPrimary",
    "NoServerAvailable",
    "Place",
    "PolicyError",
    "PrimaryChanged",
    "Reason",
    "Replica",
    "Router",
    "RouterClosed",
    "RouterError",
    "RoutingPolicy",
    "RoutingSession",
    "SecretsManager",
    "StaleRead",
    "Statement",
    "Tls",
    "Token",
    "Trail",
    "__version__",
    "classify",
    "prepare_transactions",
    "run_transaction",
    "scoped_session",
]


def in_a_new_process(program: str) -> Any:
    """What a program prints as JSON; a warning in it is an error."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_public_names_are_these() -> None:
    """A name is added or taken away knowingly: here, in tests/typing/api.py and in changelog.d."""
    assert rds_router.__all__ == PUBLIC


def test_each_public_name_exists_and_tells_what_it_is() -> None:
    for name in set(PUBLIC) - {"__version__"}:
        assert getattr(rds_router, name).__doc__, name


def test_the_table_of_contents_holds_nothing_else() -> None:
    """``__init__`` imports the public names and what it takes to do so late, nothing else."""
    tree = ast.parse(Path(rds_router.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert imported == {*PUBLIC, "TYPE_CHECKING", "Any", "import_module"}


def test_importing_costs_nothing_until_a_name_is_asked_for() -> None:
    """The budget is 60 ms above SQLAlchemy; what is not imported costs none of it."""
    program = """
import json, sys
import rds_router
print(json.dumps(sorted(each for each in sys.modules if each.startswith(("rds_router.", "sqlalchemy.")))))
"""
    assert in_a_new_process(program) == ["rds_router._version"]


def test_an_unknown_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'rds_router' has no attribute 'Rooter'"):
        rds_router.Rooter  # noqa: B018  # type: ignore[attr-defined]


def test_importing_starts_no_thread() -> None:
    """R13."""
    program = "import rds_router, threading, json; print(json.dumps([each.name for each in threading.enumerate()]))"
    assert in_a_new_process(program) == ["MainThread"]


def test_importing_pulls_in_no_optional_library() -> None:
    """What is optional is imported by the one file that is about it."""
    program = """
import json, sys
import rds_router
optional = ("alembic", "click", "cryptography", "dotenv", "flask", "flask_sqlalchemy", "pandas", "prometheus_client",
            "opentelemetry", "psycopg", "pymysql", "rich", "sqlglot", "testcontainers", "asyncio")
import sqlalchemy.orm
print(json.dumps(sorted(each for each in optional if each in sys.modules)))
"""
    beyond_sqlalchemy = """
import json, sys
import sqlalchemy, sqlalchemy.orm
print(json.dumps(["asyncio"] if "asyncio" in sys.modules else []))
"""
    assert in_a_new_process(program) == in_a_new_process(beyond_sqlalchemy)


def test_importing_imports_no_lab_and_no_command_line() -> None:
    program = """
import json, sys
import rds_router
own = sorted(each for each in sys.modules if each.startswith(("rds_router.lab", "rds_router.cli", "rds_router.flask")))
print(json.dumps(own))
"""
    assert in_a_new_process(program) == []


def test_classify_is_a_function_beside_the_package_of_that_name() -> None:
    """``rds_router.classify(...)`` is public; ``import rds_router.classify.text`` does not take it away."""
    program = """
import json
import rds_router
import rds_router.classify.text
from rds_router import classify
print(json.dumps([rds_router.classify("select 1", dialect="mysql").is_read, classify("delete from t").is_read]))
"""
    assert in_a_new_process(program) == [True, False]


def test_flask_names() -> None:
    flask = pytest.importorskip("rds_router.flask", reason="Flask-SQLAlchemy is not installed")
    assert flask.__all__ == ["FlaskRoutingSession", "SQLAlchemy", "primary_only", "reads"]


def test_the_package_is_typed() -> None:
    assert (Path(rds_router.__file__).parent / "py.typed").exists()
