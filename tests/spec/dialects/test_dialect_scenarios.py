"""Runs the scenario files beside it: what a server answers to its probe, and what is made of it.

``usual`` holds one row for each question; a scenario's answer is that row with changes (``{...}``), several such rows
(``[...]``), an error of the driver (``{"error": [code, text]}``), or what each spelling of the question gets
(``{"spellings": [...]}``). ``report`` names what differs from an empty report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rds_router.core.observation import Report, Role
from rds_router.core.position import parse_position
from rds_router.dialects import AURORA_MYSQL, AURORA_POSTGRESQL, Dialect, dialect_for, run_probe
from rds_router.dialects.base import Row

HERE = Path(__file__).parent
AURORA = {"aurora_mysql": AURORA_MYSQL, "aurora_postgresql": AURORA_POSTGRESQL}


class DriverError(Exception):
    """Carries its number as PyMySQL does, and its SQLSTATE as psycopg does."""

    @property
    def sqlstate(self) -> object:
        return self.args[0]


def scenarios() -> list[Any]:
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("*.json"))}
    return [
        pytest.param(name, file, scenario, id=f"{name}: {scenario['says']}")
        for name, file in files.items()
        for scenario in file["scenarios"]
    ]


@pytest.mark.parametrize(("name", "file", "scenario"), scenarios())
def test_probe(name: str, file: dict[str, Any], scenario: dict[str, Any]) -> None:
    """The report is as the scenario says, in every field; or the driver's error comes through."""
    dialect = AURORA.get(name) or dialect_for(name)
    server = AnsweringServer(dialect, file["usual"], scenario["answers"])
    if "raises" in scenario:
        with pytest.raises(DriverError) as refusal:
            run_probe(dialect, server.execute)
        assert refusal.value.args[0] == scenario["raises"]
    else:
        assert run_probe(dialect, server.execute) == expected(file["report"] | scenario["report"])


class AnsweringServer:
    """Answers the questions of one dialect as a scenario says; anything else it is asked is a fault."""

    def __init__(self, dialect: Dialect, usual: dict[str, Any], answers: dict[str, Any]) -> None:
        self.outcomes: dict[str, Any] = {}
        for query in dialect.probe:
            answer = answers[query.name]
            has_spellings = isinstance(answer, dict) and "spellings" in answer
            spellings = answer["spellings"] if has_spellings else [answer]
            for sql, outcome in zip((query.sql, *query.otherwise), spellings, strict=False):
                self.outcomes[sql] = outcome if "rows" in outcome else completed(usual[query.name], outcome)

    def execute(self, sql: str) -> Sequence[Row]:
        outcome = self.outcomes[sql]
        if "error" in outcome:
            raise DriverError(*outcome["error"])
        rows: Sequence[Row] = [{key: value_of(value) for key, value in row.items()} for row in outcome["rows"]]
        return rows


def completed(usual: dict[str, Any], answer: Any) -> dict[str, Any]:
    if isinstance(answer, list):
        return {"rows": [usual | changes for changes in answer]}
    return answer if "error" in answer else {"rows": [usual | answer]}


def value_of(value: Any) -> Any:
    return value["bytes"].encode() if isinstance(value, dict) else value


def expected(fields: dict[str, Any]) -> Report:
    positions = {name: fields.get(name) for name in ("position", "holds", "branched", "storage")}
    return Report(
        **{
            **fields,
            "role": Role(fields["role"]),
            **{name: None if text is None else parse_position(text) for name, text in positions.items()},
            "missing": tuple(fields.get("missing", ())),
        }
    )
