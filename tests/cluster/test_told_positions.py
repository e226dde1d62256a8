"""A commit that wrote leaves its position with its own answer, at no further trip; what wrote nothing leaves none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from rds_router import Replica, Router, RoutingPolicy, RoutingSession, Token
from rds_router.core.position import Lsn
from rds_router.dialects.base import Dialect
from rds_router.lab import Cluster, Proxy
from tests.cluster.asking import asked
from tests.cluster.watching import ENGINES

metadata = MetaData()
notes = Table(
    "told_notes", metadata, Column("id", Integer, primary_key=True, autoincrement=False), Column("n", Integer)
)
ADD = insert(notes).values(id=2, n=1)


@pytest.fixture(scope="module", params=ENGINES)
def c(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The shared cluster of each engine, with a table of this file's own."""
    found: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    engine = create_engine(found.primary.url, poolclass=NullPool)
    metadata.create_all(engine)
    yield found
    metadata.drop_all(engine)
    found.wait_caught_up()


@contextlib.contextmanager
def a_router(c: Cluster, url: str | None = None, *, options: Any = None, **policy: Any) -> Iterator[Router]:
    """Over the cluster's primary and its first replica; it asks nobody by itself."""
    given = {"probe_interval": 3600.0, "causal_wait": 0.0, **policy}
    with Router(
        Replica(url or c.primary.url, name="primary"),
        [Replica(c.replicas[0].url, name="replica")],
        policy=RoutingPolicy(**given),
        engine_options=options,
    ) as router:
        assert router.refresh()
        yield router


@pytest.fixture
def router(c: Cluster) -> Iterator[Router]:
    """On MariaDB with row-based logging, as RDS has it where it is asked for: see the test of the other formats."""
    by_row = {"connect_args": {"init_command": "SET SESSION binlog_format = 'ROW'"}}
    is_mariadb = c.engine == "mariadb"
    with a_router(c, c.primary.admin_url if is_mariadb else None, options=by_row if is_mariadb else None) as router:
        yield router


@pytest.fixture
def session(router: Router) -> Iterator[RoutingSession]:
    with RoutingSession(router=router) as session:
        session.execute(text("DELETE FROM told_notes"))
        session.execute(insert(notes).values(id=1, n=1))
        session.commit()
    with RoutingSession(router=router) as session:
        yield session


def told(session: RoutingSession) -> Token | None:
    """The token as it is known without asking anybody."""
    return session._scope.token


def test_a_commit_that_wrote_tells_a_position_that_the_replica_comes_to_have(
    c: Cluster, session: RoutingSession
) -> None:
    """It is not before the commit, and not behind what the server itself says of its position."""
    with asked(c.primary.url) as primary, asked(c.replicas[0].url) as replica:
        before = primary.token()
        session.execute(ADD)
        session.commit()
        token = told(session)
        assert token is not None
        assert token.at is None
        assert token.position is not None
        assert not before.covers(token.position)
        assert primary.token().covers(token.position)
        c.wait_caught_up()
        assert replica.position().covers(token.position)


def test_it_costs_no_round_trip(c: Cluster) -> None:
    """Counted on the wire: as many packets to the server as a commit that nobody wants to know of."""
    with Proxy(c.primary) as wire:

        def packets(is_told: bool) -> int:
            with a_router(c, wire.url, session_tracking=is_told) as router, RoutingSession(router=router) as session:
                counts = []
                for number in range(10, 13):
                    session.execute(insert(notes).values(id=number, n=1))
                    before = wire.counts.to_server
                    session.commit()
                    counts.append(wire.counts.to_server - before)
                    token = told(session)
                    assert token is not None
                    assert (token.at is None) is is_told
                session.execute(text("DELETE FROM told_notes WHERE id >= 10"))
                session.commit()
            assert len(set(counts)) == 1
            return counts[0]

        assert packets(True) == packets(False)


QUIET: dict[str, Callable[[RoutingSession], Any]] = {
    "a read on the primary": lambda session: session.execute(select(notes), execution_options={"rds_route": "primary"}),
    "a locking read": lambda session: session.execute(select(notes).with_for_update()).all(),
    "an update that found nothing": lambda session: session.execute(update(notes).where(notes.c.id == 99).values(n=2)),
    "the same as text": lambda session: session.execute(text("UPDATE told_notes SET n = 2 WHERE id = 99")),
    "a delete that found nothing": lambda session: session.execute(text("DELETE FROM told_notes WHERE id = 99")),
}


