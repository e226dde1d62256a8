"""Runs the scenario files beside it: what a transaction's doings leave behind, step by step.

``steps``: ``{"hold": NAME, "wrote": bool}`` holds the transaction on the primary, ``{"end": null}`` ends it without a
write that lasts, ``{"end": TOKEN}`` ends it with one, at 200 s (``tables`` it wrote to; ``"saw": false``: it read
nothing on the primary). ``becomes`` is the scope after the last step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rds_router.core.scope import Hold, Scope
from tests.spec import core_values as values


@pytest.mark.parametrize("scenario", values.scenarios(Path(__file__).parent))
def test_scope(scenario: dict[str, Any]) -> None:
    """The scope is as the scenario says; the one it came from is untouched."""
    first = values.scope(scenario.get("scope", {}))
    scope = first
    for step in scenario["steps"]:
        scope = _after(scope, step)
    assert scope == values.scope(scenario["becomes"])
    assert first == values.scope(scenario.get("scope", {}))


def _after(scope: Scope, step: dict[str, Any]) -> Scope:
    if "hold" in step:
        return scope.held(Hold[step["hold"]], wrote=step["wrote"])
    tables = frozenset(step["tables"]) if "tables" in step else None
    written = None if step["end"] is None else values.token(step["end"])
    return scope.ended(written=written, now=200.0, tables=tables, saw=step.get("saw", True))
