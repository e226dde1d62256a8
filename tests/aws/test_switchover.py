"""The primary's name comes to lead to another server, or to one that sleeps: writes wait, and never go to both."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import make_url, text

from rds_router import Replica, Router, RoutingSession
from rds_router.core.observation import Report, Role
from rds_router.dialects.blue_green import BLUE_GREEN, Source, switchover
from rds_router.errors import DiscoveryError
from rds_router.events import Event, PrimaryMoved, PrimaryOut, Switchover
from rds_router.lab import Cluster, Proxy
from tests.aws import emulated
from tests.aws.test_discovery import until
from tests.cluster.watching import prompt, run
from tests.conftest import ClusterFactory

NAME = "blog.stale-dns.test"
STATUS = {
    "mysql": (
        "CREATE TABLE mysql.rds_topology (id VARCHAR(60), endpoint VARCHAR(200), port INT, role VARCHAR(60),"
        " status VARCHAR(60), version VARCHAR(10))",
        "INSERT INTO mysql.rds_topology VALUES"
        " ('1', 'blog.abc', 3306, 'BLUE_GREEN_DEPLOYMENT_SOURCE', 'AVAILABLE', '1.0'),"
        " ('2', 'blog-green-x1.abc', 3306, 'BLUE_GREEN_DEPLOYMENT_TARGET', 'AVAILABLE', '1.0')",
        "GRANT SELECT ON mysql.rds_topology TO 'app'@'%'",
    ),
    "postgresql": (
        "CREATE SCHEMA rds_tools",
        "GRANT USAGE ON SCHEMA rds_tools TO PUBLIC",
        "CREATE TABLE rds_tools.told (id text, endpoint text, port int, role text, status text, version text)",
        "GRANT SELECT ON rds_tools.told TO PUBLIC",
        "INSERT INTO rds_tools.told VALUES ('1', 'blog.abc', 5432, 'BLUE_GREEN_DEPLOYMENT_SOURCE', 'AVAILABLE', '1.0'),"
        " ('2', 'blog-green-x1.abc', 5432, 'BLUE_GREEN_DEPLOYMENT_TARGET', 'AVAILABLE', '1.0')",
        "CREATE FUNCTION rds_tools.show_topology(text) RETURNS SETOF rds_tools.told LANGUAGE sql AS"
        " 'SELECT * FROM rds_tools.told'",
    ),
}
TABLE = {"mysql": "mysql.rds_topology", "postgresql": "rds_tools.told"}
WHO = {"mysql": "@@server_id", "mariadb": "@@server_id", "postgresql": "inet_server_port()"}


class Writing:
    """A write in a thread of its own; the row says which server took it."""

    def __init__(self, router: Router, engine: str, number: int) -> None:
        self.error: Exception | None = None
        self._what = router, text(f"INSERT INTO moves VALUES ({number}, {WHO[engine]})")
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        router, insert = self._what
        try:
            with RoutingSession(router=router) as session:
                session.execute(insert)
                session.commit()
        except Exception as error:
            self.error = error

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def done(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.error is None, self.error


def told_by(cluster: Cluster, server: Any) -> int:
    """What a server says of itself in a row that it takes."""
    return int(server.port if cluster.engine == "postgresql" else server.server_id)


def writers(cluster: Cluster) -> list[int]:
    """Which server took each row, in their order."""
    url = cluster.primary.url
    count = run(url, "SELECT count(*) FROM moves")
    return [run(url, f"SELECT who FROM moves ORDER BY id LIMIT 1 OFFSET {n}") for n in range(count)]


@pytest.mark.parametrize("engine", ["mysql", "postgresql"])
def test_a_blue_green_switchover_holds_writes_and_is_followed(engine: str, lab_cluster: ClusterFactory) -> None:
    """From the moment the status says so, while the old server would still take writes; reads go on. When the name
    leads to the new server writes go there, though nobody ends the old connections."""
    cluster = lab_cluster(engine)
    blue, green, other = cluster.servers
    run(blue.admin_url, *STATUS[engine])
    run(blue.url, "CREATE TABLE moves (id INT PRIMARY KEY, who INT)")
    cluster.wait_caught_up()
    events: list[Event] = []
    with (
        Proxy(blue) as name,
        Router(
            Replica(name.url, name="db"),
            [Replica(other.url, name="r1")],
            policy=prompt(probe_timeout=5.0, failover_timeout=60.0),
        ) as router,
    ):
        router.events.listen(events.append)
        assert router.refresh(30)
        Writing(router, engine, 1).done()
        run(blue.admin_url, f"UPDATE {TABLE[engine]} SET status = 'SWITCHOVER_IN_PROGRESS'")
        until(lambda: router.topology.lacks_primary)
        held = Writing(router, engine, 2)
        until(lambda: router.events.counts["WriteHeld"] > 0)
        with RoutingSession(router=router) as session:
            assert session.scalar(text("SELECT count(*) FROM moves"), execution_options={"rds_route": "replica"}) == 1
        assert held.waits
        assert writers(cluster) == [told_by(cluster, blue)]

        cluster.promote(green)
        run(green.admin_url, f"UPDATE {TABLE[engine]} SET status = 'SWITCHOVER_IN_POST_PROCESSING'")
        name.lead_to(green)
        held.done()
        Writing(router, engine, 3).done()
        assert (router.topology.writer, router.topology.generation) == ("db", 1)
        assert writers(cluster) == [told_by(cluster, each) for each in (blue, green, green)]
        said = [each.status for each in events if isinstance(each, Switchover)]
        assert said == ["AVAILABLE", "SWITCHOVER_IN_PROGRESS", "SWITCHOVER_IN_POST_PROCESSING"]
        assert "switching over" in {each.why for each in events if isinstance(each, PrimaryOut)}
        assert not [each for each in events if isinstance(each, PrimaryMoved)]  # the name is the same


@contextmanager
def resolver(lookup: Callable[[], int], name: str = NAME) -> Iterator[list[int]]:
    """``name`` leads to this machine, to the port that ``lookup`` says; the sockets are real. Yields the answers."""
    given: list[int] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host == name:
            given.append(lookup())
            return real("127.0.0.1", given[-1], *rest, **options)
        return real(host, port, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield given


@pytest.mark.parametrize("fate", ["demoted", "killed"])
def test_dns_that_is_late_is_waited_for(fate: str, lab_cluster: ClusterFactory) -> None:
    """A Multi-AZ instance fails over: one name, which goes on to lead to the old server, then at times, then never."""
    cluster = lab_cluster("mariadb")
    old, new, other = cluster.servers
    run(old.url, "CREATE TABLE moves (id INT PRIMARY KEY, who INT)")
    cluster.wait_caught_up()
    answers = {"now": [old.port]}

    def lookup() -> int:
        ports = answers["now"]
        ports.append(ports.pop(0))  # in turns
        return ports[0]

    url = make_url(old.url).set(host=NAME)
    with (
        resolver(lookup) as given,
        Router(
            Replica(url, name="db"), [Replica(other.url, name="r1")], policy=prompt(failover_timeout=60.0)
        ) as router,
    ):
        assert router.refresh(30)
        Writing(router, "mariadb", 1).done()
        cluster.wait_caught_up()
        if fate == "killed":
            cluster.kill(old)
        cluster.promote(new)
        until(lambda: router.topology.lacks_primary)
        held, before = Writing(router, "mariadb", 2), len(given)
        until(lambda: router.events.counts["WriteHeld"] > 0 and len(given) > before + 5)
        assert held.waits

        answers["now"] = [new.port]
        held.done()
        answers["now"] = [old.port, new.port]  # two name servers, one of them late
        for number in range(3, 9):
            router.primary_engine().dispose()
            Writing(router, "mariadb", number).done()
        assert router.topology.generation >= 1
        assert writers(cluster) == [old.server_id] + 7 * [new.server_id]


def test_what_counts_of_several_rows_is_what_has_gone_furthest() -> None:
    def told(*statuses: object) -> str:
        rows = [{"status": each} for each in statuses]
        return switchover([Source("is there", "ask")], lambda sql: [{"found": 1}] if sql == "is there" else rows)

    assert told("AVAILABLE", "AVAILABLE") == "AVAILABLE"
    assert told("SWITCHOVER_IN_PROGRESS", "SWITCHOVER_INITIATED") == "SWITCHOVER_IN_PROGRESS"
    assert told("SWITCHOVER_COMPLETED", "SWITCHOVER_IN_POST_PROCESSING") == "SWITCHOVER_IN_POST_PROCESSING"
    assert told(b"AVAILABLE", None) == "AVAILABLE"
    assert told("SOMETHING_NEW") == "SOMETHING_NEW"
    assert told() == told(None) == ""
    # Multi-AZ DB clusters: the same function without a status.
    assert switchover([Source("is there", "ask")], lambda sql: [{"id": "db-1", "endpoint": "x"}]) == ""
    assert switchover((), lambda sql: pytest.fail("nobody is asked")) == ""


def test_only_in_progress_stops_writes() -> None:
    statuses = ("", "AVAILABLE", "SWITCHOVER_INITIATED", "SWITCHOVER_IN_POST_PROCESSING", "SWITCHOVER_COMPLETED")
    assert not any(Report(Role.PRIMARY, is_writable=True, switchover=each).takes_no_writes for each in statuses)
    assert Report(Role.PRIMARY, is_writable=True, switchover="SWITCHOVER_IN_PROGRESS").takes_no_writes


@pytest.mark.parametrize("engine", ["mariadb", "mysql", "postgresql"])
def test_a_server_without_a_deployment_says_so_at_one_question_a_source(
    request: pytest.FixtureRequest, engine: str
) -> None:
    """And raises nothing, and is asked seldom: see the monitor's test."""
    cluster: Cluster = request.getfixturevalue(f"{engine}_cluster")
    asked: list[str] = []

    def execute(sql: str) -> list[dict[str, Any]]:
        asked.append(sql)
        found = run(cluster.primary.bare_url, sql)
        return [] if found is None else [{"found": found}]

    assert switchover(BLUE_GREEN[engine], execute) == ""
    assert len(asked) == len(BLUE_GREEN[engine])


