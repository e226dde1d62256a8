"""A run as a picture: throughput, errors, lag and faults against time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rds_router.lab.errors import LabError
from rds_router.lab.torture.figures import per_slice, reads, writes
from rds_router.lab.torture.history import Outcome
from rds_router.lab.torture.run import Result
from rds_router.lab.torture.schedule import LAG, Verb

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 0.25  # seconds of a slice
_ENDS = (Verb.RESTART, Verb.THAW, Verb.HEAL, Verb.REJOIN, Verb.MEND)


def draw(result: Result, file: Path) -> None:
    """Write the picture; the file's ending says which kind (.png, .svg). Raises LabError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LabError("the picture needs matplotlib: pip install 'rds-router[torture]'") from error
    seconds = result.end - result.start
    slices = max(1, int(seconds / _WIDTH))
    moments = [place * _WIDTH for place in range(slices)]
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    done, failed, lag, faults = figure.subplots(4, 1, sharex=True, height_ratios=(3, 1.5, 1, 2))
    for name, records, colour in (("reads", reads(result.history), "C0"), ("writes", writes(result.history), "C1")):
        well = [each for each in records if each.outcome is Outcome.OK]
        rate = [count / _WIDTH for count in per_slice(well, result.start, slices, _WIDTH)]
        done.plot(moments, rate, colour, label=name, linewidth=1)
        for outcome, bottom in ((Outcome.FAILED, "-"), (Outcome.IN_DOUBT, ":")):
            errors = [each for each in records if each.outcome is outcome]
            if errors:
                counts = per_slice(errors, result.start, slices, _WIDTH)
                failed.plot(moments, counts, colour + bottom, label=f"{name} {outcome.value}", drawstyle="steps-post")
    done.set_ylabel("successes / s")
    done.legend(loc="upper right")
    failed.set_ylabel(f"errors / {_WIDTH:g} s")
    if failed.lines:
        failed.legend(loc="upper right")
    failed.set_ylim(bottom=0)
    _draw_lag(result, lag)
    _draw_faults(result, faults)
    for violation in result.verdict.violations:
        done.axvline(violation.at - result.start, color="red", alpha=0.3, linewidth=0.8)
    title = f"{result.settings.engine}, seed {result.settings.seed}: {len(result.history):,} operations, "
    figure.suptitle(title + f"{len(result.verdict.violations)} violations")
    figure.savefig(file, dpi=110)


def _draw_lag(result: Result, axes: Axes) -> None:
    """How far each replica was held back."""
    begun: dict[str, tuple[float, float]] = {}
    heights = [fault.steps[0].seconds for fault in result.schedule if fault.kind == LAG]
    heights.reverse()
    for done in result.done:
        at = done.start - result.start
        if done.verb is Verb.LAG:
            begun[done.server] = at, heights.pop() if heights else 0.0
        elif done.kind == LAG and done.server in begun:
            start, seconds = begun.pop(done.server)
            axes.barh(seconds, at - start, left=start, height=0.25, color="C2")
    axes.set_ylabel("held back, s")
    axes.set_ylim(bottom=0)


def _draw_faults(result: Result, axes: Axes) -> None:
    """A line for each server, from a fault's first step to the one that ends it."""
    names = sorted({done.server for done in result.done if done.kind != LAG})
    begun: dict[str, float] = {}
    for done in result.done:
        if done.kind == LAG:
            continue
        row, at = names.index(done.server), done.start - result.start
        if done.verb is Verb.PROMOTE:
            axes.plot(at, row, "g^")
        if done.verb in _ENDS or (done.verb is Verb.PROMOTE and done.server in begun):
            start = begun.pop(done.server, at)
            axes.barh(row, max(done.end - result.start - start, 0.05), left=start, height=0.4, color="C3", alpha=0.6)
        elif done.verb is not Verb.PROMOTE:
            begun[done.server] = at
        axes.annotate(done.verb.value, (at, row), fontsize=7, rotation=30, xytext=(0, 6), textcoords="offset points")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.1)
    axes.set_xlabel("seconds")
