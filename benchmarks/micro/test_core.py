"""The pure core: a decision, a piece of news, a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rds_router.core.decision import decide
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import MySQLGtidSet
from rds_router.core.scope import FRESH
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Server, Topology, evolve

pytestmark = pytest.mark.benchmark(group="core")
READ = Statement(Kind.READ)


def topology(replicas: int, policy: RoutingPolicy) -> Topology:
    """A primary and replicas that all answered a moment ago."""
    servers = [Server("db", is_primary=True), *(Server(f"r{number}") for number in range(1, replicas + 1))]
    made = Topology.of(servers, policy)
    for each in servers:
        made = evolve(made, news(each.name, 1.0, is_primary=each.is_primary), now=1.0)
    return made


def news(name: str, at: float, *, is_primary: bool = False) -> Observation:
    role = Role.PRIMARY if is_primary else Role.REPLICA
    return Observation(name, at, Report(role, lag=0.0, is_writable=is_primary))


@pytest.mark.parametrize("replicas", [1, 3, 15])
def test_decide(timed: Callable[..., Any], replicas: int) -> None:
    policy = RoutingPolicy()
    seen = topology(replicas, policy)
    timed(lambda: decide(READ, FRESH, seen, policy, now=1.5, draw=0.4))


@pytest.mark.parametrize("writes", [1, 60])
def test_decide_for_an_author(timed: Callable[..., Any], writes: int) -> None:
    """Of so many writes, among those of others: among 15 replicas that have them all."""
    policy, source = RoutingPolicy(), "50539775-eab9-11f1-97e5-02fc00000001"
    seen = topology(15, policy)
    everything = MySQLGtidSet.parse(f"{source}:1-100000")
    for number in range(1, 16):
        report = Report(Role.REPLICA, lag=0.0, is_writable=False, position=everything)
        seen = evolve(seen, Observation(f"r{number}", 1.2, report), now=1.2)
    written = Token.parse(f"mysql:{source}:{':'.join(str(7 * number) for number in range(1, writes + 1))}")
    scope = replace(FRESH, token=written)
    assert decide(READ, scope, seen, policy, now=1.5, draw=0.4).is_replica
    timed(lambda: decide(READ, scope, seen, policy, now=1.5, draw=0.4), calls=50)


@pytest.mark.parametrize("replicas", [1, 15])
def test_evolve(timed: Callable[..., Any], replicas: int) -> None:
    seen = topology(replicas, RoutingPolicy())
    latest = news("r1", 2.0)
    timed(lambda: evolve(seen, latest, now=2.0))
