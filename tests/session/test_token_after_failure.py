"""``session.token`` and ``session.seen`` never raise: a response that tells of an error carries a token too."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rds_router import Router, RoutingSession


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize("name", ["token", "seen"])
def test_a_session_that_waits_for_its_rollback_tells_its_token(name: str, tmp_path: Path) -> None:
    """What it wrote before counts, and a failed flush does not turn the question into an error."""
    router = Router(f"sqlite:///{tmp_path}/p.db", [f"sqlite:///{tmp_path}/r.db"])
    with router, RoutingSession(router=router) as session:
        session.execute(text("CREATE TABLE things (id INTEGER PRIMARY KEY)"))
        session.add(Thing(id=1))
        session.commit()
        session.add(Thing(id=1))
        with pytest.raises(IntegrityError):
            session.flush()
        assert not session.is_active
        assert getattr(session, name) is not None
