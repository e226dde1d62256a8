"""Peers on the same work: one small Flask blog, one SQLAlchemy code, and each way between it and the servers.

1. **Speed**: all peers' blogs run on one cluster and are visited in turns, the plain session twice (A/A).
2. **Behind**: both replicas hold every transaction back for a second. Who does not see what he just wrote? And the
   replicas write down every statement that reaches them: how many of those change rows?
3. **Outages**: on a cluster of each peer's own, a replica is killed under load; then, once it is back, the primary, and
   another one is promoted at once.

Nothing is tuned for anybody, and no client retries. A peer that is not installed is named, not measured.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from benchmarks.context import Context
from benchmarks.meters import cpu
from benchmarks.paired import interleaved, ratio
from benchmarks.peers.sites import AGAIN, OURS, PLAIN, THREADS, NotServed, Peer, Site, fill, peers_on, serving
from benchmarks.report import Cell, Column, Plot, Section, said
from rds_router.lab import Cluster, EngineMissing, Server

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPLICAS = 2
QUICK, PROXY = 4, 3
"""How many ways a quick run takes (ours, the plain session, the proxy, the recipe), and a full one on PostgreSQL."""
KILLED_AFTER = 1.0
"""Seconds after the visitors have begun."""
BEHIND = 1.0
LOGGED = {
    "postgresql": re.compile(rb"LOG:  (?:statement|execute [^:]*): \s*(?i:INSERT|UPDATE|DELETE)"),
    "mysql": re.compile(rb"(?:Query|Execute)\t\s*(?i:INSERT|UPDATE|DELETE)"),
}
"""A statement that changes rows, as a server writes down what a client sent."""
Visit = dict[str, Any]


def measure(context: Context) -> Iterator[Section]:
    found = False
    engines = context.pick(("mysql",), ("mysql", "postgresql"))
    for engine in engines:
        with suppress(EngineMissing):
            yield from _on(engine, context)
            found = True
    if not found:
        raise EngineMissing("none of " + ", ".join(engines))


def _on(engine: str, context: Context) -> Iterator[Section]:
    outages: dict[str, dict[str, Visit]] = {}
    failed: dict[str, str] = {}
    with context.own_cluster(engine, replicas=REPLICAS) as c, peers_on(c) as (peers, lacking):
        size = context.pick(QUICK, len(peers) if engine == "mysql" else PROXY)
        left_out, peers = peers[size:], peers[:size]
        spared = [f"Not measured: {each.name}, to save time: see a full run on MySQL." for each in left_out]
        fill(c)
        with serving(c, *peers, failed=failed) as sites:
            if OURS in failed or PLAIN in failed:
                raise NotServed("; ".join(failed.values()))
            speed = _speed(c, sites, context)
            behind = _behind(c, sites, context)
            if context.is_quick:
                outages[OURS] = _killed(c, sites[0], context)
    peers = [each for each in peers if each.name not in failed]
    notes = [f"{each.name}: {each.what}." for each in peers] + [f"Not here: {each}." for each in lacking]
    notes += [*spared, *(f"Not measured: {each}" for each in failed.values())]
    for name in (each.name for each in peers if each.name != PLAIN and not context.is_quick):
        context.progress(0.5, f"{engine}: outages, {name}")
        try:
            outages[name] = _outages(engine, name, context)
        except NotServed as error:
            notes.append(f"No outage of {name} was measured: {error}")
    names = [each.name for each in peers]
    yield _summary(engine, names, speed, behind, outages, notes)
    yield _about_speed(engine, speed, names, context)
    yield _about_staleness(engine, behind)
    yield _about_outages(engine, outages)


def _summary(
    engine: str,
    names: Sequence[str],
    speed: Mapping[str, Sequence[Visit]],
    behind: Mapping[str, Visit],
    outages: Mapping[str, Mapping[str, Visit]],
    notes: Sequence[str],
) -> Section:
    """One line for each way; the sections after it have the details."""
    rows: list[list[Cell]] = []
    for name in names:
        lost = outages.get(name, {})
        rows.append(
            [
                name,
                statistics.median(each["succeeded"] / each["seconds"] for each in speed[name]),
                *(1000 * statistics.median(each[which] for each in speed[name]) for which in ("p50", "p99")),
                statistics.median(sum(each["cpu"].values()) for each in speed[name]),
                behind[name]["misrouted"],
                f"{behind[name]['stale']} of {behind[name]['checks']}",
                *(_all_errors(lost[which]) if which in lost else None for which in ("replica", "primary")),
            ]
        )
    ours = rows[names.index(OURS)]
    return Section(
        name=f"peers-{engine}",
        title=f"Peers on the same work, {engine}",
        question="What would I get from what I would use instead?",
        answer=f"rds_router: {ours[5]} writes at a replica, {ours[6]} own writes not seen, {ours[7]} requests failed "
        f"when a replica was killed, {ours[8] or 'not measured'} when the primary was; the others: see the table.",
        columns=(
            Column("way"),
            Column("requests", "1/s", 0),
            Column("p50", "ms", 1),
            Column("p99", "ms", 1),
            Column("CPU of all", "ms/request", 1),
            Column("writes at a replica"),
            Column("own writes not seen"),
            Column("errors, replica killed"),
            Column("errors, primary killed"),
        ),
        rows=rows,
        notes=notes,
    )


def _all_errors(visit: Visit) -> str:
    return f"{visit['read_errors'] + visit['write_errors']} of {visit['requests']}"


# --- 1. speed


def _speed(c: Cluster, sites: Sequence[Site], context: Context) -> dict[str, list[Visit]]:
    """Each site's visits, a round after the other; with ``cpu``, milliseconds a request by process."""
    seconds = context.pick(0.7, 1.2)
    seeds = iter(range(context.seed, 10**6))

    def visited(site: Site) -> Visit:
        roots = {"app": [site.process.pid], "proxy": [site.peer.proxy] if site.peer.proxy else []}
        roots |= {"primary": c.pids(c.primary)[:1], "replicas": [c.pids(each)[0] for each in c.replicas]}
        before = {name: cpu(pids) for name, pids in roots.items()}
        found = site.visit(seconds=seconds, seed=next(seeds)).found()
        requests = max(1, found["requests"])
        found["cpu"] = {name: 1000 * (cpu(pids) - before[name]) / requests for name, pids in roots.items()}
        return found

    for site in sites:
        site.visit(seconds=0.3, seed=next(seeds)).found()
    ways = {site.peer.name: (lambda site=site: visited(site)) for site in sites}
    (plain,) = (site for site in sites if site.peer.name == PLAIN)
    ways[AGAIN] = lambda: visited(plain)
    return interleaved(ways, rounds=context.pick(1, 5), seed=context.seed, progress=context.progress)


