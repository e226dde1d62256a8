"""The monitor on real servers: what it notices, and what does not disturb it. One sentence a test.

How far behind a replica is, and the heartbeat: ``test_lag_truth.py``.
"""

from __future__ import annotations

import time

import pytest

from rds_router import Replica, Router
from rds_router.core.observation import Role
from rds_router.core.topology import Objection
from rds_router.events import GrantMissing, ReplicaIn, ReplicaOut
from rds_router.lab import Cluster
from tests.cluster.asking import eventually
from tests.cluster.watching import ENGINES, eligible, monitor_threads, prompt, watching, writing
from tests.conftest import ClusterFactory


@pytest.fixture(params=ENGINES)
def shared(request: pytest.FixtureRequest) -> Cluster:
    """Each engine's shared cluster, left as it was found."""
    found: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return found


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine with servers, for a cluster of the test's own."""
    return str(request.param)


def test_it_starts_at_the_first_use_and_ends_with_close(shared: Cluster) -> None:
    """No thread before the first statement is routed; one a server then; none after close()."""
    before = monitor_threads()
    with watching(shared) as (router, _):
        assert str(router.explain("SELECT 1")).startswith(f"{shared.primary.name} (primary: no replica is eligible; ")
        assert monitor_threads() == before
        router.primary_engine()
        assert monitor_threads() == sorted([*before, *(f"rds-router {each.name}" for each in shared.servers)])
        names = [each.name for each in shared.replicas]
        assert eventually(lambda: eligible(router) == names)
        assert eventually(lambda: all(seen.report for seen in router.topology.servers))
        reports = [seen.report for seen in router.topology.servers]
        assert [report and report.role for report in reports] == [Role.PRIMARY, Role.REPLICA, Role.REPLICA]
        assert len({report.identity for report in reports if report}) == 3
    assert eventually(lambda: monitor_threads() == before)


def test_refresh_waits_until_every_server_has_answered(shared: Cluster) -> None:
    """After refresh() reads go to replicas at once."""
    with watching(shared) as (router, _):
        assert router.refresh()
        assert eligible(router) == [each.name for each in shared.replicas]
        assert all(seen.lag == 0.0 or (seen.lag or 9.0) < 2.0 for seen in router.topology.replicas)


def test_a_lagging_replica_is_taken_out_and_let_back_at_half_the_bound(
    engine: str, lab_cluster: ClusterFactory
) -> None:
    """Under writes, a delay above max_lag takes the replica out; without it, it is back when under half."""
    c = lab_cluster(engine)
    late, other = c.replicas
    with watching(c, max_lag=2.0) as (router, events), writing(c.primary):
        assert router.refresh()
        assert eventually(lambda: eligible(router) == [late.name, other.name])
        events.clear()
        c.set_delay(late, 6)
        assert eventually(lambda: router.topology[late.name].objection is Objection.LAGGING, seconds=30.0)
        assert eligible(router) == [other.name]
        c.set_delay(late, 0)
        assert eventually(lambda: eligible(router) == [late.name, other.name], seconds=30.0)
    mine = [each for each in events if getattr(each, "server", "") == late.name]
    out, back = mine[0], mine[-1]
    assert isinstance(out, ReplicaOut)
    assert isinstance(back, ReplicaIn)
    assert back.lag is not None
    assert back.lag <= 1.0


def test_a_frozen_server_delays_nobody_elses_news_and_close_returns(engine: str, lab_cluster: ClusterFactory) -> None:
    """SIGSTOP: out when its probe's time is up; the others are heard of as ever; no thread outlives its probe."""
    c = lab_cluster(engine)
    frozen, other = c.replicas
    before = monitor_threads()
    with watching(c, probe_timeout=0.5) as (router, _):
        assert router.refresh()
        c.freeze(frozen)
        assert eventually(lambda: router.topology[frozen.name].objection is Objection.UNREACHABLE)
        heard: dict[str, set[float]] = {frozen.name: set(), other.name: set()}

        def has_news() -> bool:
            for name, times in heard.items():
                observation = router.topology[name].observation
                times.add(observation.at if observation else 0.0)
            return len(heard[other.name]) >= 10

        assert eventually(has_news)
        assert len(heard[other.name]) > len(heard[frozen.name]) + 2
        assert eligible(router) == [other.name]
        started = time.monotonic()
    assert time.monotonic() - started < 10.0
    assert eventually(lambda: monitor_threads() == before)
    c.thaw(frozen)


