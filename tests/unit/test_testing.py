"""What rds_router.testing promises to people who test their own application."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rds_router import ConfigurationError, Reason, Replica, Router, RoutingPolicy, RoutingSession
from rds_router.flask import SQLAlchemy
from rds_router.testing import Clock, assert_on_replicas, fixed_router, fixed_servers, replica_of

COUNT = "SELECT count(*) FROM notes"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A SQLite file with an empty table."""
    return f"sqlite:///{tmp_path}/test.db"


@pytest.fixture
def router(url: str) -> Iterator[Router]:
    """A primary and two replicas, which are one and the same file."""
    one = str(replica_of(url))
    # Two URLs of one file are refused as twins; another spelling of its path is another server.
    other = one.replace("/test.db", "/./test.db")
    replicas = [Replica(one, name="r1"), Replica(other, name="r2")]
    with fixed_router(Replica(url, name="db"), replicas) as made:
        with made.primary.begin() as connection:
            connection.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY)"))
        yield made


def test_a_fixed_router_reads_from_its_first_replica_and_starts_no_thread(router: Router) -> None:
    before = threading.active_count()
    with RoutingSession(router=router) as session, router.capture() as routes:
        assert session.scalar(text(COUNT)) == 0
    assert [str(each.decision) for each in routes] == ["r1 (replica)"]
    assert repr(router.topology) == "<Topology generation 0: primary db; r1 0.0 s, r2 0.0 s>"
    assert threading.active_count() == before


def test_lag_can_be_given_to_begin_with(url: str) -> None:
    with fixed_router(Replica(url, name="db"), [Replica(replica_of(url), name="r1")], lag={"r1": 7.0}) as router:
        assert str(router.explain(COUNT)) == "db (primary: no replica is eligible; r1 lagging 7.0 s)"


def test_random_picks_among_the_replicas(url: str) -> None:
    replicas = [Replica(f"sqlite:///{name}.db", name=name) for name in ("r1", "r2")]
    with fixed_router(Replica(url, name="db"), replicas, random=lambda: 0.9) as router:
        assert router.explain(COUNT).target == "r2"


def test_replicas_lag_fail_recover_and_are_promoted_as_told(router: Router) -> None:
    with fixed_servers(router) as servers:
        servers.lags("r1", 30.0)
        assert str(router.explain(COUNT)) == "r2 (replica; r1 lagging 30.0 s)"
        servers.lags("r1", None)
        assert str(router.explain(COUNT)) == "r2 (replica; r1 lag unknown)"
        servers.fails("r2", "gone")
        assert router.explain(COUNT).reason is Reason.NO_REPLICA_ELIGIBLE
        servers.recovers("r2")
        servers.lags("r1", 0.0)
        assert str(router.explain(COUNT)) == "r1 (replica)"
        servers.promotes("r1")
        assert repr(router.topology) == "<Topology generation 1: primary r1; db 0.0 s, r2 0.0 s, slow start at 10%>"
        assert str(router.explain("DELETE FROM notes")).startswith("r1 (primary: write")


def test_a_name_that_is_not_there_is_refused_with_those_that_are(router: Router) -> None:
    with fixed_servers(router) as servers:
        with pytest.raises(ValueError, match=r"^no server is called 'r9'; there are db, r1, r2$"):
            servers.lags("r9", 1.0)
        with pytest.raises(ValueError, match=r"^db is the primary of the moment, not a replica$"):
            servers.lags("db", 1.0)


def test_a_replica_without_lag_has_what_was_just_written_and_a_lagging_one_has_not(router: Router) -> None:
    with fixed_servers(router) as servers, RoutingSession(router=router) as session, router.capture() as routes:
        session.execute(text("INSERT INTO notes VALUES (1)"))
        session.commit()
        assert session.scalar(text(COUNT)) == 1
        session.rollback()
        servers.lags("r1", 1.0)
        servers.lags("r2", 1.0)
        session.execute(text("INSERT INTO notes VALUES (2)"))
        session.commit()
        assert session.scalar(text(COUNT)) == 2
    assert [each.decision.reason.name for each in routes] == ["NOT_A_READ", "READ", "NOT_A_READ", "NONE_FRESH_ENOUGH"]


