"""A do_orm_execute listener that puts another statement in place: that one is routed (R1)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, insert, select, update

from tests.session.models import User
from tests.session.stage import Stage

users = User.__table__


def test_a_core_select_that_becomes_a_locking_read_is_on_the_primary(stage: Stage) -> None:
    session = stage.session()

    @event.listens_for(session, "do_orm_execute")
    def lock(state: Any) -> None:
        state.statement = state.statement.with_for_update()

    with stage.watching() as seen:
        session.execute(select(users))
    session.rollback()
    assert seen.parts == ["primary"]


@pytest.mark.parametrize("is_late", [False, True])
def test_a_core_select_that_becomes_a_write_is_on_the_primary(stage: Stage, is_late: bool) -> None:
    """Also if the listener comes after the session's first statement; and no shape is learned as a write."""
    session = stage.session()
    plain = select(users.c.id).where(users.c.id == 1)
    if is_late:
        event.listen(session, "do_orm_execute", lambda state: None)
        session.execute(plain)
        session.rollback()

    @event.listens_for(session, "do_orm_execute")
    def write(state: Any) -> None:
        state.statement = insert(users).values(id=940, name="made of a select")

    with stage.watching() as seen:
        session.execute(plain)
    session.rollback()
    assert seen.parts == ["primary"]
    assert not stage.router.healed_shapes
    with stage.watching() as seen:
        stage.session().execute(plain)
    assert seen.parts == ["replica"]


def test_a_write_that_becomes_a_read_is_on_a_replica(stage: Stage) -> None:
    session = stage.session()

    @event.listens_for(session, "do_orm_execute")
    def read(state: Any) -> None:
        state.statement = select(users.c.id)

    with stage.watching() as seen:
        session.execute(update(users).values(name="never"))
    session.rollback()
    assert seen.parts in (["replica"], ["primary"])
    assert seen.statements[0].sql.startswith("SELECT")


def test_a_listener_that_runs_the_statement_itself(stage: Stage) -> None:
    session = stage.session()

    @event.listens_for(session, "do_orm_execute")
    def invoke(state: Any) -> Any:
        return state.invoke_statement(statement=state.statement.with_for_update())

    with stage.watching() as seen:
        session.execute(select(users.c.id))
    session.rollback()
    assert seen.parts == ["primary"]


def test_the_last_word_is_said_once(stage: Stage) -> None:
    """However many statements there are, one listener of ours."""
    session = stage.session()
    event.listen(session, "do_orm_execute", lambda state: None)
    for _ in range(3):
        session.execute(select(users.c.id))
    assert len([*session.dispatch.do_orm_execute]) == 2
