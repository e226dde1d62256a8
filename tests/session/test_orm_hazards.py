"""Objects and replicas on real servers: what the ORM reads by itself, lost updates, and links to what is new."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import Session

from rds_router import RoutingSession, StaleRead
from rds_router.events import MissConfirmed
from rds_router.failover import run_transaction
from rds_router.lab import Cluster
from tests.session.conftest import MakeStage
from tests.session.models import Account, Base, Post, User, seed
from tests.session.stage import Stage

MakeBehind = Any
"""``(policy={...})`` -> a Stage whose replicas stand still, and are believed to be well."""


@pytest.fixture(scope="module", params=["mariadb", "mysql", "postgresql"])
def cluster_with_tables(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The shared cluster of each engine."""
    cluster: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    if request.param != "mysql":
        request.getfixturevalue(f"{request.param}_tables")  # the run's own, which others use too
        yield cluster
        return
    engine = create_engine(cluster.primary.url)
    Base.metadata.create_all(engine)
    yield cluster
    Base.metadata.drop_all(engine)
    engine.dispose()
    cluster.wait_caught_up()


@pytest.fixture
def make_behind(cluster_with_tables: Cluster) -> Iterator[MakeBehind]:
    cluster = cluster_with_tables
    engine = create_engine(cluster.primary.url)
    with engine.begin() as connection:
        seed(connection)
    cluster.wait_caught_up()
    for replica in cluster.replicas:
        cluster.pause_replication(replica)
    urls = [cluster.primary.url, *(replica.url for replica in cluster.replicas)]
    with contextlib.ExitStack() as opened:

        def make(**policy: Any) -> Stage:
            stage = Stage(
                urls,
                cluster=cluster,
                policy={"unknown_lag": "allow", "max_lag": 3000.0, "hard_max_lag": 3000.0, **policy},
            )
            return opened.enter_context(contextlib.closing(stage))

        try:
            yield make
        finally:
            for replica in cluster.replicas:
                cluster.resume_replication(replica)
            engine.dispose()
    cluster.wait_caught_up()


def elsewhere(stage: Stage, **values: Any) -> None:
    """Somebody else's commit, which no replica has."""
    with stage.session() as other:
        other.execute(update(Account).where(Account.id == 1).values(**values))
        other.commit()


def balance(stage: Stage) -> int:
    return int(stage.on_server(0, "SELECT balance FROM rt_account WHERE id = 1"))


# --- what the ORM reads by itself after a commit


def test_what_the_orm_reads_after_a_commit_is_what_was_written(make_behind: MakeBehind) -> None:
    """Expired attributes, refresh(), get(), lazy loads and merge() of an object just written: never the older state."""
    stage = make_behind()
    session = stage.session()
    user = session.get_one(User, 1)
    user.name = "anna"
    user.posts.append(Post(id=11, title="third"))
    session.commit()
    assert user.name == "anna", "the reload of what expired"
    session.commit()
    session.refresh(user)
    assert user.name == "anna"
    session.commit()
    assert [post.title for post in user.posts] == ["first", "second", "third"], "a lazy load"
    session.expunge_all()
    session.commit()
    found = session.get(Post, 11)
    assert found is not None
    assert found.user.name == "anna", "get() right after the commit, and its parent"
    session.commit()
    with stage.watching() as seen:
        merged = session.merge(User(id=1, name="anne"))
        session.commit()
    assert set(seen.parts) == {"primary"}
    assert merged.name == "anne"


# --- lost updates


class Purse(Base):
    """An Account without SQLAlchemy's own guard against lost updates."""

    __table__ = Account.__table__


def spend(session: RoutingSession, amount: int) -> None:
    """Read on a replica, compute, write on the primary."""
    purse: Any = session.get_one(Purse, 1)
    purse.balance = purse.balance - amount
    session.commit()


def test_allow_loses_an_update_through_a_stale_replica(make_behind: MakeBehind) -> None:
    """The hazard itself: 60 were taken elsewhere, and are there again."""
    stage = make_behind(stale_writes="allow")
    elsewhere(stage, balance=40)
    spend(stage.session(), 10)
    assert balance(stage) == 90


def test_check_prevents_it(make_behind: MakeBehind) -> None:
    """StaleRead says which value of which object; nothing was written; read on the primary, the change goes through."""
    stage = make_behind(stale_writes="check")
    elsewhere(stage, balance=40)
    session = stage.session()
    with stage.watching() as seen, pytest.raises(StaleRead) as raised:
        spend(session, 10)
    assert str(raised.value) == (
        "Purse(1).balance: read on a replica, and another value on the primary by now, so the change rests on what "
        "is no longer true: read it on the primary (with_for_update=True, or inside using_primary()) and change it "
        "again, or let run_transaction() do so"
    )
    assert raised.value.objects == ("Purse(1)",)
    assert seen.parts == ["replica", "primary"]
    assert "FOR UPDATE" in seen.statements[1].sql
    session.rollback()
    assert balance(stage) == 40
    with session.using_primary():
        spend(session, 10)
    assert balance(stage) == 30


