"""What a benchmark hands back, and the report that is made of it.

A benchmark is a function ``measure(context) -> Iterable[Section]``. A section answers one question::

    Section(
        name="tls",                                        # part of file names
        title="TLS",
        question="What does TLS cost a connection?",
        answer="With one shared context x1.9; PyMySQL's default builds a context for every connect: x14.",
        columns=(Column("way"), Column("connect", "ms"), Column("against plain", noise=aa)),
        rows=[("plain", 0.6, None), ("shared context", 1.1, ratio(plain, shared))],
        notes=["..."],                                     # what a reader must know to believe it
        plots=[Plot("Time of a connect, by way", draw)],   # draw(figure): a matplotlib Figure, empty
        raw={"plain": [...], ...},                         # every measured value: goes into the JSON
        broken=["..."],                                    # budgets that were not kept: the exit status is 1
    )

1. A cell is text, a number, None (shown as a dash) or an ``Interval`` of ``paired.py``: a ratio or a difference.
2. A column of intervals names its ``noise``: the interval of an A/A pair, the base against itself, measured in the same
   run. Without one the section is refused. A difference inside of it is called "within the noise", by this module.
3. ``said(interval, noise)`` puts the same words into an answer.
4. A benchmark that cannot run here raises ``rds_router.lab.EngineMissing``; the report names it and why.

``Report.write()`` makes ``<machine-and-date>.json``, ``.md``, ``.html`` (self-contained) and a folder of pictures.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.paired import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOK = {"svg.hashsalt": "rds_router", "font.size": 9, "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.3}

Cell = str | int | float | Interval | None


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column."""

    name: str
    unit: str = ""
    digits: int = 2
    """Behind the point, of numbers that are not whole."""
    noise: Interval | None = None
    """Of an A/A pair in the same run; a column of intervals must have it."""

    @property
    def head(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


@dataclass(frozen=True)
class Plot:
    """A picture: what it shows in one sentence, and what draws it."""

    caption: str
    draw: Callable[[Figure], None]
    size: tuple[float, float] = (8.0, 3.6)
    """Inches."""
    drawn: str = ""
    """The picture itself, of a report that was read."""

    @cached_property
    def svg(self) -> str:
        """Drawn once, alike each time."""
        if self.drawn:
            return self.drawn
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context(
            {"svg.hashsalt": "rds_router", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
        ):
            figure = Figure(figsize=self.size, layout="constrained")
            self.draw(figure)
            drawn = io.StringIO()
            figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
        text = drawn.getvalue()
        # Without the declaration it stands within a page too; no line ends in blanks.
        return re.sub(r"[ \t]+\n", "\n", text[text.index("<svg") :])


@dataclass(frozen=True, kw_only=True)
class Section:
    """One question, its answer, and what it rests on."""

    name: str
    title: str
    question: str
    answer: str
    columns: Sequence[Column] = ()
    rows: Sequence[Sequence[Cell]] = ()
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)
    broken: Sequence[str] = ()
    """Budgets that were not kept, beyond the noise."""
    measured: str = ""
    """When, and how busy the machine was: the runner's to say."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.name}: {len(self.columns)} columns, but a row is {row!r}")
            for column, cell in zip(self.columns, row, strict=True):
                if isinstance(cell, Interval) and column.noise is None:
                    raise ValueError(
                        f"{self.name}: the column {column.name!r} compares, and names no noise (an A/A pair)"
                    )

    @classmethod
    def read(cls, found: Mapping[str, Any], pictures: Path) -> Section:
        """What ``as_json()`` wrote; ``pictures`` is the folder beside it."""
        columns = [
            Column(each["name"], each["unit"], each["digits"], _interval(each["noise"])) for each in found["columns"]
        ]
        plots = [
            Plot(caption, lambda figure: None, drawn=(pictures / f"{found['name']}-{number}.svg").read_text("utf-8"))
            for number, caption in enumerate(found["plots"], start=1)
        ]
        rows = [[_interval(cell) if isinstance(cell, dict) else cell for cell in row] for row in found["rows"]]
        names = ("name", "title", "question", "answer", "notes", "raw", "broken", "measured")
        return cls(columns=columns, rows=rows, plots=plots, **{name: found[name] for name in names})

    def texts(self) -> list[list[str]]:
        """The rows as they are shown."""
        return [[shown(cell, column) for cell, column in zip(row, self.columns, strict=True)] for row in self.rows]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "question": self.question,
            "answer": self.answer,
            "columns": [
                {"name": each.name, "unit": each.unit, "digits": each.digits, "noise": _plain(each.noise, None)}
                for each in self.columns
            ],
            "rows": [
                [_plain(cell, column.noise) for cell, column in zip(row, self.columns, strict=True)]
                for row in self.rows
            ],
            "notes": list(self.notes),
            "plots": [each.caption for each in self.plots],
            "raw": self.raw,
            "broken": list(self.broken),
            "measured": self.measured,
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run of the benchmarks."""

    name: str
    """``<machine-and-date>``."""
    environment: Mapping[str, Any]
    sections: Sequence[Section]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Benchmarks that did not run here, and why."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Benchmarks that ended with an error, and which."""
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        """True if a benchmark failed, or a budget was not kept."""
        return bool(self.failed) or any(section.broken for section in self.sections)

    def write(self, folder: Path) -> list[Path]:
        """Write all three forms; the paths, the HTML page last."""
        from benchmarks import pages

        folder.mkdir(parents=True, exist_ok=True)
        pictures = folder / self.name
        for section in self.sections:
            for number, plot in enumerate(section.plots, start=1):
                pictures.mkdir(exist_ok=True)
                (pictures / f"{section.name}-{number}.svg").write_text(plot.svg, "utf-8")
        forms = {
            ".json": json.dumps(self.as_json(), indent=1, default=str) + "\n",
            ".md": pages.markdown(self),
            ".html": pages.html(self),
        }
        paths = []
        for ending, text in forms.items():
            paths.append(folder / f"{self.name}{ending}")
            paths[-1].write_text(text, "utf-8")
        return paths

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "environment": self.environment,
            "seconds": round(self.seconds, 1),
            "left_out": dict(self.left_out),
            "failed": dict(self.failed),
            "sections": [section.as_json() for section in self.sections],
        }


