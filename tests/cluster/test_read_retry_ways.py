"""R10 for each way in which a session reads: lazy loads, select-in loads, get, Query, yield_per, streams, autoflush.

One cluster an engine. A replica is made to refuse, once, whatever it is sent next: its server kills the connection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from sqlalchemy import ForeignKey, String, event, exc, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from rds_router import Replica, Router, RoutingPolicy, RoutingSession
from rds_router.lab import Cluster
from tests.cluster.asking import eventually
from tests.cluster.watching import ENGINES, run

# SQLAlchemy closes no cursor of a connection that is gone; psycopg tells of one that streamed.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <function ServerCursorMixin.__del__")


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "retry_authors"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(40))
    books: Mapped[list[Book]] = relationship(back_populates="author", order_by="Book.id")


class Book(Base):
    __tablename__ = "retry_books"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    author_id: Mapped[int] = mapped_column(ForeignKey("retry_authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class Stage(NamedTuple):
    cluster: Cluster
    router: Router

    def break_next(self, after: int = 0) -> list[str]:
        """The connection of the replica that is sent the next statement, or the one ``after`` it, ends just before.

        Returns the names of those it happened to.
        """
        hit: list[str] = []
        left = [after]
        for server in self.cluster.replicas:
            engine = self.router.replica_engine(server.name)

            def cut(connection: Any, cursor: Any, *rest: Any, engine: Engine = engine, name: str = server.name) -> None:
                if hit:
                    return
                if left[0]:
                    left[0] -= 1
                    return
                hit.append(name)
                kill(self.cluster, name, connection.connection.dbapi_connection)

            event.listen(engine, "before_cursor_execute", cut)
        return hit


def kill(c: Cluster, name: str, connection: Any) -> None:
    """End a connection at its server."""
    server = next(each for each in c.servers if each.name == name)
    if c.engine == "postgresql":
        run(server.admin_url, f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
    else:
        run(server.admin_url, f"KILL {connection.thread_id()}")


@pytest.fixture(scope="module", params=ENGINES)
def tables(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    cluster: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    with Router(cluster.primary.url) as router:
        Base.metadata.create_all(router.primary)
        with RoutingSession(router=router) as session:
            session.add_all(Author(id=n, name=f"a{n}", books=[Book(id=n * 10 + m) for m in range(3)]) for n in (1, 2))
            session.commit()
        cluster.wait_caught_up()
        yield cluster
        Base.metadata.drop_all(router.primary)
    cluster.wait_caught_up()


@pytest.fixture
def stage(tables: Cluster) -> Iterator[Stage]:
    """A router whose monitor sleeps: the sessions find out for themselves."""
    primary, *replicas = (Replica(each.url, name=each.name) for each in tables.servers)
    policy = RoutingPolicy(probe_interval=600, share_observations=False)
    with Router(primary, replicas, policy=policy) as router:
        assert eventually(lambda: router.refresh() and len(router.topology.eligible) == 2)
        yield Stage(tables, router)
        pools = [router.replica_engine(each.name).pool for each in tables.replicas] + [router.primary_engine().pool]
        assert [pool.checkedout() for pool in pools] == [0, 0, 0], "a connection was not given back"  # type: ignore[attr-defined]


def names(session: RoutingSession) -> list[str]:
    return list(session.scalars(select(Author.name).order_by(Author.id)))


def lazy(session: RoutingSession) -> Any:
    return [book.id for book in session.get_one(Author, 1).books]


def streamed(session: RoutingSession) -> Any:
    result = session.execute(select(Book.id).order_by(Book.id), execution_options={"stream_results": True})
    return [row[0] for row in result]


WAYS: dict[str, tuple[int, Callable[[RoutingSession], Any], Any]] = {
    "scalars": (0, names, ["a1", "a2"]),
    "text": (0, lambda session: session.execute(text("SELECT count(*) FROM retry_books")).scalar(), 6),
    "get": (0, lambda session: session.get_one(Author, 2).name, "a2"),
    "lazy load": (1, lazy, [10, 11, 12]),
    "select-in load": (
        1,
        lambda session: [
            len(each.books) for each in session.scalars(select(Author).options(selectinload(Author.books)))
        ],
        [3, 3],
    ),
    "Query": (0, lambda session: session.query(Author).order_by(Author.id).first().name, "a1"),
    "Query.count": (0, lambda session: session.query(Book).count(), 6),
    "yield_per": (
        0,
        lambda session: [
            each.id for each in session.scalars(select(Book).order_by(Book.id).execution_options(yield_per=2))
        ],
        [10, 11, 12, 20, 21, 22],
    ),
    "stream": (0, streamed, [10, 11, 12, 20, 21, 22]),
    "refresh": (1, lambda session: session.refresh(session.get_one(Author, 1)), None),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_read_survives_its_connection(stage: Stage, way: str) -> None:
    """The answer is whole, the event says so, the transaction goes on, writes and commits."""
    after, read, expected = WAYS[way]
    with RoutingSession(router=stage.router) as session:
        hit = stage.break_next(after)
        assert read(session) == expected
        assert len(hit) == 1
        assert stage.router.events.counts["ReadRetried"] == 1
        assert names(session) == ["a1", "a2"]
        session.commit()
        session.execute(text("UPDATE retry_authors SET name = name"))
        session.commit()
        assert names(session) == ["a1", "a2"]


def test_objects_of_the_transaction_stay_as_they_were(stage: Stage) -> None:
    """Pending ones are flushed as ever (autoflush), changed ones keep their change; the flush goes to the primary."""
    with RoutingSession(router=stage.router) as session:
        author = session.get_one(Author, 1)
        hit = stage.break_next()
        with session.no_autoflush:
            author.name = "changed"
            assert session.scalars(select(Book.id).where(Book.id == 20)).all() == [20]
        assert len(hit) == 1
        assert author.name == "changed"
        assert session.dirty
        session.add(Book(id=99, author=author))
        assert session.scalars(select(Book.id).where(Book.id == 99)).all() == [99], "autoflush, on the primary"
        session.rollback()
        assert names(session) == ["a1", "a2"]


def test_after_a_row_was_delivered_nothing_is_run_again(stage: Stage) -> None:
    """The caller has acted on it: the error is his to see, and the session is usable after rollback()."""
    numbers = select(Book.id).order_by(Book.id).execution_options(yield_per=1)
    with RoutingSession(router=stage.router) as session:
        result = session.scalars(numbers)
        assert next(result) == 10
        server = session._scope.pinned
        assert server is not None
        connection = session.connection(bind_arguments={"bind": stage.router.replica_engine(server)})
        kill(stage.cluster, server, connection.connection.dbapi_connection)
        if stage.cluster.engine == "postgresql":
            with pytest.raises(exc.DBAPIError):
                result.all()
        else:
            # The rest had been sent already, so that it may be whole: it is never run twice.
            with contextlib.suppress(exc.DBAPIError):
                assert result.all() == [11, 12, 20, 21, 22]
        session.rollback()
        assert names(session) == ["a1", "a2"]


def test_a_server_that_refuses_everybody_is_left(stage: Stage) -> None:
    """Neither dead nor hanging: it ends everybody's connections, and in offline_mode lets nobody in."""
    c = stage.cluster
    if c.engine == "mariadb":
        pytest.skip("MariaDB has no such mode")
    refuse, accept = {
        "mysql": ("SET GLOBAL offline_mode = ON", "SET GLOBAL offline_mode = OFF"),
        "postgresql": (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
            "SELECT 1",
        ),
    }[c.engine]
    with RoutingSession(router=stage.router) as session:
        assert names(session) == ["a1", "a2"]
        server = next(each for each in c.servers if each.name == session._scope.pinned)
        try:
            run(server.admin_url, refuse)
            for _ in range(3):
                assert names(session) == ["a1", "a2"]
                session.commit()
        finally:
            run(server.admin_url, accept)


def test_a_pool_that_is_used_up_sends_its_reads_elsewhere(stage: Stage) -> None:
    """Nothing is wrong with the server: it is not taken out."""
    router = stage.router
    first, second = (router.replica_engine(each.name) for each in stage.cluster.replicas)
    for engine in (first, second):
        engine.pool._timeout = 0.05  # type: ignore[attr-defined]
    with RoutingSession(router=router) as session:
        names(session)
        pinned = session._scope.pinned
        session.commit()
        held = [first.connect() for _ in range(first.pool.size() + first.pool._max_overflow)]  # type: ignore[attr-defined]
        try:
            for _ in range(8):
                assert names(session) == ["a1", "a2"]
                session.commit()
        finally:
            for connection in held:
                connection.close()
        assert pinned is not None
    assert len(router.topology.eligible) == 2
