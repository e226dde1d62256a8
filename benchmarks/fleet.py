"""A fleet in simulation: 1 to 1,000 processes and 1 to 15 replicas, by the pure core's own choices, beliefs and pauses.

    python -m benchmarks.fleet     # draws docs/fleet/*.png, which docs/balancing.md shows

``tests/fleet/model.py`` says what is made up: servers, workers and time. The same seed gives the same pictures.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.context import Context
from benchmarks.report import Column, Plot, Section
from rds_router.core.health import AT_START, Health, State, after_answer, after_failure, pause
from rds_router.core.policy import RoutingPolicy
from tests.fleet.model import CORES, SERVICE, Fleet, dies, returns, slows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACE = Path(__file__).resolve().parent.parent / "docs" / "fleet"
Rules = Mapping[str, Mapping[str, Any]]
BALANCES: Rules = {
    "least_loaded, 20 processes x 50 threads": {},
    "least_loaded, 1,000 processes x 1 thread": {"processes": 50, "threads": 1},
    "random, 20 processes x 50 threads": {"balance": "random"},
    "round_robin, 20 processes x 50 threads": {"balance": "round_robin"},
}
RETURNS: Rules = {
    "neither": {"slow_start": 0.0, "max_backoff": 0.0},
    "slow start only": {"max_backoff": 0.0},
    "back-off with jitter only": {"slow_start": 0.0},
    "both": {},
}
PAUSES: Mapping[str, tuple[Mapping[str, Any], bool]] = {
    "no back-off": ({"max_backoff": 0.0}, True),
    "back-off without jitter": ({}, False),
    "back-off with full jitter": ({}, True),
}
WORKERS, REPLICAS = (1, 10, 100, 1000), (1, 2, 3, 5, 8, 15)


def measure(context: Context) -> Iterator[Section]:
    yield _grid(context.part(0, 4))
    if context.is_quick:
        return
    yield _shares(context.part(1, 4))
    yield _herd(context.part(2, 4))
    yield _probes(context.part(3, 4))


# --- 1 to 1,000 workers, 1 to 15 replicas


def _grid(context: Context) -> Section:
    """Each size is loaded to seven tenths of what its replicas can do; in the middle one of them dies and returns."""
    workers, replicas = context.pick((1, 100), WORKERS), context.pick((1, 15), REPLICAS)
    sizes = [(size, count) for size in workers for count in replicas]
    found: dict[tuple[int, int], dict[str, float]] = {}
    for number, (size, count) in enumerate(sizes):
        context.progress(number / len(sizes), f"{size} workers, {count} replicas")
        found[size, count] = _sized(size, count, context.pick(6, 20), context.seed)
    most = max(sizes)
    fairest = found[most]
    return Section(
        name="fleet",
        title="A fleet of any size, in simulation",
        question="Do a thousand workers share the replicas fairly, and what do they do to one that returns?",
        answer=f"{most[0]:,} workers on {most[1]} replicas: least and most loaded replica have "
        f"{fairest['least']:.2f} and {fairest['most']:.2f} of a fair share, one that returns {fairest['back']:.2f} "
        f"of it at most while it warms, and each replica is probed {fairest['probes']:.1f} times a second.",
        columns=(
            Column("workers"), Column("replicas"), Column("reads/s", digits=0), Column("least loaded", "fair shares"),
            Column("most loaded", "fair shares"), Column("after its return, at most", "fair shares"),
            Column("probes of a replica", "per second"), Column("first tries that failed"),
        ),
        rows=[
            (
                size, count, each["reads"], each["least"], each["most"], each["back"] if count > 1 else None,
                each["probes"], int(each["failed"]),
            )
            for (size, count), each in found.items()
        ],
        notes=[
            "A model, not a measurement of this machine: the choice of a replica, the beliefs and the pauses are the "
            f"package's own code; servers ({CORES} cores, {1000 * SERVICE:g} ms a read), workers and time are made up.",
            "Up to 50 workers are threads of one process, more are more processes; each process is a host of its own "
            "with a monitor of its own. Workers read at a rate that keeps replicas at seven tenths of what they "
            "can do at most, each at most ten times a second. In the middle one replica is dead for a while and "
            "returns with cold caches: its busiest two seconds of the time after it are shown.",
        ],
        plots=[Plot("By workers, a line for each number of replicas", partial(_draw_grid, found), (10, 3.2))],
        raw={f"{size} x {count}": each for (size, count), each in found.items()},
    )  # fmt: skip


def _sized(workers: int, replicas: int, seconds: int, seed: int) -> dict[str, float]:
    hosts = max(1, workers // 50)
    capacity = replicas * CORES / SERVICE
    think = max(0.1, workers / (0.7 * capacity))
    fleet = Fleet(replicas=replicas, hosts=hosts, threads=workers // hosts, think=think, seed=seed)
    down, up, end = seconds // 2, seconds, 2 * seconds
    if replicas > 1:
        fleet.at(down, dies, "r1")
        fleet.at(up, returns, "r1")
    fleet.run(end)
    steady = fleet.shares(2, down)
    parts = [steady[f"r{number}"] * replicas for number in range(1, replicas + 1)]
    probed = [sum(fleet.probes[second]["r2" if replicas > 1 else "r1"] for second in range(2, down)) / (down - 2)]
    return {
        "reads": sum(sum(fleet.answered[second].values()) for second in range(2, down)) / (down - 2),
        "least": min(parts),
        "most": max(parts),
        "back": max(fleet.shares(at, at + 2)["r1"] for at in range(up, end - 2)) * replicas if replicas > 1 else 1.0,
        "probes": probed[0],
        "failed": fleet.failed_tries,
    }


def _draw_grid(found: Mapping[tuple[int, int], Mapping[str, float]], figure: Figure) -> None:
    shares, back, probes = figure.subplots(1, 3)
    for place, count in enumerate(sorted({count for _, count in found})):
        sizes = sorted(size for size, other in found if other == count)
        of = {name: [found[size, count][name] for size in sizes] for name in ("least", "most", "back", "probes")}
        color = f"C{place}"
        shares.fill_between(sizes, of["least"], of["most"], color=color, alpha=0.3, label=f"{count} replicas")
        if count > 1:
            back.plot(sizes, of["back"], ".-", color=color, label=f"{count} replicas")
        probes.plot(sizes, of["probes"], ".-", color=color)
    shares.set(xscale="log", xlabel="workers", ylabel="least to most loaded, fair shares")
    back.set(xscale="log", xlabel="workers", ylabel="after a return, at most, fair shares")
    probes.set(xscale="log", yscale="log", xlabel="workers", ylabel="probes of a replica, per second")
    shares.legend(fontsize=7)


# --- 15 replicas, 1,000 workers: three stories


def _shares(context: Context) -> Section:
    """r3 is four times slower from 10 s to 40 s; r7 is dead from 15 s to 30 s, and cold when it is back."""
    fleets = {}
    for number, (name, options) in enumerate(BALANCES.items()):
        context.progress(number / len(BALANCES), name)
        fleets[name] = fleet = Fleet(**options, seed=context.seed)
        fleet.at(10, slows(4), "r3")
        fleet.at(15, dies, "r7")
        fleet.at(30, returns, "r7")
        fleet.at(40, slows(1), "r3")
        fleet.run(70)
    rows = [
        (
            name, fleet.shares(17, 30)["r3"] * 15, 1000 * fleet.quantile(0.5, 17, 30),
            1000 * fleet.quantile(0.99, 17, 30), fleet.failed_tries,
        )
        for name, fleet in fleets.items()
    ]  # fmt: skip
    return Section(
        name="fleet-shares",
        title="A replica that is slow, in simulation",
        question="Who notices that one of 15 replicas takes four times as long?",
        answer=f"While it is slow, 99 of 100 reads on all replicas take less than {rows[0][3]:.0f} ms with "
        f"`least_loaded`, {rows[2][3]:.0f} ms with `random`.",
        columns=(
            Column("rule"), Column("slow replica", "fair shares"), Column("median read", "ms", 1),
            Column("99 % of reads", "ms", 0), Column("first tries that failed"),
        ),
        rows=rows,
        plots=[Plot("Reads of each replica, and how long reads took", partial(_draw_shares, fleets), (13, 5))],
    )  # fmt: skip


def _draw_shares(fleets: Mapping[str, Fleet], figure: Figure) -> None:
    axes = figure.subplots(2, len(fleets), sharex=True, sharey="row")
    for (name, fleet), (above, below) in zip(fleets.items(), axes.T, strict=True):
        for server in fleet.machines:
            line = [fleet.answered[second][server] for second in range(1, 70)]
            style = {"r3": ("tab:red", 1.5, "r3: slow"), "r7": ("tab:blue", 1.5, "r7: dead, back")}
            color, width, label = style.get(server, ("0.8", 0.7, "primary" if server == "db" else None))
            above.plot(range(1, 70), line, color="black" if server == "db" else color, linewidth=width, label=label)
        for part, color in ((0.5, "tab:green"), (0.99, "tab:orange")):
            line = [1000 * fleet.quantile(part, second, second + 1) for second in range(1, 70)]
            below.semilogy(range(1, 70), line, color=color, label=f"{part:.0%} of reads took less")
        above.set_title(name, fontsize=9)
        below.set_xlabel("seconds")
    axes[0][0].set_ylabel("reads a second, by replica")
    axes[1][0].set_ylabel("ms")
    axes[0][0].legend(fontsize=7)
    axes[1][0].legend(fontsize=7)


def _herd(context: Context) -> Section:
    """r7 is dead from 10 s to 40 s. Twenty hosts find it again; its caches are cold."""
    cases = [(balance, name) for balance in ("random", "least_loaded") for name in RETURNS]
    fleets = {}
    for number, (balance, name) in enumerate(cases):
        context.progress(number / len(cases), f"{balance}, {name}")
        fleets[balance, name] = fleet = Fleet(balance=balance, **RETURNS[name], seed=context.seed)
        fleet.at(10, dies, "r7")
        fleet.at(40, returns, "r7")
        fleet.run(110)
    rows = [
        (
            balance, name, fleet.shares(40, 41)["r7"] * 15,
            max(fleet.deepest[second]["r7"] for second in range(35, 110)),
            1000 * max(fleet.quantile(0.99, second, second + 1) for second in range(40, 60)),
        )
        for (balance, name), fleet in fleets.items()
    ]  # fmt: skip
    return Section(
        name="fleet-herd",
        title="The herd after an outage, in simulation",
        question="What happens to a replica that returns with cold caches?",
        answer=f"Without slow start and back-off it queues up to {rows[0][3]} reads (`random`), with both up to "
        f"{rows[-1][3]} (`least_loaded`, as it is by default).",
        columns=(
            Column("balance"), Column("protection"), Column("first second", "fair shares"), Column("longest queue"),
            Column("99 % of all reads, worst second", "ms", 0),
        ),
        rows=rows,
        plots=[Plot("Reads and queue of the replica that returns at 40 s", partial(_draw_herd, fleets), (10, 5))],
    )  # fmt: skip


def _draw_herd(fleets: Mapping[tuple[str, str], Fleet], figure: Figure) -> None:
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    seconds = range(35, 110)
    for (balance, name), fleet in fleets.items():
        column = int(balance == "least_loaded")
        reads, queue = ([counts[second]["r7"] for second in seconds] for counts in (fleet.answered, fleet.deepest))
        axes[0][column].plot(seconds, reads, label=name, linewidth=1.2)
        axes[1][column].plot(seconds, queue, label=name, linewidth=1.2)
        axes[0][column].set_title(f"balance={balance!r}", fontsize=9)
        axes[1][column].set_xlabel("seconds; it is back at 40")
    axes[0][0].set_ylabel("reads a second on r7")
    axes[1][0].set_ylabel("longest queue on r7")
    axes[0][0].legend(fontsize=7)


def _probes(context: Context) -> Section:
    """1,000 processes, each with a monitor of its own, and one replica that is dead from 60 s to 360 s."""
    rows, asked = [], {}
    for number, (name, (options, has_jitter)) in enumerate(PAUSES.items()):
        context.progress(number / len(PAUSES), name)
        asked[name], back = _asked(RoutingPolicy(**options), has_jitter, context.seed)
        steady = [2 * asked[name][each] for each in range(400, 720)]
        rows.append((name, sum(steady) / len(steady), max(steady), back[len(back) // 2], back[-1]))
    return Section(
        name="fleet-probes",
        title="The load of probes, in simulation",
        question="How hard do 1,000 processes knock at a replica that is dead for five minutes?",
        answer=f"{rows[-1][1]:.0f} times a second in all, {rows[0][1]:.0f} without back-off; half of them have it back "
        f"after {rows[-1][3]:.0f} s.",
        columns=(
            Column("pauses"), Column("probes of it, mean", "per second", 1),
            Column("busiest half second", "per second"),
            Column("back after, median", "s", 1), Column("back after, last", "s", 1),
        ),
        rows=rows,
        notes=["Processes of one host share what they observe (`share_observations`): these are 1,000 hosts."],
        plots=[Plot("Probes of the dead replica a second", partial(_draw_probes, asked), (13, 3))],
    )  # fmt: skip


def _asked(policy: RoutingPolicy, has_jitter: bool, seed: int) -> tuple[Counter[int], list[float]]:
    """Probes by half second, and when each process had it back."""
    dice, asked = random.Random(seed), Counter[int]()
    back: list[float] = []
    for _ in range(1000):
        at, health = dice.random(), AT_START
        while at < 480:
            asked[int(at * 2)] += 1
            was: Health = health
            if 60 <= at < 360:
                health = after_failure(health, policy, now=at, is_read=False)
            else:
                health = after_answer(health, 0.0, policy, now=at)
            if was.state is State.DOWN and health.state is State.UP:
                back.append(at - 360)
            at += pause(health, policy, draw=dice.random() if has_jitter or health.state is State.UP else 1.0)
    return asked, sorted(back)


def _draw_probes(asked: Mapping[str, Counter[int]], figure: Figure) -> None:
    axes = figure.subplots(1, len(asked), sharey=True)
    for axis, (name, counts) in zip(axes, asked.items(), strict=True):
        axis.plot([each / 2 for each in range(960)], [2 * counts[each] for each in range(960)], linewidth=0.7)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("seconds; dead from 60 to 360")
    axes[0].set_ylabel("probes a second")


def main() -> None:
    """The pictures of docs/balancing.md."""
    from matplotlib.figure import Figure

    stories: Mapping[str, Callable[[Context], Section]] = {"shares": _shares, "herd": _herd, "probes": _probes}
    for name, tell in stories.items():
        section = tell(Context())
        print(section.answer)
        for row in section.texts():
            print("  ", *row, sep="   ")
        (plot,) = section.plots
        figure = Figure(figsize=plot.size, layout="tight")
        plot.draw(figure)
        figure.savefig(PLACE / f"{name}.png", dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    main()
