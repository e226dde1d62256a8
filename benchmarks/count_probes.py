"""How often the workers of one host ask their servers, counted by the servers: with shared observations and without.

    python benchmarks/count_probes.py [WORKERS] [REPLICAS] [SECONDS]

Workers are processes, as gunicorn has them with ``--preload``: forked from one that has imported everything. The
servers are MariaDB's, started by the lab. Counted are ``SHOW ALL SLAVES STATUS``, which only probes ask, and
connections.
"""

from __future__ import annotations

import os
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
MANY = 300
SETTLED = 5.0
"""Seconds after which each worker knows its servers."""
FLEET = """
import logging, os, signal, sys
from rds_router import Router, RoutingPolicy
logging.disable()
count, shared, *urls = sys.argv[1:]
ended, told = os.pipe(), os.pipe()

def work():
    policy = RoutingPolicy(share_observations=shared == "True")
    with Router(urls[0], urls[1:], policy=policy, engine_options={"connect_args": {"ssl_disabled": True}}) as router:
        router.start()
        os.write(told[1], b".")
        os.read(ended[0], 1)
        news = len(router.topology.eligible)
    os.write(told[1], f"{news}\\n".encode())

for _ in range(int(count)):
    if os.fork() == 0:
        os.close(ended[1])
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
os.close(told[1])
signal.alarm(300)
begun = 0
while begun < int(count):
    begun += len(os.read(told[0], int(count) - begun)) or sys.exit("all workers have failed")
signal.alarm(0)
print("started", flush=True)
sys.stdin.readline()
os.close(ended[1])
print(min(map(int, os.fdopen(told[0]).read().split())), flush=True)
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
    with _fleet([each.url for each in c.servers], workers, shared=shared) as fleet:
        time.sleep(SETTLED)
        before, used, began = _asked(c), _cpu(fleet.pid), time.monotonic()
        time.sleep(seconds)
        elapsed, used = time.monotonic() - began, _cpu(fleet.pid) - used
        probes = [(after - known) / elapsed for known, after in zip(before, _asked(c), strict=True)]
        connections = [_status(each.admin_url, "Threads_connected") - 1 for each in c.replicas]
        eligible = int(fleet.communicate("\n", timeout=120)[0])
    return Counted(probes, connections, used / elapsed, eligible)


@contextmanager
def _fleet(urls: Sequence[str], workers: int, *, shared: bool) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", FLEET, str(workers), str(shared), *urls],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n", "the fleet did not start"
        yield process
    finally:
        if process.poll() is None:
            process.kill()  # its workers see the pipe's end
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _cpu(parent: int) -> float:
    """Seconds that the children of a process have taken so far."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    told = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in children]
    return sum(int(user) + int(system) for user, system in (each[11:13] for each in told)) / os.sysconf("SC_CLK_TCK")


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
        # Who do not share ask as often as they like, which this machine must be able to bear.
        for shared in (True, False)[: 2 if workers * replicas <= MANY else 1]:
            told = count(c, workers, seconds, shared=shared)
            print(f"{workers} workers, {replicas} replicas, shared={shared}: {told}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
