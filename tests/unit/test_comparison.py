"""``rds-router compare`` without a server: its statistics, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from rds_router.cli import commands
from rds_router.comparison import rounds
from rds_router.comparison.blog import PREFIX
from rds_router.comparison.figures import Figure, Interval, Sample, figures, quantile
from rds_router.comparison.place import Place
from rds_router.comparison.rounds import BrokeOff
from rds_router.comparison.showing import drawn
from rds_router.errors import ConfigurationError

TABLE = f"{PREFIX}_post"


def taking(*rounds: float, count: int = 50) -> list[Sample]:
    """One sample a round: ``count`` answers that take about so long."""
    return [Sample([took * (1 + n / count) for n in range(count)], took * 1.5 * count) for took in rounds]


def judged(a: list[Sample], again: list[Sample], b: list[Sample]) -> dict[str, Figure]:
    found = figures({"edit": a}, {"edit": again}, {"edit": b}, clients=2, seed=1)
    return {each.measure: each for each in found}


STEADY = taking(1.0, 1.1, 0.9, 1.0, 1.05, 0.95)
RESTLESS = taking(1.5, 0.7, 1.4, 0.6, 1.9, 1.3)


def test_twice_the_time_is_half_the_speed_in_every_measure() -> None:
    """A steady B that takes twice as long is outside the noise, and the verdict names who is faster."""
    found = judged(STEADY, STEADY, taking(2.0, 2.2, 1.8, 2.0, 2.1, 1.9))
    assert set(found) == {"median", "p99", "rate"}
    assert found["median"].ratio.value == pytest.approx(2, rel=1e-3)
    assert found["rate"].ratio.value == pytest.approx(0.5)
    assert {each.verdict for each in found.values()} == {"A 2.00 x faster"}
    assert all(each.ratio.low <= each.ratio.value <= each.ratio.high for each in found.values())


def test_a_database_is_not_faster_than_itself() -> None:
    found = judged(STEADY, STEADY, STEADY)
    assert {each.verdict for each in found.values()} == {"inside the noise"}


def test_a_difference_that_a_shows_from_itself_is_noise() -> None:
    """B is 20 % slower in each round, but A's second slice is anything between 0.6 and 1.9 of its first."""
    slower = taking(1.2, 1.32, 1.08, 1.2, 1.26, 1.14)
    assert not judged(STEADY, STEADY, slower)["median"].is_noise
    assert judged(STEADY, RESTLESS, slower)["median"].is_noise


def test_what_shook_both_sides_of_a_round_cancels_out() -> None:
    """Rounds that differ fivefold, B always 30 % slower: the interval is narrow."""
    a = taking(1.0, 5.0, 2.0, 1.0, 3.0, 4.0)
    ratio = judged(a, a, [Sample([took * 1.3 for took in each.took], each.busy * 1.3) for each in a])["rate"].ratio
    assert (ratio.low, ratio.high) == (pytest.approx(1 / 1.3), pytest.approx(1 / 1.3))


def test_no_p99_of_a_few_and_no_figure_of_what_one_side_never_did() -> None:
    few = [Sample([1.0, 2.0], 3.0)] * 4
    assert set(judged(few, few, few)) == {"median", "rate"}
    assert judged(few, few, [Sample([], 0.0)] * 4) == {}


@given(
    st.lists(
        st.tuples(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20), st.integers(1, 3)), min_size=1, max_size=5
    ),
    st.floats(0.01, 1.0),
)
def test_a_round_that_counts_twice_is_as_two_rounds(drawn: list[tuple[list[float], int]], share: float) -> None:
    """The weighted quantile is the quantile of all values, each as often as its round was drawn."""
    samples = [Sample(sorted(took), 1.0) for took, _ in drawn]
    whole = sorted(itertools.chain.from_iterable(took * weight for took, weight in drawn))
    wanted = next(value for place, value in enumerate(whole, 1) if place >= share * len(whole))
    assert quantile(samples, [weight for _, weight in drawn], share) == pytest.approx(wanted, rel=3e-4)


def test_the_small_picture_has_1_in_its_middle() -> None:
    assert drawn(Interval(1.0, 0.5, 2.0), reach=0.7, width=11) == "-----o-----"
    assert drawn(Interval(1.7, 1.4, 1.99), reach=0.7, width=11) == "     | --o-"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two SQLite files, each with a table of somebody else's."""
    for name in ("a.db", "b.db"):
        with sqlite3.connect(tmp_path / name) as connection:
            connection.execute("CREATE TABLE posts (title TEXT)")
            connection.execute("INSERT INTO posts VALUES ('kept')")
        connection.close()
    return tmp_path / "a.db", tmp_path / "b.db"


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["compare", *map(str, arguments)])


