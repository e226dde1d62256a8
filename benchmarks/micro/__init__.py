"""The micro questions. pytest-benchmark is their runner, and works as its users expect::

    python -m pytest benchmarks/micro
    python -m pytest benchmarks/micro --benchmark-autosave --benchmark-compare --benchmark-histogram

Rounds are fixed, so that two runs can be compared. ``measure()`` runs them once more within ``benchmarks.run``: in a
process of its own, with ``--benchmark-json``, all of which goes into the report.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.context import Context
from benchmarks.report import Column, Plot, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent


def measure(context: Context) -> Iterator[Section]:
    """All of them; the table shows each one's fast quarter, median and slow quarter."""
    context.progress(0.05, "pytest-benchmark")
    found = run_pytest(*context.pick(("--benchmark-disable-gc", "--rounds=15"), ("--benchmark-disable-gc",)))
    rows = sorted((_row(each) for each in found["benchmarks"]), key=lambda row: (row[0], row[3]))
    median = {name: median for _, name, _, median, *_ in rows}
    known, decided, evolved = (median[name] for name in ("known[ORM select]", "decide[3]", "evolve[15]"))
    yield Section(
        name="micro",
        title="The parts of a routed statement",
        question="How long does each part take by itself?",
        answer=f"Judging a statement that was seen before {known:.1f} us, deciding among 3 replicas {decided:.1f} us, "
        f"taking in a probe's news of one of 15 replicas {evolved:.0f} us.",
        columns=(
            Column("group"),
            Column("part"),
            Column("fast quarter", "us"),
            Column("median", "us"),
            Column("slow quarter", "us"),
            Column("rounds"),
        ),
        rows=rows,
        notes=[
            "Wall time within one process, by pytest-benchmark, to find what changed between two runs of one machine "
            "(`--benchmark-compare`). What routing adds to a statement is measured in pairs, by CPU time, elsewhere."
        ],
        plots=[Plot("Medians, and from the fast to the slow quarter", partial(_draw, rows), (8, 0.24 * len(rows) + 1))],
        raw=found,
    )


def run_pytest(*options: str) -> dict[str, Any]:
    """pytest-benchmark's own JSON, without the values of each round."""
    with tempfile.TemporaryDirectory(prefix="rds_router_micro-") as folder:
        path = Path(folder) / "micro.json"
        command = [sys.executable, "-m", "pytest", "-q", str(HERE), f"--benchmark-json={path}", *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent.parent, check=False)
        if done.returncode:
            raise RuntimeError(f"pytest failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    del found["machine_info"]["node"]
    for each in found["benchmarks"]:
        each["stats"].pop("data", None)
    return found


def _row(found: dict[str, Any]) -> tuple[str, str, float, float, float, int]:
    stats = found["stats"]
    name = found["name"].removeprefix("test_").replace("_", " ")
    return found["group"] or "", name, *(stats[each] * 1e6 for each in ("q1", "median", "q3")), stats["rounds"]


def _draw(rows: list[tuple[str, str, float, float, float, int]], figure: Figure) -> None:
    axis = figure.add_subplot()
    places = range(len(rows), 0, -1)
    for place, (_, _, low, median, high, _) in zip(places, rows, strict=True):
        axis.plot([low, high], [place, place], color="tab:blue", linewidth=4, alpha=0.4)
        axis.plot([median], [place], "o", color="tab:blue", markersize=4)
    axis.set_yticks(list(places), [f"{group}: {name}" for group, name, *_ in rows])
    axis.set_xscale("log")
    axis.set_xlabel("us")
