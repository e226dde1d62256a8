"""Do the pools of all processes fit into what the servers take?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rds_router.doctor.facts import Capacity, Facts, Load, Pool
from rds_router.doctor.finding import Finding, Severity

TIGHT: Final = 0.8
"""From this share of what a server has left on, there is little room for deployments, when two generations of processes
run at a time, and for people."""
MONITOR: Final = 1
"""Connections of the monitor, for each process on each server."""


def connections(facts: Facts) -> Iterator[Finding]:
    """One finding for each server that told its limit, and one for all."""
    load, known = facts.load, [each for each in facts.reached if each.capacity is not None]
    if known and not load.is_told:
        says = "how many processes there will be is not known: reckoned for one"
        yield Finding(Severity.NOTE, "connections", "", says, "say --workers and --machines, or set WEB_CONCURRENCY")
    for each in known:
        assert each.capacity is not None
        yield _of_server(each.name, each.capacity, each.pool, load, has_monitor=len(facts.servers) > 1)
    needs = [needed(each.pool, load, has_monitor=len(facts.servers) > 1) for each in known]
    if len(known) > 1 and None not in needs:
        total = sum(each for each in needs if each is not None)
        says = f"{total} connections at most, over {len(known)} servers, from {_named(load)}"
        yield Finding(Severity.OK, "connections", "", says)


def needed(pool: Pool, load: Load, *, has_monitor: bool) -> int | None:
    """Connections to one server at most; None is without bound."""
    return None if pool.most is None else load.processes * (pool.most + MONITOR * has_monitor)


def recommended(left: int, load: Load, *, has_monitor: bool) -> Pool | None:
    """The largest pool that stays under ``TIGHT``; None if not even one connection for each process does."""
    most = int(left * TIGHT) // load.processes - MONITOR * has_monitor
    if most < 1:
        return None
    size = min(Pool().size, max(1, most // 2))
    return Pool(size, min(10, most - size))


def _of_server(name: str, capacity: Capacity, pool: Pool, load: Load, *, has_monitor: bool) -> Finding:
    need, left = needed(pool, load, has_monitor=has_monitor), capacity.left
    limit = f"{left} are left of {capacity.maximum}"
    taken = [f"{capacity.reserved} reserved"] * (capacity.reserved > 0)
    taken += [f"{capacity.in_use - capacity.own} in use by others"] * (capacity.in_use > capacity.own)
    limit += f" ({', '.join(taken)})" if taken else ""
    if need is None:
        says = f"the pool has no bound: each busy thread takes a connection, and {limit}"
        return Finding(Severity.WARNING, "connections", name, says, _advice(left, load, has_monitor=has_monitor))
    sum_ = f"{_named(load)} x ({pool.size} + {pool.overflow}{' + 1 for the monitor' * has_monitor}) = {need}"
    if need > left:
        says = f"{sum_} connections, but {limit}: under load logins will be refused"
        return Finding(Severity.ERROR, "connections", name, says, _advice(left, load, has_monitor=has_monitor))
    if need > left * TIGHT:
        says = f"{sum_} connections, and {limit}: too tight for a deployment, when old and new processes overlap"
        return Finding(Severity.WARNING, "connections", name, says, _advice(left, load, has_monitor=has_monitor))
    return Finding(Severity.OK, "connections", name, f"{sum_} connections, and {limit}")


def _advice(left: int, load: Load, *, has_monitor: bool) -> str:
    pool = recommended(left, load, has_monitor=has_monitor)
    if pool is None:
        return f"fewer than {load.processes} processes, a larger server, or a pooler between (RDS Proxy, pgbouncer)"
    return f"pool_size={pool.size}, max_overflow={pool.overflow}; or a larger server, or a pooler between (RDS Proxy)"


def _named(load: Load) -> str:
    workers = f"{load.workers} worker{'s' * (load.workers != 1)}"
    return workers if load.machines == 1 else f"{load.machines} machines x {workers}"
