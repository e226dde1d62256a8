"""What it costs to know the position of a commit: ``python benchmarks/bench_tokens.py`` (about a minute).

Per engine, one insert and its commit on a router's primary, wall time, interleaved in random order:

    plain        nobody wants the position (session_tracking=False, the token is not asked for)
    plain again  the same once more: what differs between the two is noise (A/A)
    told         the position comes with the commit's answer; the token is read
    asked        one SELECT after the commit, as for a driver that is not told

Compared are the fast tenths (the 10 % quantile): what a loaded machine adds to a measurement is not the token's. The
budget is told <= 1.10 x plain on MySQL and MariaDB with PyMySQL. Ends with 1 if it is not kept.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable

from sqlalchemy import text

from rds_router import Replica, Router, RoutingPolicy, RoutingSession
from rds_router.lab import Cluster, EngineMissing, cluster

ROUNDS = 1500
BUDGET = {"mysql": 1.10, "mariadb": 1.10}
INSERT = text("INSERT INTO bench_tokens (n) VALUES (1)")
KEY = {"postgresql": "SERIAL PRIMARY KEY"}


def main() -> int:
    kept = True
    for engine in ("mysql", "mariadb", "postgresql"):
        try:
            with cluster(engine, replicas=1) as c:
                kept &= measured(c)
        except EngineMissing as error:
            print(f"{engine}: left out, {error}")
    return 0 if kept else 1


def measured(c: Cluster) -> bool:
    with router(c, tracking=True) as told, router(c, tracking=False) as untold:
        work = {
            "plain": commit(untold),
            "plain again": commit(untold),
            "told": commit(told, wants_token=True),
            "asked": commit(untold, wants_token=True),
        }
        dice = random.Random(1)
        names = list(work)
        for name in names * 50:
            work[name]()
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            dice.shuffle(names)
            for name in names:
                start = time.perf_counter()
                work[name]()
                times[name].append(time.perf_counter() - start)
    base = fast(times["plain"])
    print(f"{c.engine}: plain {base * 1e6:.0f} us")
    ratios = {}
    for name in ("plain again", "told", "asked"):
        ratios[name] = fast(times[name]) / base
        low, high = interval(times["plain"], times[name], dice)
        print(f"  {name:<12} x{ratios[name]:.3f}   [{low:.3f}, {high:.3f}]")
    budget = BUDGET.get(c.engine)
    if budget is not None and ratios["told"] > budget:
        print(f"  told is over its budget of x{budget:.2f}")
        return False
    return True


def router(c: Cluster, *, tracking: bool) -> Router:
    made = Router(
        c.primary.url,
        [Replica(c.replicas[0].url)],
        policy=RoutingPolicy(probe_interval=3600, session_tracking=tracking),
    )
    with RoutingSession(router=made) as session:
        key = KEY.get(c.engine, "INT PRIMARY KEY AUTO_INCREMENT")
        session.execute(text(f"CREATE TABLE IF NOT EXISTS bench_tokens (id {key}, n INT)"))
        session.commit()
    return made


def commit(router: Router, *, wants_token: bool = False) -> Callable[[], object]:
    def run() -> object:
        with RoutingSession(router=router) as session:
            session.execute(INSERT)
            session.commit()
            if not wants_token:
                return None
            token = session.token
            assert token is not None
            assert token.position is not None
            return token

    return run


def fast(values: list[float]) -> float:
    """What a call takes when nothing comes between."""
    return sorted(values)[len(values) // 10]


def interval(a: list[float], b: list[float], dice: random.Random) -> tuple[float, float]:
    """95 % bootstrap interval of the ratio, drawn in the pairs in which it was measured."""
    ratios = []
    for _ in range(200):
        drawn = dice.choices(range(len(a)), k=len(a))
        ratios.append(fast([b[each] for each in drawn]) / fast([a[each] for each in drawn]))
    ratios.sort()
    return ratios[5], ratios[-6]


if __name__ == "__main__":
    sys.exit(main())
