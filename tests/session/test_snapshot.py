"""replica_transactions: each read on a replica sees the newest there, or all reads of a transaction see one moment."""

from __future__ import annotations

from contextvars import copy_context

import pytest
from sqlalchemy import insert, select, text, update

from rds_router import Kind, Statement
from tests.session.conftest import MakeStage
from tests.session.models import User, users
from tests.session.stage import Stage

A_READ = select(User.name).where(User.id == 1)


def change_name(stage: Stage, name: str) -> None:
    """On the primary, by somebody else, and at once on the replicas."""
    assert stage.cluster is not None

    def change() -> None:
        with stage.router.primary.begin() as connection:
            connection.execute(update(users).where(users.c.id == 1).values(name=name))

    copy_context().run(change)
    stage.cluster.wait_caught_up()


@pytest.mark.parametrize(("transactions", "second"), [("autocommit", "later"), ("snapshot", "ann")])
def test_what_a_second_read_of_a_transaction_sees(on_mariadb: MakeStage, transactions: str, second: str) -> None:
    stage = on_mariadb(policy={"replica_transactions": transactions})
    session = stage.session()
    with stage.watching() as seen:
        assert session.scalar(A_READ) == "ann"
        change_name(stage, "later")
        assert session.scalar(A_READ) == second
        session.commit()
        assert session.scalar(A_READ) == "later"
    assert [part for ran, part in zip(seen.statements, seen.parts, strict=True) if ran.sql.startswith("SELECT")] == [
        "replica"
    ] * 3


@pytest.mark.parametrize("transactions", ["autocommit", "snapshot"])
def test_a_replica_connection_stays_guarded_from_transaction_to_transaction(
    make_stage: MakeStage, transactions: str
) -> None:
    """The reset between two uses, a rollback, must not undo the guard."""
    stage = make_stage(policy={"replica_transactions": transactions})
    an_insert = text("INSERT INTO rt_user (id, name) VALUES (11, 'eva')")
    for number in range(3):
        session = stage.session()
        session.scalar(A_READ)
        session.rollback()
        stage.router._classifier.learn(an_insert, Statement(Kind.READ, "a mistake"))
        with stage.watching() as seen:
            session.execute(an_insert)
            session.rollback()
        assert seen.parts == ["replica", "primary"], number
    assert stage.on_server(0, "SELECT count(*) FROM rt_user") == 3


@pytest.mark.parametrize("transactions", ["autocommit", "snapshot"])
def test_a_read_then_a_write_commits_both_and_leaves_nothing_open(make_stage: MakeStage, transactions: str) -> None:
    stage = make_stage(policy={"replica_transactions": transactions})
    session = stage.session()
    session.scalar(A_READ)
    session.execute(insert(users).values(id=11, name="eva"))
    session.commit()
    assert stage.on_server(0, "SELECT name FROM rt_user WHERE id = 11") == "eva"
    for engine in stage.router._engines._all():
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # QueuePool has it
