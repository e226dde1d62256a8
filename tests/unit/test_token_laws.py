"""Laws of tokens: what a merged one demands, and that its text brings back what was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rds_router import causality
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.position import Position
from rds_router.core.token import Token
from rds_router.core.topology import Seen, Server
from tests.unit import test_position_laws as positions

moments = st.none() | st.integers(0, 5).map(float) | st.floats(0, 1e6)
times = st.none() | st.integers(0, 10**10).map(lambda microseconds: microseconds / 1e6)
clusters = st.sampled_from(["", "3f9a12bc"])


def tokens(flavour: st.SearchStrategy[Position]) -> st.SearchStrategy[Token]:
    return st.builds(Token, moments, st.none() | flavour, times, moments, clusters)


alike = [tokens(flavour) for flavour in positions.FLAVOURS.values()]
two = st.one_of([st.tuples(each, each) for each in alike])
three = st.one_of([st.tuples(each, each, each) for each in alike])
travelling = st.one_of(
    [st.builds(Token, st.none(), st.none() | each, times, st.none(), clusters) for each in positions.FLAVOURS.values()]
).filter(lambda token: token.position is not None or token.time is not None)


def covers(one: Token, other: Token) -> bool:
    """``one`` demands all that ``other`` demands, part by part."""
    numbers = ((one.at, other.at), (one.time, other.time), (one.unplaced, other.unplaced))
    return all(theirs is None or (mine is not None and mine >= theirs) for mine, theirs in numbers) and (
        other.position is None or (one.position is not None and one.position.covers(other.position))
    )


@given(three)
def test_a_merged_token_is_the_least_upper_bound(triple: tuple[Token, Token, Token]) -> None:
    """It demands what both demand; and whatever demands what both demand, demands it."""
    one, other, third = triple
    merged = one.merge(other)
    assert covers(merged, one)
    assert covers(merged, other)
    for bound in (third, third.merge(one), third.merge(one).merge(other)):
        assert covers(bound, merged) is (covers(bound, one) and covers(bound, other))


@given(two)
def test_merging_knows_no_order(pair: tuple[Token, Token]) -> None:
    one, other = pair
    assert one.merge(other) == other.merge(one)
    assert one.merge(one) == one
    assert one.merge(None) is one


@given(two, st.none() | st.integers(0, 5).map(float))
def test_who_satisfies_the_merged_token_satisfies_both(pair: tuple[Token, Token], as_of: float | None) -> None:
    """A replica that stands where the one, the other or both want it."""
    one, other = pair
    merged = one.merge(other)
    for position in {one.position, other.position, merged.position}:
        report = Report(Role.REPLICA, lag=0.0, position=position)
        seen = Seen(Server("r1"), Observation("r1", 0.0, report), report, as_of=as_of)
        assert seen.satisfies(merged) is (seen.satisfies(one) and seen.satisfies(other))


@given(travelling)
def test_the_text_brings_back_the_token(token: Token) -> None:
    """Also in a header or a cookie: one line of ASCII without quotes or spaces."""
    text = str(token)
    assert Token.parse(text) == token
    assert text.isascii()
    assert not set(text) & set(" \t\r\n\"'\\")


@given(st.one_of(st.text(), st.text("clusterim:;mysq-0123456789.")))
def test_any_other_text_is_a_value_error(text: str) -> None:
    """No text, however odd, raises anything else, or becomes a token that demands nothing."""
    try:
        token = Token.parse(text)
    except ValueError:
        return
    assert token.position is not None or token.time is not None
    assert token.travels


@pytest.mark.parametrize(
    "text",
    ["", "cluster:3f9a12bc", "here:5.000000", "time:1;time:2", "time:-1", "time:inf", "mysql", "cluster:a b;time:1"],
)
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(ValueError, match="Not a "):
        Token.parse(text)


@given(st.floats(0, 1e6))
def test_a_moment_is_shown_and_not_read_again(at: float) -> None:
    """It means nothing elsewhere; a text that left it out would demand less than the token."""
    assert "here:" in str(Token(at=at))
    with pytest.raises(ValueError, match="Not a "):
        Token.parse(str(Token(at=at)))


def test_tokens_of_two_clusters_do_not_merge() -> None:
    with pytest.raises(ValueError, match="Tokens of two clusters, here and there, do not merge"):
        Token(time=1.0, cluster="here").merge(Token(time=2.0, cluster="there"))


@given(two, st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_what_departs_arrives_as_no_less(pair: tuple[Token, Token], ahead: float, ahead_there: float) -> None:
    """A moment becomes a time, and a time a moment: of the other process's clock, and not an earlier one."""
    token = pair[0]
    departed = causality.departing(token, cluster="c", ahead=ahead)
    assert departed.travels
    arrived = causality.arriving(departed, cluster="c", ahead=ahead_there)
    assert arrived.position == token.position
    for moment in (token.at, token.unplaced):
        if moment is not None:
            assert arrived.at is not None
            assert arrived.at >= moment + ahead - ahead_there
