"""``python -m rds_router.lab torture``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rds_router.lab.binaries import LOCAL_ENGINES
from rds_router.lab.errors import LabError
from rds_router.lab.torture.checker import Promises
from rds_router.lab.torture.picture import draw
from rds_router.lab.torture.report import figures, print_report
from rds_router.lab.torture.run import Settings, run
from rds_router.lab.torture.schedule import ALL
from rds_router.lab.torture.workload import Workload


def torture_command() -> Any:
    """The click command; click and rich are imported here, as in the lab's other commands."""
    import click
    from rich.console import Console

    @click.command("torture", help="Many clients, a seeded schedule of faults, and a check of every promise.")
    @click.option("--engine", type=click.Choice(LOCAL_ENGINES), required=True)
    @click.option("--minutes", type=click.FloatRange(min=0.05), default=1.0, show_default=True)
    @click.option("--seed", type=int, default=1, show_default=True)
    @click.option("--operations", type=click.IntRange(1), help="Stop after so many, if the time is not up before.")
    @click.option("--replicas", type=click.IntRange(1, 15), default=3, show_default=True)
    @click.option("--processes", type=click.IntRange(1, 32), default=2, show_default=True)
    @click.option("--threads", type=click.IntRange(1, 64), default=4, show_default=True, help="In each process.")
    @click.option("--clients", type=click.IntRange(1), default=24, show_default=True, help="Users, each with a cookie.")
    @click.option("--lists", type=click.IntRange(1), default=60, show_default=True)
    @click.option("--faults", default=",".join(ALL), show_default=True, help="Comma-separated; 'none' for none.")
    @click.option(
        "--policy", "policies", multiple=True, metavar="FIELD=JSON", help="A RoutingPolicy field; repeatable."
    )
    @click.option("--staleness", type=float, help="Seconds that a read may be behind; not checked when not given.")
    @click.option("--no-monotonic", is_flag=True, help="Do not hold monotonic reads against it.")
    @click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the run into this file.")
    @click.option("--json", "data", type=click.Path(dir_okay=False, path_type=Path), help="Write its figures there.")
    def torture(
        engine: str,
        minutes: float,
        seed: int,
        operations: int | None,
        replicas: int,
        processes: int,
        threads: int,
        clients: int,
        lists: int,
        faults: str,
        policies: tuple[str, ...],
        staleness: float | None,
        no_monotonic: bool,
        picture: Path | None,
        data: Path | None,
    ) -> None:
        settings = Settings(
            engine=engine,
            seed=seed,
            seconds=60 * minutes,
            operations=operations,
            replicas=replicas,
            processes=processes,
            threads=threads,
            faults=[] if faults == "none" else faults.split(","),
            workload=Workload(clients=clients, lists=lists),
            through={"kind": "router", "policy": dict(_field_and_value(each) for each in policies)},
            promises=Promises(monotonic=not no_monotonic, staleness=staleness),
        )
        try:
            result = run(settings)
            print_report(result, Console(width=160))
            if data:
                data.write_text(json.dumps(figures(result), indent=1) + "\n", encoding="utf-8")
            if picture:
                draw(result, picture)
        except (LabError, ValueError) as error:
            raise click.ClickException(f"seed {seed}: {error}") from error
        raise SystemExit(0 if result.verdict.is_clean else 1)

    return torture


def _field_and_value(given: str) -> tuple[str, Any]:
    import click

    name, _, value = given.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        raise click.BadParameter(f"{given!r} is not FIELD=JSON", param_hint="--policy") from None
