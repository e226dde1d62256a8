"""Pictures of a simulated fleet: shares, the herd after an outage, and the load of probes.

    python benchmarks/simulate_fleet.py          # prints figures, draws docs/fleet/*.png

15 replicas of two cores, 1,000 workers that read about 3,300 times a second in all. The choosing, the beliefs and the
pauses are the pure core's own (tests/fleet/model.py says what is made up). The same seed gives the same pictures.
Needs matplotlib: pip install -e '.[bench]'.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rds_router.core.health import AT_START, Health, State, after_answer, after_failure, pause  # noqa: E402
from rds_router.core.policy import RoutingPolicy  # noqa: E402
from tests.fleet.model import Fleet, dies, returns, slows  # noqa: E402

PLACE = ROOT / "docs" / "fleet"
FAIR = 1 / 15


def shares() -> None:
    """r3 is four times slower from 10 s to 40 s; r7 is dead from 15 s to 30 s, and cold when it is back."""
    rules: dict[str, dict[str, Any]] = {
        "least_loaded, 20 processes x 50 threads": {},
        "least_loaded, 1,000 processes x 1 thread": {"processes": 50, "threads": 1},
        "random, 20 processes x 50 threads": {"balance": "random"},
        "round_robin, 20 processes x 50 threads": {"balance": "round_robin"},
    }
    figure, axes = plt.subplots(2, 4, figsize=(13, 5), sharex=True, sharey="row")
    print("r3 four times slower: its share (1 = fair), and what a read took while it was slow, of all reads")
    for (name, options), (above, below) in zip(rules.items(), axes.T, strict=True):
        fleet = Fleet(**options)
        fleet.at(10, slows(4), "r3")
        fleet.at(15, dies, "r7")
        fleet.at(30, returns, "r7")
        fleet.at(40, slows(1), "r3")
        fleet.run(70)
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
        print(
            f"  {name:<42} share {fleet.shares(17, 30)['r3'] / FAIR:.2f}   median "
            f"{1000 * fleet.quantile(0.5, 17, 30):.1f} ms   99 % {1000 * fleet.quantile(0.99, 17, 30):.0f} ms   "
            f"first tries that failed {fleet.failed_tries}"
        )
    axes[0][0].set_ylabel("reads a second, by replica")
    axes[1][0].set_ylabel("ms")
    axes[0][0].legend(fontsize=7)
    axes[1][0].legend(fontsize=7)
    save(figure, "shares.png")


def herd() -> None:
    """r7 is dead from 10 s to 40 s. Twenty hosts find it again; its caches are cold."""
    rules: dict[str, dict[str, Any]] = {
        "neither": {"slow_start": 0.0, "max_backoff": 0.0},
        "slow start only": {"max_backoff": 0.0},
        "back-off with jitter only": {"slow_start": 0.0},
        "both": {},
    }
    figure, axes = plt.subplots(2, 2, figsize=(10, 5), sharex=True, sharey="row")
    print("r7 returns with cold caches: its reads in the first second (1 = fair), longest queue, 99 % of all reads")
    for column, balance in enumerate(("random", "least_loaded")):
        for name, options in rules.items():
            fleet = Fleet(balance=balance, **options)
            fleet.at(10, dies, "r7")
            fleet.at(40, returns, "r7")
            fleet.run(110)
            reads = [fleet.answered[second]["r7"] for second in range(35, 110)]
            queue = [fleet.deepest[second]["r7"] for second in range(35, 110)]
            axes[0][column].plot(range(35, 110), reads, label=name, linewidth=1.2)
            axes[1][column].plot(range(35, 110), queue, label=name, linewidth=1.2)
            asked = max(fleet.quantile(0.99, second, second + 1) for second in range(40, 60))
            print(
                f"  {balance:<13} {name:<26} {fleet.shares(40, 41)['r7'] / FAIR:.2f}   queue {max(queue):>3}   "
                f"worst second: 99 % {1000 * asked:.0f} ms"
            )
        axes[0][column].set_title(f"balance={balance!r}", fontsize=9)
        axes[1][column].set_xlabel("seconds; it is back at 40")
    axes[0][0].set_ylabel("reads a second on r7")
    axes[1][0].set_ylabel("longest queue on r7")
    axes[0][0].legend(fontsize=7)
    save(figure, "herd.png")


def probes() -> None:
    """1,000 processes, each with a monitor of its own, and one replica that is dead from 60 s to 360 s."""
    rules: dict[str, tuple[dict[str, Any], bool]] = {
        "no back-off": ({"max_backoff": 0.0}, True),
        "back-off without jitter": ({}, False),
        "back-off with full jitter": ({}, True),
    }
    figure, axes = plt.subplots(1, 3, figsize=(13, 3), sharey=True)
    print("1,000 processes and a replica that is dead for five minutes: probes of it a second")
    for axis, (name, (options, has_jitter)) in zip(axes, rules.items(), strict=True):
        policy, dice = RoutingPolicy(**options), random.Random(1)
        asked: Counter[int] = Counter()
        back: list[float] = []
        for _ in range(1000):
            at, health = dice.random(), AT_START
            while at < 480:
                asked[int(at * 2)] += 1
                was: Health = health
                is_dead = 60 <= at < 360
                health = (
                    after_failure(health, policy, now=at, is_read=False)
                    if is_dead
                    else after_answer(health, 0.0, policy, now=at)
                )
                if was.state is State.DOWN and health.state is State.UP:
                    back.append(at - 360)
                at += pause(health, policy, draw=dice.random() if has_jitter or health.state is State.UP else 1.0)
        axis.plot([each / 2 for each in range(960)], [2 * asked[each] for each in range(960)], linewidth=0.7)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("seconds; dead from 60 to 360")
        steady = [2 * asked[each] for each in range(400, 720)]
        back.sort()
        print(
            f"  {name:<26} mean {sum(steady) / len(steady):6.1f}   busiest half second {max(steady):5d}   "
            f"a process has it back after {back[len(back) // 2]:.1f} s (median), {back[-1]:.1f} s (last)"
        )
    axes[0].set_ylabel("probes a second")
    save(figure, "probes.png")


def save(figure: Any, name: str) -> None:
    PLACE.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(PLACE / name, dpi=80, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    shares()
    herd()
    probes()
