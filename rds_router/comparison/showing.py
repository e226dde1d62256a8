"""The answer for people and for programs: table, picture, JSON."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy

from rds_router._version import __version__
from rds_router.comparison.blog import OPERATIONS
from rds_router.comparison.figures import WHOLE, Figure, Interval, Sample, figures
from rds_router.comparison.place import Place
from rds_router.comparison.rounds import AGAIN, A, B, Round, Slice

PICTURES: Final = (".svg", ".png", ".pdf")
_BUSY: Final = 0.8
"""From this share of one core on, it is the clients that are measured."""
_WIDTH: Final = 31
_WIDE: Final = 140
"""Columns of a terminal from which on the table has room for pictures; so has a file."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Who was compared, how, and what came out."""

    sides: Mapping[str, Mapping[str, Any]]
    how: Mapping[str, Any]
    figures: Sequence[Figure]
    remarks: Sequence[str]


def answer(a: Place, b: Place, rounds: Sequence[Round], *, seconds: float, clients: int, seed: int) -> Answer:
    """What the rounds say."""
    a_found, again, b_found = (samples([each[name] for each in rounds], clients) for name in (A, AGAIN, B))
    return Answer(
        {
            A: _side(a, [each[name] for each in rounds for name in (A, AGAIN)]),
            B: _side(b, [each[B] for each in rounds]),
        },
        {
            "seconds": seconds,
            "rounds": len(rounds),
            "clients": clients,
            "seed": seed,
            "mix": {name: weight for name, (_, weight) in OPERATIONS.items()},
            "python": platform.python_version(),
            "sqlalchemy": sqlalchemy.__version__,
            "rds_router": __version__,
        },
        figures(a_found, again, b_found, clients=clients, seed=seed),
        [*_remarks(a, [each[A] for each in rounds]), *_remarks(b, [each[B] for each in rounds])],
    )


def samples(slices: Sequence[Slice], clients: int) -> dict[str, list[Sample]]:
    """One sample a round, of each operation and of the whole."""
    found = {WHOLE: [Sample(sorted(v for took in each.took.values() for v in took), each.seconds * clients)
                     for each in slices]}  # fmt: skip
    for name in OPERATIONS:
        found[name] = [Sample(sorted(each.took.get(name, ())), sum(each.took.get(name, ()))) for each in slices]
    return found


