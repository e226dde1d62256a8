"""What holds of every transaction: driven over statements and news in any order."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rds_router.core.contract import ANY, SESSION
from rds_router.core.decision import Reason, decide
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import FRESH, NOW, Hold, Scope, Sight
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Server, Topology, evolve
from rds_router.errors import NoServerAvailable
from tests.unit import core_strategies as core

reads = st.just(Statement(Kind.READ))
steps = st.one_of(
    reads,
    reads,
    core.statements,
    st.builds(lambda name, report: (name, report), st.sampled_from(core.NAMES), core.well),
)


@given(
    core.servers, core.policies, st.lists(st.one_of(steps, core.observations, st.just("end")), max_size=25), core.draws
)
def test_a_transaction_uses_at_most_one_replica_and_never_leaves_the_primary_again(
    servers: list[Server], policy: RoutingPolicy, given_steps: list[object], draw: float
) -> None:
    """R2, R3: and once it has read on the primary without having asked for it, it stays there."""
    topology, scope, now = Topology.of(servers, policy), FRESH, 0.0
    replicas: set[str] = set()
    is_settled = has_written = False
    for step in given_steps:
        now += 0.25
        if isinstance(step, Statement):
            try:
                decision = decide(step, scope, topology, policy, now=now, draw=draw)
            except NoServerAvailable:
                continue
            scope = scope.after(decision)
            if decision.is_replica:
                replicas.add(decision.target)
                assert not is_settled
                assert step.kind is Kind.READ
            else:
                is_settled |= decision.reason is not Reason.NO_REPLICAS
                has_written |= not step.is_read and step.kind is not Kind.LOCKING_READ
            assert len(replicas) <= 1
            assert scope.wrote is has_written
            assert scope.hold is not None or not has_written
        elif isinstance(step, Observation):
            topology = evolve(topology, Observation(step.server, now, step.report, step.error), now=now)
        elif isinstance(step, tuple):
            topology = evolve(topology, Observation(step[0], now, step[1]), now=now)
        else:
            scope = scope.ended(written=Token(at=now) if has_written else None, now=now)
            assert (scope.pinned, scope.hold, scope.wrote) == (None, None, False)
            assert scope.token is not None or not has_written
            replicas.clear()
            is_settled = has_written = False


@given(core.scopes, st.sampled_from(Hold), st.booleans())
def test_a_hold_once_taken_is_kept_and_what_was_written_stays_written(scope: Scope, hold: Hold, wrote: bool) -> None:
    held = scope.held(hold, wrote=wrote)
    assert held.hold is (scope.hold or hold)
    assert held.wrote is (scope.wrote or wrote)
    assert held.held(hold, wrote=wrote) == held
    assert (held.pinned, held.token, held.contract) == (scope.pinned, scope.token, scope.contract)


@given(core.scopes, st.none() | core.tokens)
def test_the_end_of_a_transaction_leaves_wishes_and_tokens(scope: Scope, written: Token | None) -> None:
    ended = scope.ended(written=written, now=500.0)
    assert (ended.pinned, ended.hold, ended.wrote) == (None, None, False)
    assert ended.contract == scope.contract
    if scope.token is not None:
        assert ended.token is not None


@given(core.tokens, core.tokens, core.topologies())
def test_a_merged_token_is_satisfied_only_by_who_satisfies_both(
    one: Token, other: Token, world: tuple[Topology, float]
) -> None:
    """Unless they are of different engines: then the newer write's position counts."""
    merged = one.merge(other)
    for seen in world[0].servers:
        if seen.satisfies(merged):
            assert seen.satisfies(Token(at=one.at))
            assert seen.satisfies(Token(at=other.at))
            assert one.position is None or other.position is None or seen.satisfies(Token(position=merged.position))
            if type(one.position) is type(other.position):
                assert seen.satisfies(one)
                assert seen.satisfies(other)


def test_no_token_merges_with_none() -> None:
    token = Token(at=5.0)
    assert token.merge(None) is token


def test_a_bound_of_one_statement_that_nobody_meets_binds_no_other() -> None:
    """It goes to the primary; so does the transaction's next read under "session", since it may not see less; one that
    is promised nothing may go to a replica."""
    topology = Topology.of([Server("db", is_primary=True), Server("r1")], RoutingPolicy())
    topology = evolve(topology, Observation("r1", 1.0, Report(Role.REPLICA, lag=2.0)), now=1.0)
    of_session = Scope()
    of_statement = Scope(contract=SESSION.within(1.0))
    decision = decide(Statement(Kind.READ), of_statement, topology, topology.policy, now=1.0, draw=0.0)
    assert decision.reason is Reason.NONE_FRESH_ENOUGH
    after = of_session.after(decision)
    assert after == replace(of_session, seen=Sight("", NOW))
    for contract, reason in ((None, Reason.NONE_FRESH_ENOUGH), (ANY, Reason.READ)):
        scope = replace(after, contract=contract)
        assert decide(Statement(Kind.READ), scope, topology, topology.policy, now=1.0, draw=0.0).reason is reason
    assert of_statement.after(decision).hold is Hold.READ, "a bound of the whole block does"