def test_check_lets_pass_what_is_still_true(make_behind: MakeBehind) -> None:
    """One locking SELECT for a class, whatever the number of its rows; the lock holds until the commit."""
    stage = make_behind(stale_writes="check")
    session = stage.session()
    account: Any = session.get_one(Purse, 1)
    people = session.scalars(select(User).order_by(User.id)).all()
    account.balance = 7
    for person in people:
        person.name = person.name.upper()
    with stage.watching() as seen:
        session.commit()
    locking = [ran.sql for ran in seen.statements if "FOR UPDATE" in ran.sql]
    assert len(locking) == 2
    assert stage.on_server(0, "SELECT name FROM rt_user WHERE id = 3") == "CEM"
    assert balance(stage) == 7


# --- stale_writes, in detail


@pytest.fixture
def checked(on_sqlite: MakeStage) -> Stage:
    return on_sqlite(policy={"stale_writes": "check"})


def on_primary(stage: Stage, sql: str) -> None:
    """Behind everybody's back."""
    stage.on_server(0, sql)


def test_a_row_that_is_gone_from_the_primary_is_stale(checked: Stage) -> None:
    session = checked.session()
    session.get_one(User, 3).name = "cemal"
    on_primary(checked, "DELETE FROM rt_user WHERE id = 3")
    with pytest.raises(StaleRead, match=r"^User\(3\): read on a replica"):
        session.flush()


def test_to_delete_it_rests_on_what_was_read_too(checked: Stage) -> None:
    session = checked.session()
    session.delete(session.get_one(User, 3))
    on_primary(checked, "UPDATE rt_user SET name = 'x' WHERE id = 3")
    with pytest.raises(StaleRead, match=r"^User\(3\)\.name"):
        session.flush()


def test_a_member_that_a_collection_loses_is_changed_too(checked: Stage) -> None:
    session = checked.session()
    user = session.get_one(User, 1)
    user.posts.remove(user.posts[0])
    on_primary(checked, "UPDATE rt_post SET title = 'x' WHERE id = 1")
    with pytest.raises(StaleRead, match=r"^Post\(1\)\.title"):
        session.flush()


def test_what_was_read_on_the_primary_is_not_compared(checked: Stage) -> None:
    """Nor what was read anew there, nor what was never changed."""
    session = checked.session()
    session.scalars(select(User)).all()  # the transaction reads on a replica
    users = [session.get_one(User, number, with_for_update=True, populate_existing=True) for number in (1, 2)]
    for user in users:
        user.name = "x"
    with checked.watching() as seen:
        session.flush()
    assert not [ran for ran in seen.statements if ran.sql.startswith("SELECT")]


def test_rows_fetched_after_another_statement_know_their_server(checked: Stage) -> None:
    """The result of the replica's statement is consumed after one on the primary has run."""
    session = checked.session()
    result = session.scalars(select(User).where(User.id == 1))
    session.execute(select(Account).with_for_update()).all()
    result.one().name = "x"
    on_primary(checked, "UPDATE rt_user SET name = 'y' WHERE id = 1")
    with pytest.raises(StaleRead, match=r"^User\(1\)\.name"):
        session.flush()


def test_an_object_keeps_its_mark_from_session_to_session(checked: Stage) -> None:
    """Detached, it is as old as it was."""
    with checked.session() as first:
        user = first.get_one(User, 1)
    session = checked.session()
    session.add(user)
    user.name = "x"
    on_primary(checked, "UPDATE rt_user SET name = 'y' WHERE id = 1")
    with pytest.raises(StaleRead):
        session.commit()


def test_what_expired_is_read_again(checked: Stage) -> None:
    """Once read on the primary the object is as good as its row there."""
    session = checked.session()
    user = session.get_one(User, 1)
    session.commit()
    on_primary(checked, "UPDATE rt_user SET name = 'y' WHERE id = 1")
    with session.using_primary():
        assert user.name == "y"
    user.name = "x"
    session.commit()
    assert checked.on_server(0, "SELECT name FROM rt_user WHERE id = 1") == "x"


def test_run_transaction_reads_on_the_primary_and_repeats(checked: Stage) -> None:
    def rename(session: RoutingSession) -> str:
        user = session.get_one(User, 1)
        user.name = f"{user.name}!"
        return user.name

    on_primary(checked, "UPDATE rt_user SET name = 'y' WHERE id = 1")
    assert run_transaction(checked.session, rename) == "y!"
    assert checked.on_server(0, "SELECT name FROM rt_user WHERE id = 1") == "y!"