def _about_speed(engine: str, speed: Mapping[str, Sequence[Visit]], names: Sequence[str], context: Context) -> Section:
    def per_second(name: str) -> list[float]:
        return [each["succeeded"] / each["seconds"] for each in speed[name]]

    noise = ratio(per_second(PLAIN), per_second(AGAIN), seed=context.seed)
    ratios = {name: ratio(per_second(PLAIN), per_second(name), seed=context.seed) for name in (*names, AGAIN)}
    rows: list[list[Cell]] = []
    for name in (*names, AGAIN):
        visits = speed[name]
        latencies = (1000 * statistics.median(each[which] for each in visits) for which in ("p50", "p99"))
        processes = (
            statistics.median(each["cpu"][which] for each in visits)
            for which in ("app", "proxy", "primary", "replicas")
        )
        errors = sum(each["read_errors"] + each["write_errors"] for each in visits)
        against = None if name == PLAIN else ratios[name]
        rows.append([name, statistics.median(per_second(name)), against, *latencies, *processes, errors])
    return Section(
        name=f"peers-speed-{engine}",
        title=f"Peers on the same work, {engine}: speed",
        question="Requests a second, latency and CPU of the same blog through each of them?",
        answer="; ".join(f"{name} {said(ratios[name], noise)}" for name in names if name != PLAIN)
        + ", against a plain session on the primary alone.",
        columns=(
            Column("way"),
            Column("requests", "1/s", 0),
            Column("against plain", noise=noise),
            Column("p50", "ms", 1),
            Column("p99", "ms", 1),
            *(Column(f"CPU {which}", "ms/request") for which in ("app", "proxy", "primary", "replicas")),
            Column("errors"),
        ),
        rows=rows,
        notes=[
            f"gunicorn, one worker of {THREADS} threads; {THREADS} visitors, 90 of 100 requests read; visitors, blog "
            f"and servers share the machine's cores. Two replicas. {len(speed[PLAIN])} rounds in turns.",
            "Errors are told apart in the section on replicas that are behind.",
        ],
        plots=[Plot("CPU a request, by process.", _cpu_bars(speed, names))],
        raw={name: list(visits) for name, visits in speed.items()},
    )


