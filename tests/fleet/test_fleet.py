"""A fleet of 1,000 workers and 15 replicas, simulated with the pure core: who gets how much, and how fast it is.

The model stands beside this file; ``benchmarks/fleet.py`` draws pictures of longer runs.
"""

from __future__ import annotations

import itertools

import pytest

from tests.fleet.model import Fleet, dies, returns, slows

OTHERS = [f"r{number}" for number in range(1, 16) if number not in (3, 7)]
FAIR = 1 / 15


@pytest.mark.parametrize("balance", ["least_loaded", "round_robin", "random"])
def test_equal_replicas_get_equal_shares_and_the_primary_nothing(balance: str) -> None:
    fleet = Fleet(balance=balance)
    fleet.run(6)
    shares = fleet.shares(1, 6)
    assert shares["db"] == 0.0
    # 1,100 reads for each: three standard deviations of chance are 9 %.
    assert [share for name, share in shares.items() if name != "db"] == pytest.approx([FAIR] * 15, rel=0.12)


def test_shares_follow_the_weights() -> None:
    """A replica of weight 2 among fourteen of weight 1, one of weight a half."""
    fleet = Fleet(weights={"r1": 2.0, "r2": 0.5})
    fleet.run(6)
    shares, total = fleet.shares(1, 6), 13 + 2.5
    assert shares["r1"] == pytest.approx(2 / total, rel=0.2)
    assert shares["r2"] == pytest.approx(0.5 / total, rel=0.25)
    assert shares["r9"] == pytest.approx(1 / total, rel=0.15)


@pytest.fixture(scope="module")
def bad_day() -> Fleet:
    """r3 is four times slower from 6 s on; r7 is dead from 5 to 12 s, and cold when it is back."""
    return lived(35)


def lived(until: float, **options: object) -> Fleet:
    fleet = Fleet(**options)  # type: ignore[arg-type]
    fleet.at(6, slows(4), "r3")
    fleet.at(5, dies, "r7")
    fleet.at(12, returns, "r7")
    fleet.run(until)
    return fleet


def test_a_dead_replica_gets_nothing_and_the_others_share_it_evenly(bad_day: Fleet) -> None:
    shares = bad_day.shares(7, 12)
    assert shares["r7"] == shares["db"] == 0.0
    assert all(shares[name] == pytest.approx(1 / 14, rel=0.2) for name in OTHERS)


def test_each_host_notices_a_death_once(bad_day: Fleet) -> None:
    """20 hosts: the first read that fails there tells the 49 other workers of its host."""
    assert bad_day.failed_tries <= 2 * 20


def test_a_slow_replica_gets_less_and_nobody_waits_long(bad_day: Fleet) -> None:
    """Four times slower, it gets about half; the 99th percentile stays that of one slow read, not of a queue."""
    assert 0.3 * FAIR < bad_day.shares(8, 35)["r3"] < 0.7 * FAIR
    assert bad_day.quantile(0.99, 8, 12) < 0.1


def test_drawing_by_chance_alone_would_bury_it() -> None:
    """That the test before can fail."""
    assert lived(12, balance="random").quantile(0.99, 8, 12) > 0.5


def test_processes_of_one_thread_see_a_slow_replica_by_its_latency() -> None:
    """They have no connection in use to compare: 50 processes on each of 20 hosts."""
    fleet = lived(12, processes=50, threads=1)
    assert fleet.shares(8, 12)["r3"] < 0.3 * FAIR
    assert fleet.quantile(0.99, 8, 12) < 0.1


def test_a_replica_that_is_back_gets_its_share_slowly(bad_day: Fleet) -> None:
    grown = [bad_day.shares(begin, begin + 3)["r7"] / FAIR for begin in range(12, 33, 3)]
    assert grown[0] < 0.15
    assert max(before - after for before, after in itertools.pairwise(grown)) < 0.1
    assert grown[-1] > 0.8
    assert bad_day.quantile(0.99, 12, 20) < 0.1


def test_without_slow_start_it_would_be_at_once(bad_day: Fleet) -> None:
    """That the test before can fail: each host gives it all of its share as soon as it sees it."""
    assert lived(18, slow_start=0.0).shares(15, 18)["r7"] > 2 * bad_day.shares(15, 18)["r7"]


def test_the_same_seed_gives_the_same_run() -> None:
    a, b = Fleet(seed=7), Fleet(seed=7)
    a.run(2)
    b.run(2)
    assert a.answered == b.answered
