"""What the topology says of a replica's lag, in each case in which servers tell it wrongly. One sentence a case.

Bounds are the truth's own: a lag cannot be longer than the time since its cause began, however slow the machine is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from rds_router import Router
from rds_router.core.topology import Objection, Seen
from rds_router.events import ReplicaOut
from rds_router.lab import Cluster
from rds_router.lab.proxy import Proxy
from tests.cluster.asking import eventually
from tests.cluster.watching import ENGINES, eligible, renewals, run, watching, writing
from tests.conftest import start

MAX_LAG: Final = 1.0
PATIENCE: Final = 20.0
"""Seconds for a condition to come true, on a machine that has other work."""

Fault = Callable[[Cluster], AbstractContextManager[None]]


@pytest.fixture(scope="module", params=ENGINES)
def servers(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A primary and one replica, for all cases of an engine; each case leaves them as it found them."""
    with start(request.param, replicas=1) as made:
        run(made.primary.url, "CREATE TABLE locked (id INT PRIMARY KEY)", "INSERT INTO locked VALUES (1)")
        yield made


@dataclass(frozen=True)
class Case:
    """What is done to the cluster, and what must be said of its replica then."""

    fault: Fault
    engines: tuple[str, ...] = ENGINES
    unknown_on: tuple[str, ...] = ()
    """Engines whose replica tells NULL, which is not known; on the others the lag grows over the bound."""
    is_written: bool = True
    reads_go_on: bool = False
    """It has all that the primary was last known to have: it is not taken out for its lag."""
    policy: dict[str, Any] = field(default_factory=dict)


@contextmanager
def receiver_stopped(c: Cluster) -> Iterator[None]:
    c.pause_replication(c.replicas[0], io_only=True)
    try:
        yield
    finally:
        c.resume_replication(c.replicas[0], io_only=True)


@contextmanager
def applier_stopped(c: Cluster) -> Iterator[None]:
    c.pause_replication(c.replicas[0], sql_only=True)
    try:
        yield
    finally:
        c.resume_replication(c.replicas[0], sql_only=True)


@contextmanager
def delayed(c: Cluster) -> Iterator[None]:
    c.set_delay(c.replicas[0], 2)
    try:
        yield
    finally:
        c.set_delay(c.replicas[0], 0)


@contextmanager
def applier_blocked(c: Cluster) -> Iterator[None]:
    """A session on the replica holds what the applier needs, whose threads all say that they run."""
    engine = create_engine(c.replicas[0].admin_url, poolclass=NullPool)
    with engine.connect() as session:
        if c.engine == "postgresql":  # replay waits for readers of a table that is emptied, up to 30 s
            assert session.scalar(text("SELECT count(*) FROM locked")) == 1
            run(c.primary.url, "TRUNCATE locked", "INSERT INTO locked VALUES (1)")
        else:
            session.execute(text("FLUSH TABLES WITH READ LOCK"))
        yield
    engine.dispose()


@contextmanager
def row_locked(c: Cluster) -> Iterator[None]:
    """As above, by one row only, which the writes change: the applier waits innodb_lock_wait_timeout for it, and again.

    A standby of PostgreSQL locks no rows.
    """
    engine = create_engine(c.replicas[0].admin_url, poolclass=NullPool)
    with engine.connect() as session:
        c.wait_caught_up()
        session.execute(text("SELECT * FROM traffic LOCK IN SHARE MODE")).all()
        yield
    engine.dispose()


@contextmanager
def primary_frozen(c: Cluster) -> Iterator[None]:
    c.freeze(c.primary)
    try:
        yield
    finally:
        c.thaw(c.primary)


@contextmanager
def wire_cut(c: Cluster) -> Iterator[None]:
    """The replica's stream stops in the network: nobody tells it, and its receiver waits as if nothing were written."""
    with Proxy(c.primary) as wire:
        lead_replica_to(c, wire.port)
        c.wait_caught_up()
        wire.blackhole()
        try:
            yield
        finally:
            lead_replica_to(c, c.primary.port)
            wire.heal()


