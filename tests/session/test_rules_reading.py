"""R5 and R6: nobody reads behind his own writes, and a wish counts the more, the nearer it is to the statement."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import selectinload, subqueryload

from rds_router import Token
from rds_router.testing import Clock
from tests.session.conftest import MakeStage
from tests.session.models import User, users
from tests.session.stage import Stage

A_READ = select(User.name).where(User.id == 1)
COUNT = select(User.id)


def write(session: Any) -> None:
    session.execute(update(User).where(User.id == 1).values(name="anna"))
    session.commit()


# --- R5


def test_r5_reads_after_a_commit_wait_for_a_replica_that_has_it(stage: Stage) -> None:
    """Until a replica is seen to have the write, its author reads on the primary."""
    session = stage.session()
    write(session)
    with stage.watching() as seen:
        assert session.scalar(A_READ) == "anna"
        session.rollback()
        stage.catch_up()
        assert session.scalar(A_READ) == "anna"
    assert seen.parts == ["primary", "replica"]


def test_r5_a_short_wait_finds_the_replica_that_has_it(on_mariadb: MakeStage) -> None:
    """With ``causal_wait`` the reader has the monitor ask at once; on this machine the write is there in no time."""
    stage = on_mariadb(policy={"causal_wait": 5.0})
    session = stage.session()
    write(session)
    with stage.watching() as seen:
        assert session.scalar(A_READ) == "anna"
    assert seen.parts == ["replica"]


def test_r5_a_replica_that_stands_still_is_not_waited_for_longer_than_promised(on_mariadb: MakeStage) -> None:
    stage = on_mariadb(policy={"causal_wait": 0.05})
    assert stage.cluster is not None
    for replica in stage.cluster.replicas:
        stage.cluster.pause_replication(replica)
    try:
        session = stage.session()
        write(session)
        with stage.watching() as seen:
            assert session.scalar(A_READ) == "anna"
            assert session.scalar(A_READ) == "anna"
    finally:
        for replica in stage.cluster.replicas:
            stage.cluster.resume_replication(replica)
    assert seen.parts == ["primary", "primary"]


def test_r5_another_session_is_not_concerned(stage: Stage) -> None:
    """A commit here neither holds another session on the primary nor ends what holds it."""
    writer, reader, holder = stage.session(), stage.session(), stage.session()
    holder.execute(A_READ.with_for_update(read=True)).all()
    holder.rollback()
    with holder.using_primary(), stage.watching() as seen:
        write(writer)
        reader.scalar(A_READ)
        holder.scalar(A_READ)
    assert seen.parts == ["primary", "replica", "primary"]
    assert reader.token is None


def test_r5_a_commit_does_not_end_using_primary(stage: Stage) -> None:
    session = stage.session()
    with session.using_primary(), stage.watching() as seen:
        session.scalar(A_READ)
        session.commit()
        session.scalar(A_READ)
        write(session)
        stage.catch_up()
        session.scalar(A_READ)
        session.rollback()
        session.scalar(A_READ)
    assert set(seen.parts) == {"primary"}
    with stage.watching() as seen:
        session.rollback()
        stage.catch_up()  # with what was seen in the block
        session.scalar(A_READ)
    assert seen.parts == ["replica"]


def test_r5_a_token_passes_from_session_to_session(stage: Stage) -> None:
    """As from request to request: it means the same to another router, located, or behind a proxy by its time."""
    writer, reader = stage.session(), stage.session()
    write(writer)
    token = writer.token
    assert token is not None
    assert (token.position is None, token.time is None) == (stage.is_proxied, not stage.is_proxied)
    assert token.at is None
    reader.read_after(token)
    with stage.watching() as seen:
        assert reader.scalar(A_READ) == "anna"
        reader.rollback()
        stage.catch_up(arrived=True)
        assert reader.scalar(A_READ) == "anna"
    assert seen.parts == ["primary", "replica"]


def test_r5_read_after_within_a_transaction_holds_from_the_next_read_on(stage: Stage) -> None:
    writer, reader = stage.session(), stage.session()
    with stage.watching() as seen:
        reader.scalar(A_READ)
        write(writer)
        reader.read_after(writer.token)
        reader.scalar(A_READ)
    assert seen.parts[0] == "replica"
    assert seen.parts[-1] == "primary"


def test_r5_a_token_passes_as_text(stage: Stage) -> None:
    """Through a queue: sessions made under router.read_after(), and its reader engine, do not read behind it."""
    writer = stage.session()
    write(writer)
    text_of_it = str(writer.token)
    token = Token.parse(text_of_it)
    assert token.cluster == stage.router.cluster
    assert (token.position is None, token.time is None) == (stage.is_proxied, not stage.is_proxied)
    assert stage.is_proxied or token == writer.token  # a time is made of two clocks, read anew
    with stage.watching() as seen, stage.router.read_after(text_of_it):
        assert stage.session().scalar(A_READ) == "anna"
        with stage.router.reader.connect() as connection:
            assert connection.scalar(A_READ) == "anna"
    with stage.watching() as later:
        stage.session().scalar(A_READ)
    assert (seen.servers, later.parts) == (["primary", "primary"], ["replica"])


@pytest.mark.parametrize("brought", ["nonsense", "cluster:another;mariadb:0-1-5", "here:5.0"])
def test_r5_a_token_that_says_nothing_here(make_stage: MakeStage, brought: str) -> None:
    """Unreadable, or another cluster's: the primary for after_write_window, then as for anybody; counted."""
    clock = Clock()
    stage = make_stage(policy={"after_write_window": 5.0, "probe_interval": 3600.0}, clock=clock)
    # Behind a proxy what has been read on the primary counts by time too.
    last = 5.1 if stage.is_proxied else 0.2
    with stage.watching() as seen, stage.router.read_after(brought):
        session = stage.session()
        for seconds in (0.0, 4.9, last):
            clock.advance(seconds)
            stage.catch_up()  # with what was seen on the primary
            session.scalar(A_READ)
            session.rollback()
    assert seen.parts == ["primary", "primary", "replica"]
    assert stage.router.events.counts["TokenIgnored"] == 1