def tables(file: Path) -> set[str]:
    with sqlite3.connect(file) as connection:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert connection.execute("SELECT title FROM posts").fetchall() == [("kept",)]
    connection.close()
    return found


def test_two_files_are_compared_and_left_as_they_were(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Exit code 0, every operation in the JSON, a picture, and no table left."""
    a, b = (f"sqlite:///{each}" for each in files)
    picture, out = tmp_path / "c.svg", tmp_path / "c.json"
    given = ("--seconds", 3, "--rounds", 4, "--clients", 1, "--json", out, "--picture", picture)
    result = compare(a, b, *given)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert found["how"]["rounds"] == 4
    assert {"whole", "list page", "post page"} <= {each["operation"] for each in found["figures"]}
    for each in found["figures"]:
        assert 0 < each["ratio"]["low"] <= each["ratio"]["value"] <= each["ratio"]["high"]
    assert found["a"]["done"] > 0
    assert found["a"]["errors"] == found["b"]["errors"] == 0
    assert "<svg" in picture.read_text()
    assert [tables(each) for each in files] == [{"posts"}, {"posts"}]


def test_a_database_that_has_such_a_table_is_refused(files: tuple[Path, Path]) -> None:
    """Exit code 2; what is there stays, and what was made on the other side is removed."""
    with sqlite3.connect(files[1]) as connection:
        connection.execute(f"CREATE TABLE {TABLE} (mine TEXT)")
    connection.close()
    result = compare(*(f"sqlite:///{each}" for each in files))
    assert result.exit_code == 2
    assert f"has a table {TABLE} already: nothing was touched" in result.output
    assert [tables(each) for each in files] == [{"posts"}, {"posts", TABLE}]


def test_a_file_is_not_compared_with_itself(files: tuple[Path, Path]) -> None:
    result = compare(*[f"sqlite:///{files[0]}"] * 2)
    assert result.exit_code == 2
    assert tables(files[0]) == {"posts"}


def test_what_breaks_off_leaves_nothing_behind(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 and the reason, when a side fails more often than it succeeds."""

    def refuse(*_: Any) -> None:
        raise BrokeOff("the server said no")

    operation = {name: (refuse, weight) for name, (_, weight) in rounds.OPERATIONS.items()}
    monkeypatch.setattr(rounds, "OPERATIONS", operation)
    result = compare(*(f"sqlite:///{each}" for each in files), "--seconds", 3, "--rounds", 4)
    assert result.exit_code == 1
    assert "errors, the first:" in result.output
    assert "the server said no" in result.output
    assert [tables(each) for each in files] == [{"posts"}, {"posts"}]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("no url", "sqlite:///b.db"), "A is no URL"),
        (("sqlite://", "sqlite:///b.db"), "must be a file"),
        (("oracle+oracledb://a@b/", "sqlite:///b.db"), "oracle cannot be compared"),
        (("sqlite:///a.db", "sqlite:///b.db", "--schema", "x; DROP"), "a schema's name is made of"),
        (("sqlite:///a.db", "sqlite:///b.db", "--schema", "other"), "SQLite has no schemas"),
        (("sqlite:///a.db", "sqlite:///b.db", "--seconds", "2", "--rounds", "12"), "12 rounds need 4 --seconds"),
        (("sqlite:///a.db", "sqlite:///b.db", "--picture", "x.gif"), "must end in one of .svg"),
        (("sqlite:///a.db", "sqlite:///b.db", "--credentials", "hunter22"), "RDS_ROUTER_CREDENTIALS must be"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_accepted(given: tuple[str, ...], says: str) -> None:
    result = compare(*given)
    assert result.exit_code == 2
    assert says in result.output
    assert "hunter22" not in result.output
    assert not Path("a.db").exists()


def test_no_password_is_shown_of_a_server_that_is_not_there() -> None:
    """Neither in the refusal nor in what a place is called."""
    url = "mysql+pymysql://me:hunter22@127.0.0.1:1/blog"
    result = compare(url, url)
    assert result.exit_code == 2
    assert "A (mysql at 127.0.0.1:1): OperationalError" in result.output
    assert "hunter22" not in result.output


def test_nothing_is_removed_that_was_not_made() -> None:
    place = Place("A", "mysql+pymysql://me:hunter22@127.0.0.1:1/blog")
    try:
        assert place.remove() is False
    finally:
        place.close()
    with pytest.raises(ConfigurationError):
        Place("A", "mssql+pymssql://me@127.0.0.1/blog")
