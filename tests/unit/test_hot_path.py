"""The hot path's budget, guarded by counted calls: time would tell nothing on a busy machine.

What a statement costs is measured by benchmarks/routing.py; a step that somebody adds to each statement shows
here at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, Session, mapped_column

import rds_router
from rds_router import Router, RoutingSession, stale_writes
from rds_router.testing import fixed_router

OURS = str(Path(rds_router.__file__).parent)


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(autouse=True)
def _nobody_examines_writes() -> Iterator[None]:
    """A router with stale_writes="check", made by another test, has every load of the process listened to."""
    listening = [each for each in stale_writes.LISTENERS if event.contains(Mapper, *each)]
    for each in listening:
        event.remove(Mapper, *each)
    yield
    if listening:
        stale_writes.listen()


@pytest.fixture
def router(tmp_path: Path) -> Any:
    urls = [f"sqlite:///{tmp_path / name}" for name in ("primary.db", "replica.db")]
    for url in urls:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Thing(id=1))
            session.commit()
        engine.dispose()
    with fixed_router(urls[0], urls[1:]) as made:
        yield made


def calls_of_ours(work: Callable[[], object]) -> int:
    """How many Python functions of rds_router one call of ``work`` enters, once everything is remembered."""
    counted = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal counted
        counted += event == "call" and frame.f_code.co_filename.startswith(OURS)

    for _ in range(3):
        work()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


def test_a_read_in_a_running_transaction(router: Router) -> None:
    """execute() and the wrapper, get_bind, route, the verdict, the clock, the capture's question."""
    statement = select(Thing).where(Thing.id == 1)
    with RoutingSession(router=router) as session:
        assert calls_of_ours(lambda: session.scalars(statement).one()) <= 12


def test_a_text_in_a_running_transaction(router: Router) -> None:
    statement = text("SELECT count(*) FROM things")
    with RoutingSession(router=router) as session:
        assert calls_of_ours(lambda: session.execute(statement).scalar()) <= 12


def test_a_statement_after_a_write(router: Router) -> None:
    """Nothing is judged, nothing is decided: it goes where the write went."""
    statement = select(Thing).where(Thing.id == 1)
    with RoutingSession(router=router) as session:
        session.execute(text("UPDATE things SET id = id"))
        assert calls_of_ours(lambda: session.scalars(statement).one()) <= 8


def test_a_whole_session_of_one_read(router: Router) -> None:
    statement = select(Thing).where(Thing.id == 1)

    def request() -> None:
        with RoutingSession(router=router) as session:
            session.scalars(statement).one()

    assert calls_of_ours(request) <= 25


def test_without_replicas_a_session_asks_for_the_engine_only(tmp_path: Path) -> None:
    """R8: next to nothing is added."""
    engine = create_engine(f"sqlite:///{tmp_path / 'only.db'}")
    Base.metadata.create_all(engine)
    engine.dispose()
    statement = select(Thing)
    with Router(f"sqlite:///{tmp_path / 'only.db'}") as alone, RoutingSession(router=alone) as session:
        assert calls_of_ours(lambda: session.scalars(statement).all()) <= 6
