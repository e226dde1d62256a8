"""What users get wrong: a clear error, or an event that names the server and the remedy; reads go on elsewhere."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, make_url, select
from sqlalchemy.exc import DBAPIError, OperationalError

from rds_router import ConfigurationError, NoPrimary, Replica, Router, RoutingPolicy, RoutingSession
from rds_router.events import Event, PrimaryIn, PrimaryOut, ReplicaOut, SameServer, WritableReplica
from rds_router.lab import Cluster
from tests.session.conftest import MakeStage
from tests.session.models import User, users
from tests.session.stage import Stage

A_READ = select(User.name).where(User.id == 1)
SECRET = "s3cr3t-w0rd"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine's where nobody answers; reserved while the test runs."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield int(reserved.getsockname()[1])


def told(events: list[Event], kind: type[Event]) -> list[str]:
    return [str(each) for each in events if isinstance(each, kind)]


def watched(primary: Any, replicas: list[Any]) -> tuple[Router, list[Event]]:
    """A router that has asked every server once."""
    policy = RoutingPolicy(probe_interval=3600.0, probe_timeout=5.0, causal_wait=0.0, failover_timeout=0.5)
    router = Router(primary, replicas, policy=policy)
    events: list[Event] = []
    router.events.listen(events.append)
    router.refresh(10)
    return router, events


# --- servers that do not answer


def test_an_unreachable_replica_is_named_and_the_others_go_on(mariadb_urls: list[str], closed_port: int) -> None:
    dead = f"mysql+pymysql://app:{SECRET}@127.0.0.1:{closed_port}/app"
    router, events = watched(mariadb_urls[0], [Replica(dead, name="dead"), Replica(mariadb_urls[1], name="alive")])
    with router, RoutingSession(router=router) as session:
        for _ in range(10):
            with router.capture() as routed:
                assert session.scalar(A_READ) == "ann"
            assert [each.decision.target for each in routed] == ["alive"]
            session.rollback()
    (out,) = told(events, ReplicaOut)
    assert out.startswith("ReplicaOut server='dead' why='unreachable' detail=")
    assert "Connection refused" in out
    assert "is the URL right, is the server running, and may this machine reach it?" in out
    assert SECRET not in out


def test_an_unreachable_primary_stops_no_reads(mariadb_urls: list[str], closed_port: int) -> None:
    """The application starts, reads; a write says itself that the primary does not answer."""
    dead = f"mysql+pymysql://app:{SECRET}@127.0.0.1:{closed_port}/app"
    router, events = watched(Replica(dead, name="main"), [Replica(mariadb_urls[1], name="r1")])
    with router, RoutingSession(router=router) as session:
        assert session.scalar(A_READ) == "ann"
        with pytest.raises(NoPrimary, match="Can't connect"):
            session.execute(insert(users).values(id=11, name="eva"))
        session.rollback()
        assert session.scalar(A_READ) == "ann"
    (out,) = told(events, PrimaryOut)
    assert out.startswith("PrimaryOut server='main' why='unreachable' detail=")
    assert SECRET not in out


def test_nobody_answers(closed_port: int) -> None:
    """Everything is named, nothing hangs, and a read that needs the primary says what each server said."""
    url = f"mysql+pymysql://app:{SECRET}@127.0.0.1:{closed_port}/app"
    router, events = watched(Replica(url, name="main"), [Replica(url.replace("127.0.0.1", "127.0.0.2"), name="r1")])
    with router, RoutingSession(router=router) as session:
        with pytest.raises(NoPrimary, match=r"main unreachable .*Can't connect.*; r1 unreachable"):
            session.scalar(A_READ)
        assert "r1 unreachable" in str(router.explain(A_READ))
    assert len(told(events, PrimaryOut)) == len(told(events, ReplicaOut)) == 1


def with_wrong_password(url: str) -> str:
    return make_url(url).set(password=SECRET).render_as_string(hide_password=False)


REMEDY = "check user, password and database in the URL of this server"


def test_a_wrong_password_of_a_replica(mariadb_urls: list[str]) -> None:
    """The replica is out, the server's own words and the remedy say why, the password is not among them."""
    router, events = watched(
        mariadb_urls[0],
        [Replica(with_wrong_password(mariadb_urls[1]), name="r1"), Replica(mariadb_urls[2], name="r2")],
    )
    with router, RoutingSession(router=router) as session:
        assert session.scalar(A_READ) == "ann"
        assert "r1 login refused (OperationalError: " in str(router.explain(A_READ))
        assert SECRET not in str(router.explain(A_READ))
    (out,) = [each for each in events if isinstance(each, ReplicaOut)]
    assert (out.server, out.why) == ("r1", "login refused")
    assert "Access denied" in out.detail
    assert out.detail.endswith(REMEDY)
    assert SECRET not in str(out)


