"""The command that runs the benchmarks: one that fails or cannot run keeps no other from running."""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import run
from benchmarks.context import Context
from benchmarks.paired import Interval
from benchmarks.report import Column, Plot, Section
from rds_router.lab import EngineMissing

TABLE = run.BENCHMARKS


def good(context: Context) -> Iterator[Section]:
    context.progress(0.5, "half")
    yield Section(name="good", title="Good", question="?", answer=f"Seed {context.seed}.")


def lacking(context: Context) -> list[Section]:
    raise EngineMissing("no such server here")


def broken(context: Context) -> list[Section]:
    raise ZeroDivisionError("oh")


@pytest.fixture(autouse=True)
def _three(monkeypatch: pytest.MonkeyPatch) -> None:
    def benchmark(name: str, measure: Any) -> Any:
        own = SimpleNamespace(measure=measure)
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", own)
        return run.Benchmark(name, f"benchmarks.{name}", "about it", 1)

    table = (benchmark("lacking", lacking), benchmark("broken", broken), benchmark("good", good))
    monkeypatch.setattr(run, "BENCHMARKS", table)


def test_what_fails_or_is_missing_is_named_and_the_rest_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(run.main, ["--quick", "--seed", "5", "--to", str(tmp_path)])
    assert done.exit_code == 1
    assert "Good: Seed 5." in done.stdout
    (path,) = tmp_path.glob("*-quick.json")
    found = json.loads(path.read_text("utf-8"))
    assert found["left_out"] == {"lacking": "no such server here"}
    assert found["failed"] == {"broken": "ZeroDivisionError: oh"}
    assert [each["name"] for each in found["sections"]] == ["good"]
    assert found["environment"]["length"].startswith("quick")
    assert (tmp_path / path.name.replace(".json", ".html")).exists()


def test_an_interrupted_run_reports_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(context: Context) -> list[Section]:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["benchmarks.broken"], "measure", interrupt)
    found = run.run(run.BENCHMARKS[::-1], Context(), run.Console(file=io.StringIO()))
    assert [each.name for each in found.sections] == ["good"]
    assert found.failed == {"broken": "interrupted", "lacking": "interrupted"}


def test_what_is_measured_again_takes_its_place(tmp_path: Path) -> None:
    """The rest of the report stays, pictures too, and what failed before is forgotten if it does not now."""

    def draw(figure: Any) -> None:
        figure.add_subplot().plot([1, 2])

    noise = Interval(1.0, 0.9, 1.1)
    kept = Section(
        name="kept",
        title="Kept",
        question="?",
        answer="As it was.",
        columns=(Column("way"), Column("ratio", digits=1, noise=noise)),
        rows=[("a", Interval(2.0, 1.9, 2.1))],
        plots=[Plot("A line", draw)],
        measured="yesterday",
    )
    old = Section(name="good", title="Good", question="?", answer="Old.")
    facts = {"servers": {"mysql": "9"}}
    before = run.Report(name="x", environment=facts, sections=[old, kept], failed={"good": "oh", "broken": "oh"})
    path, markdown, _ = before.write(tmp_path)
    was = markdown.read_text("utf-8")
    done = CliRunner().invoke(run.main, ["--only", "good", "--onto", str(path), "--to", str(tmp_path / "new")])
    assert done.exit_code == 1, "what failed before and was not run again still has failed"
    (made,) = (tmp_path / "new").glob("*.md")
    text = made.read_text("utf-8")
    assert "Seed 1." in text
    assert "Old." not in text
    assert "Measured yesterday." in text
    table = was[was.index("| way | ratio |") : was.index("![A line]")]
    assert table in text
    (found,) = (json.loads(each.read_text("utf-8")) for each in (tmp_path / "new").glob("*.json"))
    assert found["failed"] == {"broken": "oh"}
    assert found["environment"]["servers"] == {"mysql": "9"}
    (picture,) = (tmp_path / "new").rglob("kept-1.svg")
    assert picture.read_text("utf-8") == kept.plots[0].svg


def test_what_was_asked_for_must_run(tmp_path: Path) -> None:
    """A stage of CI that names a benchmark does not pass because it was left out."""
    assert CliRunner().invoke(run.main, ["--only", "lacking", "--to", str(tmp_path)]).exit_code == 1
    assert CliRunner().invoke(run.main, ["--only", "good", "--to", str(tmp_path)]).exit_code == 0
    assert "no benchmark god" in CliRunner().invoke(run.main, ["--only", "god"]).output


def test_the_list_measures_nothing() -> None:
    done = CliRunner().invoke(run.main, ["--list"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["lacking", "broken", "good"]


def test_every_benchmark_of_the_table_can_be_imported() -> None:
    for each in TABLE:
        assert callable(importlib.import_module(each.module).measure), each.name


def test_a_run_tells_the_console_what_took_how_long() -> None:
    console = run.Console(file=io.StringIO(), width=200)
    made = run.run([run.BENCHMARKS[2]], Context(), console)
    assert "good: 0.0 s, done" in console.file.getvalue()
    assert made.seconds < 60