@pytest.mark.parametrize("wake_timeout", [60.0, 0.0])
def test_a_paused_primary_is_given_time_to_wake(mysql_cluster: Cluster, wake_timeout: float) -> None:
    """Aurora Serverless v2: it takes the connection and is silent. Waited for beyond failover_timeout, and said; where
    nobody has allowed for that, it is an outage."""
    primary, replica = mysql_cluster.primary, mysql_cluster.replicas[0]
    events: list[Event] = []
    with (
        Proxy(primary) as sleeper,
        Proxy(replica) as other,
        Router(
            Replica(sleeper.url, name="db"),
            [Replica(other.url, name="r1")],
            policy=prompt(probe_timeout=0.3, failover_timeout=0.5, wake_timeout=wake_timeout),
            engine_options={"connect_args": {"read_timeout": 1}},
        ) as router,
    ):
        router.events.listen(events.append)
        for each in (sleeper, other):
            each.blackhole()
        router.start()
        until(lambda: router.topology.lacks_primary)
        outcome: list[Any] = []

        def first_page() -> None:
            try:
                with RoutingSession(router=router) as session, session.using_primary():
                    outcome.append(session.scalar(text("SELECT 1")))
            except Exception as error:
                outcome.append(type(error).__name__)

        thread = threading.Thread(target=first_page, daemon=True)
        thread.start()
        if not wake_timeout:
            thread.join(30)
            assert outcome == ["NoPrimary"]
            assert "PrimaryOut" in router.events.counts
            return
        until(lambda: router.events.counts["WriteHeld"] > 0)
        time.sleep(1.0)  # more than failover_timeout
        assert outcome == []
        for each in (sleeper, other):
            each.heal()
        thread.join(60)
        assert outcome == [1]
        assert [str(each) for each in events if type(each).__name__.startswith("PrimaryWak")] == [
            "PrimaryWaking server='db' seconds=60.0"
        ]
        assert {"PrimaryOut", "WriteRefused"}.isdisjoint(router.events.counts)
        until(lambda: router.events.counts["PrimaryBack"] > 0)


def test_a_global_databases_writer_is_found_where_its_instances_are_named(mysql_cluster: Cluster) -> None:
    """Its endpoint's name tells no region, so no instance's name: they must be said. It is one region's then."""
    endpoint = "blog.global-abc123.global.rds.amazonaws.com"
    with (
        emulated.aurora_mysql(mysql_cluster) as aurora,
        resolver(lambda: aurora.ports[mysql_cluster.primary.name], endpoint) as asked,
    ):
        url = make_url(mysql_cluster.primary.url).set(host=endpoint)
        with pytest.raises(DiscoveryError, match=r"say the instances' names, Find\(instances="):
            Router.from_cluster(url, find=aurora.find(instances=""))
        with Router.from_cluster(url, policy=prompt(), find=aurora.find()) as router:
            assert router.refresh(30)
            assert router.topology.writer == mysql_cluster.primary.name
            assert sorted(each.server.name for each in router.topology.servers) == aurora.names
    assert len(asked) >= 2
