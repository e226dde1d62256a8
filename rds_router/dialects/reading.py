"""What a driver's values mean, the same for every dialect: rows, flags, seconds, positions.

Nothing here guesses: a value that is missing or not understood comes out as not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rds_router.core.position import Position
from rds_router.dialects.base import Answers, Denied, Row


def rows_of(answers: Answers, name: str, /) -> Sequence[Row] | None:
    """The rows that answered a query; None if the server refused it or was not asked."""
    answer = answers.get(name)
    return None if answer is None or isinstance(answer, Denied) else answer


def first_row(answers: Answers, name: str, /) -> Row:
    """The first row that answered a query; an empty one if there is none."""
    rows = rows_of(answers, name)
    return rows[0] if rows else {}


def text_of(value: Any, /) -> str | None:
    """A text that a driver may hand out as bytes; None stays None."""
    if value is None:
        return None
    return bytes(value).decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)


def is_on(value: Any, /) -> bool | None:
    """A server variable that is a switch; None when not known.

    Everything but 0 and OFF is on: MariaDB 12 has given read_only further values, each stricter than ON.
    """
    text = text_of(value)
    return None if text is None else text.strip().upper() not in ("0", "OFF", "FALSE")


def seconds_of(value: Any, /) -> float | None:
    """Seconds, never below zero (clocks differ); None stays None and never becomes zero."""
    text = text_of(value)
    try:
        seconds = float(text) if text is not None else None
    except ValueError:
        return None
    # A NaN is no figure, and every comparison with it would be false.
    return None if seconds is None or seconds != seconds else max(0.0, seconds)


def furthest(seconds: Iterable[float | None], /) -> float | None:
    """The longest of several lags; None if one of them, or all, are not known."""
    known = list(seconds)
    return None if not known or None in known else max(lag for lag in known if lag is not None)


def position_of(parse: Callable[[str], Position], value: Any, /) -> Position | None:
    """The position a text tells; None if there is none or its form is not known to us."""
    text = text_of(value)
    try:
        return None if text is None else parse(text)
    except ValueError:
        return None
