"""How often the workers of one host ask their servers, counted by the servers: with shared observations and without.

    python benchmarks/count_probes.py [WORKERS] [REPLICAS] [SECONDS]

Workers are routers of their own, in four processes: sharing goes through files and knows nothing of processes. The
servers are MariaDB's, started by the lab. Counted are ``SHOW ALL SLAVES STATUS``, which only probes ask, and
connections.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from rds_router.lab import Cluster, cluster

ROOT = Path(__file__).parents[1]
PROCESSES = 4
FLEET = """
import sys, resource
from rds_router import Router, RoutingPolicy
import logging; logging.disable()
count, shared, *urls = sys.argv[1:]
policy = RoutingPolicy(share_observations=shared == "True")
options = {"connect_args": {"ssl_disabled": True}}
routers = [Router(urls[0], urls[1:], policy=policy, engine_options=options) for _ in range(int(count))]
for router in routers:
    router.start()
print("started", flush=True)
sys.stdin.readline()
used = resource.getrusage(resource.RUSAGE_SELF)
news = [len(router.topology.eligible) for router in routers]
for router in routers:
    router.close()
print(used.ru_utime + used.ru_stime, min(news), flush=True)
"""


class Counted(NamedTuple):
    """What the servers, the workers and their processes say after some seconds."""

    probes: list[float]
    """Each replica's, in a second."""
    connections: list[int]
    """Each replica's, open at the end."""
    cpu: float
    """Seconds of CPU that all workers took in a second."""
    eligible: int
    """How many replicas the worst informed worker would read from."""

    def __str__(self) -> str:
        return (
            f"{min(self.probes):.2f} to {max(self.probes):.2f} probes a second on each replica, "
            f"{max(self.connections)} connections, workers' CPU {self.cpu * 100:.0f} % of a core, "
            f"{self.eligible} replicas eligible"
        )


def count(c: Cluster, workers: int, seconds: float, *, shared: bool) -> Counted:
    """Let that many workers watch the cluster for so long."""
    with _fleet([each.url for each in c.servers], workers, shared=shared) as processes:
        time.sleep(_settling(workers, len(c.servers)))  # every worker has begun by then
        before, began = _asked(c), time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - began
        probes = [(after - first) / elapsed for first, after in zip(before, _asked(c), strict=True)]
        connections = [_status(each.admin_url, "Threads_connected") - 1 for each in c.replicas]
        said = [process.communicate("\n", timeout=120)[0].split() for process in processes]
    cpu = sum(float(each[-2]) for each in said) / (seconds + _settling(workers, len(c.servers)))
    return Counted(probes, connections, cpu, min(int(each[-1]) for each in said))


def _settling(workers: int, servers: int) -> float:
    """Seconds until that many threads have begun: each worker has one for each server, and this machine few cores."""
    return max(3.0, workers * servers / 80)


@contextmanager
def _fleet(urls: Sequence[str], workers: int, *, shared: bool) -> Iterator[list[subprocess.Popen[str]]]:
    sizes = [workers // PROCESSES + (place < workers % PROCESSES) for place in range(PROCESSES)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FLEET, str(size), str(shared), *urls],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for size in sizes
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _asked(c: Cluster) -> list[int]:
    return [_status(each.admin_url, "Com_show_slave_status") for each in c.replicas]


def _status(url: str, name: str) -> int:
    engine = create_engine(url, poolclass=NullPool, connect_args={"ssl_disabled": True})
    with engine.connect() as connection:
        value = connection.execute(text(f"SHOW GLOBAL STATUS LIKE '{name}'")).one()[1]
    engine.dispose()
    return int(value)


def main(workers: int = 100, replicas: int = 15, seconds: int = 20) -> None:
    with cluster("mariadb", replicas=replicas) as c:
        for shared in (True, False):
            told = count(c, workers, seconds, shared=shared)
            print(f"{workers} workers, {replicas} replicas, shared={shared}: {told}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