def lead_replica_to(c: Cluster, port: int) -> None:
    """Have the replica fetch from this port, on which the primary answers."""
    (replica,) = c.replicas
    if c.engine == "postgresql":
        info = str(run(replica.admin_url, "SHOW primary_conninfo"))
        other = " ".join(f"port={port}" if word.startswith("port=") else word for word in info.split())
        run(replica.admin_url, f"ALTER SYSTEM SET primary_conninfo = '{other}'", "SELECT pg_reload_conf()")
        streams = f"SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_port = {port}"
        assert eventually(lambda: bool(run(replica.admin_url, streams)), seconds=PATIENCE)
        return
    change = {
        "mysql": f"CHANGE REPLICATION SOURCE TO SOURCE_PORT={port}",
        "mariadb": f"CHANGE MASTER TO MASTER_PORT={port}, MASTER_USE_GTID=slave_pos",
    }
    run(replica.admin_url, "STOP REPLICA", change[c.engine], "START REPLICA")


BEHIND: Final[dict[str, Case]] = {
    "a stopped receiver": Case(receiver_stopped, unknown_on=("mysql", "mariadb")),
    "a stopped applier": Case(applier_stopped, unknown_on=("mysql", "mariadb")),
    "a delayed replica": Case(delayed),
    "a blocked applier": Case(applier_blocked),
    "an applier that waits for a row": Case(row_locked, engines=("mariadb", "mysql")),
    "a frozen primary": Case(primary_frozen, is_written=False, reads_go_on=True, policy={"heartbeat": True}),
    "a cut wire, nothing but heartbeats written": Case(wire_cut, is_written=False, policy={"heartbeat": True}),
}


@pytest.mark.parametrize("name", BEHIND)
def test_a_replica_that_is_behind_says_so(servers: Cluster, name: str) -> None:
    """The lag grows with the time since its cause began, or is not known; without its cause the replica is back."""
    case, c = BEHIND[name], servers
    (replica,) = c.replicas
    if c.engine not in case.engines:
        pytest.skip(f"{c.engine} knows no such case: {name}")
    with watching(c, max_lag=MAX_LAG, **case.policy) as (router, _):
        router.start()
        with ExitStack() as undone:
            undone.enter_context(writing(c.primary) if case.is_written else nullcontext())
            assert eventually(lambda: eligible(router) == [replica.name], seconds=PATIENCE), repr(router.topology)
            began = router.clock()
            undone.enter_context(case.fault(c))
            if c.engine in case.unknown_on:
                is_seen = eventually(lambda: said(router).objection is Objection.UNKNOWN_LAG, seconds=PATIENCE)
                assert is_seen, repr(router.topology)
                assert said(router).lag is None
            else:
                is_seen = eventually(lambda: (said(router).lag or 0.0) > 1.5 * MAX_LAG, seconds=PATIENCE)
                assert is_seen, repr(router.topology)
                assert (said(router).lag or 0.0) <= router.clock() - began + MAX_LAG
                there = [replica.name] if case.reads_go_on else []
                assert eventually(lambda: eligible(router) == there, seconds=PATIENCE), repr(router.topology)
        assert eventually(lambda: eligible(router) == [replica.name], seconds=PATIENCE), repr(router.topology)
        assert eventually(lambda: (said(router).lag or 0.0) <= MAX_LAG / 2, seconds=PATIENCE)
    c.wait_caught_up(timeout=PATIENCE)


