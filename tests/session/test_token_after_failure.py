"""``session.token`` and its kin never raise, and tell enough: a response that tells of an error carries a token too."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rds_router import Router, RoutingSession, failover, run_transaction
from tests.session.stage import make_files


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize("name", ["token", "seen"])
def test_a_session_that_waits_for_its_rollback_tells_its_token(name: str, tmp_path: Path) -> None:
    """What it wrote before counts, and a failed flush does not turn the question into an error."""
    primary, *replicas = make_files(tmp_path)
    router = Router(primary, replicas)
    with router, RoutingSession(router=router) as session:
        session.execute(text("CREATE TABLE things (id INTEGER PRIMARY KEY)"))
        session.add(Thing(id=1))
        session.commit()
        assert router.refresh(30)  # the other file is no replica: the primary stays what it is
        assert router.refresh(30)
        session.add(Thing(id=1))
        with pytest.raises(IntegrityError):
            session.flush()
        assert not session.is_active
        assert getattr(session, name) is not None


def test_a_commit_whose_fate_was_asked_for_is_read_behind_from_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its COMMIT may have been carried out after the client had the error, and before it had the answer."""
    made: list[RoutingSession] = []
    answered_at = 0.0

    def make_session() -> RoutingSession:
        made.append(RoutingSession(router=router))
        return made[-1]

    def fail(connection: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("gone"), connection_invalidated=True)

    def answered(attempt: object, mark: object, error: object) -> bool:
        nonlocal answered_at
        answered_at = router.clock()
        return True

    monkeypatch.setattr(failover._Attempt, "_was_committed", answered)
    primary, *replicas = make_files(tmp_path)
    with Router(primary, replicas) as router:
        Base.metadata.create_all(router.primary_engine())
        event.listen(router.primary_engine(), "commit", fail)
        run_transaction(make_session, lambda session: session.add(Thing(id=1)))
        token = made[-1]._scope.token
        assert len(made) == 1
        assert token is not None
        assert token.at is not None
        assert token.at >= answered_at > 0.0
