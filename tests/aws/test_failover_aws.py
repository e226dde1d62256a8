"""What AWS does to clusters, on real servers that tell of themselves as Aurora does: the router follows, or stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from rds_router import NoServerAvailable, Router, RoutingSession
from rds_router.core.topology import Objection
from rds_router.events import Event, PrimaryIn, PrimaryMoved, PrimaryOut, WritableReplica
from tests.aws import emulated
from tests.aws.emulated import Emulated
from tests.aws.test_discovery import listed, until
from tests.cluster.watching import prompt, run
from tests.conftest import ClusterFactory

Made = Callable[[str], Emulated]


def kinds(events: list[Event]) -> set[type[Event]]:
    return {type(each) for each in events}


def write(router: Router, number: int) -> None:
    with RoutingSession(router=router) as session:
        session.execute(text(f"INSERT INTO moves VALUES ({number})"))
        session.commit()


@pytest.mark.parametrize("kind", ["aurora_mysql", "aurora_postgresql"])
def test_the_life_of_an_aurora_cluster(kind: str, lab_cluster: ClusterFactory) -> None:
    """Fail-over, reboot of the new primary, a full disk, an instance that is replaced, one that is promoted by hand.

    One story on one cluster: each scene begins where the last one ended.
    """
    cluster = lab_cluster(kind.rpartition("_")[2])
    old, new, third = (each.name for each in cluster.servers)
    run(cluster.primary.url, "CREATE TABLE moves (id INT PRIMARY KEY)")
    cluster.wait_caught_up()
    events: list[Event] = []
    with (
        getattr(emulated, kind)(cluster) as aurora,
        aurora.router(policy=prompt(probe_timeout=3.0, failover_timeout=2.0)) as router,
    ):
        router.events.listen(events.append)
        assert router.refresh(30)
        assert router.topology.writer == old

        # Aurora fails over: a reader is the writer now, the old one comes back as a reader, the list says so later.
        cluster.promote(cluster.servers[1])
        until(lambda: router.topology.writer == new)
        write(router, 1)
        assert run(cluster.primary.url, "SELECT count(*) FROM moves") == 1
        aurora.tell_truth()
        until(lambda: {seen.server.name for seen in router.topology.eligible} == {old, third})
        assert [(each.old, each.new) for each in events if isinstance(each, PrimaryMoved)] == [(old, new)]

        # A reboot: nobody else becomes the primary, and writes go on when it is back.
        events.clear()
        cluster.kill(cluster.primary)
        until(lambda: PrimaryOut in kinds(events))
        with RoutingSession(router=router) as session:
            assert session.scalar(text("SELECT count(*) FROM moves"), execution_options={"rds_route": "replica"}) == 1
        cluster.restart(cluster.primary)
        until(lambda: PrimaryIn in kinds(events))
        assert router.topology.writer == new
        router.primary_engine().dispose()
        write(router, 2)

        # Its storage is full: it refuses writes and follows nobody. There is nobody to follow it.
        events.clear()
        cluster.demote(cluster.primary)
        until(lambda: PrimaryOut in kinds(events))
        with pytest.raises(NoServerAvailable):  # nothing was sent
            write(router, 3)
        assert router.topology.writer == new
        cluster.promote(cluster.primary)
        until(lambda: PrimaryIn in kinds(events))
        write(router, 3)

        # An instance is replaced: the same name leads to another machine.
        before = router.replica_engine(third)
        aurora.ports[third] = aurora.ports[old]
        aurora.tell_truth(without=old)
        until(lambda: old not in listed(router) and router.replica_engine(third) is not before)
        assert router.replica_engine(third).url.port == aurora.ports[old]
        until(lambda: _identity(router, third) == old)  # the machine that is behind its name now
    assert WritableReplica not in kinds(events)


def _identity(router: Router, name: str) -> str:
    report = router.topology[name].report
    return "" if report is None else report.identity


def test_a_read_replica_that_is_promoted_is_not_followed(lab_cluster: ClusterFactory) -> None:
    """RDS makes an instance of its own of it. The primary is still there: two that take writes, and one is a stray."""
    cluster = lab_cluster("mysql", replicas=1)
    primary, replica = cluster.servers
    events: list[Event] = []
    with Router(primary.url, [replica.url], policy=prompt()) as router:
        router.events.listen(events.append)
        assert router.refresh(30)
        writer = router.topology.writer
        run(replica.admin_url, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL read_only = OFF")
        until(lambda: router.topology.replicas[0].objection is Objection.ROGUE)
        assert router.topology.writer == writer
        assert PrimaryMoved not in kinds(events)
