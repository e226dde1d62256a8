"""Ordinary sessions on ``router.primary`` and ``router.reader``: one connection, one transaction."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import sessionmaker

from tests.session.models import User
from tests.session.stage import Stage

COUNT = select(func.count()).select_from(User)


def test_a_session_on_the_primary_is_one_transaction(stage: Stage) -> None:
    """What it has flushed it reads; a second flush and a savepoint join; a rollback undoes all of it."""
    with sessionmaker(stage.router.primary)() as session:
        before = session.scalar(COUNT)
        session.add(User(id=901, name="first"))
        session.flush()
        session.add(User(id=902, name="second"))
        session.flush()
        with session.begin_nested():
            session.add(User(id=903, name="third"))
        assert session.scalar(COUNT) == before + 3  # type: ignore[operator]
        session.rollback()
        assert session.scalar(COUNT) == before


def test_a_session_on_the_reader_has_one_connection(stage: Stage) -> None:
    with sessionmaker(stage.router.reader)() as session, stage.watching() as seen:
        for _ in range(40):
            session.scalar(COUNT)
    assert len(set(seen.servers)) == 1
    assert all(stage.router._engines.in_use(name) == 0 for name in set(seen.servers))


def test_two_such_sessions_are_apart(stage: Stage) -> None:
    with sessionmaker(stage.router.primary)() as one, sessionmaker(stage.router.primary)() as other:
        assert one.connection() is one.connection()
        assert one.connection() is not other.connection()
        assert one.connection().engine == stage.router.primary == other.connection().engine
        assert one.connection().engine.pool is stage.router.primary_engine().pool


def test_a_connection_that_broke_opens_anew_where_it_was(stage: Stage) -> None:
    """Whatever the primary of the moment is by then."""
    with stage.router.primary.connect() as connection:
        connection.invalidate()
        assert connection.scalar(COUNT) is not None
        assert connection.engine.url == stage.router.primary_engine().url


@pytest.mark.parametrize("times", [1, 3])
def test_begin_commits_once(stage: Stage, times: int) -> None:
    with stage.watching() as seen:
        for _ in range(times):
            with stage.router.primary.begin() as connection:
                connection.execute(COUNT)
    assert [step for _, step in seen.steps] == ["BEGIN", "COMMIT"] * times
