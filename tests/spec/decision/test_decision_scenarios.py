"""Runs the scenario files beside it: which server answers, why, and the line that says so.

``servers`` name what each server's last probe said (``{}``: a primary that is well, or a replica of unknown lag;
``null``: not probed yet; ``at``: when, usually 99.5; a list: what its probes said, one after the other), in the order
of the list; ``drained`` are out of use. The statement is asked at 100, with ``load`` connections in use.
``decides`` is Reason, target and printed line; ``refuses`` is the error's text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rds_router.core.decision import Reason, decide
from rds_router.core.topology import Drain, Topology, evolve
from rds_router.errors import NoServerAvailable
from tests.spec import core_values as values

NOW = 100.0
HERE = Path(__file__).parent


@pytest.mark.parametrize("scenario", values.scenarios(HERE))
def test_decision(scenario: dict[str, Any]) -> None:
    """The decision, its line and its effect on the transaction are as the scenario says."""
    policy = values.policy(scenario.get("policy", {}))
    scope = values.scope(scenario.get("scope", {}))
    arguments = {
        "now": scenario.get("now", NOW),
        "draw": scenario.get("draw", 0.0),
        "exclude": frozenset(scenario.get("exclude", ())),
        "load": lambda name: scenario.get("load", {}).get(name, 0),
        "is_primary_full": scenario.get("is_primary_full", False),
    }
    given = values.statement(scenario.get("statement", "read")), scope, believed(scenario, policy), policy
    if "refuses" in scenario:
        with pytest.raises(NoServerAvailable) as refusal:
            decide(*given, **arguments)
        assert str(refusal.value) == scenario["refuses"]
        return
    decision = decide(*given, **arguments)
    expected = scenario["decides"]
    assert str(decision) == expected["line"]
    assert (decision.reason, decision.target) == (Reason[expected["reason"]], expected["line"].partition(" ")[0])
    assert {name: why.name for name, why in decision.objections} == expected.get("objections", {})
    after = scope.after(decision)
    pinned = {"pinned": decision.target} if decision.is_replica else {}
    assert after == values.scope({**scenario.get("scope", {}), **pinned, **expected.get("scope_gains", {})})


def believed(scenario: dict[str, Any], policy: Any) -> Topology:
    """The topology after the probes of each server."""
    said = {name: news if isinstance(news, list) else [news] for name, news in scenario["servers"].items()}
    topology = Topology.of([values.server(name, news[0] or {}) for name, news in said.items()], policy)
    for name, news in said.items():
        for fields in news:
            if fields is not None:
                observed = values.observation(name, fields, at=NOW - 0.5)
                topology = evolve(topology, observed, now=max(NOW - 0.5, observed.at))
    for name in scenario.get("drained", ()):
        topology = evolve(topology, Drain(name, True), now=NOW - 0.5)
    return topology
