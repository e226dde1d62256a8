"""Schedules come from their seed alone, and leave every server well."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rds_router.lab.torture.schedule import ALL, KINDS, LAG, PRIMARY, Verb, draw_schedule

seeds = st.integers(0, 2**32)
lengths = st.floats(5.0, 600.0)


@given(seeds, lengths, st.integers(1, 15))
def test_the_same_seed_gives_the_same_schedule(seed: int, seconds: float, replicas: int) -> None:
    """Which is why a failure prints it."""
    assert draw_schedule(seed, seconds, replicas=replicas) == draw_schedule(seed, seconds, replicas=replicas)


@given(seeds, lengths, st.integers(1, 15))
def test_faults_end_in_time_and_do_not_overlap(seed: int, seconds: float, replicas: int) -> None:
    """Lag apart: the promises that are checked are those for one fault at a time."""
    schedule = draw_schedule(seed, seconds, replicas=replicas)
    assert all(0 <= step.at <= seconds for fault in schedule for step in fault.steps)
    for is_lag in (False, True):
        track = [fault for fault in schedule if (fault.kind == LAG) is is_lag]
        assert all(first.end < second.steps[0].at for first, second in pairwise(track))


@given(seeds, st.integers(1, 15))
def test_places_exist(seed: int, replicas: int) -> None:
    """A fault begins on the primary or on a replica that there is, and a promotion is of a replica."""
    for fault in draw_schedule(seed, 120.0, replicas=replicas):
        first, *others = fault.steps
        assert first.place is not None
        assert first.place in range(replicas + 1)
        assert all(step.place is None or 1 <= step.place <= replicas for step in others)
        if fault.kind in KINDS and not KINDS[fault.kind].is_on_primary:
            assert first.place != PRIMARY


@given(seeds)
def test_each_kind_comes_up_before_one_comes_up_again(seed: int) -> None:
    """A long enough run has seen them all."""
    kinds = [fault.kind for fault in draw_schedule(seed, 400.0, replicas=3) if fault.kind != LAG]
    assert set(kinds[: len(KINDS)]) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_ends_well(kind: str) -> None:
    """What begins by breaking a server ends with its being well: it is the last thing done to it."""
    verbs = [verb for _, verb, _ in KINDS[kind].moves]
    cures = {
        Verb.KILL: Verb.RESTART,
        Verb.FREEZE: Verb.THAW,
        Verb.DEMOTE: Verb.PROMOTE,
        Verb.STALL: Verb.HEAL,
        Verb.DEAFEN: Verb.HEAL,
        Verb.CUT: Verb.MEND,
        Verb.SWALLOW: Verb.MEND,
        Verb.SLOW: Verb.MEND,
    }
    assert all(cure in verbs[place:] for place, verb in enumerate(verbs) if (cure := cures.get(verb)))


def test_no_lag_without_a_second_replica() -> None:
    """One replica is always left without: a promotion then loses no more than what was on the wire."""
    assert draw_schedule(1, 60.0, replicas=1, kinds=[LAG]) == ()
    assert draw_schedule(1, 60.0, replicas=2, kinds=[LAG]) != ()


def test_an_unknown_kind_is_refused() -> None:
    """With the ones there are."""
    with pytest.raises(ValueError, match=r"unknown fault 'flood'; accepted: kill-replica, .*, lag"):
        draw_schedule(1, 60.0, replicas=1, kinds=["flood"])
    assert LAG in ALL
