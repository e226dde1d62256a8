"""A report as Markdown, and as one HTML page that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.report import Report, Section

STYLE = (Path(__file__).parent / "report.css").read_text("utf-8")


def markdown(report: Report) -> str:
    return "\n".join(_markdown(report)) + "\n"


def html(report: Report) -> str:
    return "\n".join(_html(report)) + "\n"


def facts(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is to be known of the machine, a line each."""
    return [
        (name.replace("_", " "), _fact(value)) for name, value in environment.items() if value not in (None, "", {})
    ]


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {said}" for name, said in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _missing(report: Report) -> list[tuple[str, str]]:
    return [(f"{name}: left out", why) for name, why in report.left_out.items()] + [
        (f"{name}: FAILED", why) for name, why in report.failed.items()
    ]


def _markdown(report: Report) -> Iterator[str]:
    yield f"# Benchmarks: {report.name}\n"
    for section in report.sections:
        yield f"* **{section.title}**: {section.answer}"
    for name, why in _missing(report):
        yield f"* **{name}**: {why}"
    for section in report.sections:
        yield f"\n## {section.title}\n\n*{section.question}*\n\n{section.answer}\n"
        for each in section.broken:
            yield f"**Over budget: {each}**\n"
        if section.rows:
            yield from _markdown_table(section)
        for number, plot in enumerate(section.plots, start=1):
            yield f"\n![{plot.caption}]({report.name}/{section.name}-{number}.svg)\n\n{plot.caption}"
        yield ""
        for note in _notes(section):
            yield f"* {note}"
    yield "\n## Where this was measured\n\n| | |\n|---|---|"
    for name, value in facts(report.environment):
        yield f"| {name} | {value} |"


def _markdown_table(section: Section) -> Iterator[str]:
    yield "| " + " | ".join(column.head for column in section.columns) + " |"
    yield "|" + "|".join("---" if place == 0 else "---:" for place in range(len(section.columns))) + "|"
    for row in section.texts():
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _html(report: Report) -> Iterator[str]:
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Benchmarks: {escape(report.name)}</title>'
    yield f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
    yield f"<h1>rds_router: benchmarks</h1><p class=where>{escape(report.name)}, {report.seconds / 60:.1f} minutes</p>"
    yield "<ul class=answers>"
    for section in report.sections:
        yield f'<li><a href="#{section.name}">{escape(section.title)}</a> {_words(section.answer)}</li>'
    for name, why in _missing(report):
        yield f"<li><b>{escape(name)}</b> {escape(why)}</li>"
    yield "</ul>"
    for section in report.sections:
        yield from _html_section(section)
    yield "<section><h2>Where this was measured</h2><table class=facts>"
    for name, value in facts(report.environment):
        yield f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
    yield "</table></section></body></html>"


def _html_section(section: Section) -> Iterator[str]:
    yield f'<section id="{section.name}"><h2>{escape(section.title)}</h2>'
    yield f"<p class=question>{_words(section.question)}</p><p class=answer>{_words(section.answer)}</p>"
    for each in section.broken:
        yield f"<p class=broken>Over budget: {_words(each)}</p>"
    for number, plot in enumerate(section.plots, start=1):
        picture = _own_names(plot.svg, f"{section.name}-{number}-")
        yield f"<figure>{picture}<figcaption>{_words(plot.caption)}</figcaption></figure>"
    if section.rows:
        yield "<div class=wide><table><thead><tr>"
        yield "".join(f"<th>{escape(column.head)}</th>" for column in section.columns)
        yield "</tr></thead><tbody>"
        for row in section.texts():
            yield "<tr>" + "".join(f"<td{_class(cell)}>{_cell(cell)}</td>" for cell in row) + "</tr>"
        yield "</tbody></table></div>"
    yield "<ul class=notes>" + "".join(f"<li>{_words(note)}</li>" for note in _notes(section)) + "</ul>"
    yield "</section>"


def _notes(section: Section) -> list[str]:
    return [*section.notes, *([f"Measured {section.measured}."] if section.measured else [])]


def _own_names(svg: str, prefix: str) -> str:
    """matplotlib names the parts of each picture alike; within one page each picture's are its own."""
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", svg)


def _class(cell: str) -> str:
    return " class=noise" if cell.endswith("within the noise") else ""


def _cell(text: str) -> str:
    return _words(text).replace(", within the noise", "<br>within the noise")


def _words(text: str) -> str:
    """Escaped; `code` as in Markdown."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