@pytest.mark.parametrize("name", QUIET)
def test_what_wrote_nothing_leaves_no_token(session: RoutingSession, name: str) -> None:
    QUIET[name](session)
    session.commit()
    assert session.token is None


def test_a_rollback_leaves_no_token(session: RoutingSession) -> None:
    session.execute(ADD)
    session.rollback()
    assert session.token is None


def test_an_update_to_the_same_value(c: Cluster, session: RoutingSession) -> None:
    """Nothing changed for MySQL and MariaDB; PostgreSQL writes a new row version."""
    session.execute(update(notes).where(notes.c.id == 1).values(n=1))
    session.commit()
    assert (session.token is None) is (c.engine != "postgresql")


def test_mariadb_logs_by_statement_what_changed_nothing(mariadb_cluster: Cluster) -> None:
    """With binlog_format MIXED, its default, the server counts such a statement as a transaction: so do we."""
    c = mariadb_cluster
    with a_router(c) as router, RoutingSession(router=router) as session:
        session.execute(text("CREATE TABLE told_mixed (id INT PRIMARY KEY)"))
        session.commit()
        before = told(session)
        session.execute(text("DELETE FROM told_mixed WHERE id = 99"))
        session.commit()
        assert told(session) != before
        session.execute(text("DROP TABLE told_mixed"))
        session.commit()
    c.wait_caught_up()


def test_a_commit_in_the_middle_is_not_lost(c: Cluster, session: RoutingSession) -> None:
    """By text that the session does not see through: nothing follows it, and still it counts."""
    session.execute(ADD)
    session.execute(text("COMMIT"))
    session.execute(text("UPDATE told_notes SET n = 2 WHERE id = 99"))
    session.commit()
    token = session.token
    assert token is not None
    assert token.position is not None
    with asked(c.replicas[0].url) as replica:
        c.wait_caught_up()
        assert replica.position().covers(token.position)
        assert replica.value("SELECT count(*) FROM told_notes WHERE id = 2") == 1


def test_what_a_transaction_committed_on_its_way_is_told_too(c: Cluster, session: RoutingSession) -> None:
    """DDL commits by itself on MySQL and MariaDB: the token holds both commits, whichever a replica applies first."""
    if c.engine == "postgresql":
        pytest.skip("DDL is part of the transaction")
    session.execute(text("CREATE TABLE IF NOT EXISTS told_more (id INT PRIMARY KEY)"))
    connection = session._home_connection
    first = connection.rds_told()
    session.execute(text("INSERT INTO told_more VALUES (1)"))
    session.commit()
    token = told(session)
    assert token is not None
    assert token.position is not None
    parse = session._router.dialect.parse_position  # type: ignore[union-attr]
    assert token.position.covers(parse(first))
    assert token.position != parse(first)
    session.execute(text("DROP TABLE told_more"))
    session.commit()