def _interval(found: Mapping[str, float] | None) -> Interval | None:
    return None if found is None else Interval(*(found[name] for name in ("value", "low", "high", "neutral")))


def said(interval: Interval, noise: Interval, *, unit: str = "", digits: int = 2) -> str:
    """An interval in words: ``x1.23 [1.20, 1.27]``, and ``within the noise`` where it is."""
    if interval.neutral == 0:
        bounds = f"[{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"
        text = f"{interval.value:+.{digits}f}{unit and ' ' + unit} {bounds}"
    else:
        bounds = (
            f"{interval.low:.{digits}f}, {interval.high:.{digits}f}" if isfinite(interval.high) else "too few rounds"
        )
        text = f"x{interval.value:.{digits}f} [{bounds}]"
    return f"{text}, within the noise" if interval.is_within(noise) else text


def shown(cell: Cell, column: Column) -> str:
    """One cell, as a reader sees it."""
    if cell is None:
        return "-"
    if isinstance(cell, Interval):
        assert column.noise is not None
        return said(cell, column.noise, digits=column.digits)
    if isinstance(cell, float):
        return f"{cell:,.{column.digits}f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _plain(cell: Cell, noise: Interval | None) -> Any:
    if not isinstance(cell, Interval):
        return cell
    plain: dict[str, Any] = {"value": cell.value, "low": cell.low, "high": cell.high, "neutral": cell.neutral}
    if noise is not None:
        plain["is_within_noise"] = cell.is_within(noise)
    return plain
