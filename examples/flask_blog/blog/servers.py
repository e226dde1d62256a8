"""The page /servers: what the router believes of each server and, in a demo, buttons to make it believe otherwise."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flask import Blueprint, abort, current_app, flash, redirect, render_template, url_for
from sqlalchemy import func, select
from werkzeug.wrappers import Response

from blog.models import Post, db
from blog.trace import traffic
from rds_router.core.topology import Objection, Seen

if TYPE_CHECKING:
    from rds_router.lab import Cluster, Server

blueprint = Blueprint("servers", __name__)
_one_at_a_time = threading.Lock()
READS = 40
"""How many reads the button sends."""
DELAY = 20
"""Seconds by which the button holds a replica back."""
DELAY_OF_ALL = 3
"""Seconds by which the switch holds back every replica: few enough that they go on answering reads."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    name: str
    is_primary: bool
    state: str
    detail: str
    tone: Literal["good", "warn", "bad"]
    lag: float | None
    """Seconds; None when not known."""
    heard: float | None
    """Seconds since the last answer to a probe; None if there was none."""
    queries: int
    share: float
    """Of all queries, from 0 to 1."""
    buttons: tuple[Button, ...]


@dataclass(frozen=True, slots=True)
class Button:
    """Something a demo can do to a server."""

    action: str
    label: str


@blueprint.get("/servers")
def index() -> str:
    """Every server, as the router sees it."""
    return render_template("servers.html", **_view())


@blueprint.get("/servers/live")
def live() -> str:
    """The part of the page that changes. It asks no database and leaves the session as it is."""
    return render_template("_servers.html", **_view())


@blueprint.post("/servers/reads")
def read_many() -> Response:
    """Read many times, each in a transaction of its own, and say who answered: whoever, nothing being promised."""
    if _demo() is None:
        abort(404)
    answered: Counter[str] = Counter()
    for _ in range(READS):
        with db.session.reading("any"), db.router.capture() as records:
            db.session.scalar(select(func.count(Post.id)))
            db.session.rollback()
        traffic().add(records)
        answered.update(record.decision.target for record in records)
    flash(f"{READS} reads: " + ", ".join(f"{count} by {name}" for name, count in sorted(answered.items())))
    return redirect(url_for("servers.index"))


@blueprint.post("/servers/delay")
def delay_all() -> Response:
    """The switch: every replica does what the primary did some seconds ago, or all do it at once again."""
    cluster = _demo()
    if cluster is None:
        abort(404)
    seconds = 0 if _all_are_delayed(cluster) else DELAY_OF_ALL
    from rds_router.lab import LabError

    with _one_at_a_time:
        try:
            for server in cluster.replicas:
                cluster.set_delay(server, seconds)
        except LabError as error:
            flash(f"That did not work: {error}")
        else:
            flash(_SWITCHED_ON if seconds else "No replica is held back any more.")
    return redirect(url_for("servers.index"))


_SWITCHED_ON = (
    f"Every replica does what the primary did {DELAY_OF_ALL} s ago. Write a post: you see it at once, others (open a "
    f"private window) {DELAY_OF_ALL} s later. The foot of each page says why."
)


def _all_are_delayed(cluster: Cluster) -> bool:
    return all(server.delay for server in cluster.replicas)


@blueprint.post("/servers/<name>/<action>")
def act(name: str, action: str) -> Response:
    """Do something to a replica of the demo's cluster."""
    cluster = _demo()
    if cluster is None or action not in _ACTIONS:
        abort(404)
    from rds_router.lab import LabError

    server = next((each for each in cluster.replicas if each.name == name), None)
    if server is None:
        abort(404, f"The demo has no replica {name}.")
    with _one_at_a_time:
        try:
            _ACTIONS[action].run(cluster, server)
            if action in _REMEDIES:
                # By itself the router asks a server that is down ever more rarely.
                db.router.refresh(timeout=2.0)
        except LabError as error:
            flash(f"That did not work: {error}")
        else:
            flash(f"{name}: {_ACTIONS[action].done}")
    return redirect(url_for("servers.index"))


@dataclass(frozen=True, slots=True)
class _Action:
    label: str
    run: Callable[[Cluster, Server], None]
    done: str


