"""Run the benchmarks and write a report: ``python -m benchmarks.run`` or ``make bench``.

    make bench                                 all of them, under 15 minutes
    make bench QUICK=1                         under 2: shows that they run, its figures rest on little
    make bench RUNTIME=docker                  on MySQL in containers
    python -m benchmarks.run --list
    python -m benchmarks.run --only pooling --only tls

To add one: write a module with ``measure(context: Context) -> Iterable[Section]`` (``context.py``, ``report.py``) and
give it its line in ``BENCHMARKS``. It is imported when it runs. It may raise ``EngineMissing``: the report says that it
was left out, and why. After any other error the others still run and the report names it. The exit status is 1 then,
and when a budget is broken, and when something was left out that ``--only`` asked for.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import environment
from benchmarks.context import Context, Runtime
from benchmarks.report import Report, Section
from rds_router.lab import EngineMissing

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A line of the table."""

    name: str
    module: str
    """Where its ``measure`` is."""
    about: str
    seconds: float
    """What it takes on two cores, about: the progress bar's measure."""
    quick_seconds: float = 5.0

    def measure(self, context: Context) -> list[Section]:
        found: Iterable[Section] = importlib.import_module(self.module).measure(context)
        return list(found)


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark("routing", "benchmarks.routing", "CPU a statement, beside the peers in the same rounds", 60, 12),
    Benchmark("classify", "benchmarks.classify", "telling reads from writes; importing the package", 16, 5),
    Benchmark("micro", "benchmarks.micro", "the parts of a routed statement, by pytest-benchmark", 12, 4),
    Benchmark("tokens", "benchmarks.tokens", "own writes read again: commits and reads, beside MySQL Router", 70, 8),
    Benchmark("peers", "benchmarks.peers.work", "the same blog through each peer: speed, staleness, outages", 240, 20),
    Benchmark("fleet", "benchmarks.fleet", "1 to 1,000 workers, 1 to 15 replicas, in simulation", 35, 1),
    Benchmark("tls", "benchmarks.tls", "TLS, and what PyMySQL does for each connect", 8, 2),
    Benchmark("pooling", "benchmarks.pooling", "every kind of pool, near and far from the servers", 190, 12),
    Benchmark("proxies", "benchmarks.pooling_proxies", "a pooling proxy in the place of RDS Proxy", 80, 15),
    Benchmark("scale-out", "benchmarks.scale_out", "none to four replicas, each server limited", 90, 12),
)


def run(chosen: Sequence[Benchmark], context: Context, console: Console) -> Report:
    """Each in turn; what they say."""
    began = time.monotonic()
    facts = environment.describe(seed=context.seed, is_quick=context.is_quick, runtime=context.runtime)
    facts["servers"] = context.versions
    sections: list[Section] = []
    left_out: dict[str, str] = {}
    failed: dict[str, str] = {}
    with _progress(console) as bar, context:
        sizes = [each.quick_seconds if context.is_quick else each.seconds for each in chosen]
        task = bar.add_task("", total=sum(sizes))
        for number, each in enumerate(chosen):
            before, size, start = sum(sizes[:number]), sizes[number], time.monotonic()
            context.progress = _told(bar, task, each.name, before, size)
            context.progress(0.0, "begins")
            try:
                found = each.measure(context)
                sections += [replace(section, measured=_moment()) for section in found]
                said = "done"
            except EngineMissing as error:
                left_out[each.name] = said = str(error)
            except KeyboardInterrupt:
                # What was measured is worth a report, and nothing after it is begun.
                failed.update({rest.name: "interrupted" for rest in chosen[number:]})
                break
            except Exception as error:
                failed[each.name] = said = f"{type(error).__name__}: {error}"
                console.print(traceback.format_exc(), markup=False, highlight=False)
            context.progress(1.0, said)
            console.print(f"{each.name}: {time.monotonic() - start:.1f} s, {said}", markup=False, highlight=False)
    facts["load_average_after"] = environment.load_average()
    name = f"{environment.machine()}-{datetime.now(timezone.utc):%Y-%m-%d}"
    return Report(
        name=f"{name}-quick" if context.is_quick else name,
        environment=facts,
        sections=sections,
        left_out=left_out,
        failed=failed,
        seconds=time.monotonic() - began,
    )


def _told(bar: Progress, task: TaskID, name: str, before: float, size: float) -> Callable[[float, str], None]:
    """How far one benchmark is, as a part of the whole bar."""

    def progress(done: float, text: str) -> None:
        bar.update(task, completed=before + size * min(1.0, done), description=f"{name}: {text}")

    return progress


def _moment() -> str:
    return f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, load average {environment.load_average().split()[0]}"


def onto(before: Path, new: Report, measured: Iterable[str]) -> Report:
    """The report that was written before, with what ``measured`` names measured again."""
    found = json.loads(before.read_text("utf-8"))
    again = {section.name: section for section in new.sections}
    kept = [Section.read(each, before.with_suffix("")) for each in found["sections"]]
    sections = [again.pop(each.name, each) for each in kept] + list(again.values())
    failed = {name: why for name, why in found["failed"].items() if name not in measured} | dict(new.failed)
    left_out = {name: why for name, why in found["left_out"].items() if name not in measured} | dict(new.left_out)
    facts = dict(new.environment) | {"servers": found["environment"]["servers"] | new.environment["servers"]}
    changed = {"environment": facts, "sections": sections, "failed": failed, "left_out": left_out}
    return replace(new, **changed, seconds=found["seconds"] + new.seconds)


def _progress(console: Console) -> Progress:
    columns = BarColumn(30), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn(), TimeRemainingColumn()
    return Progress(*columns, TextColumn("{task.description}", markup=False), console=console)


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--quick", "is_quick", is_flag=True, help="Under two minutes: shows that it runs.")
@click.option("--only", multiple=True, metavar="NAME", help="May be repeated.")
@click.option("--list", "is_list", is_flag=True, help="Name the benchmarks, and measure nothing.")
@click.option("--seed", default=1, show_default=True, help="Of all that is drawn.")
@click.option(
    "--runtime",
    type=click.Choice(["local", "docker"]),
    default="local",
    envvar="RUNTIME",
    show_default=True,
    help="What the servers run on.",
)
@click.option(
    "--to", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, help="Where the report is written."
)
@click.option(
    "--onto",
    "before",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A report's JSON: what is measured now takes its place in it.",
)
def main(
    is_quick: bool,
    only: Sequence[str],
    is_list: bool,
    seed: int,
    runtime: Runtime,
    to: Path,
    before: Path | None,
) -> None:
    console = Console(stderr=True)
    if is_list:
        for each in BENCHMARKS:
            click.echo(f"{each.name:<14} {each.seconds:>4.0f} s   {each.about}")
        return
    chosen = [each for each in BENCHMARKS if not only or each.name in only]
    if unknown := set(only) - {each.name for each in chosen}:
        raise click.BadParameter(f"no benchmark {', '.join(sorted(unknown))}: --list names them", param_hint="--only")
    report = run(chosen, Context(is_quick=is_quick, seed=seed, runtime=runtime), console)
    for section in report.sections:
        click.echo(f"{section.title}: {section.answer}")
    if before is not None:
        report = onto(before, report, {each.name for each in chosen})
    for path in report.write(to):
        click.echo(path)
    for section in report.sections:
        for each in section.broken:
            click.echo(f"over budget: {section.name}: {each}")
    sys.exit(1 if report.is_bad or (only and report.left_out) else 0)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)  # SIGINT too: a shell starts background jobs with it ignored
    main()
