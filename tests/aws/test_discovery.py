"""Finding a cluster's servers from one URL, by SQL, on real servers that answer as Aurora and Multi-AZ clusters do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import make_url, text

from rds_router import Router, RoutingPolicy, RoutingSession
from rds_router.core.observation import Role
from rds_router.discovery import DiscoveryError, Find
from rds_router.errors import ConfigurationError
from rds_router.events import DiscoveryFailed, Event, ServersListed
from tests.aws import emulated
from tests.aws.emulated import PRIMARY, Emulated
from tests.cluster.watching import monitor_threads, prompt, run
from tests.conftest import start

KINDS = ("aurora_mysql", "aurora_postgresql", "multi_az_mysql", "multi_az_postgresql")


@pytest.fixture(scope="session")
def aurora_postgresql_cluster() -> Iterator[Emulated]:
    with start("postgresql") as own, emulated.aurora_postgresql(own) as aurora:
        yield aurora


@pytest.fixture
def found(request: pytest.FixtureRequest, kind: str) -> Iterator[Emulated]:
    """A cluster of each kind that tells the truth."""
    if kind == "aurora_postgresql":
        aurora: Emulated = request.getfixturevalue("aurora_postgresql_cluster")
        yield aurora
        aurora.tell_truth()
        return
    cluster = request.getfixturevalue(f"{kind.rpartition('_')[2]}_cluster")
    with getattr(emulated, kind)(cluster) as made:
        yield made


def until(question: Callable[[], Any]) -> None:
    """Wait until it is true; fails after a long time."""
    end = time.monotonic() + 30
    while not question():
        assert time.monotonic() < end, question
        time.sleep(0.02)


def listed(router: Router) -> list[str]:
    return sorted(seen.server.name for seen in router.topology.servers)


@pytest.mark.parametrize("kind", KINDS)
def test_one_url_is_enough(found: Emulated, kind: str) -> None:
    """The primary and the replicas are found, probed and read from; Aurora's lag is told in milliseconds."""
    with found.router(policy=prompt()) as router:
        assert router.refresh(30)
        primary = found.cluster.primary.name
        if kind.startswith("multi_az"):
            names = {f"db-{name}" if "postgresql" in kind else str(each.server_id) for name, each in _servers(found)}
            assert set(listed(router)) == names
        else:
            assert listed(router) == found.names
            assert router.topology.writer == primary
        assert len(router.topology.eligible) == 2, router
        assert {seen.report.role for seen in router.topology.replicas if seen.report} == {Role.REPLICA}
        if kind.startswith("aurora"):
            assert all(seen.lag is not None and 0.004 < seen.lag < 5 for seen in router.topology.eligible), router
            reports = [seen.report for seen in router.topology.servers if seen.report]
            assert [report.position for report in reports] == [None] * 3
            assert [report.storage is not None for report in reports] == [kind == "aurora_postgresql"] * 3
        for target in (router.primary, router.reader):
            with target.connect() as connection:
                assert connection.scalar(text("SELECT 1")) == 1


def _servers(found: Emulated) -> list[tuple[str, Any]]:
    return [(each.name, each) for each in found.cluster.servers]


@pytest.mark.parametrize("kind", ["aurora_mysql", "aurora_postgresql"])
def test_the_list_follows_the_cluster_and_never_becomes_worse(found: Emulated, kind: str) -> None:
    """New ones within an interval and slowly, gone ones drained, and no list without exactly one primary."""
    primary, second, third = (each.name for each in (found.cluster.primary, *found.cluster.replicas))
    found.tell_truth(without=third)
    events: list[Event] = []
    with found.router(policy=prompt(slow_start=60)) as router:
        router.events.listen(events.append)
        assert router.refresh(30)
        assert listed(router) == sorted([primary, second])
        found.tell_truth()
        until(lambda: third in listed(router) and any(s.server.name == third for s in router.topology.eligible))
        now = router.clock()
        shares = {seen.server.name: seen.weight_at(now, router.policy) for seen in router.topology.eligible}
        assert shares[third] < 0.5, shares
        with router.replica_engine(third).connect() as held:
            found.tell_truth(without=third)
            until(lambda: third not in listed(router))
            assert held.scalar(text("SELECT 1")) == 1  # it may end its work
        until(lambda: f"rds-router {third}" not in monitor_threads())
        told = [each for each in events if isinstance(each, ServersListed)]
        assert [(each.added, each.removed) for each in told] == [((third,), ()), ((), (third,))]
        for rows in (
            [],
            [(primary, "a session", 5.0, 0.0), (second, "another", 5.0, 0.0)],
            [(second, "another", 5.0, 0.0), ("", PRIMARY, 5.0, 0.0)],
            [(primary, PRIMARY, 5.0, 400.0), (second, "another", 5.0, 0.0)],
            [(primary, PRIMARY, 5.0, 0.0), (second, "another", 5.0, 0.0), (second, "again", 5.0, 0.0)],
        ):
            failures = router.events.counts[DiscoveryFailed.__name__]
            found.tell(*rows, stamps_own=True)
            until(lambda seen=failures: router.events.counts[DiscoveryFailed.__name__] >= seen + 2)
            assert listed(router) == sorted([primary, second]), rows
        found.tell_truth()
        until(lambda: third in listed(router))