def test_refuse_forbids_the_change(on_sqlite: MakeStage) -> None:
    """Of what was read on a replica; of what was read on the primary it does not."""
    stage = on_sqlite(policy={"stale_writes": "refuse"})
    session = stage.session()
    session.get_one(User, 1).name = "x"
    with pytest.raises(StaleRead, match=r"^User\(1\) changed after being read on a replica, which stale_"):
        session.commit()
    session.rollback()
    with session.using_primary():
        session.get_one(User, 1).name = "x"
        session.commit()
    assert stage.on_server(0, "SELECT name FROM rt_user WHERE id = 1") == "x"


def test_allow_asks_nothing_and_marks_nothing(on_sqlite: MakeStage) -> None:
    stage = on_sqlite()
    session = stage.session()
    user = session.get_one(User, 1)
    user.name = "x"
    with stage.watching() as seen:
        session.commit()
    assert [ran.sql.split()[0] for ran in seen.statements] == ["UPDATE"]
    assert "rds_origin" not in user._sa_instance_state.__dict__


# --- a miss is confirmed


def test_a_fresh_link_is_found(make_behind: MakeBehind) -> None:
    """Another client's new row, on no replica yet: found on the primary, and so is what belongs to it; counted."""
    stage = make_behind()
    with stage.session() as author:
        author.add(Post(id=21, user=User(id=22, name="new"), title="fresh"))
        author.commit()
    reader = stage.session()
    with stage.watching() as seen:
        post = reader.get(Post, 21)
        assert post is not None
        assert post.user.name == "new"
    assert seen.parts == ["replica", "primary", "primary"]
    assert [(each.what, each.was_found) for each in stage.told(MissConfirmed)] == [("Post", True)]
    assert stage.router.events.counts["MissConfirmed"] == 1


def test_a_real_miss_is_asked_twice_and_counted(stage: Stage) -> None:
    session = stage.session()
    with stage.watching() as seen:
        assert session.get(User, 99) is None
    assert seen.parts == ["replica", "primary"]
    assert [each.was_found for each in stage.told(MissConfirmed)] == [False]  # type: ignore[attr-defined]
    assert stage.told(MissConfirmed)[0].server == seen.servers[0]  # type: ignore[attr-defined]


def test_query_get_is_confirmed_too(stage: Stage) -> None:
    session = stage.session()
    with stage.watching() as seen, pytest.warns(Warning, match="legacy"):
        assert session.query(User).get(99) is None
    assert seen.parts == ["replica", "primary"]


@pytest.mark.parametrize("how", ["primary", "identity map", "bounded block", "any statement", "held"])
def test_there_is_no_second_question_where_it_would_tell_nothing(stage: Stage, how: str) -> None:
    """The primary itself was asked; nobody was; or the reader said that old answers will do."""
    session = stage.session()
    options: dict[str, Any] = {}
    with contextlib.ExitStack() as opened:
        if how == "primary":
            opened.enter_context(session.using_primary())
        elif how == "bounded block":
            opened.enter_context(session.reading("bounded(3000)"))
        elif how == "any statement":
            options = {"execution_options": {"rds_reads": "any"}}
        elif how == "held":
            session.execute(select(User).with_for_update()).all()
        number = 99
        if how == "identity map":
            held = session.get_one(User, 1)
            number = held.id
        with stage.watching() as seen:
            assert (session.get(User, number, **options) is None) is (number == 99)
    assert len(seen.statements) == (0 if how == "identity map" else 1)
    assert not stage.told(MissConfirmed)


def test_confirm_misses_can_be_turned_off(on_sqlite: MakeStage) -> None:
    stage = on_sqlite(policy={"confirm_misses": False})
    with stage.watching() as seen:
        assert stage.session().get(User, 99) is None
    assert seen.parts == ["replica"]


def test_a_plain_session_confirms_nothing(on_sqlite: MakeStage) -> None:
    stage = on_sqlite(replicas=0)
    with stage.watching() as seen:
        assert stage.session().get(User, 99) is None
    assert len(seen.statements) == 1


def test_merge_of_what_is_new_is_not_compared(checked: Stage) -> None:
    """Nothing was loaded, so nothing is marked: not in this session, nor in any other of the process."""
    for session in (checked.session(), Session(checked.router.primary_engine())):
        merged = session.merge(User(id=50, name="dora"))
        assert merged in session.new
        loaded = session.get_one(User, 1)
        session.execute(update(User).where(User.id == 1).values(name="x"))  # tells of a refresh without a context
        assert loaded.name == "x"
        session.rollback()
        session.close()
