"""Statements on SQLite in memory, by a plain Session and a routed one: the database costs as little as it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, select, text
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import StaticPool

from benchmarks.blog_tables import Author, Base, Post, point
from rds_router import RoutingSession
from rds_router.testing import fixed_router

pytestmark = pytest.mark.benchmark(group="statement")
URLS = [f"sqlite:///file:micro-{name}?mode=memory&cache=shared&uri=true" for name in ("plain", "primary", "replica")]


@pytest.fixture(scope="module", params=["plain", "routed"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[], Session]]:
    plain, *kept = (create_engine(url, poolclass=StaticPool) for url in URLS)
    for engine in (plain, *kept):
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(insert(Author), [{"id": 1, "name": "Ada"}])
            connection.execute(insert(Post), [{"id": n, "author_id": 1, "title": f"Post {n}"} for n in range(20)])
    with fixed_router(URLS[1], URLS[2:], engine_options={"poolclass": StaticPool}) as router:
        yield sessionmaker(plain) if request.param == "plain" else sessionmaker(class_=RoutingSession, router=router)
    for engine in (plain, *kept):
        engine.dispose()


def test_orm_select(timed: Callable[..., Any], make: Callable[[], Session]) -> None:
    by_key = point()
    with make() as session:
        timed(lambda: session.scalars(by_key).one(), calls=20)


def test_core_select(timed: Callable[..., Any], make: Callable[[], Session]) -> None:
    titles = select(Post.__table__.c.title).limit(3)
    with make() as session:
        timed(lambda: session.execute(titles).all(), calls=20)


def test_text(timed: Callable[..., Any], make: Callable[[], Session]) -> None:
    counting = text("SELECT count(*) FROM posts WHERE title <> :title")
    with make() as session:
        timed(lambda: session.execute(counting, {"title": "x"}).scalar(), calls=20)


def test_session_with_one_read(timed: Callable[..., Any], make: Callable[[], Session]) -> None:
    by_key = point()

    def read() -> None:
        with make() as session:
            session.scalars(by_key).one()

    timed(read, calls=10)


def test_session_with_get_and_flush(timed: Callable[..., Any], make: Callable[[], Session]) -> None:
    numbers = iter(range(10**9))

    def write() -> None:
        with make() as session:
            session.get_one(Post, 7).title = str(next(numbers))
            session.commit()

    timed(write, calls=10)
