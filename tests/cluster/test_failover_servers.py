"""The primary moves, and the router follows it; or it only looks like that, and the router does not."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rds_router import RoutingSession
from rds_router.core.topology import Objection
from rds_router.events import PrimaryMoved, PrimaryOut
from tests.cluster.asking import eventually
from tests.cluster.watching import ENGINES, eligible, run, watching
from tests.conftest import ClusterFactory


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine with servers, for a cluster of the test's own."""
    return str(request.param)


def test_a_switch_over_is_followed(engine: str, lab_cluster: ClusterFactory) -> None:
    """The primary is demoted, a replica promoted: writes go to the new one, the old one gets reads, one event."""
    c = lab_cluster(engine)
    old, new = c.primary, c.replicas[0]
    run(old.url, "CREATE TABLE moves (id INT PRIMARY KEY)")
    c.wait_caught_up()
    with watching(c) as (router, events):
        assert router.refresh()
        c.promote(new)
        assert eventually(lambda: router.topology.writer == new.name)
        # PostgreSQL's old one is made anew on its port, which may be seen first: another server behind that name.
        assert router.topology.generation >= 1
        with RoutingSession(router=router) as session, router.capture() as routes:
            session.execute(text("INSERT INTO moves VALUES (1)"))
            session.commit()
        assert [each.decision.target for each in routes] == [new.name]
        assert run(new.url, "SELECT count(*) FROM moves") == 1
        assert eventually(lambda: old.name in eligible(router), seconds=30.0)
    assert [(each.old, each.new) for each in events if isinstance(each, PrimaryMoved)] == [(old.name, new.name)]


def test_a_fail_over_is_followed(engine: str, lab_cluster: ClusterFactory) -> None:
    """The primary dies: reads go on, writes have nowhere to go; a replica is promoted: writes go there."""
    c = lab_cluster(engine)
    old, new = c.primary, c.replicas[1]
    run(old.url, "CREATE TABLE moves (id INT PRIMARY KEY)")
    c.wait_caught_up()
    with watching(c) as (router, events):
        assert router.refresh()
        c.kill(old)
        assert eventually(lambda: any(isinstance(each, PrimaryOut) for each in events))
        assert router.topology.writer == old.name
        c.promote(new)
        assert eventually(lambda: router.topology.writer == new.name)
        with RoutingSession(router=router) as session:
            session.execute(text("INSERT INTO moves VALUES (1)"))
            session.commit()
        assert run(new.url, "SELECT count(*) FROM moves") == 1
        assert eventually(lambda: eligible(router) == [c.replicas[1].name], seconds=30.0)
        assert router.topology[old.name].objection is Objection.UNREACHABLE


def test_a_read_only_primary_is_not_left_and_told(engine: str, lab_cluster: ClusterFactory) -> None:
    """Demoted without anybody else to write on: an event says so, the router stays."""
    c = lab_cluster(engine)
    with watching(c) as (router, events):
        assert router.refresh()
        c.demote(c.primary)
        assert eventually(lambda: any(isinstance(each, PrimaryOut) and each.why == "read-only" for each in events))
        assert router.topology.writer == c.primary.name
        assert router.topology.generation == 0
        c.promote(c.primary)


@pytest.mark.parametrize("engine", ["mariadb", "mysql"])
def test_a_replica_that_went_its_own_way_is_not_followed(engine: str, lab_cluster: ClusterFactory) -> None:
    """It stopped replicating and accepts writes, while the primary is well: no writes go there, and no reads."""
    c = lab_cluster(engine)
    rogue, other = c.replicas
    word = "SLAVE" if engine == "mariadb" else "REPLICA"
    with watching(c) as (router, _):
        assert router.refresh()
        run(rogue.admin_url, f"STOP {word}", f"RESET {word} ALL", "SET GLOBAL read_only = 0")
        assert eventually(lambda: router.topology[rogue.name].objection is Objection.ROGUE)
        assert router.refresh()
        assert router.topology.writer == c.primary.name
        assert eligible(router) == [other.name]
