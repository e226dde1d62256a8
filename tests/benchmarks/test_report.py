"""What the report of the benchmarks promises: noise is called noise, and everything measured is in the JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.context import Context
from benchmarks.paired import Interval, compare, interleaved, ratio
from benchmarks.publish import MARK, publish
from benchmarks.report import Column, Plot, Report, Section, said

NOISE = Interval(1.01, 0.97, 1.04)


def section(**changes: Any) -> Section:
    made: dict[str, Any] = {
        "name": "tls",
        "title": "TLS",
        "question": "What does `TLS` cost?",
        "answer": "Much.",
        "columns": (Column("way"), Column("connect", "ms"), Column("against <plain>", noise=NOISE)),
        "rows": [
            ("plain | bare", 1234.5, None),
            ("TLS", 0.5, Interval(2.0, 1.9, 2.1)),
            ("A", 1, Interval(1.03, 1.02, 1.05)),
        ],
        "raw": {"plain": [1.0, 2.0]},
    }
    return Section(**{**made, **changes})


def report(*sections: Section, **changes: Any) -> Report:
    return Report(
        **{"name": "box-2026-01-01", "environment": {"seed": 1, "servers": {}}, "sections": sections, **changes}
    )


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(1.5, 1.4, 1.6), "x1.50 [1.40, 1.60]"),
        (Interval(1.5, 0.9, 1.6), "x1.50 [0.90, 1.60], within the noise"),
        (Interval(1.03, 1.02, 1.05), "x1.03 [1.02, 1.05], within the noise"),
        (Interval(0.97, 0.965, 0.98), "x0.97 [0.96, 0.98], within the noise"),
        (Interval(0.5, 0.4, 0.6), "x0.50 [0.40, 0.60]"),
        (ratio([1.0], [2.0]), "x2.00 [too few rounds], within the noise"),
    ],
)
def test_a_ratio_that_an_a_a_pair_shows_too_is_called_noise(interval: Interval, expected: str) -> None:
    assert said(interval, NOISE) == expected


def test_a_difference_is_measured_against_the_noise_of_differences() -> None:
    noise = Interval(0.1, -0.2, 0.3, neutral=0)
    assert said(Interval(0.25, 0.2, 0.4, neutral=0), noise, unit="us") == "+0.25 us [+0.20, +0.40], within the noise"
    assert said(Interval(0.5, 0.4, 0.6, neutral=0), noise, unit="us") == "+0.50 us [+0.40, +0.60]"


def test_a_comparison_without_an_a_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="'ratio' compares, and names no noise"):
        section(columns=(Column("way"), Column("ms"), Column("ratio")))


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="3 columns"):
        section(rows=[("plain", 1.0)])


def test_the_json_holds_what_was_measured_and_what_is_noise(tmp_path: Path) -> None:
    found = json.loads(report(section()).write(tmp_path)[0].read_text("utf-8"))
    (told,) = found["sections"]
    assert told["raw"] == {"plain": [1.0, 2.0]}
    assert [row[2] and row[2]["is_within_noise"] for row in told["rows"]] == [None, False, True]
    assert found["environment"]["seed"] == 1


def test_pages_show_tables_pictures_and_what_is_missing(tmp_path: Path) -> None:
    def draw(figure: Any) -> None:
        figure.add_subplot().plot([1, 2], [3, 4])

    made = report(
        section(plots=[Plot("A line", draw)]),
        section(name="pool", plots=[Plot("Another", draw)], broken=["text 3 us > 2 us"]),
        left_out={"mysql": "no server"},
        failed={"x": "ValueError: <bad>"},
    )
    _, markdown, page = made.write(tmp_path)
    text = markdown.read_text("utf-8")
    assert "| plain \\| bare | 1,234.50 | - |" in text
    assert "![A line](box-2026-01-01/tls-1.svg)" in text
    assert (tmp_path / "box-2026-01-01" / "tls-1.svg").read_text("utf-8").startswith("<svg")
    html = page.read_text("utf-8")
    assert html.count("<svg") == 2
    assert "against &lt;plain&gt;" in html
    assert "What does <code>TLS</code> cost?" in html
    assert "mysql: left out</b> no server" in html
    assert "ValueError: &lt;bad&gt;" in html
    assert "Over budget: text 3 us &gt; 2 us" in html
    for reference in ('src="http', 'href="http', "<script"):
        assert reference not in html, "the page needs nothing else"


def test_rounds_are_interleaved_and_the_same_for_the_same_seed() -> None:
    order: list[str] = []
    ways = {name: lambda name=name: order.append(name) for name in "abc"}
    interleaved(ways, rounds=4, seed=3)
    first, order = order, []
    interleaved({name: lambda name=name: order.append(name) for name in "abc"}, rounds=4, seed=3)
    assert order == first
    assert [sorted(first[place : place + 3]) for place in range(0, 12, 3)] == [list("abc")] * 4


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    found = ratio([1.0, 2.0, 4.0], [2.0, 4.0, 40.0])
    assert (found.value, found.low) == (2.0, 2.0)
    assert ratio([0.0], [0.0]).value == 1.0, "nothing is as much as nothing"


def test_more_work_costs_more() -> None:
    found = compare("sum", lambda: None, lambda: sum(range(20_000)), rounds=5, calls=5)
    assert found.microseconds.low > 0


def test_the_bar_of_progress_and_the_sizes_are_the_contexts() -> None:
    context = Context(is_quick=True, seed=7)
    assert context.pick(1, 2) == 1
    assert context.dice.random() == context.dice.random()


def test_a_published_report_replaces_the_one_before(tmp_path: Path) -> None:
    def draw(figure: Any) -> None:
        figure.add_subplot().plot([1, 2], [3, 4])

    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Benchmarks\n\nBy hand.\n{MARK}\nold\n", "utf-8")
    for name in ("first", "second"):
        _, markdown, _ = report(section(plots=[Plot("A line", draw)]), name=name).write(tmp_path / "results")
        publish(markdown, tmp_path)
    text = page.read_text("utf-8")
    assert text.startswith("# Benchmarks\n\nBy hand.\n")
    assert "first" not in text
    assert "## The run of second" in text
    assert "![A line](benchmarks/tls-1.svg)" in text
    assert (tmp_path / "benchmarks" / "tls-1.svg").exists()
