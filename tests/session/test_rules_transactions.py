"""R1 to R4: only reads leave the primary, and what a transaction has done decides for the rest of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateTable, DropTable

from rds_router import RoutingPolicy
from rds_router.core.decision import Reason
from tests.session.conftest import MakeStage
from tests.session.models import Post, User, users
from tests.session.stage import Stage

A_READ = select(User.name).where(User.id == 1)


def new_user(number: int = 11) -> User:
    return User(id=number, name="eva")


# --- R1


def test_r1_ddl_runs_on_the_primary(stage: Stage) -> None:
    from sqlalchemy import Column, Integer, MetaData, Table

    table = Table("rt_made", MetaData(), Column("id", Integer, primary_key=True))
    session = stage.session()
    with stage.watching() as seen:
        session.execute(CreateTable(table))
        session.execute(select(table)).all()
        session.execute(DropTable(table))
        session.commit()
    assert seen.parts == ["primary"] * 3
    assert not any(inspect(stage.router.primary_engine()).has_table(name) for name in ["rt_made"])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; DELETE FROM rt_user",
        "SELECT rt_unheard_of(1)",
        "SELECT 'unfinished",
        "EXPLAIN ANALYZE DELETE FROM rt_user",
        "FROBNICATE ALL",
        "",
    ],
)
def test_r1_text_that_is_not_surely_a_read_is_for_the_primary(stage: Stage, sql: str) -> None:
    assert stage.session().get_bind(clause=text(sql)) is stage.router.primary_engine()


def test_r1_nothing_to_look_at_is_for_the_primary(stage: Stage) -> None:
    """No statement and no mapper: the answer is the primary's engine."""
    assert stage.session().get_bind() is stage.router.primary_engine()
    assert stage.session().get_bind(User) is stage.router.primary_engine()


# --- R2


def test_r2_all_reads_of_a_transaction_come_from_one_replica(stage: Stage) -> None:
    """Over twenty transactions both replicas are used; within one, never two."""
    used = set()
    for _ in range(20):
        session = stage.session()
        with stage.watching() as seen:
            for _ in range(4):
                session.execute(A_READ).all()
            session.commit()
        assert seen.parts == ["replica"] * 4
        assert len(set(seen.servers)) == 1
        used |= set(seen.servers)
    assert used == {"replica-1", "replica-2"}


def test_r2_the_pin_holds_while_news_comes_in(stage: Stage) -> None:
    """Each probe makes a new snapshot; the transaction stays on its replica all the same."""
    session = stage.session()
    with stage.watching() as seen:
        for _ in range(6):
            session.execute(A_READ).all()
            stage.refresh()
    assert len(set(seen.servers)) == 1
    assert set(seen.parts) == {"replica"}


def test_r2_a_pinned_replica_that_falls_behind_is_left_for_the_primary(on_sqlite: MakeStage) -> None:
    """Not for the other replica, which may be behind the first; and not back, when it has recovered."""
    stage = on_sqlite()
    session = stage.session()
    with stage.watching() as seen:
        session.execute(A_READ).all()
        stage.fall_behind(100)
        session.execute(A_READ).all()
        stage.catch_up()
        session.execute(A_READ).all()
        session.commit()
        stage.catch_up()  # with what was seen on the primary
        session.execute(A_READ).all()
    assert seen.parts == ["replica", "primary", "primary", "replica"]


def test_r2_rollback_and_close_end_the_pin(make_stage: MakeStage) -> None:
    """Where nothing is promised of what was seen; else the same replica is preferred."""
    stage = make_stage(policy={"reads": "any"})
    session = stage.session()
    used = set()
    for end in [session.rollback, session.close, session.commit, session.reset] * 5:
        with stage.watching() as seen:
            session.execute(A_READ).all()
        used |= set(seen.servers)
        end()
    assert used == {"replica-1", "replica-2"}


# --- R3


def _flush(session: Session) -> Any:
    session.add(new_user())
    session.flush()