def print_table(found: Answer) -> None:
    """A line for each figure, with a small picture of its interval."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    for letter, side in found.sides.items():
        console.print(f"{letter}: {side['what']}, {side['done']} operations, {side['errors']} errors", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("operation", "measure"):
        table.add_column(heading, no_wrap=True)
    for heading in ("A", "B", "B / A"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("", no_wrap=True)
    reach, has_room = _reach(found.figures), console.width >= _WIDE
    if has_room:
        table.add_column(f"{math.exp(-reach):.2f} {'1':^{_WIDTH - 10}} {math.exp(reach):.2f}", no_wrap=True)
        table.add_column("A / A", no_wrap=True)
    for each in found.figures:
        cells: list[str | Text] = [
            *(each.operation, each.measure, _shown(each, each.a), _shown(each, each.b), _bracketed(each.ratio)),
            Text(each.verdict, style="dim" if each.is_noise else "bold"),
        ]
        if has_room:
            cells += [Text(drawn(each.ratio, reach), style="dim" if each.is_noise else ""), _bracketed(each.noise)]
        table.add_row(*cells)
    console.print(table)
    how = found.how
    console.print(
        f"{how['rounds']} rounds in turns, {how['clients']} clients; [..] is the 95 % interval over the rounds; "
        "the noise is what A differs from itself.",
        highlight=False, markup=False,
    )  # fmt: skip
    for remark in found.remarks:
        console.print(remark, highlight=False, markup=False)


def drawn(ratio: Interval, reach: float, width: int = _WIDTH) -> str:
    """``  --o--- |``: an interval on a logarithmic line whose middle is 1 and whose ends are ``reach`` from it."""
    places = [round((math.log(each) / reach + 1) / 2 * (width - 1)) for each in (ratio.low, ratio.value, ratio.high)]
    low, value, high = (min(max(each, 0), width - 1) for each in places)
    line = [" "] * width
    line[width // 2] = "|"
    line[low : high + 1] = "-" * (high + 1 - low)
    line[value] = "o"
    return "".join(line)


def as_json(found: Answer) -> dict[str, Any]:
    """Everything, as it is written to a file."""
    return {
        **{letter.lower(): dict(side) for letter, side in found.sides.items()},
        "how": dict(found.how),
        "remarks": list(found.remarks),
        "figures": [
            {
                "operation": each.operation,
                "measure": each.measure,
                "unit": "1/s" if each.measure == "rate" else "s",
                "a": each.a,
                "b": each.b,
                "ratio": _bounds(each.ratio),
                "noise": _bounds(each.noise),
                "is_noise": each.is_noise,
                "verdict": each.verdict,
            }
            for each in found.figures
        ],
    }


def draw(found: Answer, path: Path) -> None:
    """The ratios with their intervals, and A's with itself in grey. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    sheet = Sheet(figsize=(9, 1.6 + 0.36 * len(found.figures)), layout="constrained")
    FigureCanvasAgg(sheet)
    axes = sheet.add_subplot()
    for line, each in enumerate(found.figures):
        colour = "tab:gray" if each.is_noise else "tab:blue"
        for interval, shade, height in ((each.noise, "lightgray", 6), (each.ratio, colour, 2)):
            axes.plot([interval.low, interval.high], [line, line], color=shade, linewidth=height, solid_capstyle="butt")
        axes.plot([each.ratio.value], [line], "o", color=colour)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(math.exp(-_reach(found.figures)), math.exp(_reach(found.figures)))
    ticks = [
        each for each in (0.1, 0.2, 0.5, 0.8, 1, 1.25, 2, 5, 10) if axes.get_xlim()[0] <= each <= axes.get_xlim()[1]
    ]
    axes.set_xticks(ticks)
    axes.set_yticks(range(len(found.figures)), [f"{each.operation}, {each.measure}" for each in found.figures])
    axes.invert_yaxis()
    axes.set_xlabel("B / A, 95 % interval over the rounds; light grey: A / A; grey: inside the noise")
    axes.set_title("\n".join(f"{letter}: {side['what']}" for letter, side in found.sides.items()), fontsize=9)
    sheet.savefig(path)


def _side(place: Place, slices: Sequence[Slice]) -> dict[str, Any]:
    return {
        "what": f"{place}{_replicas(place)}",
        "version": place.version,
        "done": sum(len(took) for each in slices for took in each.took.values()),
        "errors": sum(len(each.errors) for each in slices),
        "events": dict(place.router.events.counts),
        "client_cpu": round(_cpu(slices), 3),
    }


def _replicas(place: Place) -> str:
    count = len(place.router.topology.servers) - 1
    return f" with {count} replica{'s' * (count != 1)}" if count else ""


def _cpu(slices: Sequence[Slice]) -> float:
    return sum(each.cpu for each in slices) / sum(each.seconds for each in slices)


def _remarks(place: Place, slices: Sequence[Slice]) -> list[str]:
    found = []
    errors = [each for one in slices for each in one.errors]
    if errors:
        found.append(f"{place.letter}: {len(errors)} operations failed, the first: {errors[0]}")
    if _cpu(slices) > _BUSY:
        found.append(
            f"{place.letter}: the clients took {100 * _cpu(slices):.0f} % of a core: it is they who were measured, as "
            "much as the servers. Give fewer --clients, and trust the latencies more than the rates"
        )
    if len(place.router.topology.servers) > 1 and (asked := place.router.events.counts.get("ReadOnPrimary", 0)):
        found.append(f"{place.letter}: {asked} times reads had to go to the primary: rds-router doctor says why")
    return found


def _reach(found: Sequence[Figure]) -> float:
    """How far from 1 a picture must go, as a logarithm: at least a quarter, at most ten times."""
    return min(max([math.log(1.25), *(1.05 * each.ratio.reach for each in found)]), math.log(10))


def _shown(figure: Figure, value: float) -> str:
    return f"{value:.0f}/s" if figure.measure == "rate" else f"{1000 * value:.2f} ms"


def _bracketed(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _bounds(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}
