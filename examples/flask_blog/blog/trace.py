"""How a page was made: which server answered which query, how far behind it was, and why it was chosen.

The router's ``capture()`` is open around each request. A form is answered by a redirect, so what its request did is
handed to the next page through the session.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from flask import Flask, Response, current_app, g, request, session

from blog.models import db
from rds_router.captured import Routed
from rds_router.core.decision import Decision

_KEPT = 8
_WORDS_KEPT = 160
"""Steps of the form's request that are handed on, and characters of their reasons: a cookie holds 4 kB."""


@dataclass(frozen=True, slots=True)
class Step:
    """Queries that followed each other to one server for one reason."""

    queries: Sequence[str]
    """Each as ``SELECT posts, users``."""
    server: str
    is_replica: bool
    lag: float | None
    """Seconds the server was behind when it was chosen; 0 for the primary, None when not known."""
    why: str

    @property
    def counted(self) -> Sequence[tuple[str, int]]:
        """Each query once, and how often it was made."""
        return list(Counter(self.queries).items())


@dataclass(frozen=True, slots=True)
class Trace:
    """What the footer shows."""

    steps: Sequence[Step]
    before: str
    """The form whose answer led to this page: ``POST /posts/3/comments``; empty if there was none."""
    steps_before: Sequence[Step]
    has_replicas: bool
    """False if there is nothing to decide."""

    @property
    def summary(self) -> str:
        """One line: ``4 queries answered by mariadb-2``."""
        if not self.has_replicas:
            return "by the primary alone"
        if not self.steps:
            return "no query was needed"
        counts: Counter[str] = Counter()
        for step in self.steps:
            counts[step.server] += len(step.queries)
        return " and ".join(
            f"{count} quer{'y' if count == 1 else 'ies'} answered by {server}" for server, count in counts.items()
        )


class Traffic:
    """How many queries each server got since this process began."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, records: Iterable[Routed]) -> None:
        """Count what a request did."""
        with self._lock:
            self._counts.update(record.decision.target for record in records)

    def counts(self) -> Counter[str]:
        """A copy of the counts by server."""
        with self._lock:
            return Counter(self._counts)


def init_app(app: Flask) -> None:
    """Capture each request's decisions."""
    app.extensions["blog.traffic"] = Traffic()
    app.before_request(_begin)
    app.after_request(_hand_on)
    app.teardown_request(_end)
    app.add_template_global(page_trace)


def traffic() -> Traffic:
    """The counts of the current application."""
    return cast("Traffic", current_app.extensions["blog.traffic"])


def page_trace() -> Trace:
    """How the page that is being rendered was made, so far: call it last."""
    before = cast("dict[str, Any]", session.pop("trace", {}))
    return Trace(
        steps=steps_of(g.get("records", ())),
        before=before.get("request", ""),
        steps_before=[Step(**step) for step in before.get("steps", ())],
        has_replicas=db.router.has_replicas,
    )


def steps_of(records: Iterable[Routed]) -> list[Step]:
    """What was decided, in order."""
    steps: list[Step] = []
    for record in records:
        step = _step(record)
        last = steps[-1] if steps else None
        if last is None or replace(last, queries=()) != replace(step, queries=()):
            steps.append(step)
        elif not (step.queries[0] == last.queries[-1] and step.queries[0].startswith("flush")):
            # A flush asks once more after its statements: that is no other query.
            steps[-1] = replace(last, queries=(*last.queries, *step.queries))
    return steps


def _step(record: Routed) -> Step:
    decision = record.decision
    return Step(
        queries=(_query(record),),
        server=decision.target,
        is_replica=decision.is_replica,
        lag=decision.topology[decision.target].lag if decision.is_replica else 0.0,
        why=_why(decision),
    )


def _why(decision: Decision) -> str:
    """``str(decision)`` is ``name (role: reason; objections to others)``, without a reason for a plain read."""
    words = str(decision)[len(decision.target) + 2 : -1]
    role, found, rest = words.partition(": ")
    if found and role in ("primary", "replica"):
        return rest
    return words.replace("replica", decision.detail, 1)


def _query(record: Routed) -> str:
    """What a query does and to which tables, in a few words."""
    table = getattr(record.clause, "local_table", None)
    if table is not None:
        return f"flush {table.name}"
    verb = next((verb for verb in _VERBS if getattr(record.clause, f"is_{verb.lower()}", False)), "query")
    # The verdict on the statement names them: nothing is looked for in it again.
    return f"{verb} {', '.join(sorted(record.decision.statement.tables or ()))}".strip()


_VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE")


def _begin() -> None:
    if request.endpoint != "static":
        g.capture = ExitStack()
        g.records = g.capture.enter_context(db.router.capture())


def _hand_on(response: Response) -> Response:
    if request.method == "POST" and 300 <= response.status_code < 400 and g.get("records"):
        steps = [replace(step, why=step.why[:_WORDS_KEPT]) for step in steps_of(g.records)[-_KEPT:]]
        session["trace"] = {"request": f"POST {request.path}", "steps": [asdict(step) for step in steps]}
    return response


def _end(error: BaseException | None) -> None:
    capture: ExitStack | None = g.pop("capture", None)
    if capture is not None:
        traffic().add(g.pop("records", ()))
        capture.close()