def test_a_commit_that_fails_fails_as_before(c: Cluster, session: RoutingSession) -> None:
    """A deferred constraint speaks at COMMIT: the driver's own error, no token, and the session goes on."""
    if c.engine != "postgresql":
        pytest.skip("no deferred constraints")
    session.execute(text("CREATE TABLE told_deferred (id INT UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    session.commit()
    known = told(session)
    for _ in range(2):
        session.execute(text("INSERT INTO told_deferred VALUES (1), (1)"))
        with pytest.raises(IntegrityError, match="told_deferred_id_key"):
            session.commit()
        session.rollback()
    token = told(session)
    assert token is not None
    assert token.position == known.position  # type: ignore[union-attr]
    session.execute(text("DROP TABLE told_deferred"))
    session.commit()
    assert told(session) != known


def test_a_told_lsn_is_what_the_server_says_also_where_a_page_begins(postgresql_cluster: Cluster) -> None:
    """With each size of record: told with the commit, and asked for right after it, both are the same place."""
    c = postgresql_cluster
    with a_router(c) as router, RoutingSession(router=router) as session, asked(c.primary.url) as primary:
        session.execute(text("CREATE TABLE told_pages (t TEXT)"))
        session.commit()
        agreed = on_boundary = 0
        for size in range(0, 4000, 10):
            session.execute(text("INSERT INTO told_pages VALUES (repeat('x', :size))"), {"size": size})
            session.commit()
            token = told(session)
            assert token is not None
            assert isinstance(token.position, Lsn)
            asked_for = primary.token()
            agreed += asked_for == token.position
            on_boundary += token.position.location % 8192 == 0
            assert asked_for.covers(token.position)
            assert token.position.timeline > 0
            session._scope = type(session._scope)()
        session.execute(text("DROP TABLE told_pages"))
        session.commit()
    assert agreed > 350, "nobody else writes here but a checkpoint now and then"


def test_mysql_tags_are_told(mysql_cluster: Cluster) -> None:
    """A tagged GTID (MySQL 8.3 and later) comes with the commit as any other."""
    c = mysql_cluster
    with asked(c.primary.url) as primary:
        major, minor, *_ = str(primary.value("SELECT version()")).split(".")
    if (int(major), int(minor)) < (8, 3):
        pytest.skip("no tags before MySQL 8.3")
    with a_router(c, c.primary.admin_url) as router, RoutingSession(router=router) as session:
        session.execute(text("CREATE TABLE told_tagged (id INT PRIMARY KEY)"))
        session.commit()
        session.execute(text("SET SESSION gtid_next = 'AUTOMATIC:blue'"))
        session.execute(text("INSERT INTO told_tagged VALUES (1)"))
        session.commit()
        token = session.token
        assert token is not None
        assert ":blue:1" in str(token)
        assert Token.parse(str(token)) == token
        with asked(c.replicas[0].url) as replica:
            c.wait_caught_up()
            assert replica.position().covers(token.position)  # type: ignore[arg-type]
        session.execute(text("DROP TABLE told_tagged"))
        session.commit()
        session.execute(text("SET SESSION gtid_next = 'AUTOMATIC'"))


# --- drivers that are not told, and servers that do not tell


def test_a_driver_that_is_not_told_asks_once_and_only_when_the_token_is_wanted(c: Cluster) -> None:
    """One SELECT after the COMMIT, as late as can be; the position is at or after the commit."""
    with Proxy(c.primary) as wire, a_router(c, wire.url, session_tracking=False) as router:
        with RoutingSession(router=router) as session:
            session.execute(insert(notes).values(id=20, n=1))
            session.commit()
            token = told(session)
            assert token is not None
            assert (token.at is not None, token.position) == (True, None)
            session.rollback()
            before = wire.counts.to_server
            known = session.token
            asked_for = wire.counts.to_server
            assert session.token == known
            assert wire.counts.to_server == asked_for > before
            assert known is not None
            assert known.position is not None
            session.execute(text("DELETE FROM told_notes WHERE id = 20"))
            session.commit()
        with asked(c.primary.url) as primary:
            assert primary.token().covers(known.position)


def test_a_position_that_may_not_be_asked_for_travels_as_the_primarys_time(
    c: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing rights, or a proxy in between: another process reads a replica once it is complete to then."""
    with a_router(c, session_tracking=False) as router, a_router(c) as elsewhere:
        with RoutingSession(router=router) as session:
            session.execute(insert(notes).values(id=21, n=1))
            session.commit()
            monkeypatch.setattr(router, "_dialect", _refusing(router.dialect))
            token = session.token
        assert token is not None
        assert token.position is None
        assert token.time is not None
        assert abs(token.time - float(_clock_of(c))) < 60
        assert router.events.counts["TokenByTime"] == 1
        with elsewhere.read_after(str(token)), RoutingSession(router=elsewhere) as reader:
            with elsewhere.capture() as routed:
                assert reader.scalar(select(notes.c.n).where(notes.c.id == 21)) == 1
            assert not routed[0].decision.is_replica
        with RoutingSession(router=router) as session:
            session.execute(text("DELETE FROM told_notes WHERE id = 21"))
            session.commit()


def _clock_of(c: Cluster) -> float:
    with asked(c.primary.url) as primary:
        clock = primary.report().clock
    assert clock is not None
    return clock


def _refusing(dialect: Dialect) -> Dialect:
    from dataclasses import replace

    return replace(dialect, position_after_write="SELECT position FROM nowhere_at_all")