def test_a_wrong_password_of_the_primary(mariadb_urls: list[str]) -> None:
    """Reads go on; the event says that it is the account, not the network."""
    router, events = watched(
        Replica(with_wrong_password(mariadb_urls[0]), name="main"), [Replica(mariadb_urls[1], name="r1")]
    )
    with router, RoutingSession(router=router) as session:
        assert session.scalar(A_READ) == "ann"
        with pytest.raises(OperationalError, match="Access denied"):
            session.execute(insert(users).values(id=11, name="eva"))
    (out,) = [each for each in events if isinstance(each, PrimaryOut)]
    assert (out.server, out.why) == ("main", "login refused")
    assert "Access denied" in out.detail
    assert out.detail.endswith(REMEDY)
    assert SECRET not in str(out)


def test_a_replica_file_that_does_not_exist(sqlite_urls: list[str], tmp_path: Any) -> None:
    router, events = watched(sqlite_urls[0], [f"sqlite:///{tmp_path / 'no' / 'such.sqlite'}", sqlite_urls[1]])
    with router, RoutingSession(router=router) as session:
        assert session.scalar(A_READ) == "ann"
    (out,) = told(events, ReplicaOut)
    assert "server='such.sqlite'" in out
    assert "unable to open database file" in out


# --- servers that are not what they are called


@pytest.mark.parametrize("engine", ["sqlite", "mariadb"])
def test_one_server_under_two_names(request: pytest.FixtureRequest, engine: str, tmp_path: Any) -> None:
    """Two replicas that are one: told at the first look, naming both and what to do."""
    urls: list[str] = request.getfixturevalue(f"{engine}_urls")
    if engine == "sqlite":
        (tmp_path / "here").symlink_to(tmp_path)
        other = urls[1].replace(str(tmp_path), str(tmp_path / "here"))
    else:
        other = urls[1].replace("127.0.0.1", "localhost")
    router, events = watched(urls[0], [Replica(urls[1], name="a"), Replica(other, name="b")])
    router.close()
    (same,) = told(events, SameServer)
    assert "servers=('a', 'b')" in same
    assert same.endswith(": take one of them out of the configuration")


def test_the_primary_under_a_second_name_is_no_replica(mariadb_urls: list[str]) -> None:
    router, events = watched(
        Replica(mariadb_urls[0], name="main"),
        [Replica(mariadb_urls[0].replace("127.0.0.1", "localhost"), name="again"), Replica(mariadb_urls[1], name="r1")],
    )
    with router:
        assert [seen.server.name for seen in router.topology.eligible] == ["r1"]
    assert "servers=('main', 'again')" in told(events, SameServer)[0]
    assert any("server='again' why='accepts writes and follows nobody'" in each for each in told(events, ReplicaOut))


def test_the_same_url_twice_is_refused() -> None:
    url = f"mysql+pymysql://app:{SECRET}@db/app"
    with pytest.raises(ConfigurationError, match="db:3306 is configured twice: name it once") as caught:
        Router(url, [url])
    assert SECRET not in str(caught.value)