def test_a_query_under_way_on_a_server_that_freezes_ends(engine: str, lab_cluster: ClusterFactory) -> None:
    """The probe's own connection is open and idle when the server stops: its next question gets no answer, and ends."""
    c = lab_cluster(engine, replicas=1)
    (frozen,) = c.replicas
    with watching(c, probe_timeout=0.3) as (router, _):
        for _ in range(3):
            assert router.refresh()
            c.freeze(frozen)
            assert eventually(lambda: router.topology[frozen.name].objection is Objection.UNREACHABLE)
            c.thaw(frozen)
            assert eventually(lambda: eligible(router) == [frozen.name])


def test_a_killed_replica_is_out_and_back_after_its_restart(engine: str, lab_cluster: ClusterFactory) -> None:
    """Nobody has to tell the router."""
    c = lab_cluster(engine)
    dead, other = c.replicas
    with watching(c) as (router, events):
        assert router.refresh()
        c.kill(dead)
        assert eventually(lambda: eligible(router) == [other.name])
        assert "unreachable" in str(router.explain("SELECT 1"))
        c.restart(dead)
        assert eventually(lambda: eligible(router) == [dead.name, other.name], seconds=30.0)
    kinds = [type(each) for each in events if getattr(each, "server", "") == dead.name]
    assert kinds.count(ReplicaOut) >= 1
    assert kinds[-1] is ReplicaIn


def test_a_missing_grant_is_told_once_a_server(shared: Cluster) -> None:
    """With an account that may see nothing of replication: which grant, and what it therefore cannot know."""
    with watching(shared, account="bare_url") as (router, events):
        for _ in range(4):
            assert router.refresh()
        missing = [each for each in events if isinstance(each, GrantMissing)]
    told = sorted(each.server for each in missing)
    assert len(told) == len(set(told)), "told twice"
    assert set(told) >= {each.name for each in shared.replicas}
    words = {"mariadb": "SLAVE MONITOR", "mysql": "REPLICATION CLIENT", "postgresql": "pg_read_all_stats"}
    assert all(words[shared.engine] in str(each) for each in missing)
    assert all("unknown" in str(each) for each in missing)


@pytest.mark.parametrize("engine", ["mariadb", "mysql"])
def test_without_the_grant_lag_is_unknown_and_reads_stay_on_the_primary(
    engine: str, request: pytest.FixtureRequest
) -> None:
    """R11: not known is not zero."""
    c: Cluster = request.getfixturevalue(f"{engine}_cluster")
    with watching(c, account="bare_url") as (router, _):
        assert router.refresh()
        first, second = c.replicas
        line = (
            f"{c.primary.name} (primary: no replica is eligible; {first.name} lag unknown; {second.name} lag unknown)"
        )
        assert str(router.explain("SELECT 1")) == line


def test_a_mysql_url_that_leads_to_mariadb_is_taken_for_mariadb(mariadb_cluster: Cluster) -> None:
    """The server's version tells, before anything is asked that the two understand differently."""
    servers = [
        Replica("mysql+pymysql://" + each.url.partition("://")[2], name=each.name) for each in mariadb_cluster.servers
    ]
    with Router(servers[0], servers[1:], policy=prompt()) as router:
        assert router.dialect.name == "mysql"
        assert router.refresh()
        assert router.dialect.name == "mariadb"
        assert eventually(lambda: eligible(router) == [each.name for each in mariadb_cluster.replicas])
        assert all(
            type(seen.report and seen.report.position).__name__ == "MariaDBGtidList" for seen in router.topology.servers
        )
