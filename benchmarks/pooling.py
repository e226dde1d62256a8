"""Pooled and unpooled: the blog with every kind of pool, TLS on and off, near its servers and far from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.blog import Blog, fill
from benchmarks.context import Context
from benchmarks.paired import Interval
from benchmarks.report import Cell, Column, Plot, Section, said
from benchmarks.ways import Turn, against, mid, race_of, raw, throughput
from rds_router.lab import Cluster

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASE, AGAIN, NULL = "QueuePool", "QueuePool, again", "NullPool"
CLIENTS = 8
Said = dict[str, list[Turn]]

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    BASE: {},
    AGAIN: {},
    "replicas in transactions": {"policy": {"replica_transactions": "snapshot"}},
    "pool_pre_ping": {"engine_options": {"pool_pre_ping": True}},
    "pool_recycle=1": {"engine_options": {"pool_recycle": 1}},
    "QueuePool, TLS": {"tls": "shared"},
    NULL: {"engine_options": {"poolclass": "NullPool"}},
    "NullPool, TLS, one context": {"engine_options": {"poolclass": "NullPool"}, "tls": "shared"},
    "NullPool, TLS, a context each": {"engine_options": {"poolclass": "NullPool"}, "tls": "each"},
}
QUICK = (BASE, AGAIN, NULL)


def measure(context: Context) -> Iterator[Section]:
    c = context.cluster("mysql")
    fill(c)
    names = context.pick(QUICK, tuple(OPTIONS))
    ways = {name: blog(c, **OPTIONS[name]) for name in names}
    far = context.pick((1,), (1, 5))
    by_distance: dict[int, Said] = {}
    how: dict[str, int] = {"rounds": context.pick(1, 5), "seconds": 1, "clients": CLIENTS}
    if not context.is_quick:
        with race_of(c, ways) as race:
            by_distance[0] = race.run(context.part(0, 1 + len(far)), **how)
    with race_of(c, ways, has_wires=True) as race:
        for number, ms in enumerate(far, start=1):
            race.be_far(ms / 1000)
            by_distance[ms] = race.run(context.part(number, 1 + len(far)), **how)
    yield summary(by_distance)
    for ms, found in by_distance.items():
        yield at_distance(ms, found, [each.name for each in c.servers])


def blog(c: Cluster, **options: Any) -> Blog:
    given = {"tls": "off", **options}
    # Those that are not loaded shall not be heard much.
    policy = {"probe_interval": 5.0, **given.pop("policy", {})}
    return Blog(primary=c.primary.url, replicas=[each.url for each in c.replicas], policy=policy, **given)


def summary(by_distance: Mapping[int, Said]) -> Section:
    """Everything in one picture, and NullPool in one sentence."""
    noises = {ms: against(found[BASE], found[AGAIN], throughput) for ms, found in by_distance.items()}
    losses = [
        f"{said(against(found[BASE], found[NULL], throughput), noises[ms])} at {ms} ms"
        for ms, found in by_distance.items()
    ]
    return Section(
        name="pooling",
        title="Pooled and unpooled",
        question="What does a pool save, near the servers and far from them?",
        answer=f"Without a pool (NullPool, no TLS) the blog answers this many times the requests: {'; '.join(losses)} "
        "of network delay.",
        notes=[
            f"The blog of examples/ under gunicorn (2 processes of 4 threads), {CLIENTS} clients in a closed loop, one "
            "request in ten writes a comment; MySQL, a primary and two replicas. TLS is off where it is not named.",
            "Network delay is added by a proxy of our own, half of it each way; 0 ms goes straight to the server. "
            "Proxies, clients, application and servers share the same cores.",
            "Pools are those of rds_router's engines: replica connections are in AUTOCOMMIT, except in "
            "`replicas in transactions`.",
        ],
        plots=[Plot("Requests a second, and CPU of the application for each", partial(_draw, by_distance), (9.5, 5.6))],
    )


def at_distance(ms: int, found: Said, servers: Sequence[str]) -> Section:
    """The table of one distance."""
    base, again = found[BASE], found[AGAIN]

    def app(turn: Turn) -> float:
        return turn.cpu("app")

    noise, cpu_noise = against(base, again, throughput), against(base, again, app)
    columns = [
        Column("way"), Column("requests/s", digits=0), Column("against QueuePool", noise=noise),
        Column("p50", "ms", 1), Column("p99", "ms", 1), Column("connections opened a request", digits=3),
        Column("CPU app", "ms/request"), Column("against QueuePool", noise=cpu_noise),
        Column("CPU primary", "ms/request"), Column("CPU replicas", "ms/request"), Column("errors"),
    ]  # fmt: skip
    if ms:
        columns.insert(6, Column("round trips a request", digits=1))
    rows = []
    for name, turns in found.items():
        is_other = name != BASE
        row: list[Cell] = [
            name,
            mid(turns, throughput),
            against(base, turns, throughput) if is_other else None,
            mid(turns, lambda turn: turn.load.p50 * 1000),
            mid(turns, lambda turn: turn.load.p99 * 1000),
            mid(turns, lambda turn: turn.per_request(sum(turn.taken.opened.values()))),
            mid(turns, app),
            against(base, turns, app) if is_other else None,
            mid(turns, lambda turn: turn.cpu(servers[0])),
            mid(turns, lambda turn: turn.cpu(*servers[1:])),
            sum(turn.load.errors for turn in turns),
        ]
        if ms:
            row.insert(6, mid(turns, lambda turn: turn.per_request(sum(turn.packets))))
        rows.append(row)
    return Section(
        name=f"pooling-{ms}ms",
        title=f"Pools at {ms} ms",
        question=f"What does each kind of pool cost when the servers are {ms} ms away?",
        answer=_answer(found, noise),
        columns=columns,
        rows=rows,
        notes=_notes(ms),
        raw=raw(found),
    )


def _answer(found: Said, noise: Interval) -> str:
    others = [name for name in found if name not in (BASE, AGAIN)]
    compared = {name: against(found[BASE], found[name], throughput) for name in others}
    alike = [name for name, each in compared.items() if each.is_within(noise)]
    told = [f"{name} {said(each, noise)}" for name, each in compared.items() if name not in alike]
    return (
        f"Requests a second against QueuePool: {'; '.join(told) or 'nothing differs beyond the noise'}"
        f"{'. Within the noise: ' + ', '.join(alike) if told and alike else ''}."
    )


def _notes(ms: int) -> list[str]:
    found = ["Medians of the rounds; ratios by rounds, with the interval of a bootstrap over them."]
    if ms:
        found.append(
            "Round trips: packets that went to the servers, counted at the proxy, logins and the probes of the way's "
            "own monitor included; with TLS they are TLS records, and a handshake is several."
        )
    return found


def _draw(by_distance: Mapping[int, Said], figure: Figure) -> None:
    axes = figure.subplots(2, len(by_distance), sharey=True, sharex="row", squeeze=False)
    for column, (ms, found) in enumerate(by_distance.items()):
        names = list(found)[::-1]
        rates = [mid(found[name], throughput) for name in names]
        costs = [mid(found[name], lambda turn: turn.cpu("app")) for name in names]
        for axis, values, unit in ((axes[0][column], rates, "requests/s"), (axes[1][column], costs, "ms CPU/request")):
            colors = ["tab:blue" if "NullPool" not in name else "tab:orange" for name in names]
            axis.barh(names, values, color=colors)
            axis.set_xlabel(unit)
        axes[0][column].set_title(f"{ms} ms away")
