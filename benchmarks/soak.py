"""Does anything grow? Threads that read and write through one router, while faults come and go, for a while.

    python benchmarks/soak.py [MINUTES] [PICTURE.svg]

Prints memory, threads, open files and the servers' connections over time, and at the end what is left after close().
MariaDB, a primary and two replicas of the lab.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from rds_router import Replica, Router, RoutingPolicy, RoutingSession
from rds_router.lab import Cluster, cluster

WORKERS = 6
FAULTS = ("kill", "freeze", "pause", "routers")


class Sample(NamedTuple):
    """What was held at one moment."""

    at: float
    memory: float
    """MiB of this process, resident."""
    threads: int
    files: int
    connections: int
    """Of this router, on the primary."""


@dataclass
class Soak:
    """One run, and what it has seen."""

    cluster: Cluster
    samples: list[Sample] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    before: Sample | None = None
    left: Sample | None = None

    def run(self, seconds: float, *, every: float = 2.0, seed: int = 1) -> None:
        """Load and faults for so long; then everything is closed."""
        self._ask("CREATE TABLE IF NOT EXISTS soak (id INT PRIMARY KEY, n INT)", "REPLACE INTO soak VALUES (1, 0)")
        self.cluster.wait_caught_up()
        gc.collect()
        self.before = self._sample(0.0)
        primary, *replicas = (Replica(each.url, name=each.name) for each in self.cluster.servers)
        options = {"connect_args": {"ssl_disabled": True}, "pool_size": WORKERS}
        policy = RoutingPolicy(read_deadline=1.0, max_backoff=2.0)
        stop = threading.Event()
        with Router(primary, replicas, policy=policy, engine_options=options) as router:
            router.refresh()
            threads = [threading.Thread(target=self._work, args=(router, stop)) for _ in range(WORKERS)]
            threads.append(threading.Thread(target=self._break, args=(stop, random.Random(seed))))
            for thread in threads:
                thread.start()
            began = time.monotonic()
            while (elapsed := time.monotonic() - began) < seconds:
                stop.wait(every)
                self.samples.append(self._sample(elapsed))
            stop.set()
            for thread in threads:
                thread.join()
        gc.collect()
        self.left = self._sample(time.monotonic() - began)

    def _work(self, router: Router, stop: threading.Event) -> None:
        count = 0
        while not stop.wait(0.01):
            count += 1
            try:
                with RoutingSession(router=router) as session:
                    if count % 10 == 0:
                        session.execute(text("UPDATE soak SET n = n + 1"))
                        session.commit()
                        self.done["writes"] += 1
                    session.execute(text("SELECT n FROM soak")).all()
                    self.done["reads"] += 1
            except Exception as error:  # counted: a soak is about what is left
                self.errors[type(error).__name__] += 1

    def _break(self, stop: threading.Event, dice: random.Random) -> None:
        """One fault after another; each is mended before the next."""
        while not stop.wait(dice.uniform(0.5, 2.0)):
            server = dice.choice(self.cluster.replicas)
            fault = dice.choice(FAULTS)
            self.done[fault] += 1
            if fault == "kill":
                self.cluster.kill(server)
                stop.wait(1.0)
                self.cluster.restart(server)
            elif fault == "freeze":
                self.cluster.freeze(server)
                stop.wait(2.0)
                self.cluster.thaw(server)
            elif fault == "pause":
                self.cluster.pause_replication(server)
                stop.wait(2.0)
                self.cluster.resume_replication(server)
            else:
                for _ in range(5):
                    self._one_more_router()

    def _one_more_router(self) -> None:
        urls = [each.url for each in self.cluster.servers]
        options = {"connect_args": {"ssl_disabled": True}}
        with Router(urls[0], urls[1:], engine_options=options) as router, RoutingSession(router=router) as session:
            session.execute(text("SELECT 1")).all()

    def _sample(self, at: float) -> Sample:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        connections = self._ask("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app'")
        return Sample(at, memory, threading.active_count(), len(os.listdir("/proc/self/fd")), connections)

    def _ask(self, *statements: str) -> int:
        engine = create_engine(self.cluster.primary.admin_url, poolclass=NullPool, connect_args={"ssl_disabled": True})
        value = 0
        with engine.begin() as connection:
            for statement in statements:
                result = connection.execute(text(statement))
                value = int(result.scalar_one()) if result.returns_rows else 0
        engine.dispose()
        return value


def thirds(samples: Sequence[Sample]) -> tuple[Sample, Sample]:
    """The highest values of the second and of the last third: what grows is higher in the last."""
    third = len(samples) // 3
    return tuple(
        Sample(*map(max, zip(*part, strict=True))) for part in (samples[third : 2 * third], samples[2 * third :])
    )  # type: ignore[return-value]


def draw(soak: Soak, path: Path) -> None:
    """The samples as a picture: four lines, each on a scale of its own."""
    width, height, top = 760, 70, 24
    lines = []
    end = soak.samples[-1].at or 1.0
    for place, (name, unit) in enumerate(
        (("memory", "MiB"), ("threads", ""), ("files", ""), ("connections", "on the primary"))
    ):
        values = [float(getattr(each, name)) for each in soak.samples]
        most, y = max(values), top + place * (height + 26)
        points = " ".join(
            f"{10 + each.at / end * (width - 20):.1f},{y + height - value / most * height:.1f}"
            for each, value in zip(soak.samples, values, strict=True)
        )
        lines.append(f'<text x="10" y="{y - 6}">{name} {unit}: {min(values):.0f} to {most:.0f}</text>')
        lines.append(f'<path d="M10 {y + height}H{width - 10}" stroke="#bbb"/>')
        lines.append(f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="1.5"/>')
    whole = top + 4 * (height + 26)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/>{"".join(lines)}</svg>\n',
        "utf-8",
    )


def main(minutes: str = "10", picture: str = "") -> None:
    logging.disable()
    with cluster("mariadb") as c:
        soak = Soak(c)
        soak.run(float(minutes) * 60)
    for each in soak.samples[:: max(1, len(soak.samples) // 12)]:
        print(
            f"{each.at:6.0f} s  {each.memory:6.1f} MiB  {each.threads} threads  {each.files} files  {each.connections}"
        )
    second, last = thirds(soak.samples)
    print("highest in the second third:", second)
    print("highest in the last third:  ", last)
    print("before:", soak.before)
    print("after close():", soak.left)
    print("done:", dict(soak.done), "errors:", dict(soak.errors))
    if picture:
        draw(soak, Path(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])
