"""Runs the scenario files beside it: what is believed after each piece of news.

A step is ``[at, server, what its probe said]`` (see core_values.observation; it is told at once), ``[at, "list",
servers]`` for a new server list, ``[at, "drain", server]``, ``[at, "undrain", server]``, or ``[at, "then", what must be
believed now]``: ``repr``, ``writer``, ``clock``, ``generation``, ``contested``, ``lacks_primary``, ``eligible``,
``equals``, ``steady_from``, and by server ``objections``, ``lag``, ``as_of``, ``shares`` (the weight that counts) and
``latency``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rds_router.core.topology import Drain, Topology, evolve
from tests.spec import core_values as values

HERE = Path(__file__).parent


@pytest.mark.parametrize("scenario", values.scenarios(HERE))
def test_topology(scenario: dict[str, Any]) -> None:
    """At each "then" the belief is as the scenario says, in everything it names."""
    policy = values.policy(scenario.get("policy", {}))
    topology = Topology.of((values.server(name, fields) for name, fields in scenario["servers"].items()), policy)
    for at, subject, fields in scenario["steps"]:
        if subject == "then":
            believed = described(topology, at)
            assert {name: picked(believed[name], wanted) for name, wanted in fields.items()} == fields
        elif subject in ("drain", "undrain"):
            topology = evolve(topology, Drain(fields, subject == "drain"), now=at)
        elif subject == "list":
            topology = evolve(topology, [values.server(name, given) for name, given in fields.items()], now=at)
        else:
            topology = evolve(topology, values.observation(subject, fields, at=at), now=at)


def described(topology: Topology, now: float) -> dict[str, Any]:
    """The snapshot in the words of the scenario files."""
    by_name = {seen.server.name: seen for seen in topology.servers}
    return {
        "repr": repr(topology),
        "writer": topology.writer,
        "generation": topology.generation,
        "clock": None if topology.clock is None else list(topology.clock),
        "contested": list(topology.contested),
        "lacks_primary": topology.lacks_primary,
        "eligible": [seen.server.name for seen in topology.eligible_at(now)],
        "objections": {name: seen.objection.name if seen.objection else None for name, seen in by_name.items()},
        "lag": {name: None if seen.lag is None else round(seen.lag, 6) for name, seen in by_name.items()},
        "shares": {name: round(seen.weight_at(now, topology.policy), 6) for name, seen in by_name.items()},
        "latency": {name: round(seen.latency, 6) for name, seen in by_name.items()},
        "equals": list(dict.fromkeys(name for name, _ in topology.equals)),
        "steady_from": topology.steady_from,
        "as_of": {name: None if seen.as_of is None else round(seen.as_of, 6) for name, seen in by_name.items()},
    }


def picked(believed: Any, wanted: Any) -> Any:
    """Of a mapping by server only the servers that the scenario names."""
    return {name: believed[name] for name in wanted} if isinstance(wanted, dict) else believed
