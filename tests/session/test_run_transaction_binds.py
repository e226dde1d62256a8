"""run_transaction() with a database beside the router's: no mark speaks for that one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from rds_router import RoutingSession
from rds_router.errors import CommitInDoubt
from rds_router.failover import run_transaction
from tests.session.conftest import MakeStage


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


def test_a_lost_commit_of_another_database_is_in_doubt_and_not_run_again(on_sqlite: MakeStage, tmp_path: Path) -> None:
    stage = on_sqlite()
    other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    Base.metadata.create_all(other)
    ran: list[int] = []

    @event.listens_for(other, "commit")
    def commit(connection: Any) -> None:
        connection.connection.dbapi_connection.commit()  # it is done, and its answer is lost
        lost = OperationalError("COMMIT", None, Exception("lost"), connection_invalidated=True)
        raise lost

    def work(session: RoutingSession) -> None:
        ran.append(1)
        session.add(Note(id=len(ran)))

    Session = sessionmaker(class_=RoutingSession, router=stage.router, binds={Note: other})
    with pytest.raises(CommitInDoubt, match="several databases"):
        run_transaction(Session, work)
    assert ran == [1]
    event.remove(other, "commit", commit)
    with other.connect() as connection:
        assert connection.execute(select(Note.id)).scalars().all() == [1]
    other.dispose()