@pytest.mark.parametrize("kind", ["aurora_mysql", "aurora_postgresql"])
def test_of_two_that_claim_to_be_the_primary_the_one_heard_of_last_counts(found: Emulated, kind: str) -> None:
    primary, second, _ = (each.name for each in (found.cluster.primary, *found.cluster.replicas))
    found.tell((second, PRIMARY, 5.0, 30.0), (primary, PRIMARY, 5.0, 0.0))
    with found.router(policy=prompt()) as router:
        assert router.topology.writer == primary


@pytest.mark.parametrize("kind", ["aurora_mysql", "aurora_postgresql"])
def test_a_line_that_is_old_or_half_filled_is_no_lag(found: Emulated, kind: str) -> None:
    """R11: unknown is not zero."""
    primary, second, third = (each.name for each in (found.cluster.primary, *found.cluster.replicas))
    with found.router(policy=prompt(), find=found.find(interval=3600)) as router:
        lines = ((primary, PRIMARY, 5.0, 0.0), (second, "a session", None, 0.0), (third, "another", 5.0, 400.0))
        found.tell(*lines, stamps_own=True)
        until(lambda: router.refresh(30) and router.topology.eligible == ())
        assert {str(seen.objection and seen.objection.value) for seen in router.topology.replicas} == {"lag unknown"}


def test_an_author_reads_where_the_lsn_is_past_his_write_whatever_the_lag_is_said_to_be(
    aurora_postgresql_cluster: Emulated,
) -> None:
    """Replicas that apply nothing go on telling 5 ms. By that alone they would be believed after two seconds."""
    cluster = aurora_postgresql_cluster.cluster
    run(cluster.primary.url, "CREATE TABLE storage_notes (id INT)")
    cluster.wait_caught_up()
    with aurora_postgresql_cluster.router(policy=prompt(max_lag=3600.0)) as router:
        assert router.refresh(30)
        for replica in cluster.replicas:
            cluster.pause_replication(replica, sql_only=True)
        with RoutingSession(router=router) as session:
            session.execute(text("INSERT INTO storage_notes VALUES (1)"))
            session.commit()
            written = router.clock()

            def is_read_on_a_replica() -> bool:
                with router.capture() as routed:
                    assert session.scalar(text("SELECT count(*) FROM storage_notes")) == 1
                session.rollback()
                return routed[0].decision.is_replica

            def is_read_there_after_a_pause() -> bool:
                now = router.clock()  # what was read on the primary was seen: the replica must have that too
                until(lambda: all((seen.as_of or 0.0) > now for seen in router.topology.replicas))
                return is_read_on_a_replica()

            until(lambda: router.topology.history[-1][0] > written + 1.5)
            until(lambda: len(router.topology.eligible) == 2)
            assert {seen.report.lag for seen in router.topology.eligible if seen.report} == {0.005}
            assert not is_read_on_a_replica()
            for replica in cluster.replicas:
                cluster.resume_replication(replica, sql_only=True)
            until(is_read_there_after_a_pause)
    run(cluster.primary.url, "DROP TABLE storage_notes")


@pytest.mark.parametrize("kind", ["multi_az_mysql", "aurora_postgresql"])
def test_an_account_that_may_not_see_the_list_is_told_the_grant(found: Emulated, kind: str) -> None:
    url = make_url(found.cluster.primary.bare_url)
    if kind == "aurora_postgresql":
        found.cluster.wait_caught_up()
        run(found.cluster.primary.admin_url, "REVOKE SELECT ON app_topology FROM PUBLIC")
    with pytest.raises(
        DiscoveryError, match=r"GRANT .*SELECT ON mysql.rds_topology|GRANT .*aurora_replica_status.* is missing"
    ):
        Router.from_cluster(url, find=found.find())
    if kind == "aurora_postgresql":
        run(found.cluster.primary.admin_url, "GRANT SELECT ON app_topology TO PUBLIC")


def test_a_server_of_no_cluster_is_told_as_one(mariadb_cluster: Any) -> None:
    with pytest.raises(DiscoveryError) as told:
        Router.from_cluster(mariadb_cluster.primary.url)
    assert "127.0.0.1: is of no cluster that tells this account its members" in str(told.value)
    assert str(told.value).endswith("): name the servers, or Find(identifier=)")


def test_an_alias_needs_the_instances_names(aurora_postgresql_cluster: Emulated) -> None:
    with pytest.raises(DiscoveryError, match="the URL's host is an alias: say the instances' names"):
        Router.from_cluster(aurora_postgresql_cluster.cluster.primary.url)
    with pytest.raises(ConfigurationError, match=r"must hold a \? in the place of the identifier"):
        Router.from_cluster(aurora_postgresql_cluster.cluster.primary.url, find=Find(instances="abc"))


def test_a_proxy_is_taken_as_it_is() -> None:
    """Nothing is asked of it, so nothing connects."""
    with Router.from_cluster("mysql+pymysql://app@pool.proxy-abc.eu-west-1.rds.amazonaws.com/blog") as router:
        assert router.policy == RoutingPolicy.rds_proxy()
        assert not router.has_replicas
