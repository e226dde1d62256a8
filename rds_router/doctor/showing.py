"""Findings for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rds_router.doctor.finding import Finding, Severity

_STYLE = {Severity.OK: "green", Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}


def print_table(findings: Sequence[Finding]) -> None:
    """A table, and a last line that says how many of each."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "about", "server"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what is so, and what to do", ratio=1, overflow="fold")
    for each in findings:
        text = Text(each.says)
        if each.do:
            text.append(f"\n-> {each.do}", style="dim" if each.severity < Severity.WARNING else "")
        table.add_row(
            Text(each.severity.name.lower(), style=_STYLE[each.severity]), each.topic, Text(each.server or "all"), text
        )
    console = Console()
    console.print(table)
    console.print(summary(findings), highlight=False)


def summary(findings: Sequence[Finding]) -> str:
    """``1 error, 2 warnings, 3 notes, 10 ok``."""
    counts = {severity: sum(each.severity is severity for each in findings) for severity in reversed(Severity)}
    words = [f"{n} {severity.name.lower()}{'s' * (n != 1)}" for severity, n in counts.items() if severity and n]
    return ", ".join([*words, f"{counts[Severity.OK]} ok"])


def as_json(findings: Sequence[Finding]) -> str:
    """``{"worst": "warning", "findings": [{"severity": ...}]}``."""
    worst = max((each.severity for each in findings), default=Severity.OK)
    listed: list[dict[str, Any]] = [
        {
            "severity": each.severity.name.lower(),
            "topic": each.topic,
            "server": each.server or None,
            "says": each.says,
            "do": each.do or None,
        }
        for each in findings
    ]
    return json.dumps({"worst": worst.name.lower(), "findings": listed}, indent=2)
