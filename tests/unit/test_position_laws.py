"""Laws every flavour of position obeys, on generated values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from rds_router.core.position import (
    Lsn,
    MariaDBGtidList,
    MySQLGtidSet,
    Position,
    WallClock,
    format_position,
    parse_position,
)

# Few servers and small numbers, so that two drawn positions often touch, overlap or contain one another.
SOURCES = [
    "3e11fa47-71ca-11e1-9e33-c80aa9429562",
    "3e11fa47-71ca-11e1-9e33-c80aa9429562:blue",
    "3e11fa47-71ca-11e1-9e33-c80aa9429562:green_2",
    "4e11fa47-71ca-11e1-9e33-c80aa9429562",
    "4e11fa47-71ca-11e1-9e33-c80aa9429562:blue",
]
intervals = st.tuples(st.integers(1, 12), st.integers(0, 4)).map(lambda pair: (pair[0], pair[0] + pair[1]))
mysql = st.lists(st.tuples(st.sampled_from(SOURCES), st.lists(intervals, max_size=4).map(tuple)), max_size=4).map(
    lambda ranges: MySQLGtidSet(tuple(ranges))
)
mariadb = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 9)), max_size=5).map(
    lambda gtids: MariaDBGtidList(tuple(gtids))
)
lsn = st.builds(Lsn, st.integers(0, 5) | st.integers(0, 2**64 - 1), st.integers(0, 3))
clock = st.floats(0, 4e9).map(WallClock) | st.integers(0, 5).map(float).map(WallClock)
FLAVOURS: dict[str, SearchStrategy[Position]] = {
    "mysql": mysql,
    "mariadb": mariadb,
    "postgresql": lsn,
    "clock": clock,
}
position = st.one_of(*FLAVOURS.values())
two = st.one_of([st.tuples(flavour, flavour) for flavour in FLAVOURS.values()])
three = st.one_of([st.tuples(flavour, flavour, flavour) for flavour in FLAVOURS.values()])


@given(position)
def test_reflexive(one: Position) -> None:
    """Every position covers itself."""
    assert one.covers(one)


@given(two)
def test_antisymmetric(pair: tuple[Position, Position]) -> None:
    """Two positions that cover one another are equal, hash alike and print alike."""
    one, other = pair
    both_ways = one.covers(other) and other.covers(one)
    assert both_ways is (one == other)
    if both_ways:
        assert hash(one) == hash(other)
        assert str(one) == str(other)


@given(three)
def test_transitive(triple: tuple[Position, Position, Position]) -> None:
    """What covers a position covers all that it covers: built so that the premise always holds."""
    one, other, third = triple
    middle = one.union(other)
    top = middle.union(third)
    assert middle.covers(one)
    assert top.covers(middle)
    assert top.covers(one)
    if one.covers(other) and other.covers(third):
        assert one.covers(third)


@given(three)
def test_union_is_the_least_upper_bound(triple: tuple[Position, Position, Position]) -> None:
    """The union covers both, and whatever covers both covers the union."""
    one, other, third = triple
    union = one.union(other)
    assert union.covers(one)
    assert union.covers(other)
    for bound in (third, third.union(one), third.union(one).union(other)):
        assert bound.covers(union) is (bound.covers(one) and bound.covers(other))


@given(three)
def test_union_in_any_order(triple: tuple[Position, Position, Position]) -> None:
    """Tokens may be merged in any order, any number of times."""
    one, other, third = triple
    assert one.union(other) == other.union(one)
    assert one.union(other).union(third) == one.union(other.union(third))
    assert one.union(one) == one


@given(two)
def test_union_and_covers_agree(pair: tuple[Position, Position]) -> None:
    """A position covers another exactly if the union adds nothing to it."""
    one, other = pair
    assert one.covers(other) is (one.union(other) == one)


@given(position)
def test_text_round_trip(one: Position) -> None:
    """The text form brings back the same position, alone and with its flavour."""
    assert parse_position(format_position(one)) == one
    assert type(one).parse(str(one)) == one  # type: ignore[attr-defined]


@given(position)
def test_empty_is_what_all_cover(one: Position) -> None:
    """is_empty is true of exactly the position that every other of its flavour covers."""
    bottom = type(one)()
    assert one.covers(bottom)
    assert one.is_empty is bottom.covers(one)  # type: ignore[attr-defined]


@given(position, position)
def test_flavours_do_not_mix(one: Position, other: Position) -> None:
    """Across flavours nothing is covered, not even an empty position, and there is no union."""
    if type(one) is type(other):
        return
    assert not one.covers(other)
    with pytest.raises(TypeError, match=f"No union of {type(one).__name__} and {type(other).__name__}"):
        one.union(other)


@given(st.text())
def test_any_other_text_is_a_value_error(text: str) -> None:
    """No text, however odd, raises anything but ValueError, and what is taken survives a round trip."""
    for candidate in (text, *(f"{flavour}:{text}" for flavour in FLAVOURS)):
        try:
            parsed = parse_position(candidate)
        except ValueError:
            continue
        assert parse_position(format_position(parsed)) == parsed


@given(st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)))
def test_gtid_set_is_a_set(one: set[int], other: set[int]) -> None:
    """Against Python's own sets: covers is superset, union is union."""

    def gtids(numbers: set[int]) -> MySQLGtidSet:
        return MySQLGtidSet(((SOURCES[0], tuple((number, number) for number in sorted(numbers))),))

    assert gtids(one).covers(gtids(other)) is (one >= other)
    assert gtids(one).union(gtids(other)) == gtids(one | other)


def test_parsed_text_is_canonical() -> None:
    """Intervals are merged, sources sorted, a UUID named once."""
    uuid, second = SOURCES[3], SOURCES[0]
    text = f"{uuid}:7:1-3:4:b:2:a:1-2,\n{second}:9,\n{uuid}:2-5"
    assert str(MySQLGtidSet.parse(text)) == f"{second}:9,{uuid}:1-5:7:a:1-2:b:2"


def test_positions_cannot_be_changed() -> None:
    """They are values: frozen, and without room for further attributes."""
    for one in (MySQLGtidSet(), MariaDBGtidList(), Lsn(), WallClock()):
        with pytest.raises((AttributeError, TypeError)):
            one.seconds = 1.0  # type: ignore[union-attr, misc]
        assert isinstance(one, Position)


def test_a_foreign_class_has_no_text_form() -> None:
    """format_position names the class it does not know."""

    class Elsewhere:
        def covers(self, other: Position, /) -> bool:
            return False

        def union(self, other: Position, /) -> Position:
            return self

    with pytest.raises(TypeError, match="Elsewhere"):
        format_position(Elsewhere())


def test_a_long_malformed_text_is_cut() -> None:
    """The error shows the beginning of the text, not a megabyte of it."""
    with pytest.raises(ValueError, match="Not a MySQL GTID set") as refusal:
        MySQLGtidSet.parse("x" * 10_000)
    assert len(str(refusal.value)) < 300