def _cpu_bars(speed: Mapping[str, Sequence[Visit]], names: Sequence[str]) -> Any:
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        left = [0.0] * len(names)
        for which in ("app", "proxy", "primary", "replicas"):
            widths = [statistics.median(each["cpu"][which] for each in speed[name]) for name in names]
            axes.barh(list(names), widths, left=left, label=which)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.set_xlabel("ms of CPU a request")
        axes.legend()

    return draw


# --- 2. behind


def _behind(c: Cluster, sites: Sequence[Site], context: Context) -> dict[str, Visit]:
    """Each site's visit while the replicas are behind; with ``misrouted``, the writes that reached a replica."""
    logs = [_Log(each) for each in c.replicas]
    for each in c.replicas:
        c.set_delay(each, BEHIND)
    try:
        found = {}
        for site in sites:
            context.progress(0.4, f"behind: {site.peer.name}")
            before = [log.writes() for log in logs]
            visit = site.visit(seconds=context.pick(1.0, 3.0), seed=context.seed + 7).found()
            visit["misrouted"] = sum(log.writes() - count for log, count in zip(logs, before, strict=True))
            found[site.peer.name] = visit
        return found
    finally:
        for each in c.replicas:
            c.set_delay(each, 0)


class _Log:
    """What a replica writes down of the statements that clients send to it; replication's own are none."""

    def __init__(self, server: Server) -> None:
        self._pattern = LOGGED[server.engine]
        if server.engine == "postgresql":
            self._path = Path(server.path).parent / f"{server.name}.log"
            switches = ["ALTER SYSTEM SET log_statement = 'mod'", "SELECT pg_reload_conf()"]
        else:
            self._path = Path(server.path) / "statements.log"
            switches = [f"SET GLOBAL general_log_file = '{self._path}'", "SET GLOBAL general_log = ON"]
        engine = create_engine(server.admin_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for each in switches:
                connection.execute(text(each))
        time.sleep(0.2)  # PostgreSQL's processes read their settings when they are told to, and not at once

    def writes(self) -> int:
        return len(self._pattern.findall(self._path.read_bytes()))


def _about_staleness(engine: str, behind: Mapping[str, Visit]) -> Section:
    rows: list[list[Cell]] = [
        [
            name,
            each["requests"],
            each["misrouted"],
            each["checks"],
            each["stale"],
            each["read_errors"],
            each["write_errors"],
            _mostly(each),
        ]
        for name, each in behind.items()
    ]
    ours = behind[OURS]
    broken = [
        f"rds_router: {ours[which]} {which}"
        for which in ("misrouted", "stale", "read_errors", "write_errors")
        if ours[which]
    ]
    return Section(
        name=f"peers-behind-{engine}",
        title=f"Peers on the same work, {engine}: replicas one second behind",
        question="Who sends writes to a replica, and who does not see in his next request what he just wrote?",
        answer="; ".join(
            f"{name}: {each['misrouted']} writes at a replica, {each['stale']} of {each['checks']} own writes not seen"
            for name, each in behind.items()
        )
        + ".",
        columns=(
            Column("way"),
            Column("requests"),
            Column("writes at a replica"),
            Column("looks at one's own write"),
            Column("of these stale"),
            Column("failed reads"),
            Column("failed writes"),
            Column("most often"),
        ),
        rows=rows,
        notes=[
            "Writes at a replica: counted in the replicas' own logs. They are read-only, and refuse each of them.",
        ],
        raw=dict(behind),
        broken=broken,
    )


# --- 3. outages


def _outages(engine: str, name: str, context: Context) -> dict[str, Visit]:
    """On a cluster of its own: what one peer lost must not spoil the next one's run."""
    with context.own_cluster(engine, replicas=REPLICAS) as c, peers_on(c) as (peers, _):
        fill(c)
        (peer,) = (each for each in peers if each.name == name)
        failed: dict[str, str] = {}
        with serving(c, peer, failed=failed) as sites:
            if failed:
                raise NotServed(failed[name])
            return _killed(c, sites[0], context)


def _killed(c: Cluster, site: Site, context: Context) -> dict[str, Visit]:
    visits = site.visit(seconds=KILLED_AFTER + context.pick(1.0, 2.0), seed=context.seed)
    time.sleep(KILLED_AFTER)
    c.kill(c.replicas[0])
    replica = visits.found()
    c.restart(c.replicas[0])
    c.wait_caught_up()
    visits = site.visit(seconds=KILLED_AFTER + context.pick(2.0, 5.0), seed=context.seed + 1)
    time.sleep(KILLED_AFTER)
    primary = _lost_primary(c, site.peer)
    return {"replica": replica, "primary": primary | visits.found()}


def _lost_primary(c: Cluster, peer: Peer) -> Visit:
    start = time.monotonic()
    c.kill(c.primary)
    new = c.promote(c.replicas[0])
    promoted = time.monotonic() - start
    if peer.promoted is not None:
        peer.promoted(new)
    return {"promoted_after": promoted}


def _about_outages(engine: str, outages: Mapping[str, Mapping[str, Visit]]) -> Section:
    rows: list[list[Cell]] = []
    for name, each in outages.items():
        for lost in ("replica", "primary"):
            visit = each[lost]
            rows.append(
                [
                    name,
                    lost,
                    visit["requests"],
                    visit["read_errors"],
                    visit["write_errors"],
                    visit["reads_blocked"],
                    visit["writes_blocked"],
                    visit.get("promoted_after"),
                    _mostly(visit),
                ]
            )
    return Section(
        name=f"peers-outages-{engine}",
        title=f"Peers on the same work, {engine}: a replica is killed, then the primary",
        question="How many requests fail, and for how long does nothing succeed?",
        answer="; ".join(
            f"{name}: a replica's death {_failed(each['replica'])}, the primary's {_failed(each['primary'])}"
            for name, each in outages.items()
        )
        + ".",
        columns=(
            Column("way"),
            Column("killed"),
            Column("requests"),
            Column("failed reads"),
            Column("failed writes"),
            Column("no read for", "s"),
            Column("no write for", "s"),
            Column("promoted after", "s"),
            Column("most often"),
        ),
        rows=rows,
        notes=[
            f"kill -9 after {KILLED_AFTER:g} s of load; another server is promoted at once, and who must be told is "
            "told. Nothing is retried by the visitors. One run: compare the lines with each other only.",
            "The recipe, advanced-alchemy and the wrapper's endpoints have no way to follow another primary: their "
            "operator would restart the application with another configuration.",
        ],
        raw={name: dict(each) for name, each in outages.items()},
    )


def _mostly(visit: Visit) -> str | None:
    """The kind of error that was met most often, and how often."""
    for error, count in visit["errors"].items():
        return f"{count} x {error}".replace("|", "/")
    return None


def _failed(visit: Visit) -> str:
    return f"{visit['read_errors']} reads and {visit['write_errors']} writes failed"
