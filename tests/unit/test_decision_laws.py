"""What holds of every decision, whatever the servers said and the transaction did."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rds_router.core.decision import Decision, Reason, decide, first_read
from rds_router.core.demands import NO_DEMANDS, unobjectionable
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import Scope, Sight
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Objection, Seen, Topology
from rds_router.errors import NoServerAvailable
from tests.unit import core_strategies as core

READ = Statement(Kind.READ)
World = tuple[Topology, float]


def decided(
    statement: Statement, scope: Scope, world: World, draw: float = 0.0, exclude: frozenset[str] = frozenset()
) -> Decision | None:
    """The decision, or None where it is refused."""
    topology, now = world
    try:
        return decide(statement, scope, topology, topology.policy, now=now, draw=draw, exclude=exclude)
    except NoServerAvailable:
        assert topology.policy.no_replica != "primary"
        return None


@given(core.statements, core.scopes, core.topologies(), core.draws, core.exclusions)
def test_only_a_read_in_a_free_transaction_goes_to_a_replica(
    statement: Statement, scope: Scope, world: World, draw: float, exclude: frozenset[str]
) -> None:
    decision = decided(statement, scope, world, draw, exclude)
    if decision is None or decision.is_replica:
        assert statement.kind is Kind.READ
        assert scope.hold is None
        assert not (scope.contract or world[0].policy.contract).strong
    if decision is not None:
        assert decision.is_replica is (decision.target != world[0].writer)
        assert str(decision).startswith(f"{decision.target} ({'replica' if decision.is_replica else 'primary'}")


@given(core.modest_scopes, core.healthy_worlds(), core.draws, core.exclusions)
def test_a_chosen_replica_keeps_every_promise(scope: Scope, world: World, draw: float, exclude: frozenset[str]) -> None:
    """It answers, was heard of lately, is fresh enough for policy or statement, and not behind the token."""
    decision = decided(READ, scope, world, draw, exclude)
    assume(decision is not None and decision.is_replica)
    assert decision is not None
    (topology, now), policy = world, world[0].policy
    chosen = topology[decision.target]
    assert decision.target not in exclude
    assert scope.pinned in (None, decision.target)
    assert chosen.observation is not None
    # The last one left is only suspected: it failed once since its last good answer, at the most.
    assert chosen.observation.report is not None or (decision.reason is Reason.LAST_LEFT and chosen.failures == 1)
    assert now - chosen.reported_at <= policy.max_age
    contract = scope.contract or policy.contract
    bound = contract.max_staleness
    if bound is None and decision.reason is Reason.STALEST:
        bound = policy.hard_max_lag
    if bound is not None:
        assert chosen.lag is not None
        assert chosen.lag + now - chosen.observation.at <= bound
    elif chosen.lag is None:
        assert policy.unknown_lag == "allow"
    elif topology[topology.writer].silence is None:
        assert chosen.lag <= policy.max_lag
    else:
        # Reads outlive a primary; the age of its last word is forgiven to who holds all of it.
        assert chosen.lag <= max(policy.max_lag, policy.hard_max_lag)
    if contract.own_writes and policy.after_write == "token" and scope.token is not None:
        assert holds(chosen, scope.token, policy, now)
    if contract.own_writes and policy.after_write == "primary" and scope.token is not None:
        assert scope.token.at is not None
        assert now - scope.token.at >= policy.after_write_window
    if contract.monotonic and scope.seen is not None:
        showed_it = chosen.server.name == scope.seen.server and chosen.well_since <= (scope.seen.token.at or 0.0)
        assert showed_it or holds(chosen, scope.seen.token, policy, now)


def holds(replica: Seen, token: Token, policy: RoutingPolicy, now: float) -> bool:
    """It is proven to have what the token is of; or it can prove nothing, and time has passed."""
    if replica.satisfies(token):
        return True
    tells_nothing = replica.as_of is None and replica.report is not None and replica.report.position is None
    return tells_nothing and token.at is not None and now - token.at >= policy.after_write_window


@given(core.statements, core.scopes, core.topologies(), core.draws, core.exclusions)
def test_the_same_arguments_give_the_same_decision(
    statement: Statement, scope: Scope, world: World, draw: float, exclude: frozenset[str]
) -> None:
    first = decided(statement, scope, world, draw, exclude)
    assert decided(statement, scope, world, draw, exclude) == first
    assert str(first) == str(decided(statement, scope, world, draw, exclude))


@given(core.free_scopes, core.topologies(), core.exclusions, st.lists(core.draws, min_size=2, max_size=5))
def test_the_dice_choose_among_the_unobjectionable_and_nothing_else(
    scope: Scope, world: World, exclude: frozenset[str], draws: list[float]
) -> None:
    decisions = [decided(READ, scope, world, draw, exclude) for draw in draws]
    assert len({None if each is None else each.reason for each in decisions}) == 1
    for decision in decisions:
        if decision is not None and decision.is_replica:
            assert decision.target not in dict(decision.objections)


@given(core.modest_scopes, core.healthy_worlds(), core.draws, core.exclusions)
def test_servers_that_could_not_be_chosen_do_not_matter_to_who_is(
    scope: Scope, world: World, draw: float, exclude: frozenset[str]
) -> None:
    """Neither their order nor their being there at all, if somebody is chosen."""
    decision = decided(READ, scope, world, draw, exclude)
    assume(decision is not None and decision.reason in (Reason.READ, Reason.PINNED))
    assert decision is not None
    topology, now = world
    out = [seen for seen in topology.servers if seen.server.name in dict(decision.objections)]
    rest = [seen for seen in topology.servers if seen not in out]
    for others in (out[::-1], []):
        reordered = replace(topology, servers=(*others, *rest))
        again = decided(READ, scope, (reordered, now), draw, exclude)
        assert again is not None
        assert (again.target, again.reason) == (decision.target, decision.reason)


@given(core.topologies())
def test_the_prepared_tuple_is_what_a_look_at_each_replica_gives(world: World) -> None:
    """decide() takes a short cut for readers who ask nothing: it leads where the long way does."""
    topology, now = world
    prepared = topology.eligible_at(now)
    looked_at = unobjectionable(topology, NO_DEMANDS, topology.policy, now)
    if prepared or not topology.policy.zone:
        assert prepared == looked_at


@given(core.topologies(), st.none() | core.sights, core.draws)
def test_the_first_read_of_a_session_goes_where_decide_sends_it(world: World, seen: Sight | None, draw: float) -> None:
    """The shortest cut: a name, or no answer at all."""
    topology, now = world
    assume(topology.policy.contract.is_plain)
    assume(seen is None or topology.policy.contract.monotonic)
    name = first_read(topology, seen, now=now, draw=draw)
    decision = decided(READ, Scope(seen=seen), world, draw)
    if name is not None:
        assert decision is not None
        assert (decision.target, decision.is_replica) == (name, True)
        assert decision.reason is (Reason.READ if seen is None else Reason.SEEN)


@given(core.modest_scopes, core.healthy_worlds(), core.exclusions)
def test_each_replica_is_chosen_objected_to_or_an_equal_of_the_chosen(
    scope: Scope, world: World, exclude: frozenset[str]
) -> None:
    """The line leaves nobody out: a replica without an objection would have been taken by other dice."""
    decision = decided(READ, replace(scope, pinned=None), world, 0.0, exclude)
    assume(decision is not None and decision.reason is Reason.READ)
    assert decision is not None
    possible = {
        each.target
        # Fine enough for the smallest share: a tenth of the smallest weight, in its slow start, beside the largest.
        for each in (decided(READ, replace(scope, pinned=None), world, step / 256, exclude) for step in range(256))
        if each is not None
    }
    named = {name for name, why in decision.objections if why is not Objection.OTHER_ZONE}
    elsewhere = {name for name, why in decision.objections if why is Objection.OTHER_ZONE}
    everyone = {seen.server.name for seen in world[0].replicas}
    assert possible | named | elsewhere == everyone
    assert not possible & named


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words(reason: Reason) -> None:
    assert reason.value