def test_an_idle_cluster_lags_not(servers: Cluster) -> None:
    """Nobody writes: the replica gets reads all the time, also where the last transaction's age grows."""
    (replica,) = servers.replicas
    with watching(servers, max_lag=MAX_LAG) as (router, events):
        router.start()
        assert eventually(lambda: eligible(router) == [replica.name], seconds=PATIENCE), repr(router.topology)
        began, earlier = time.monotonic(), len(events)  # until now it may have had something to apply
        said_then: list[float | None] = []
        while time.monotonic() - began < 1.5 * MAX_LAG or len(said_then) < 5:
            said_then.append(said(router).lag)
            time.sleep(0.05)
        report = said(router).report
    assert None not in said_then
    assert min(lag for lag in said_then if lag is not None) < MAX_LAG / 10
    later = events[earlier:]
    lagging = [each for each in later if isinstance(each, ReplicaOut) and each.why == Objection.LAGGING.value]
    assert lagging == []
    if servers.engine == "postgresql":
        assert report is not None
        assert report.lag is not None
        assert report.lag > MAX_LAG, "nothing was shown: its own figure was small"


def test_a_replica_that_has_just_restarted_lags_not(servers: Cluster) -> None:
    """Having applied what it missed, it is back, and a router that begins then takes it from the start.

    MySQL and MariaDB may say 3 s for a moment; until the primary was heard of too, that is all there is to believe.
    """
    (replica,) = servers.replicas
    with watching(servers, max_lag=MAX_LAG) as (router, _):
        router.start()
        assert eventually(lambda: eligible(router) == [replica.name], seconds=PATIENCE)
        servers.pause_replication(replica)
        with writing(servers.primary):
            assert eventually(lambda: eligible(router) == [], seconds=PATIENCE)
        servers.kill(replica)
        servers.restart(replica)
        servers.wait_caught_up(replica, timeout=PATIENCE)
        assert eventually(lambda: eligible(router) == [replica.name], seconds=PATIENCE), repr(router.topology)
        assert eventually(lambda: (said(router).lag or 0.0) <= MAX_LAG / 2, seconds=PATIENCE), repr(router.topology)
    with watching(servers, max_lag=MAX_LAG) as (router, events):
        router.start()
        assert eventually(lambda: eligible(router) == [replica.name], seconds=PATIENCE), repr(router.topology)
        assert eventually(lambda: (said(router).lag or 0.0) <= MAX_LAG / 2, seconds=PATIENCE), repr(router.topology)
    lagging = [each for each in events if isinstance(each, ReplicaOut) and each.why == Objection.LAGGING.value]
    assert not (lagging and servers.engine == "postgresql")


WORKER: Final = """
import sys
from rds_router import Replica, Router, RoutingPolicy
primary, replica = (Replica(url, name=name) for name, url in (("p", sys.argv[1]), ("r", sys.argv[2])))
policy = RoutingPolicy(heartbeat=True, probe_interval=float(sys.argv[3]), share_observations=False)
with Router(primary, [replica], policy=policy) as router:
    router.start()
    assert router.refresh()
    print("ready", flush=True)
    sys.stdin.read()
    print(router.topology["r"].lag, flush=True)
"""


def test_three_processes_write_one_heartbeat(servers: Cluster) -> None:
    """Each of them probes the primary; counted on the server, they renew the row about once an interval together."""
    interval = 0.4
    arguments = [sys.executable, "-c", WORKER, servers.primary.url, servers.replicas[0].url, str(interval)]
    workers = [subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        before, began = renewals(servers), time.monotonic()
        assert eventually(lambda: renewals(servers) >= before + 6, seconds=PATIENCE)
        elapsed, written = time.monotonic() - began, renewals(servers) - before
        told = [worker.communicate(timeout=PATIENCE)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert all(float(line) < 2.0 for line in told)
    # The row's age is the writers' only agreement: never two within half an interval; 2 were under way, and
    # PostgreSQL's statistics are up to a second late.
    assert written <= (elapsed + 1.0) / (interval / 2) + 2


def said(router: Router) -> Seen:
    """What is believed of the replica."""
    (seen,) = router.topology.replicas
    return seen