@pytest.mark.parametrize("brought", [None, ""])
def test_r5_no_token_asks_for_nothing(stage: Stage, brought: str | None) -> None:
    with stage.watching() as seen, stage.router.read_after(brought):
        stage.session().scalar(A_READ)
    assert seen.parts == ["replica"]
    assert stage.router.events.counts["TokenIgnored"] == 0


def test_r5_a_time_counts_by_the_primarys_clock(on_sqlite: MakeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica complete to then, and two seconds more, may answer; what this machine's clock says does not matter."""
    stage = on_sqlite()
    stage.catch_up()
    asked_at, clock = stage.router.topology.clock  # type: ignore[misc]
    monkeypatch.setattr("time.time", lambda: 5.0)
    for ago, part in ((10.0, "replica"), (-10.0, "primary")):
        session = stage.session()
        session.read_after(Token(time=clock - ago, cluster=stage.router.cluster))
        assert session._scope.token.at == pytest.approx(asked_at - ago + 2.0, abs=5.0)  # type: ignore[union-attr]
        with stage.watching() as seen:
            session.scalar(A_READ)
        assert seen.parts == [part]


def test_r5_a_token_is_located_once(stage: Stage) -> None:
    session = stage.session()
    assert session.token is None
    write(session)
    token = session.token
    assert token is not None
    with stage.watching() as seen:
        again = session.token
    assert again is not None
    assert seen == []
    assert again.position == token.position
    assert again.time == (pytest.approx(token.time, abs=60) if stage.is_proxied else None)  # two clocks are read


def test_r5_reads_and_rollbacks_leave_no_token(stage: Stage) -> None:
    session = stage.session()
    session.scalar(A_READ)
    session.commit()
    session.execute(A_READ.with_for_update()).all()
    session.commit()
    session.add(User(id=11, name="eva"))
    session.flush()
    session.rollback()
    assert session.token is None


def test_r5_a_savepoints_end_is_no_commit(stage: Stage) -> None:
    session = stage.session()
    session.add(User(id=11, name="eva"))
    session.flush()
    with session.begin_nested():
        session.add(User(id=12, name="fay"))
    assert session.token is None
    session.rollback()
    assert session.token is None
    with session.begin_nested():
        session.add(User(id=13, name="gus"))
    session.commit()
    assert session.token is not None


def test_r5_ddl_commits_by_itself(stage: Stage) -> None:
    """On MySQL it commits what came before it too: a rollback takes nothing back."""
    session = stage.session()
    session.execute(text("CREATE TABLE rt_made (id INTEGER)"))
    session.rollback()
    assert session.token is not None
    session.execute(text("DROP TABLE IF EXISTS rt_made"))
    session.commit()


def test_r5_text_that_commits_in_the_middle(stage: Stage) -> None:
    session = stage.session()
    session.execute(update(User).where(User.id == 1).values(name="anna"))
    session.execute(text("COMMIT"))
    session.rollback()
    assert stage.on_server(0, "SELECT name FROM rt_user WHERE id = 1") == "anna"
    with stage.watching() as seen:
        assert session.scalar(A_READ) == "anna"
    assert seen.parts == ["primary"]


def test_r5_an_autocommitting_primary(make_stage: MakeStage) -> None:
    """Every write there is done at once, whatever the session says at the end."""
    stage = make_stage(engine_options={"isolation_level": "AUTOCOMMIT"})
    session = stage.session()
    session.execute(update(User).where(User.id == 1).values(name="anna"))
    session.rollback()
    with stage.watching() as seen:
        assert session.scalar(A_READ) == "anna"
    assert seen.parts == ["primary"]


def test_r5_a_commit_in_doubt_counts_as_a_commit(stage: Stage) -> None:
    """The server may have done it before the answer was lost."""
    session = stage.session()
    engine = stage.router.primary_engine()

    def lose_the_answer(connection: Any) -> None:
        connection.connection.dbapi_connection.commit()
        raise OperationalError("COMMIT", {}, Exception("server has gone away"))

    session.execute(update(User).where(User.id == 1).values(name="anna"))
    event.listen(engine, "commit", lose_the_answer)
    try:
        with pytest.raises(OperationalError):
            session.commit()
    finally:
        event.remove(engine, "commit", lose_the_answer)
    session.rollback()
    with stage.watching() as seen:
        assert session.scalar(A_READ) == "anna"
    assert seen.parts == ["primary"]


@pytest.mark.parametrize(("after_write", "parts"), [("any", ["replica"]), ("primary", ["primary"])])
def test_r5_other_promises(make_stage: MakeStage, after_write: str, parts: list[str]) -> None:
    """``any`` reads anywhere at once; ``primary`` stays a while, also when the replicas have it."""
    stage = make_stage(policy={"after_write": after_write, "after_write_window": 60.0})
    session = stage.session()
    write(session)
    stage.catch_up()
    with stage.watching() as seen:
        session.scalar(A_READ)
    assert seen.parts == parts


def test_r5_the_token_grows(stage: Stage) -> None:
    """The later of two commits is the one to wait for."""
    session = stage.session()
    write(session)
    stage.catch_up()
    first = session.token
    session.execute(insert(users).values(id=11, name="eva"))
    session.commit()
    assert session.token != first
    with stage.watching() as seen:
        assert len(session.execute(COUNT).all()) == 4
    assert seen.parts == ["primary"]


# --- R6


def test_r6_the_statements_wish_wins_over_the_blocks(stage: Stage) -> None:
    session = stage.session()
    to_replica = A_READ.execution_options(rds_route="replica")
    to_primary = A_READ.execution_options(rds_route="primary")
    with stage.watching() as seen:
        with session.using_primary():
            session.scalar(to_replica)
            session.scalar(A_READ)
        with session.using_replica():
            session.scalar(to_primary)
            session.scalar(A_READ)
    assert seen.parts == ["replica", "primary", "primary", "replica"]


def test_r6_the_calls_wish_wins_over_the_statements(stage: Stage) -> None:
    """Options given with the call are not visible in get_bind; they count all the same, in every kind of call."""
    session = stage.session()
    to_primary = A_READ.execution_options(rds_route="primary")
    options = {"rds_route": "replica"}
    with stage.watching() as seen:
        session.execute(to_primary, execution_options=options).all()
        session.scalar(to_primary, execution_options=options)
        session.scalars(to_primary, execution_options=options).all()
        session.get(User, 1, execution_options={"rds_route": "primary"})
        session.query(User).execution_options(rds_route="primary").all()
    assert seen.parts == ["replica"] * 3 + ["primary"] * 2


def test_r6_blocks_nest(stage: Stage) -> None:
    session = stage.session()
    with stage.watching() as seen:
        with session.using_primary():
            with session.using_replica():
                session.scalar(A_READ)
            session.scalar(A_READ)
        session.rollback()
        stage.catch_up()  # with what was seen on the primary
        session.scalar(A_READ)
    assert seen.parts == ["replica", "primary", "replica"]


def test_r6_a_block_ends_with_an_error_too(stage: Stage) -> None:
    session = stage.session()
    with pytest.raises(RuntimeError), session.using_primary():
        raise RuntimeError
    with stage.watching() as seen:
        session.scalar(A_READ)
    assert seen.parts == ["replica"]


@pytest.mark.parametrize("loader", [selectinload, subqueryload])
def test_r6_a_wish_reaches_the_loads_within_the_call(stage: Stage, loader: Any) -> None:
    """Children from a replica would be older than their parents from the primary."""
    session = stage.session()
    statement = select(User).options(loader(User.posts))
    with stage.watching() as seen:
        session.scalars(statement.execution_options(rds_route="primary")).all()
    assert seen.parts == ["primary", "primary"]
    session.close()
    with stage.watching() as seen:
        session.scalars(statement, execution_options={"rds_route": "primary"}).all()
    assert seen.parts == ["primary", "primary"]


def test_r6_no_wish_moves_a_write(stage: Stage) -> None:
    session = stage.session()
    with session.using_replica(), stage.watching() as seen:
        session.execute(insert(users).values(id=11, name="eva"), execution_options={"rds_route": "replica"})
        session.scalar(A_READ, execution_options={"rds_route": "replica"})
    assert set(seen.parts) == {"primary"}


def test_r6_using_replica_reads_behind_ones_own_writes_knowingly(stage: Stage) -> None:
    session = stage.session()
    write(session)
    with session.using_replica(), stage.watching() as seen:
        session.scalar(A_READ)
    assert seen.parts == ["replica"]


def test_r6_max_staleness_stands_in_for_the_policys_bound(on_sqlite: MakeStage) -> None:
    """In both directions, by statement, call or block."""
    stage = on_sqlite(policy={"max_lag": 60.0})
    session = stage.session()
    stage.fall_behind(30)
    with stage.watching() as seen:
        session.scalar(A_READ)
        session.scalar(A_READ.execution_options(rds_max_staleness=10))
        session.scalar(A_READ, execution_options={"rds_max_staleness": 10})
        session.rollback()
        with session.using_replica(max_staleness=10):
            session.scalar(A_READ)
    assert seen.parts == ["replica", "primary", "primary", "primary"]
    stage.fall_behind(500)
    session.rollback()
    with stage.watching() as seen:
        other = stage.session()  # the first one saw the primary a moment ago
        other.scalar(A_READ, execution_options={"rds_max_staleness": 1000})
        other.rollback()
        other.scalar(A_READ)
    assert seen.parts == ["replica", "primary"]


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ({"rds_route": "master"}, "use 'primary' or 'replica'"),
        ({"rds_max_staleness": -1}, "use a number of seconds, 0 or more"),
        ({"rds_max_staleness": "5"}, "use a number of seconds, 0 or more"),
    ],
)
def test_r6_a_wish_that_is_not_understood_is_refused(stage: Stage, options: dict[str, Any], accepted: str) -> None:
    session = stage.session()
    with pytest.raises(ValueError, match=accepted):
        session.execute(A_READ, execution_options=options)
    with pytest.raises(ValueError, match=accepted):
        session.execute(A_READ.execution_options(**options))
    with stage.watching() as seen:
        session.scalar(A_READ)
    assert seen.parts == ["replica"]


def test_r6_a_token_of_nothing_demands_nothing(stage: Stage) -> None:
    session = stage.session()
    session.read_after(None)
    assert session.token is None
    session.read_after(Token())
    with stage.watching() as seen:
        session.scalar(A_READ)
    assert seen.parts == ["replica"]
