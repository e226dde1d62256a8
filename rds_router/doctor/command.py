"""What ``rds-router doctor`` and ``flask rds doctor`` share: options, output, exit code."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rds_router.doctor.checks import findings_of
from rds_router.doctor.facts import Load
from rds_router.doctor.finding import Severity
from rds_router.doctor.gather import gather
from rds_router.doctor.showing import as_json, print_table
from rds_router.router import Router

_F = TypeVar("_F", bound=Callable[..., Any])


def options(command: _F) -> _F:
    """The options of both commands."""
    for option in reversed(
        (
            click.option(
                "--workers", type=click.IntRange(1), metavar="N",
                help="Worker processes on one machine; WEB_CONCURRENCY if not given.",
            ),
            click.option("--machines", type=click.IntRange(1), default=1, show_default=True, metavar="N",
                         help="Machines that run the workers."),
            click.option("--timeout", type=click.FloatRange(0.1), default=10.0, show_default=True, metavar="SECONDS",
                         help="For all servers together; who has not answered by then counts as not reached."),
            click.option("--strict", is_flag=True, help="Exit code 1 for warnings too."),
            click.option("--json", "is_json", is_flag=True, help="Print JSON instead of a table."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def examine(router: Router, *, workers: int | None, machines: int, timeout: float, strict: bool, is_json: bool) -> None:
    """Look, print, and exit with 1 if there is an error (``strict``: or a warning)."""
    workers = workers or _web_concurrency()
    load = Load(workers or 1, machines, is_told=workers is not None)
    findings = findings_of(gather(router, load=load, timeout=timeout))
    if is_json:
        click.echo(as_json(findings))
    else:
        print_table(findings)
    limit = Severity.WARNING if strict else Severity.ERROR
    if any(each.severity >= limit for each in findings):
        raise SystemExit(1)


def _web_concurrency() -> int | None:
    """What gunicorn reads too."""
    told = os.environ.get("WEB_CONCURRENCY", "").strip()
    return int(told) if told.isdigit() and int(told) > 0 else None
