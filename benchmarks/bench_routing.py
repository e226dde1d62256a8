"""What routing costs: CPU time a statement against a plain Session, paired and interleaved.

    python benchmarks/bench_routing.py

SQLite in memory answers, so that the database costs as little as it can and routing shows as much as it can. The
replica is the same database under a second engine; the topology is fixed, no monitor runs. The budget stands in the
design: an ORM statement 8 us, text 2 us, get_bind alone 1.5 us. An A/A pair tells the noise: the interval of a
difference that is inside of it says nothing. Exit code 1 if a budget is broken beyond the noise.
"""

# The budget of the design, in microseconds. A whole session has none: it also checks out the replica's connection.

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paired import Difference, compare
from sqlalchemy import String, create_engine, insert, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import QueuePool, StaticPool

from rds_router import Router, RoutingPolicy, RoutingSession
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.scope import FRESH


class Base(DeclarativeBase):
    pass


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(80))


@contextmanager
def routers(replicas: int = 1) -> Iterator[tuple[Engine, Router]]:
    """A plain engine, and a router with replicas that are always eligible."""
    # A fixed topology: the monitor is told to wait an hour, and news is given by hand.
    policy = RoutingPolicy(probe_interval=3600, guard=False)
    plain = create_engine("sqlite://", poolclass=StaticPool)
    router = Router(
        f"sqlite:///file:primary-of-{replicas}?mode=memory&cache=shared&uri=true",
        [
            f"sqlite:///file:replica-{number}-of-{replicas}?mode=memory&cache=shared&uri=true"
            for number in range(replicas)
        ],
        policy=policy,
        engine_options={"poolclass": StaticPool} if replicas == 1 else {"poolclass": QueuePool},
    )
    router._is_awake = True
    now = time.monotonic()
    for seen in router.topology.servers:
        role = Role.PRIMARY if seen.server.is_primary else Role.REPLICA
        report = Report(role, lag=0.0, is_writable=role is Role.PRIMARY)
        router._observe(Observation(seen.server.name, now, report), router.dialect)
    engines = [router._engines.get(seen.server.name, "replica") for seen in router.topology.eligible]
    for engine in (plain, router.primary_engine(), *engines):
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


def first_question(session: RoutingSession) -> Callable[[], object]:
    """get_bind as the first read of a session meets it: nothing is pinned yet."""
    by_key = select(Post).where(Post.id == 7)

    def ask() -> object:
        session._scope, session._pin = FRESH, None
        return session.get_bind(Post, clause=by_key)

    return ask


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


BUDGETS = {
    "ORM select": 8.0,
    "Core select": 8.0,
    "text": 2.0,
    "get_bind, ORM": 1.5,
    "get_bind, text": 1.5,
    "get_bind, first of a session": 1.5,
    "get_bind, first, of 3 idle replicas": 1.5,
    "get_bind, first, of 3 busy replicas": 1.5,
}


def main() -> list[Difference]:
    """Measure, print, and fail if a budget is broken beyond the noise."""
    results: list[Difference] = []
    with routers() as (plain, router):
        plain_factory = sessionmaker(plain)
        routed_factory = sessionmaker(class_=RoutingSession, router=router)
        with plain_factory() as a, plain_factory() as other, routed_factory() as b:
            base, twin, routed = questions(a), questions(other), questions(b)
            results.append(compare("A/A: ORM select", base["ORM select"], twin["ORM select"]))
            results += [compare(name, base[name], routed[name]) for name in base]
            results.append(compare("get_bind, first of a session", base["get_bind, ORM"], first_question(b)))
        with plain_factory() as a, routers(3) as (_, choosing), RoutingSession(router=choosing) as b:
            base = questions(a)["get_bind, ORM"]
            results.append(compare("get_bind, first, of 3 idle replicas", base, first_question(b)))
            busy = [engine.connect() for engine in choosing._engines._all()]
            results.append(compare("get_bind, first, of 3 busy replicas", base, first_question(b)))
            for connection in busy:
                connection.close()
        base, routed = transactions(plain_factory), transactions(routed_factory)
        results += [compare(name, base[name], routed[name]) for name in base]
    noise = max(abs(results[0].low), abs(results[0].high)) * 1e6
    broken = []
    for each in results:
        budget = BUDGETS.get(each.name)
        is_within = budget is None or each.low * 1e6 <= budget + (noise if budget > 1.5 else 0.0)
        verdict = "" if budget is None else f"   {'within' if is_within else 'OVER'} {budget:g} us"
        print(f"{each}{verdict}")
        if not is_within:
            broken.append(each.name)
    if broken:
        raise SystemExit(f"over budget: {', '.join(broken)}")
    return results


if __name__ == "__main__":
    main()
