"""Runs the scenario files beside it: one server's health after each thing that happened to it.

A step is ``[at, "answers", lag]`` (a good probe), ``[at, "fails"]`` (a probe that failed), ``[at, "read fails"]``, or
``[at, "then", what must be so now]``: ``state``, ``share`` of its weight, and ``pause``, the least and the most seconds
until it is asked again. ``urgent_pause`` is the same while the primary is missing. ``is_new``: it was added later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rds_router.core.health import AT_START, NEWCOMER, Health, after_answer, after_failure, pause
from rds_router.core.policy import RoutingPolicy
from tests.spec import core_values as values


@pytest.mark.parametrize("scenario", values.scenarios(Path(__file__).parent))
def test_health(scenario: dict[str, Any]) -> None:
    """At each "then" the health is as the scenario says, in everything it names."""
    policy = values.policy(scenario.get("policy", {}))
    health = NEWCOMER if scenario.get("is_new") else AT_START
    for at, what, *rest in scenario["steps"]:
        if what == "then":
            (wanted,) = rest
            described = shown(health, policy, at)
            assert {name: described[name] for name in wanted} == wanted
        elif what == "answers":
            health = after_answer(health, rest[0], policy, now=at)
        else:
            health = after_failure(health, policy, now=at, is_read=what == "read fails")


def shown(health: Health, policy: RoutingPolicy, now: float) -> dict[str, Any]:
    """The health in the words of the scenario files."""
    return {
        "state": health.state.value,
        "share": round(health.share_at(now, policy.slow_start), 6),
        "pause": [round(pause(health, policy, draw=draw), 6) for draw in (0.0, 1.0)],
        "urgent_pause": [round(pause(health, policy, draw=draw, is_urgent=True), 6) for draw in (0.0, 1.0)],
    }