def test_a_writable_replica_is_told_and_used(on_mariadb: MakeStage, mariadb_cluster: Cluster) -> None:
    """It follows, so it may answer; the guard keeps our own writes off it."""
    replica = mariadb_cluster.replicas[0]
    admin(replica, "SET GLOBAL read_only = 0")
    try:
        stage = on_mariadb()
        assert told(stage.events, WritableReplica) == [
            "WritableReplica server='replica-1': set read_only=1 there, or take it out of the configuration"
        ]
        assert {seen.server.name for seen in stage.router.topology.eligible} == {"replica-1", "replica-2"}
        with (
            stage.router._engines.get("replica-1", "replica").connect() as connection,
            pytest.raises(DBAPIError, match="READ ONLY"),
        ):
            connection.execute(insert(users).values(id=11, name="eva"))
    finally:
        admin(replica, "SET GLOBAL read_only = 1")


def test_a_primary_that_refuses_writes(on_mariadb: MakeStage, mariadb_cluster: Cluster) -> None:
    """Told with the remedy when seen, and once more when it is well again; reads go on."""
    admin(mariadb_cluster.primary, "SET GLOBAL read_only = 1")
    try:
        stage = on_mariadb(policy={"failover_timeout": 0.2})
        (out,) = told(stage.events, PrimaryOut)
        assert "server='primary' why='read-only'" in out
        assert "point the router at the primary, or make this server writable" in out
        session = stage.session()
        with stage.watching() as seen:
            assert session.scalar(A_READ) == "ann"
        assert seen.parts == ["replica"]
        with pytest.raises(NoPrimary, match="primary refuses writes"):
            session.execute(insert(users).values(id=11, name="eva"))
    finally:
        admin(mariadb_cluster.primary, "SET GLOBAL read_only = 0")
    stage.refresh()
    assert told(stage.events, PrimaryIn)[-1] == "PrimaryIn server='primary'"


# --- settings that cannot work


@pytest.mark.parametrize(
    ("primary", "replicas", "words"),
    [
        ("", [], "no primary is configured: give the URL of the server that accepts writes"),
        (None, [], "no primary is configured"),
        (f"//app:{SECRET}", [], "the URL of the primary is not a URL of the form dialect"),
        (f"mysql+pymysql://app:{SECRET}@h:port/db", [], "the URL of the primary is not a URL of the form dialect"),
        (f"nosuch://app:{SECRET}@h/db", [], "names the dialect 'nosuch', which SQLAlchemy does not know; use mysql"),
        (
            "sqlite:////tmp/x",
            [f"postgresql+psycopg://app:{SECRET}@r1/db"],
            "replica r1:5432 is postgresql, but the primary",
        ),
        ("sqlite:////tmp/x", 5, "the replicas are 5, but must be a list"),
        ("sqlite:////tmp/x", [None], "the URL of replica 1 is None"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_connects(primary: Any, replicas: Any, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Router(primary, replicas)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_driver_that_is_not_installed(replicas: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """mysql:// leaves the choice to SQLAlchemy, which takes mysqlclient; without it, say what to write."""
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    url = f"mysql://app:{SECRET}@h{{}}/db"
    with pytest.raises(
        ConfigurationError, match=r"needs a driver that is not installed.*install it, or name"
    ) as caught:
        Router(url.format(0), [url.format(1)] * replicas).primary_engine()
    assert SECRET not in str(caught.value)


def test_no_replicas_is_no_error(on_sqlite: MakeStage) -> None:
    stage: Stage = on_sqlite(replicas=0)
    assert not stage.router.has_replicas
    assert stage.session().scalar(A_READ) == "ann"


def admin(server: Any, sql: str) -> None:
    engine = create_engine(server.admin_url, connect_args={"ssl_disabled": True})
    with engine.connect() as connection:
        connection.exec_driver_sql(sql)
    engine.dispose()
