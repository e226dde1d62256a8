"""What the benchmarks beside peers rest on, without a server: their accounts, and that what is missing is named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, select, text

from benchmarks.blog_tables import Post
from benchmarks.paired import Difference, compare_all
from benchmarks.peers import here, visitors, work
from benchmarks.peers.aws import ThroughWrapper
from benchmarks.peers.naive import RecipeSession, ThroughRecipe
from benchmarks.report import shown
from benchmarks.routing import AGAIN, OURS, Found, _statements, widest
from rds_router.torture.ways import Way


def visit(**other: Any) -> dict[str, Any]:
    found = {
        **dict.fromkeys(("requests", "checks"), 10),
        **dict.fromkeys(("misrouted", "stale", "read_errors", "write_errors"), 0),
        **dict.fromkeys(("reads_blocked", "writes_blocked"), 0.1),
        "errors": {},
    }
    return {**found, **other}


def test_the_longest_time_without_a_success_counts_both_ends() -> None:
    """Nothing succeeded before 1 s, nor after 2 s of 6."""
    assert visitors.longest([1.0, 2.0, 1.5], 0.0, 6.0) == 4.0
    assert visitors.longest([], 0.0, 6.0) == 6.0


def test_a_stale_read_or_a_misroute_of_ours_breaks_the_run_and_one_of_a_peer_does_not() -> None:
    fine = work._about_staleness("mysql", {OURS: visit(), "recipe": visit(stale=3, misrouted=2)})
    assert fine.broken == []
    assert "recipe: 2 writes at a replica, 3 of 10 own writes not seen" in fine.answer
    for which in ("stale", "misrouted", "read_errors", "write_errors"):
        assert work._about_staleness("mysql", {OURS: visit(**{which: 1})}).broken == [f"rds_router: 1 {which}"]


def test_an_outage_says_what_failed_and_most_often_as_what() -> None:
    lost = {"replica": visit(), "primary": visit(write_errors=4, promoted_after=0.2, errors={"POST: a | b": 3})}
    section = work._about_outages("mysql", {OURS: lost})
    assert section.rows[1][-2:] == [0.2, "3 x POST: a / b"]
    assert "the primary's 0 reads and 4 writes failed" in section.answer


def test_one_table_has_a_line_for_each_way_and_a_dash_for_what_was_not_measured() -> None:
    took = {"succeeded": 30, "seconds": 2.0, "p50": 0.01, "p99": 0.05, "cpu": {"app": 3.0, "primary": 1.0}}
    speed = {name: [visit(**took)] for name in (OURS, "plain")}
    lost = {OURS: {"replica": visit(), "primary": visit(write_errors=4)}}
    section = work._summary("mysql", [OURS, "plain"], speed, {OURS: visit(), "plain": visit()}, lost, [])
    assert section.rows[0] == [OURS, 15.0, 10.0, 50.0, 4.0, 0, "0 of 10", "0 of 10", "4 of 10"]
    assert section.texts()[1][-2:] == ["-", "-"]


def test_the_recipe_sends_flushes_and_constructs_to_the_primary_and_the_rest_to_a_replica() -> None:
    primary, replica = create_engine("sqlite://"), create_engine("sqlite://")
    with RecipeSession(primary, [replica]) as session:
        assert session.get_bind(clause=insert(Post)) is primary
        assert session.get_bind(clause=select(Post)) is replica
        assert session.get_bind(clause=text("UPDATE posts SET title = ''")) is replica
    primary.dispose()
    replica.dispose()


@pytest.mark.parametrize("through", [ThroughRecipe, ThroughWrapper])
def test_a_peers_way_has_all_that_the_blog_and_the_torture_ask_of_a_way(through: type) -> None:
    assert [name for name in dir(Way) if not name.startswith("_") and not hasattr(through, name)] == []


def test_packages_that_are_not_there_have_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare interpreter has none of the peers; a path of one's own wins."""
    monkeypatch.setenv("RDS_ROUTER_PEERS_PYTHON", sys.executable)
    monkeypatch.setattr(here, "PACKAGES", {"nobody has it": "nobody-has-it-4711", "SQLAlchemy": "SQLAlchemy"})
    here.versions.cache_clear()
    try:
        assert here.python() == sys.executable
        assert set(here.versions()) == {"SQLAlchemy"}
    finally:
        here.versions.cache_clear()


def test_all_ways_are_measured_in_the_same_rounds() -> None:
    calls: list[str] = []
    others = {name: (lambda name=name: calls.append(name)) for name in "bc"}
    found = compare_all(lambda: calls.append("a"), others, rounds=3, calls=2)
    assert set(found) == {"b", "c"}
    batches = ["".join(sorted(calls[3 + start : 3 + start + 6])) for start in (0, 6, 12)]
    assert batches == ["aabbcc"] * 3


def test_a_budget_is_broken_beyond_the_widest_noise_only() -> None:
    """An ORM select may cost 8 us; 10 us are within a noise of 3 us, and 12 us are not."""

    def section(added: float) -> list[str]:
        ways = {AGAIN: Difference(AGAIN, 5e-5, 0.0, -3e-6, 1e-6), OURS: Difference(OURS, 5e-5, added, added, added)}
        found = [Found("memory", "ORM select", ways)]
        noise = widest([ways[AGAIN].microseconds])
        made = _statements(found, noise, name="n", title="t", question="q", notes=[])
        assert shown(made.rows[0][1], made.columns[1]) == "50.0"
        return list(made.broken)

    assert section(10e-6) == []
    assert section(12e-6) == ["ORM select: 12.00 us > 8 us"]


def test_a_replicas_log_of_statements_tells_writes_of_clients(tmp_path: Path) -> None:
    """What the two families write down; a refused statement is there once, its error line does not count."""
    log = work._Log.__new__(work._Log)
    log._path = tmp_path / "log"
    log._pattern = work.LOGGED["mysql"]
    log._path.write_bytes(
        b"2026-11-27T23:00:00Z\t   12 Query\tUPDATE posts SET title = 'a'\n"
        b"2026-11-27T23:00:00Z\t   12 Query\tSELECT 'UPDATE'\n2026-11-27T23:00:00Z\t   13 Query\tBEGIN\n"
    )
    assert log.writes() == 1
    log._pattern = work.LOGGED["postgresql"]
    log._path.write_bytes(
        b"23:00 [7] LOG:  statement: UPDATE posts SET title = 'a'\n23:00 [7] ERROR:  cannot execute UPDATE\n"
        b"23:00 [7] STATEMENT:  UPDATE posts SET title = 'a'\n23:00 [7] LOG:  execute <unnamed>: INSERT INTO posts\n"
    )
    assert log.writes() == 2