HOLDS: dict[str, Callable[[Session], Any]] = {
    "flush": _flush,
    "DML": lambda s: s.execute(update(User).where(User.id == 1).values(name="x")),
    "text DML": lambda s: s.execute(text("UPDATE rt_user SET name = 'x' WHERE id = 1")),
    "locking read": lambda s: s.execute(A_READ.with_for_update()).all(),
    "connection()": lambda s: s.connection(),
    "merge()": lambda s: s.merge(User(id=1, name="ann")),
    "begin_nested()": lambda s: s.begin_nested(),
}


@pytest.mark.parametrize("name", HOLDS)
def test_r3_holds_until_the_root_transaction_ends(stage: Stage, name: str) -> None:
    """A savepoint's end, by release or rollback, does not end it; the root's end does."""
    session = stage.session()
    session.execute(A_READ).all()
    HOLDS[name](session)
    with stage.watching() as seen:
        session.execute(A_READ).all()
        nested = session.begin_nested()
        session.execute(A_READ).all()
        nested.commit()
        session.execute(A_READ).all()
        nested = session.begin_nested()
        session.execute(A_READ).all()
        nested.rollback()
        session.execute(A_READ).all()
    assert set(seen.parts) == {"primary"}, [str(ran) for ran in seen]
    session.rollback()
    with stage.watching() as seen:
        session.execute(A_READ, execution_options={"rds_route": "replica"}).all()
    assert seen.parts == ["replica"]


def test_r3_with_session_begin_ends_it_too(stage: Stage) -> None:
    """``with session.begin():`` never calls Session.commit(): the transaction's end is what counts."""
    session = stage.session()
    with session.begin():
        session.add(new_user())
    stage.catch_up()
    with stage.watching() as seen, session.begin():
        assert session.get_one(User, 11).name == "eva"
    assert seen.parts == ["replica"]


def test_r3_a_failed_flush_holds_until_rollback(stage: Stage) -> None:
    session = stage.session()
    session.add(User(id=1, name="taken"))
    with pytest.raises(IntegrityError):
        session.flush()
    session.rollback()
    with stage.watching() as seen:
        session.execute(A_READ).all()
    assert seen.parts == ["replica"]
    assert session.token is None


def test_r3_a_savepoint_that_failed_leaves_the_rest_on_the_primary(stage: Stage) -> None:
    session = stage.session()
    with stage.watching() as seen:
        session.execute(A_READ).all()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(User(id=1, name="taken"))
        session.execute(A_READ).all()
        session.add(new_user())
        session.commit()
    assert seen.parts == ["replica", "primary", "primary", "primary"]
    assert stage.on_server(0, "SELECT count(*) FROM rt_user") == 4


def test_r3_no_savepoint_ever_reaches_a_replica(stage: Stage) -> None:
    """A connection in AUTOCOMMIT has none: its RELEASE would be an error."""
    session = stage.session()
    with stage.watching() as seen:
        with session.begin_nested():
            session.execute(A_READ).all()
        session.commit()
        session.execute(A_READ).all()
        with session.begin_nested():
            session.execute(A_READ).all()
        session.commit()
    assert {part for part, step in seen.steps if "SAVEPOINT" in step or step == "RELEASE"} == {"primary"}


def test_r3_autoflush_comes_before_the_decision(stage: Stage) -> None:
    """A read that flushes what is pending first sees it, on the primary."""
    session = stage.session()
    session.add(new_user())
    with stage.watching() as seen:
        assert session.scalars(select(User).where(User.name == "eva")).one().id == 11
    assert seen.parts == ["primary", "primary"]


def test_r3_pending_changes_do_not_move_reads_that_do_not_flush(stage: Stage) -> None:
    session = stage.session()
    session.add(new_user())
    with stage.watching() as seen, session.no_autoflush:
        assert session.scalars(select(User).where(User.name == "eva")).all() == []
    assert seen.parts == ["replica"]


def test_r3_two_phase_transactions_stay_on_the_primary(on_mariadb: MakeStage) -> None:
    """XA must not run on a replica."""
    stage = on_mariadb()
    session = stage.session(twophase=True)
    with stage.watching() as seen:
        session.execute(A_READ).all()
        session.add(new_user())
        session.prepare()
        session.commit()
    assert {ran.part for ran in seen} == {"primary"}
    assert ("primary", "XA COMMIT") in seen.steps
    assert stage.on_server(0, "SELECT name FROM rt_user WHERE id = 11") == "eva"