def test_the_clock_moves_by_hand_and_news_grows_old_by_it(url: str) -> None:
    clock = Clock(now=50.0)
    with fixed_router(Replica(url, name="db"), [Replica(replica_of(url), name="r1")], clock=clock) as router:
        assert router.clock() == 50.0
        clock.advance(10.0)
        assert str(router.explain(COUNT)) == "db (primary: no replica is eligible; r1 not heard of lately)"
        router.refresh()
        assert str(router.explain(COUNT)) == "r1 (replica)"
    with pytest.raises(ValueError, match="never goes back"):
        clock.advance(-1.0)
    assert repr(clock) == "<Clock at 60 s>"


def test_a_time_window_of_the_policy_is_tested_without_waiting(url: str) -> None:
    clock = Clock()
    policy = RoutingPolicy(after_write="primary", after_write_window=5.0)
    replicas = [Replica(replica_of(url), name="r1")]
    with fixed_router(Replica(url, name="db"), replicas, policy=policy, clock=clock) as router:
        session = RoutingSession(router=router)
        session.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY)"))
        session.commit()
        with router.capture() as routes:
            for _ in range(2):
                session.scalar(text(COUNT))
                session.rollback()
                clock.advance(5.0)
                router.refresh()
        session.close()
    assert [each.decision.reason.name for each in routes] == ["AFTER_WRITE", "READ"]


def test_a_replica_of_a_file_refuses_writes(router: Router) -> None:
    with router.reader.connect() as connection, pytest.raises(OperationalError, match="readonly database"):
        connection.execute(text("INSERT INTO notes VALUES (1)"))


@pytest.mark.parametrize("other", ["sqlite://", "sqlite:///:memory:", "mysql+pymysql://app:geheim@127.0.0.1/app"])
def test_only_files_have_a_replica_of_themselves(other: str) -> None:
    with pytest.raises(ConfigurationError, match="takes the URL of a SQLite file") as refusal:
        replica_of(other)
    assert "geheim" not in str(refusal.value)


def test_statements_that_strayed_are_shown_with_their_reasons(router: Router) -> None:
    with RoutingSession(router=router) as session, router.capture() as routes:
        session.scalar(text(COUNT))
        assert_on_replicas(routes)
        session.execute(text("DELETE FROM notes"))
    with pytest.raises(AssertionError) as failure:
        assert_on_replicas(routes)
    shown = "1 of 2 statements went to the primary:\n  DELETE FROM notes\n    -> db (primary: write (DELETE))"
    assert str(failure.value) == shown
    with pytest.raises(AssertionError, match=r"^no statement was routed"):
        assert_on_replicas([])


def test_afterwards_the_router_asks_its_servers_again(router: Router) -> None:
    with fixed_servers(router):
        inner = router._monitor
    assert router._monitor is not inner


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


def test_a_flask_view_is_shown_to_read_from_a_replica(url: str) -> None:
    """The example of the module's docstring, on an application made as ever."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_REPLICA_URIS"] = [Replica(replica_of(url), name="replica-1")]
    app.config["SECRET_KEY"] = "for tests"
    db = SQLAlchemy(app)

    @app.get("/")
    def home() -> str:
        return str(db.session.query(Note).count())

    @app.post("/")
    def add() -> str:
        db.session.add(Note())
        db.session.commit()
        return "added"

    with app.app_context():
        Base.metadata.create_all(db.engine)
        db.session.remove()
        with fixed_servers(db.router) as servers, db.router.capture() as routes:
            client = app.test_client()
            assert client.get("/").text == "0"
            assert_on_replicas(routes)
            assert client.post("/").text == "added"
            servers.lags("replica-1", 30.0)
            routes.clear()
            assert client.get("/").text == "1"
            assert [each.decision.is_replica for each in routes] == [False]
        db.router.close()
