"""What replicas gain: the blog against none to four of them, where each server can do so much and no more.

A machine with a handful of cores cannot show five servers at work: they would share what it has. So each server's
capacity is made small, by the proxy before it: every packet to it (a statement, a COMMIT) takes one of ``PLACES``
places for ``SERVICE`` seconds, and waits for one when all are taken. The application's own CPU is in the table: where
it comes near the machine's cores, it is the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.blog import Blog, fill
from benchmarks.context import Context
from benchmarks.report import Cell, Column, Plot, Section, said
from benchmarks.ways import Turn, against, mid, race_of, raw, throughput
from rds_router.lab import Cluster

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACES, SERVICE = 2, 0.0125
CLIENTS = 24
MOST = 4
AGAIN = "none, again"


def measure(context: Context) -> Iterator[Section]:
    c = context.cluster("mysql", replicas=MOST)
    fill(c)
    numbers = context.pick((0, MOST), tuple(range(MOST + 1)))
    ways = {_name(number): _blog(c, number) for number in numbers} | {AGAIN: _blog(c, 0)}
    with race_of(c, ways, has_wires=True) as race:
        for wires in race.wires.values():
            for wire in wires:
                wire.limit(PLACES, seconds=SERVICE)
        found = race.run(context, rounds=context.pick(1, 5), seconds=2, clients=CLIENTS)
    yield _section(
        {number: found[_name(number)] for number in numbers}, found[AGAIN], [each.name for each in c.servers]
    )


def _name(number: int) -> str:
    return f"{number or 'none'}"


def _blog(c: Cluster, number: int) -> Blog:
    return Blog(
        primary=c.primary.url,
        replicas=[each.url for each in c.replicas[:number]],
        tls="off",
        # A place in the pool for each thread: who waits shall wait for a server.
        engine_options={"pool_size": CLIENTS // 2, "pool_timeout": 20},
        policy={"probe_interval": 5.0, "probe_timeout": 5.0, "read_deadline": 20.0},
        threads=CLIENTS // 2,
    )


def _section(found: Mapping[int, Sequence[Turn]], again: Sequence[Turn], servers: Sequence[str]) -> Section:
    base, most = found[0], max(found)
    noise = against(base, again, throughput)

    def primary_share(turn: Turn) -> float:
        return turn.packets[0] / sum(turn.packets)

    rows: list[list[Cell]] = []
    for number, turns in found.items():
        shares = [mid(turns, partial(_share, place=place)) for place in range(1, number + 1)]
        rows.append(
            [
                number,
                mid(turns, throughput),
                against(base, turns, throughput) if number else None,
                mid(turns, lambda turn: turn.load.p50 * 1000),
                mid(turns, lambda turn: turn.load.p99 * 1000),
                100 * mid(turns, primary_share),
                mid(turns, lambda turn: turn.cpu(servers[0])),
                ", ".join(f"{100 * each:.0f}" for each in shares) or None,
                100 * mid(turns, lambda turn: turn.taken.cpu["app"] / turn.load.seconds),
                sum(turn.load.errors for turn in turns),
            ]
        )
    offload = 1 - mid(found[most], primary_share)
    return Section(
        name="scale-out",
        title="Replicas added",
        question="What do replicas gain when each server can do only so much?",
        answer=f"With {most} replicas the blog answers {said(against(base, found[most], throughput), noise)} times the "
        f"requests; {100 * offload:.0f} % of what is asked goes to replicas.",
        columns=(
            Column("replicas"),
            Column("requests/s", digits=0),
            Column("against none", noise=noise),
            Column("p50", "ms", 0),
            Column("p99", "ms", 0),
            Column("asked of the primary", "%", 0),
            Column("CPU primary", "ms/request"),
            Column("each replica's share of the reads", "%"),
            Column("CPU app", "% of a core", 0),
            Column("errors"),
        ),
        rows=rows,
        notes=[
            f"Each server is limited: at the proxy before it every packet takes one of {PLACES} places for "
            f"{1000 * SERVICE:g} ms, so it does {PLACES / SERVICE:.0f} a second at most. This stands for a server that "
            "is busy; it is not the CPU of this machine, whose cores could not show five servers at work.",
            f"{CLIENTS} clients in a closed loop, one request in ten writes a comment (on the primary, as the reads of "
            "the same request after it). Shares are of packets, probes and logins included.",
        ],
        plots=[
            Plot(
                "Requests a second, where each packet went, and how long an answer took, by the number of replicas",
                partial(_draw, found),
                (10, 3.2),
            )
        ],
        raw=raw({str(number): turns for number, turns in found.items()} | {"none, again": again}),
    )


def _share(turn: Turn, *, place: int) -> float:
    return turn.packets[place] / sum(turn.packets[1:])


def _draw(found: Mapping[int, Sequence[Turn]], figure: Figure) -> None:
    rate, split, latency = figure.subplots(1, 3)
    numbers = list(found)
    for number, turns in found.items():
        rate.plot([number] * len(turns), [throughput(turn) for turn in turns], ".", color="tab:blue", alpha=0.4)
    rate.plot(numbers, [mid(found[number], throughput) for number in numbers], color="tab:blue")
    rate.set(xlabel="replicas", ylabel="requests/s", xticks=numbers, ylim=(0, None))
    bottom = [0.0] * len(numbers)
    for place in range(max(numbers) + 1):
        parts = [
            mid(found[number], lambda turn: turn.per_request(turn.packets[place])) if place <= number else 0.0  # noqa: B023
            for number in numbers
        ]
        split.bar(numbers, parts, bottom=bottom, color="tab:red" if not place else f"C{place - 1}", width=0.6)
        bottom = [below + part for below, part in zip(bottom, parts, strict=True)]
    split.set(xlabel="replicas", ylabel="packets a request (red: primary)", xticks=numbers)
    for name, style in (("p50", "-"), ("p90", "--"), ("p99", ":")):
        line = [mid(found[number], lambda turn: 1000 * getattr(turn.load, name)) for number in numbers]  # noqa: B023
        latency.plot(numbers, line, style, color="tab:blue", label=name)
    latency.set(xlabel="replicas", ylabel="ms", xticks=numbers, ylim=(0, None))
    latency.legend()
