"""Nothing in SQLAlchemy that can be part of a statement is outside the classifier's tables by oversight."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
import sqlalchemy
from sqlalchemy.sql.annotation import Annotated
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.visitors import ExtendedInternalTraversal, Visitable
from sqlalchemy.types import TypeEngine

from rds_router.classify import elements
from rds_router.classify.elements import INERT, KNOWN, MANY, READERS, SINGLE, plan_of

LEFT_OUT = {
    "sql.schema.CallableColumnDefault": "a default is run by an INSERT, not sent by itself",
    "sql.schema.ColumnDefault": "a default",
    "sql.schema.ColumnElementColumnDefault": "a default",
    "sql.schema.DefaultGenerator": "a default",
    "sql.schema.ScalarElementColumnDefault": "a default",
    "sql.schema._InsertSentinelColumnDefault": "a default",
    "sql.elements.TString": "a Python 3.14 template: this package is for 3.10 to 3.13",
    "sql.elements._TStringText": "part of a template",
    "sql.elements.DMLTargetCopy": "within INSERT only, which is a write whatever else is in it",
    "sql.crud._multiparam_column": "made by the compiler within INSERT",
    "ext.baked": "deprecated",
}
"""Concrete classes that are UNKNOWN on purpose, each with its reason."""

ABSTRACT = {
    "AbstractTextClause", "AnsiFunction", "BaseDDLElement", "ClauseElement", "ColumnElement", "DQLDMLClauseElement",
    "ExecutableReturnsRows", "FromClause", "FromClauseAlias", "AliasedReturnsRows", "GenerativeSelect",
    "GroupedElement", "HasCTE", "KeyedColumnElement", "LateralFromClause", "NamedColumn", "NamedFromClause",
    "OnConflictClause", "OperatorExpression", "ReturnsRows", "SelectBase", "Selectable", "SelectsRows",
    "SyntaxExtension", "TypedReturnsRows", "UpdateBase", "ValuesBase", "WrapsColumnExpression", "DMLWhereBase",
    "_IdentifiedClause", "ExecutableStatement", "Executable",
}  # fmt: skip
"""Bases of which nothing is made."""


def every_class() -> Iterator[type]:
    for module in pkgutil.walk_packages(sqlalchemy.__path__, "sqlalchemy."):
        if ".testing" in module.name or ".mssql" in module.name or ".oracle" in module.name:
            continue
        try:
            importlib.import_module(module.name)
        except ImportError:
            continue
    todo, seen = [Visitable], set()
    while todo:
        for cls in todo.pop().__subclasses__():
            if cls not in seen:
                seen.add(cls)
                todo.append(cls)
                yield cls


def path_of(cls: type) -> str:
    return f"{cls.__module__.removeprefix('sqlalchemy.')}.{cls.__name__}"


@pytest.mark.filterwarnings("ignore")
def test_every_class_of_sqlalchemy_is_known_or_left_out_for_a_reason() -> None:
    unknown = sorted(
        path_of(cls)
        for cls in every_class()
        if issubclass(cls, (ClauseElement, Executable))
        and cls.__module__.startswith("sqlalchemy.")
        and not issubclass(cls, (TypeEngine, Annotated))
        and ".mssql" not in cls.__module__
        and ".oracle" not in cls.__module__
        and cls.__name__ not in ABSTRACT
        and plan_of(cls, "mysql") is None
        and path_of(cls) not in LEFT_OUT
    )
    assert unknown == []


def test_every_class_in_the_table_exists_in_one_of_the_two_releases() -> None:
    only_in_21 = {
        "NamedFromGrouping", "AggregateOrderBy", "ElementList", "FrameClause", "OrderByList", "DMLLimitClause",
        "DistinctOnClause",
    }  # fmt: skip
    missing = {
        name
        for module, names in KNOWN.items()
        for name in names
        if not hasattr(importlib.import_module(f"sqlalchemy.{module}"), name)
    }
    assert missing <= only_in_21
    if sqlalchemy.__version__ >= "2.1":
        assert missing == set()


def test_the_kinds_of_attribute_are_disjoint_and_exist() -> None:
    kinds = {elements._kind_of(member) for member in ExtendedInternalTraversal}
    groups = [INERT, SINGLE, MANY, frozenset(READERS)]
    assert sum(map(len, groups)) == len(frozenset().union(*groups))
    gone = frozenset().union(*groups) - kinds
    assert gone <= {"PARAMS", "COMPILE_STATE_FUNCS", "WITH_CONTEXT_OPTIONS"}, "each is in one of the releases only"


def test_a_class_with_an_attribute_of_a_new_kind_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "READERS", {})
    monkeypatch.setattr(elements, "_plans", {})
    assert plan_of(sqlalchemy.Select, "mysql") is None
    assert plan_of(sqlalchemy.sql.elements.Null, "mysql") is not None
