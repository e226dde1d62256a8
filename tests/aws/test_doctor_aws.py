"""The doctor on servers that answer as Aurora does, and through a pooler."""

from __future__ import annotations

from rds_router import Router, RoutingPolicy
from rds_router.doctor import Severity, findings_of, gather
from rds_router.lab import Cluster
from tests.aws import emulated
from tests.conftest import missing
from tests.session import pgbouncer


def test_of_aurora_it_says_lag_and_role_and_asks_for_no_gtids(mysql_cluster: Cluster) -> None:
    with emulated.aurora_mysql(mysql_cluster) as aurora, aurora.router() as router:
        findings = findings_of(gather(router, timeout=30.0))
    assert [each for each in findings if each.severity > Severity.NOTE] == []
    by_topic = {topic: [each.says for each in findings if each.topic == topic] for topic in ("role", "lag", "position")}
    assert len(by_topic["role"]) == 3
    assert [says for says in by_topic["lag"] if says.startswith("0.0 s behind (what it tells)")] != []
    assert by_topic["position"] == ["its kind has no positions: own writes are told from others by lag or by time"] * 3


def test_a_pooler_in_between_is_noticed(postgresql_cluster: Cluster) -> None:
    """The server that answers numbers its connection otherwise than the pooler did."""
    if pgbouncer.program() is None:
        missing("pgbouncer", "pgbouncer is not installed")
    with pgbouncer.bouncing(postgresql_cluster.primary) as url:
        for policy, severity in ((RoutingPolicy(), Severity.WARNING), (RoutingPolicy.rds_proxy(), Severity.NOTE)):
            with Router(url, policy=policy) as router:
                (found,) = (each for each in findings_of(gather(router, timeout=30.0)) if each.topic == "proxy")
            assert (found.severity, found.says.partition(":")[0]) == (severity, "a pooler stands between")
    with Router(postgresql_cluster.primary.url) as router:
        assert [each for each in findings_of(gather(router, timeout=30.0)) if each.topic == "proxy"] == []
