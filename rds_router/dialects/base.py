"""An engine family as data: what to ask a server, and how to read what it says."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rds_router.core.observation import Report
from rds_router.core.position import Position

Row = Mapping[str, Any]
"""One result row: column name as the server spells it -> value."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question of a probe."""

    name: str
    sql: str
    grant: str = ""
    """The privilege it needs, as written in a GRANT statement; empty when it needs none."""
    without: str = ""
    """What stays unknown without the grant."""
    otherwise: tuple[str, ...] = ()
    """Other spellings, asked in turn of a server that does not know the first: other versions, other words."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The server refused a question for want of a privilege."""

    grant: str


Answers = Mapping[str, "Sequence[Row] | Denied"]
"""Query name -> rows, or Denied."""


class Verdict(enum.Enum):
    """What a driver's error means for routing."""

    STATEMENT = "the statement's own fault"
    READ_ONLY = "this server does not accept writes"
    GONE = "the server or the connection is gone"
    TOO_MANY = "the server is there but takes no more connections"
    LOGIN = "the server refused the account"
    DENIED = "the account lacks a privilege"
    RETRY = "deadlock, serialization failure or lock timeout: the transaction may be run again"


@dataclass(frozen=True, slots=True)
class Dialect:
    """An engine family."""

    name: str
    probe: tuple[Query, ...]
    """Asked in this order, in autocommit, on one connection."""
    read: Callable[[Answers], Report]
    position_after_write: str | None
    """SQL whose single value is the primary's position, at or after every commit that returned before it is asked,
    on whichever connection. NULL when this server keeps none; None when the engine has none."""
    parse_position: Callable[[str], Position]
    """Reads the text of a position. Raises ValueError on anything else."""
    guard: tuple[str, ...]
    """Statements that make a new replica connection refuse writes."""
    verdict_of_error: Callable[[BaseException], Verdict]
    """What a DBAPI error means; takes the driver's own exception (SQLAlchemy's ``.orig``)."""
    may_be_own_wish: Callable[[BaseException], bool] = lambda error: False
    """Of a READ_ONLY error: it may be the transaction that is read-only, by its owner's wish, and not the server."""
    started: str | None = None
    """SQL whose single value tells the server's start, the same each time: asked once for each connection, which ends
    with the server's run. None: the probe's report says which run it is, or nobody does."""
