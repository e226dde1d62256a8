"""Template filters: plain text and dates for people."""

from __future__ import annotations

import re
from datetime import datetime

from flask import Flask
from markupsafe import Markup, escape


def init_app(app: Flask) -> None:
    """Make the filters known to the templates."""
    for function in (paragraphs, excerpt, day, moment, plural):
        app.add_template_filter(function)


def paragraphs(text: str) -> Markup:
    """HTML: a paragraph for each block between blank lines, all else escaped."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text) if block.strip()]
    return Markup("\n").join(Markup("<p>{}</p>").format(_lines(block)) for block in blocks)


def excerpt(text: str, length: int = 230) -> str:
    """The beginning of the first paragraph, cut between words."""
    first = re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0].replace("\n", " ")
    if len(first) <= length:
        return first
    return first[:length].rsplit(" ", 1)[0].rstrip(",;:.") + "…"


def day(when: datetime) -> str:
    """``3 March 2026``."""
    return f"{when.day} {when:%B %Y}"


def moment(when: datetime) -> str:
    """``3 March 2026, 14:05 UTC``."""
    return f"{day(when)}, {when:%H:%M} UTC"


def plural(count: int, word: str) -> str:
    """``1 comment``, ``2 comments``, ``no comments``."""
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def _lines(block: str) -> Markup:
    return Markup("<br>").join(escape(line) for line in block.split("\n"))
