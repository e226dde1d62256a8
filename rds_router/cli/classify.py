"""``rds-router classify``: says what statements are and where they go, or scores a labelled file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rds_router.classify.constructs import classify as judge
from rds_router.classify.text import split
from rds_router.cli.scoring import Score, escape, read_labelled, score
from rds_router.core.statement import Statement

DIALECTS: Final = ("mysql", "mariadb", "postgresql", "sqlite")
FORMATS: Final = ("table", "tsv", "json")

Judged = tuple[str, Statement]


@click.command()
@click.argument("statements", nargs=-1)
@click.option("-d", "--dialect", type=click.Choice(DIALECTS), default="mysql", show_default=True)
@click.option(
    "-f", "--file", "script", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Read statements, separated by semicolons, from this file; - is standard input.",
)  # fmt: skip
@click.option(
    "-o", "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True,
    help="How to print.",
)  # fmt: skip
@click.option(
    "--pure-function", "pure_functions", multiple=True, metavar="NAME",
    help="A function that writes and locks nothing, to be believed. May be given several times.",
)  # fmt: skip
@click.option(
    "--tsv", "labelled", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Score a file of labelled statements (dialect, statement, expected) instead. "
    "Exit code 1 if a write is taken for a read.",
)  # fmt: skip
def classify(
    statements: tuple[str, ...],
    dialect: str,
    script: Path | None,
    form: str,
    pure_functions: tuple[str, ...],
    labelled: Path | None,
) -> None:
    """Say what each statement is, and why: only a read may go to a replica.

    Each argument is one statement. Without arguments they are read from standard input.
    """
    pure = frozenset(name.lower() for name in pure_functions)
    if labelled is not None:
        if statements or script is not None:
            raise click.UsageError("--tsv takes its statements from the file alone")
        _score(labelled, form, pure)
        return
    sources = list(statements)
    if script is not None or not statements:
        sources += split(_read(script), dialect=dialect)
    judged = [(sql, judge(sql, dialect=dialect, pure_functions=pure)) for sql in sources]
    {"table": _print_table, "tsv": _print_tsv, "json": _print_json}[form](judged)


def _read(script: Path | None) -> str:
    """The script's text; bytes that are no UTF-8 are kept as lone surrogates, which the classifier reads."""
    raw = sys.stdin.buffer.read() if script is None or str(script) == "-" else script.read_bytes()
    return raw.decode("utf-8", "surrogateescape")


def _print_table(judged: Sequence[Judged]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("kind", no_wrap=True)
    table.add_column("goes to", no_wrap=True)
    table.add_column("because", ratio=1, overflow="fold")
    table.add_column("statement", ratio=2, no_wrap=True, overflow="ellipsis")
    for sql, verdict in judged:
        style = "green" if verdict.is_read else "yellow"
        table.add_row(
            Text(verdict.kind.value, style=style),
            _target(verdict),
            Text(_printable(verdict.because)),
            Text(_printable(" ".join(sql.split()))),
        )
    Console().print(table)


def _print_tsv(judged: Sequence[Judged]) -> None:
    click.echo("kind\tbecause\tstatement")
    for sql, verdict in judged:
        click.echo(_printable(f"{verdict.kind.value}\t{escape(verdict.because)}\t{escape(sql)}"))


def _print_json(judged: Sequence[Judged]) -> None:
    click.echo(
        json.dumps(
            [
                {
                    "statement": sql,
                    "kind": verdict.kind.value,
                    "because": verdict.because,
                    "tables": None if verdict.tables is None else sorted(verdict.tables),
                    "goes_to": _target(verdict),
                }
                for sql, verdict in judged
            ],
            indent=2,
        )
    )


def _score(labelled: Path, form: str, pure: frozenset[str]) -> None:
    try:
        with labelled.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
            result = score(read_labelled(lines), pure_functions=pure)
    except ValueError as error:
        raise click.ClickException(f"{labelled}: {error}") from error
    {"table": _print_score_table, "tsv": _print_score_tsv, "json": _print_score_json}[form](result)
    if result.dangerous:
        raise SystemExit(1)


def _print_score_table(result: Score) -> None:
    if result.mistakes:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("line", "", "dialect", "judged"):
            table.add_column(heading, no_wrap=True)
        table.add_column("statement", ratio=1, no_wrap=True, overflow="ellipsis")
        for mistake in sorted(result.mistakes, key=lambda each: (not each.is_dangerous, each.labelled.line)):
            table.add_row(
                str(mistake.labelled.line),
                Text("dangerous", style="bold red") if mistake.is_dangerous else "lost",
                mistake.labelled.dialect,
                Text(_printable(str(mistake.verdict))),
                Text(_printable(" ".join(mistake.labelled.sql.split()))),
            )
        Console().print(table)
    click.echo(str(result))


def _print_score_tsv(result: Score) -> None:
    click.echo("line\tmistake\tdialect\tkind\tbecause\tstatement")
    for mistake in result.mistakes:
        sort = "dangerous" if mistake.is_dangerous else "lost"
        verdict, each = mistake.verdict, mistake.labelled
        fields = (str(each.line), sort, each.dialect, verdict.kind.value, escape(verdict.because), escape(each.sql))
        click.echo(_printable("\t".join(fields)))
    click.echo(str(result), err=True)


def _print_score_json(result: Score) -> None:
    click.echo(
        json.dumps(
            {
                "reads": result.reads,
                "writes": result.writes,
                "dangerous": result.dangerous,
                "lost": result.lost,
                "mistakes": [
                    {
                        "line": mistake.labelled.line,
                        "mistake": "dangerous" if mistake.is_dangerous else "lost",
                        "dialect": mistake.labelled.dialect,
                        "statement": mistake.labelled.sql,
                        "kind": mistake.verdict.kind.value,
                        "because": mistake.verdict.because,
                    }
                    for mistake in result.mistakes
                ],
            },
            indent=2,
        )
    )


def _target(verdict: Statement) -> str:
    return "replica" if verdict.is_read else "primary"


def _printable(text: str) -> str:
    """The text with what no terminal can show (lone surrogates) written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
