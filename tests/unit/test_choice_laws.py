"""What holds of every choice: shares are those of the weights, and the dice lead nowhere else."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rds_router.core.choice import admits, choose, choose_among_equals, drawn, idle, pairs_of, turn
from rds_router.core.health import AT_START, State
from rds_router.core.policy import RoutingPolicy
from rds_router.core.topology import Seen, Server

NOW = 100.0
draws = st.floats(0.0, 1.0, exclude_max=True)
weights = st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, 10.0]), min_size=1, max_size=15)
counts = st.dictionaries(st.integers(0, 14).map(str), st.integers(0, 9))


def candidates(shares: list[float], latencies: list[float] | None = None) -> list[Seen]:
    times = latencies or [0.001] * len(shares)
    return [
        Seen(Server(str(number), weight=weight), health=AT_START, latency=latency)
        for number, (weight, latency) in enumerate(zip(shares, times, strict=True))
    ]


@given(weights, draws, counts, st.sampled_from(["least_loaded", "round_robin", "random"]))
def test_one_of_the_candidates_is_chosen(shares: list[float], draw: float, load: dict[str, int], balance: str) -> None:
    policy = RoutingPolicy(balance=balance)  # type: ignore[arg-type]
    offered = candidates(shares)
    chosen = choose(offered, policy, now=NOW, draw=draw, load=lambda name: load.get(name, 0))
    assert chosen in offered
    assert chosen.health.state is State.UP


@given(weights, st.sampled_from(["least_loaded", "round_robin", "random"]))
def test_idle_servers_get_the_shares_of_their_weights(shares: list[float], balance: str) -> None:
    """Over evenly spread draws, to within the two at a border."""
    policy, offered, number = RoutingPolicy(balance=balance), candidates(shares), 500  # type: ignore[arg-type]
    chosen = Counter(
        choose(offered, policy, now=NOW, draw=(each + 0.5) / number, load=idle).server.name for each in range(number)
    )
    for seen in offered:
        assert chosen[seen.server.name] == pytest.approx(number * seen.server.weight / sum(shares), abs=2)


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=5), draws)
def test_a_draw_finds_the_server_in_whose_share_of_the_line_it_lies(shares: list[float], draw: float) -> None:
    place, rest = drawn(shares, draw)
    total, slack = sum(shares), 1e-9 * sum(shares)
    assert sum(shares[:place]) - slack <= draw * total <= sum(shares[: place + 1]) + slack
    assert 0.0 <= rest < 1.0


@given(st.integers(2, 15), st.integers(0, 9999), counts)
def test_among_equals_the_short_way_leads_where_the_long_one_does(size: int, step: int, load: dict[str, int]) -> None:
    offered, draw = candidates([1.0] * size), (step + 0.3) / 10000
    pairs = pairs_of(tuple(seen.server.name for seen in offered))
    short = choose_among_equals(pairs, draw=draw, load=lambda name: load.get(name, 0))
    long = choose(offered, RoutingPolicy(), now=NOW, draw=draw, load=lambda name: load.get(name, 0))
    assert short == long.server.name


@given(st.integers(2, 15), draws, counts)
def test_the_busiest_of_all_is_never_chosen(size: int, draw: float, load: dict[str, int]) -> None:
    """It would have to be the less busy of two."""
    busiest, offered = str(size // 2), candidates([1.0] * size)
    busy = {**load, busiest: 10}
    pairs = pairs_of(tuple(seen.server.name for seen in offered))
    assert choose_among_equals(pairs, draw=draw, load=lambda name: busy.get(name, 0)) != busiest
    chosen = choose(offered, RoutingPolicy(), now=NOW, draw=draw, load=lambda name: busy.get(name, 0))
    assert chosen.server.name != busiest


@given(st.integers(2, 15), draws, counts)
def test_one_far_slower_than_all_others_is_never_chosen(size: int, draw: float, load: dict[str, int]) -> None:
    times = [0.001] * (size - 1) + [0.5]
    offered = candidates([1.0] * size, times)
    chosen = choose(offered, RoutingPolicy(), now=NOW, draw=draw, load=lambda name: load.get(name, 0))
    assert chosen is not offered[-1]


@given(st.integers(1, 15), st.integers(0, 10**9))
def test_equal_servers_take_turns_strictly(size: int, begin: int) -> None:
    offered, policy = candidates([1.0] * size), RoutingPolicy(balance="round_robin")
    names = [
        choose(offered, policy, now=NOW, draw=turn(begin + number, [1.0] * size), load=idle).server.name
        for number in range(2 * size)
    ]
    assert len(set(names[:size])) == size
    assert names[:size] == names[size:]


@given(weights, st.integers(0, 10**6))
def test_unequal_servers_take_turns_by_weight_evenly_spread(shares: list[float], begin: int) -> None:
    """However one counts, a server never has three turns more or less than its weight is due."""
    offered, policy = candidates(shares), RoutingPolicy(balance="round_robin")
    chosen: Counter[str] = Counter()
    for number in range(100):
        chosen[choose(offered, policy, now=NOW, draw=turn(begin + number, shares), load=idle).server.name] += 1
        for seen in offered:
            due = (number + 1) * seen.server.weight / sum(shares)
            assert abs(chosen[seen.server.name] - due) < 3.0


@given(st.integers(0, 50), st.integers(1, 50), st.floats(0.01, 1.0), draws)
def test_the_primary_takes_no_more_reads_than_its_share_of_places(
    in_use: int, places: int, share: float, draw: float
) -> None:
    if share == 1.0:
        assert admits(in_use, places, share, draw)
    elif admits(in_use, places, share, draw):
        assert in_use < max(1.0, share * places)
        assert in_use == 0 or admits(in_use - 1, places, share, draw)


def test_a_part_of_a_place_is_a_chance() -> None:
    """3 of 10: 15 places, of which reads may take 2 %."""
    assert [admits(0, 15, 0.02, draw) for draw in (0.0, 0.29, 0.31, 0.99)] == [True, True, False, False]
    assert not admits(1, 15, 0.02, 0.0)


def test_half_a_place_of_a_pool_of_one_is_one() -> None:
    assert admits(0, 1, 0.5, 0.99)
    assert not admits(1, 1, 0.5, 0.0)


def test_a_pool_that_does_not_count_has_no_bound() -> None:
    assert admits(1000, float("inf"), 0.5, 0.99)
