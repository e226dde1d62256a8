"""What routing costs: CPU time a statement against a plain Session, paired and interleaved.

    python benchmarks/bench_routing.py

SQLite in memory answers, so that the database costs as little as it can and routing shows as much as it can. The
replica is the same database under a second engine; the topology is fixed, no monitor runs. The budget stands in the
design: an ORM statement 8 us, cached text 2 us, get_bind alone 1.5 us. An A/A pair tells the noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paired import Difference, compare
from sqlalchemy import String, create_engine, insert, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import StaticPool

from rds_router import Router, RoutingPolicy, RoutingSession
from rds_router.core.observation import Observation, Report, Role


class Base(DeclarativeBase):
    pass


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(80))


@contextmanager
def routers() -> Iterator[tuple[Engine, Router]]:
    """A plain engine, and a router with one replica that is always eligible."""
    # A fixed topology: the monitor is told to wait an hour, and news is given by hand.
    policy = RoutingPolicy(probe_interval=3600, guard=False)
    plain = create_engine("sqlite://", poolclass=StaticPool)
    router = Router(
        "sqlite:///file:primary?mode=memory&cache=shared&uri=true",
        ["sqlite:///file:replica?mode=memory&cache=shared&uri=true"],
        policy=policy,
        engine_options={"poolclass": StaticPool},
    )
    router._is_awake = True
    now = time.monotonic()
    for seen, role in zip(router.topology.servers, (Role.PRIMARY, Role.REPLICA), strict=True):
        report = Report(role, lag=0.0, is_writable=role is Role.PRIMARY)
        router._observe(Observation(seen.server.name, now, report), router.dialect)
    replica = router._engines.get(router.topology.eligible[0].server.name, "replica")
    for engine in (plain, router.primary_engine(), replica):
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(insert(Post), [{"id": number, "title": f"Post {number}"} for number in range(20)])
    yield plain, router
    router.close()
    plain.dispose()


def questions(session: Session) -> dict[str, Callable[[], object]]:
    """The kinds of statement, each on an open session."""
    by_key = select(Post).where(Post.id == 7)
    titles = select(Post.__table__.c.title).limit(3)
    counting = text("SELECT count(*) FROM posts WHERE title <> :title")
    return {
        "ORM select": lambda: session.scalars(by_key).one(),
        "ORM select, built each time": lambda: session.scalars(select(Post).where(Post.id == 7)).one(),
        "Core select": lambda: session.execute(titles).all(),
        "text": lambda: session.execute(counting, {"title": "x"}).scalar(),
        "get_bind, ORM": lambda: session.get_bind(Post, clause=by_key),
        "get_bind, text": lambda: session.get_bind(clause=counting),
    }


def transactions(make: Callable[[], Session]) -> dict[str, Callable[[], object]]:
    """Whole sessions: what a web request does."""
    by_key = select(Post).where(Post.id == 7)

    def read() -> None:
        with make() as session:
            session.scalars(by_key).one()

    def write() -> None:
        with make() as session:
            session.get_one(Post, 7).title = str(time.perf_counter_ns())
            session.commit()

    return {"session with one read": read, "session with get and flush": write}


def main() -> list[Difference]:
    """Measure and print."""
    results: list[Difference] = []
    with routers() as (plain, router):
        plain_factory = sessionmaker(plain)
        routed_factory = sessionmaker(class_=RoutingSession, router=router)
        with plain_factory() as a, plain_factory() as other, routed_factory() as b:
            base, twin, routed = questions(a), questions(other), questions(b)
            results.append(compare("A/A: ORM select", base["ORM select"], twin["ORM select"]))
            results += [compare(name, base[name], routed[name]) for name in base]
        base, routed = transactions(plain_factory), transactions(routed_factory)
        results += [compare(name, base[name], routed[name]) for name in base]
    for each in results:
        print(each)
    return results


if __name__ == "__main__":
    main()