_ACTIONS: Mapping[str, _Action] = {
    "pause": _Action(
        "Pause",
        lambda cluster, server: cluster.pause_replication(server),
        "nothing new reaches it. Write something: you see it at once, as your pages come from elsewhere now.",
    ),
    "resume": _Action(
        "Resume",
        lambda cluster, server: cluster.resume_replication(server),
        "it catches up, and answers again once that is known.",
    ),
    "delay": _Action(
        f"Delay {DELAY} s",
        lambda cluster, server: cluster.set_delay(server, DELAY),
        f"it does what the primary did {DELAY} s ago. Write something, and watch its lag.",
    ),
    "hurry": _Action("End delay", lambda cluster, server: cluster.set_delay(server, 0), "it catches up."),
    "freeze": _Action(
        "Freeze",
        lambda cluster, server: cluster.freeze(server),
        "it keeps its connections and answers nobody. In a second or two it gets no more reads.",
    ),
    "thaw": _Action("Thaw", lambda cluster, server: cluster.thaw(server), "it answers again."),
    "kill": _Action(
        "Kill",
        lambda cluster, server: cluster.kill(server),
        "it is dead. Its next probe finds out, and reads go elsewhere.",
    ),
    "restart": _Action("Restart", lambda cluster, server: cluster.restart(server), "it is back."),
}


_REMEDIES = frozenset({"resume", "hurry", "thaw", "restart"})


def _demo() -> Cluster | None:
    cluster: Cluster | None = current_app.config["DEMO_CLUSTER"]
    return cluster


def _view() -> dict[str, Any]:
    router = db.router
    router.start()
    cluster = _demo()
    topology, now, counts = router.topology, router.clock(), traffic().counts()
    return {
        "rows": [_row(seen, seen.server.name == topology.writer, now, counts) for seen in topology.servers],
        "topology": topology,
        "max_lag": router.policy.max_lag,
        "events": sorted(router.events.counts.items()),
        "demo": cluster,
        "reads": READS,
        "delay": DELAY_OF_ALL,
        "is_delayed": cluster is not None and _all_are_delayed(cluster),
    }


def _row(seen: Seen, is_primary: bool, now: float, counts: Counter[str]) -> Row:
    state, detail, tone = _state(seen, is_primary, now)
    total, mine = sum(counts.values()), counts[seen.server.name]
    last = seen.observation
    return Row(
        name=seen.server.name,
        is_primary=is_primary,
        state=state,
        detail=detail,
        tone=tone,
        lag=seen.lag if last is not None and last.report is not None else None,
        heard=now - last.at if last is not None and last.report is not None else None,
        queries=mine,
        share=mine / total if total else 0.0,
        buttons=_buttons(seen.server.name),
    )


def _state(seen: Seen, is_primary: bool, now: float) -> tuple[str, str, Literal["good", "warn", "bad"]]:
    last = seen.observation
    if seen.is_drained:
        return "Drained", "taken out of use by hand", "warn"
    if last is not None and seen.silence is not None:
        return seen.silence.value.capitalize(), f"{seen.health.state.value}: {last.error}", "bad"
    if is_primary:
        if last is not None and last.report is not None and last.report.is_writable is False:
            return "Read-only", "it is the primary, but refuses writes", "bad"
        return "Takes writes", "and the reads that no replica may answer", "good"
    if seen.objection is None:
        if all(seen is not each for each in db.router.topology.eligible_at(now)):
            return "Not heard of lately", "", "bad"
        share = seen.health.share_at(now, db.router.policy.slow_start)
        return "Answers reads", "" if share == 1.0 else f"slow start: {share:.0%} of its share", "good"
    details = {
        Objection.LAGGING: f"more than {db.router.policy.max_lag:g} s: no reads until it is back under half of that",
        Objection.UNKNOWN_LAG: "nobody knows what it lacks: no reads",
        Objection.ROGUE: "it would answer with data of its own: no reads",
    }
    return seen.objection.value.capitalize(), details.get(seen.objection, ""), "warn"


def _buttons(name: str) -> tuple[Button, ...]:
    cluster = _demo()
    server = next((each for each in cluster.replicas if each.name == name), None) if cluster else None
    if cluster is None or server is None:
        return ()
    actions = {
        "running": [
            "resume" if server.pauses else "pause",
            "hurry" if server.delay else "delay",
            "freeze",
            "kill",
        ],
        "frozen": ["thaw", "kill"],
        "dead": ["restart"],
    }[server.state.value]
    if cluster.engine == "sqlite":
        actions = [action for action in actions if action != "freeze"]  # a file has no process
    return tuple(Button(action, _ACTIONS[action].label) for action in actions)
