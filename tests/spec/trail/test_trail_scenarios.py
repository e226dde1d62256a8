"""Runs the scenario files beside it: what a trail that arrives at 100 means here, and what a sight leaves at 100.

``run of a/1`` stands for the trail of that run; ``ahead`` is the primary's clock less this process's, ``since`` when
the reader began. ``servers``: as for decisions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rds_router.core.policy import RoutingPolicy
from rds_router.core.topology import Topology, evolve
from rds_router.core.trail import Trail, _short, sight_of, trail_of
from tests.spec import core_values as values

NOW = 100.0
SCENARIOS = values.scenarios(Path(__file__).parent)


def of(kind: str) -> Any:
    """Those of one kind."""
    return pytest.mark.parametrize("scenario", [each for each in SCENARIOS if kind in each.values[0]])


@of("means")
def test_what_arrives(scenario: dict[str, Any]) -> None:
    """The sight is as the scenario says."""
    given = scenario["trail"]
    found = None if given is None else Trail.parse(_text(given))
    options = {"ahead": scenario.get("ahead", 0.0), "margin": scenario.get("margin", 0.0), "now": NOW}
    sight = sight_of(found, believed(scenario), cluster=scenario.get("cluster", "here"), **options)
    assert sight == values.sight(scenario["means"])


@of("leaves")
def test_what_leaves(scenario: dict[str, Any]) -> None:
    """The trail is as the scenario says."""
    options = {"since": scenario["since"], "ahead": scenario.get("ahead", 0.0), "now": NOW}
    found = trail_of(values.sight(scenario["seen"]), believed(scenario), cluster="here", **options)
    assert (found and str(found)) == (scenario["leaves"] and _text(scenario["leaves"]))


@pytest.mark.parametrize("text", ["run:0123456789ab", "time:1700000000.250000"])
def test_its_text_is_read_again(text: str) -> None:
    assert str(Trail.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "run:", "run:xyz", "time:", "time:-1", "time:nan", "run:0123456789abcdef", "mysql:1"]
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Not a trail: "):
        Trail.parse(text)


def _text(words: str) -> str:
    return f"run:{_short(words.removeprefix('run of '), 'here')}" if words.startswith("run of ") else words


def believed(scenario: dict[str, Any]) -> Topology:
    """The topology after one probe of each server."""
    topology = Topology.of(
        [values.server(name, news or {}) for name, news in scenario["servers"].items()], RoutingPolicy()
    )
    for name, news in scenario["servers"].items():
        if news is not None:
            topology = evolve(topology, values.observation(name, news, at=NOW - 0.5), now=NOW)
    return topology
