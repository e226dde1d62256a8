"""What holds of a server's health, whatever happens to it and in whatever order."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rds_router.core.decision import decide
from rds_router.core.health import (
    AT_START,
    FIRST_SHARE,
    NEWCOMER,
    Health,
    State,
    after_answer,
    after_failure,
    back_off,
    pause,
)
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import FRESH
from rds_router.core.statement import Kind, Statement
from rds_router.core.topology import Server, Topology, evolve

policies = st.builds(
    RoutingPolicy,
    max_lag=st.sampled_from([0.0, 1.0, 5.0]),
    unknown_lag=st.sampled_from(["exclude", "allow"]),
    slow_start=st.sampled_from([0.0, 1.0, 10.0]),
    max_backoff=st.sampled_from([0.0, 5.0, 60.0]),
    probe_interval=st.sampled_from([0.1, 1.0, 90.0]),
)
gaps = st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0, 10.0, 100.0])
happenings = st.lists(
    st.tuples(gaps, st.sampled_from(["answers", "lags", "nobody knows", "fails", "read fails"])), max_size=15
)
starts = st.sampled_from([AT_START, NEWCOMER])
draws = st.floats(0.0, 1.0, exclude_max=True)


def lived(health: Health, policy: RoutingPolicy, steps: list[tuple[float, str]]) -> tuple[Health, float]:
    """The health after all of that, and when."""
    now = 0.0
    for gap, what in steps:
        now += gap
        health = step(health, policy, what, now)
    return health, now


def step(health: Health, policy: RoutingPolicy, what: str, now: float) -> Health:
    if what in ("fails", "read fails"):
        return after_failure(health, policy, now=now, is_read=what == "read fails")
    lag = {"answers": 0.0, "lags": policy.max_lag + 1.0, "nobody knows": None}[what]
    return after_answer(health, lag, policy, now=now)


@given(starts, policies, happenings, st.sampled_from(["lags", "fails", "read fails"]))
def test_one_bad_sample_takes_a_server_out(
    health: Health, policy: RoutingPolicy, steps: list[tuple[float, str]], bad: str
) -> None:
    health, now = lived(health, policy, steps)
    assert step(health, policy, bad, now).state is not State.UP


@given(starts, policies, happenings)
def test_whoever_answers_well_is_back_at_once_or_when_the_back_off_is_over(
    health: Health, policy: RoutingPolicy, steps: list[tuple[float, str]]
) -> None:
    health, now = lived(health, policy, steps)
    if now >= health.held_until:
        assert step(health, policy, "answers", now).state is State.UP
    assert health.held_until <= now + back_off(health.failures, policy)
    assert step(health, policy, "answers", max(now, health.held_until)).state is State.UP


@given(starts, policies, happenings, st.lists(gaps, min_size=1, max_size=8))
def test_a_share_never_shrinks_while_a_server_is_well_and_becomes_the_whole(
    health: Health, policy: RoutingPolicy, steps: list[tuple[float, str]], later: list[float]
) -> None:
    """Slow start is monotonic, whether probes come or not."""
    health, now = lived(health, policy, steps)
    now = max(now, health.held_until)
    health = step(health, policy, "answers", now)
    share = health.share_at(now, policy.slow_start)
    for number, gap in enumerate(later):
        now += gap
        if number % 2:
            health = step(health, policy, "answers", now)
        grown = health.share_at(now, policy.slow_start)
        assert FIRST_SHARE <= share <= grown <= 1.0
        share = grown
    # A little later: sums of fractions are not exact.
    assert health.share_at(now + policy.slow_start + 0.001, policy.slow_start) == 1.0


@given(starts, policies, happenings, gaps, draws, st.booleans())
def test_a_pause_is_bounded_and_nobody_is_left_alone_while_the_primary_is_missing(
    health: Health, policy: RoutingPolicy, steps: list[tuple[float, str]], gap: float, draw: float, is_urgent: bool
) -> None:
    health, _ = lived(health, policy, steps)
    seconds = pause(health, policy, draw=draw, is_urgent=is_urgent)
    assert 0.0 <= seconds <= max(1.2 * policy.probe_interval, policy.max_backoff)
    if is_urgent or health.state is not State.DOWN or policy.max_backoff <= policy.probe_interval:
        assert 0.8 * policy.probe_interval <= seconds <= 1.2 * policy.probe_interval


@given(policies, happenings)
def test_every_failed_probe_of_a_server_that_is_down_makes_the_pause_longer_up_to_its_bound(
    policy: RoutingPolicy, steps: list[tuple[float, str]]
) -> None:
    health, now = lived(AT_START, policy, steps)
    longest = [back_off(each.failures, policy) for each in failing(health, policy, now)]
    assert longest == sorted(longest)
    assert longest[-1] == max(policy.max_backoff, policy.probe_interval)


def failing(health: Health, policy: RoutingPolicy, now: float) -> list[Health]:
    found = []
    for _ in range(20):
        health = after_failure(health, policy, now=now, is_read=False)
        found.append(health)
    return found


@given(
    policies.flatmap(
        lambda policy: st.sampled_from(["primary", "error", "stalest"]).map(
            lambda last: replace(policy, no_replica=last)
        )
    ),
    st.lists(
        st.tuples(st.sampled_from(["r1", "r2"]), st.sampled_from(["answers", "fails", "read fails"])), max_size=10
    ),
    st.lists(st.sampled_from(["r1", "r2"]), max_size=5),
    draws,
)
def test_the_last_eligible_one_is_never_shunned(
    policy: RoutingPolicy, steps: list[tuple[str, str]], failed_reads: list[str], draw: float
) -> None:
    """However often reads failed there: while its last probe was good, a read that may go nowhere else goes to it."""
    topology = Topology.of([Server("db", is_primary=True), Server("r1"), Server("r2")], policy)
    for number, (name, what) in enumerate([*steps, ("r2", "fails"), ("r2", "fails"), ("r1", "answers")]):
        topology = evolve(topology, news(name, what, 0.01 * number), now=0.01 * number)
    now = 0.01 * (len(steps) + 3)
    for name in failed_reads:
        topology = evolve(topology, news(name, "read fails", now), now=now)
    given_ = Statement(Kind.READ), FRESH, topology, policy
    decision = decide(*given_, now=now, draw=draw, is_primary_full=True)
    assert decision.target == "r1"


def news(name: str, what: str, at: float) -> Observation:
    if what == "answers":
        return Observation(name, at, Report(Role.REPLICA, lag=0.0))
    return Observation(name, at, error="gone", is_read=what == "read fails")
