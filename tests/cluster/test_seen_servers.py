"""What a client has seen travels as what he has written does: another process shows him nothing older."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rds_router import Replica, Router, RoutingSession
from rds_router.lab import Cluster, Server
from tests.cluster.watching import ENGINES, prompt, run

NEWEST = text("SELECT max(id) FROM sights")


def process(c: Cluster, replica: Server) -> Router:
    """A router that knows one replica: the other process's view of the world."""
    router = Router(
        Replica(c.primary.url, name=c.primary.name),
        [Replica(replica.url, name=replica.name)],
        # Behind counts as fresh here: what is tested is what was seen, not the lag.
        policy=prompt(max_lag=3600.0, unknown_lag="allow", probe_timeout=10.0, causal_wait=5.0),
    )
    assert router.refresh()
    return router


@pytest.mark.parametrize("engine", ENGINES)
def test_another_process_shows_nothing_older(engine: str, request: pytest.FixtureRequest) -> None:
    """Read on one replica, then in another process whose replica is behind: the primary answers."""
    c: Cluster = request.getfixturevalue(f"{engine}_cluster")
    fresh, behind = c.replicas
    run(c.primary.url, "DROP TABLE IF EXISTS sights", "CREATE TABLE sights (id INT PRIMARY KEY)")
    run(c.primary.url, "INSERT INTO sights VALUES (1)")
    c.wait_caught_up()
    c.pause_replication(behind, sql_only=True)
    try:
        run(c.primary.url, "INSERT INTO sights VALUES (2)")
        c.wait_caught_up(fresh)
        with process(c, fresh) as here, process(c, behind) as there:
            with RoutingSession(router=here) as session, here.capture() as routes:
                assert session.scalar(NEWEST) == 2
                assert session.token is None
                seen = str(session.seen)
            assert [each.decision.target for each in routes] == [fresh.name]
            with RoutingSession(router=there) as session:
                assert session.scalar(NEWEST) == 1, "the replica is behind, which this test rests on"
            with RoutingSession(router=there) as session:
                session.read_after(seen)
                assert session.scalar(NEWEST) == 2
    finally:
        c.resume_replication(behind, sql_only=True)
        c.wait_caught_up()
    with process(c, behind) as there, RoutingSession(router=there) as session, there.capture() as routes:
        session.read_after(seen)
        assert session.scalar(NEWEST) == 2
    assert [each.decision.target for each in routes] == [behind.name]
    run(c.primary.url, "DROP TABLE sights")


def test_nothing_was_seen_before_the_first_read(mariadb_cluster: Cluster) -> None:
    """Neither a token nor a look at a server."""
    with process(mariadb_cluster, mariadb_cluster.replicas[0]) as router, RoutingSession(router=router) as session:
        assert session.seen is None
