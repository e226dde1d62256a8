"""The house rules that no linter of others checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rds_router"
PURE = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "math",
    "operator",
    "re",
    "typing",
}
"""Modules of the standard library that cannot reach the world. Importing ``datetime`` would be reaching for a clock."""


def modules(folder: Path) -> Iterator[Path]:
    return (each for each in sorted(folder.rglob("*.py")) if "__pycache__" not in each.parts)


def imports(module: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("module", list(modules(PACKAGE / "core")), ids=lambda each: each.name)
def test_the_core_imports_nothing_that_reaches_the_world(module: Path) -> None:
    """import-linter forbids a list; this admits one."""
    for name in imports(module):
        is_own = name.startswith("rds_router.core.") or name == "rds_router.errors"
        assert is_own or name.split(".")[0] in PURE, f"{module.name} imports {name}"


def test_no_module_is_longer_than_500_lines() -> None:
    lengths = {
        str(each.relative_to(ROOT)): len(each.read_text(encoding="utf-8").splitlines()) for each in modules(PACKAGE)
    }
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_the_lab_may_import_nothing_else_of_the_package() -> None:
    """The contract in pyproject.toml names each module; a new one must be named there."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = configuration["tool"]["importlinter"]["contracts"]
    (forbidden,) = (set(each["forbidden_modules"]) for each in contracts if each["name"].startswith("The lab"))
    present = {each.stem if each.is_file() else each.name for each in PACKAGE.iterdir() if is_module(each)}
    assert forbidden == {f"rds_router.{name}" for name in present - {"lab", "__init__"}}


def is_module(path: Path) -> bool:
    return path.suffix == ".py" or (path / "__init__.py").exists()


def tracked_text() -> Iterator[Path]:
    for folder in (".", ".ci", ".github", "docs", "rds_router", "tests", "examples", "benchmarks", "changelog.d"):
        found = (ROOT / folder).glob("*") if folder == "." else (ROOT / folder).rglob("*")
        for path in found:
            if path.is_file() and path.suffix in {".py", ".md", ".toml", ".ini", ".yml", ".sh", ".svg", ".html", ""}:
                yield path


def test_no_package_index_is_named() -> None:
    """Where packages come from is the machine's to say."""
    index = re.compile(r"https?://(pypi|test\.pypi|files\.pythonhosted|registry|deb)\.")
    assert [
        str(path) for path in tracked_text() if index.search(path.read_text(encoding="utf-8", errors="replace"))
    ] == []
