"""Runs the scenario files beside it: which position covers which, and what is no position at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rds_router.core.position import format_position, parse_position

HERE = Path(__file__).parent


def scenarios(*names: str) -> list[Any]:
    return [
        pytest.param(scenario, id=f"{name}: {scenario['says']}")
        for name in names
        for scenario in json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("scenario", scenarios("mysql", "mariadb", "postgresql", "clock"))
def test_which_covers_which(scenario: dict[str, Any]) -> None:
    """Both directions of covers, and the union of the two, are as the scenario says."""
    position, other = parse_position(scenario["position"]), parse_position(scenario["other"])
    assert position.covers(other) is scenario["covers"]
    assert other.covers(position) is scenario["covered"]
    for one, two in ((position, other), (other, position)):
        if scenario["union"] is None:
            with pytest.raises(TypeError, match="different flavours"):
                one.union(two)
        else:
            assert format_position(one.union(two)) == scenario["union"]


@pytest.mark.parametrize("scenario", scenarios("malformed"))
def test_malformed_text(scenario: dict[str, Any]) -> None:
    """Each of these texts is refused with a ValueError that shows what stood after the flavour."""
    for text in scenario["texts"]:
        with pytest.raises(ValueError, match=r"^Not a ") as refusal:
            parse_position(text)
        flavour, _, rest = text.partition(":")
        shown = rest if flavour in ("mysql", "mariadb", "postgresql", "clock") and ":" in text else text
        assert repr(shown) in str(refusal.value)