# --- R4


def test_r4_the_second_question_of_a_bulk_statement(stage: Stage) -> None:
    """ORM bulk lists ask twice, the second time without a clause, after a read pinned a replica."""
    session = stage.session()
    session.execute(A_READ).all()
    with stage.watching() as seen:
        session.execute(insert(User), [{"id": 11, "name": "eva"}, {"id": 12, "name": "fay"}])
        session.execute(update(User), [{"id": 11, "name": "eve"}])
        session.commit()
    assert set(seen.parts) == {"primary"}
    assert stage.on_server(0, "SELECT count(*) FROM rt_user") == 5


def test_r4_the_select_of_synchronize_session_fetch(stage: Stage) -> None:
    """MariaDB has no UPDATE .. RETURNING: the rows are read first, and must be those that will be changed."""
    session = stage.session()
    with stage.watching() as seen:
        session.execute(
            update(User).where(User.name == "ann").values(name="anna").execution_options(synchronize_session="fetch")
        )
    assert set(seen.parts) == {"primary"}
    assert len(seen.statements) == (2 if stage.has_no_returning else 1)


def test_r4_merge_reads_on_the_primary(stage: Stage) -> None:
    """What the replica does not know yet would be inserted a second time."""
    writer, other = stage.session(), stage.session()
    writer.add(new_user())
    writer.commit()
    with stage.watching() as seen:
        merged = other.merge(User(id=11, name="changed elsewhere"))
        other.commit()
    assert set(seen.parts) == {"primary"}
    assert merged.id == 11
    assert stage.on_server(0, "SELECT name FROM rt_user WHERE id = 11") == "changed elsewhere"


def test_r4_merge_all_reads_on_the_primary(stage: Stage) -> None:
    session = stage.session()
    if not hasattr(Session, "merge_all"):
        pytest.skip("merge_all() is new in SQLAlchemy 2.1")
    with stage.watching() as seen:
        session.merge_all([User(id=1, name="a"), User(id=2, name="b")])
        session.commit()
    assert set(seen.parts) == {"primary"}


@pytest.mark.parametrize("after_write", ["token", "any", "primary"])
@pytest.mark.parametrize("reload", ["refresh", "expired"])
def test_r4_an_object_written_here_can_be_loaded_again(make_stage: MakeStage, after_write: str, reload: str) -> None:
    """Also by who gave up reading his own writes: on a stale replica the object would not exist."""
    stage = make_stage(policy={"after_write": after_write})
    if stage.cluster is not None:
        for replica in stage.cluster.replicas:
            stage.cluster.pause_replication(replica)
    try:
        session = stage.session()
        user = new_user()
        session.add(user)
        session.commit()
        with session.using_replica(), stage.watching() as seen:
            if reload == "refresh":
                session.refresh(user)
            assert user.name == "eva"
    finally:
        if stage.cluster is not None:
            for replica in stage.cluster.replicas:
                stage.cluster.resume_replication(replica)
            stage.cluster.wait_caught_up()
    assert seen.parts == ["primary"]


def test_r4_a_reload_in_a_session_that_wrote_nothing_is_a_read_like_any_other(stage: Stage) -> None:
    session = stage.session()
    post = session.get_one(Post, 1)
    session.commit()
    with stage.watching() as seen:
        assert post.title == "first"
        session.refresh(post)
    assert seen.parts == ["replica", "replica"]


def test_a_decision_tells_what_happened(stage: Stage) -> None:
    """capture() collects the decisions of a block with their reasons, those made by habit too."""
    session = stage.session()
    with stage.router.capture() as routed:
        session.execute(A_READ).all()
        session.execute(A_READ).all()
        session.execute(select(users).with_for_update()).all()
        session.execute(A_READ).all()
    assert [each.decision.reason for each in routed] == [
        Reason.READ,
        Reason.PINNED,
        Reason.NOT_A_READ,
        Reason.HELD,
    ]
    assert isinstance(routed[0].decision.policy, RoutingPolicy)
