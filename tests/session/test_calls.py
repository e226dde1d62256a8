"""Every way in which SQLAlchemy asks a session for a server, and the server that really ran the SQL.

One case a row of the table of calls: first reads, which a replica must answer, then everything else, which must run
on the primary and keep the rest of the transaction there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, exists, func, insert, literal_column, select, text, union, union_all, update
from sqlalchemy.orm import Session, aliased, joinedload, selectinload, subqueryload

from rds_router import RoutingSession
from tests.session.models import Post, User, posts, users
from tests.session.stage import Stage

Call = Callable[[Session], Any]

_numbered = select(User.id).where(User.id < 3).cte("numbered")


def _lazy(session: Session) -> Any:
    return session.scalars(select(User).where(User.id == 1)).one().posts


def _expired(session: Session) -> Any:
    user = session.scalars(select(User).where(User.id == 1)).one()
    session.expire(user)
    return user.name


def _refresh(session: Session) -> Any:
    user = session.scalars(select(User).where(User.id == 1)).one()
    session.refresh(user)
    return user.name


def _one_column_refresh(session: Session) -> Any:
    user = session.scalars(select(User).where(User.id == 1)).one()
    session.refresh(user, ["name"])
    return user.name


READS: dict[str, tuple[Call, int]] = {
    "select(Entity)": (lambda s: s.execute(select(User)).all(), 1),
    "scalars(select(Entity))": (lambda s: s.scalars(select(User)).all(), 1),
    "scalar(select(column))": (lambda s: s.scalar(select(User.name).where(User.id == 1)), 1),
    "select(column)": (lambda s: s.execute(select(User.name)).all(), 1),
    "select of a join": (lambda s: s.execute(select(User.name, Post.title).join(User.posts)).all(), 1),
    "select of a CTE": (lambda s: s.execute(select(User).join(_numbered, _numbered.c.id == User.id)).all(), 1),
    "select of a subquery": (lambda s: s.execute(select(select(User.id).subquery())).all(), 1),
    "select of an alias": (lambda s: s.execute(select(aliased(User))).all(), 1),
    "get": (lambda s: s.get(User, 1), 1),
    "get, nothing found, and that will do": (
        lambda s: s.get(User, 99, execution_options={"rds_reads": "any"}),
        1,
    ),
    "get_one": (lambda s: s.get_one(User, 1), 1),
    "Query.all": (lambda s: s.query(User).all(), 1),
    "Query.first": (lambda s: s.query(User).filter_by(name="ann").first(), 1),
    "Query.count": (lambda s: s.query(User).count(), 1),
    "Query of columns": (lambda s: s.query(User.id, User.name).all(), 1),
    "Query.exists": (lambda s: s.query(s.query(User).filter_by(name="ann").exists()).scalar(), 1),
    "Query.yield_per": (lambda s: list(s.query(User).yield_per(1)), 1),
    "yield_per on the statement": (lambda s: s.scalars(select(User).execution_options(yield_per=1)).all(), 1),
    "yield_per with the call": (lambda s: s.scalars(select(User), execution_options={"yield_per": 1}).all(), 1),
    "Core select(Table)": (lambda s: s.execute(select(users)).all(), 1),
    "Core exists": (lambda s: s.execute(select(exists().where(users.c.id == 1))).scalar(), 1),
    "Core select(func)": (lambda s: s.execute(select(func.lower("ANN"))).scalar(), 1),
    "Core select(func.count())": (lambda s: s.execute(select(func.count()).select_from(users)).scalar(), 1),
    "execute(func.x())": (lambda s: s.execute(func.lower("ANN")).scalar(), 1),
    "text() SELECT": (lambda s: s.execute(text("SELECT name FROM rt_user WHERE id = :id"), {"id": 1}).scalar(), 1),
    "text() SELECT with columns": (
        lambda s: s.execute(text("SELECT id, name FROM rt_user").columns(users.c.id, users.c.name)).all(),
        1,
    ),
    "union() of ORM selects": (
        lambda s: s.execute(union(select(User.id).where(User.id == 1), select(User.id).where(User.id == 2))).all(),
        1,
    ),
    "union_all() of entities": (
        lambda s: s.execute(union_all(select(User).where(User.id == 1), select(User).where(User.id == 2))).all(),
        1,
    ),
    "union() of Core selects": (lambda s: s.execute(union(select(users.c.id), select(posts.c.id))).all(), 1),
    "Query.union": (lambda s: s.query(User).filter_by(id=1).union(s.query(User).filter_by(id=2)).all(), 1),
    "from_statement(union())": (
        lambda s: s.scalars(
            select(User).from_statement(union(select(User).where(User.id == 1), select(User).where(User.id == 2)))
        ).all(),
        1,
    ),
    "from_statement(text SELECT)": (
        lambda s: s.scalars(select(User).from_statement(text("SELECT id, name FROM rt_user"))).all(),
        1,
    ),
    "lazy load": (_lazy, 2),
    "selectin load": (lambda s: s.scalars(select(User).options(selectinload(User.posts))).all(), 2),
    "subquery load": (lambda s: s.scalars(select(User).options(subqueryload(User.posts))).all(), 2),
    "joined load": (lambda s: s.scalars(select(User).options(joinedload(User.posts))).unique().all(), 1),
    "expired load": (_expired, 2),
    "refresh": (_refresh, 2),
    "refresh of one column": (_one_column_refresh, 2),
    "populate_existing": (lambda s: s.scalars(select(User).execution_options(populate_existing=True)).all(), 1),
    "bind_arguments of one's own": (lambda s: s.execute(select(User), bind_arguments={"shard": "7"}).all(), 1),
    "bind_arguments naming the mapper": (lambda s: s.execute(select(users), bind_arguments={"mapper": User}).all(), 1),
    "execution_options on the call": (lambda s: s.execute(select(User), execution_options={"a": 1}).all(), 1),
    "options and parameters": (lambda s: s.execute(select(User), {"unused": 1}, execution_options={}).all(), 1),
}


def _merge(session: Session) -> Any:
    return session.merge(User(id=1, name="anna"))


def _flush_new(session: Session) -> Any:
    session.add(User(id=11, name="eva"))
    session.flush()


def _flush_changed(session: Session) -> Any:
    with_state = User(id=1)
    session.add(with_state)
    session.expunge(with_state)
    session.bulk_update_mappings(User, [{"id": 1, "name": "anna"}])


def _on_the_connection(session: Session) -> Any:
    connection = session.connection()
    connection.execute(insert(users).values(id=11, name="eva"))
    return connection.execute(select(users.c.name).where(users.c.id == 11)).scalar_one()


def _delete_object(session: Session) -> Any:
    session.delete(session.get_one(User, 3, with_for_update=True))
    session.flush()


PRIMARY: dict[str, Call] = {
    "insert(Entity)": lambda s: s.execute(insert(User).values(id=11, name="eva")),
    "insert(Entity) with parameters": lambda s: s.execute(insert(User), {"id": 11, "name": "eva"}),
    "insert(Entity).returning": lambda s: s.execute(insert(User).values(id=11, name="eva").returning(User.id)).all(),
    "update(Entity)": lambda s: s.execute(update(User).where(User.id == 1).values(name="anna")),
    "delete(Entity)": lambda s: s.execute(delete(User).where(User.id == 3)),
    "Query.update": lambda s: s.query(User).filter_by(id=1).update({"name": "anna"}),
    "Query.delete": lambda s: s.query(User).filter_by(id=3).delete(),
    "ORM bulk insert list": lambda s: s.execute(insert(User), [{"id": 11, "name": "eva"}, {"id": 12, "name": "fay"}]),
    "ORM bulk insert list, returning": lambda s: s.scalars(
        insert(User).returning(User), [{"id": 11, "name": "eva"}, {"id": 12, "name": "fay"}]
    ).all(),
    "ORM bulk update list": lambda s: s.execute(update(User), [{"id": 1, "name": "anna"}, {"id": 2, "name": "rob"}]),
    "update, fetch": lambda s: s.execute(
        update(User).where(User.id == 1).values(name="anna"), execution_options={"synchronize_session": "fetch"}
    ),
    "delete, fetch": lambda s: s.execute(
        delete(User).where(User.id == 3), execution_options={"synchronize_session": "fetch"}
    ),
    "Query.update, fetch": lambda s: s.query(User).filter_by(id=1).update({"name": "a"}, synchronize_session="fetch"),
    "Core insert": lambda s: s.execute(insert(users).values(id=11, name="eva")),
    "Core update": lambda s: s.execute(update(users).where(users.c.id == 1).values(name="anna")),
    "Core delete": lambda s: s.execute(delete(users).where(users.c.id == 3)),
    "Core insert from select": lambda s: s.execute(
        insert(users).from_select(["id", "name"], select(users.c.id + 100, users.c.name))
    ),
    "text() INSERT": lambda s: s.execute(text("INSERT INTO rt_user (id, name) VALUES (11, 'eva')")),
    "text() UPDATE after a comment": lambda s: s.execute(text("/* tidy */ UPDATE rt_user SET name = 'x' WHERE id = 1")),
    "from_statement(insert.returning)": lambda s: s.scalars(
        select(User).from_statement(insert(User).values(id=11, name="eva").returning(User))
    ).all(),
    "flush of a new object": _flush_new,
    "flush of a deleted object": _delete_object,
    "bulk_save_objects": lambda s: s.bulk_save_objects([User(id=11, name="eva")]),
    "bulk_insert_mappings": lambda s: s.bulk_insert_mappings(User, [{"id": 11, "name": "eva"}]),
    "bulk_update_mappings": _flush_changed,
    "session.connection()": _on_the_connection,
    "with_for_update": lambda s: s.scalars(select(User).with_for_update()).all(),
    "with_for_update(read=True)": lambda s: s.scalars(select(User).with_for_update(read=True)).all(),
    "get(with_for_update=True)": lambda s: s.get(User, 1, with_for_update=True),
    "Query.with_for_update": lambda s: s.query(User).with_for_update().all(),
    "refresh(with_for_update=True)": lambda s: s.refresh(s.get(User, 1, with_for_update=True), with_for_update=True),
    "merge": _merge,
    "a function that is not known": lambda s: s.execute(select(func.abs(-1), literal_column("rt_unknown(1)"))),
}
MAY_FAIL = {"a function that is not known"}


@pytest.mark.parametrize("name", READS)
def test_r1_a_read_runs_on_a_replica(stage: Stage, name: str) -> None:
    """Each way to read ends on a replica, each of its statements on the same one."""
    call, count = READS[name]
    session = stage.session()
    with stage.watching() as seen:
        call(session)
    assert seen.parts == ["replica"] * count, [str(ran) for ran in seen]
    assert len(set(seen.servers)) == 1
    assert session.token is None


@pytest.mark.parametrize("name", PRIMARY)
def test_r1_anything_else_runs_on_the_primary(stage: Stage, name: str) -> None:
    """Each way to write or lock ends on the primary, every statement of it, and so does what follows (R3)."""
    session = stage.session()
    with stage.watching() as seen:
        try:
            PRIMARY[name](session)
        except Exception:
            assert name in MAY_FAIL
            session.rollback()
            return
        session.execute(select(User.id)).all()
        session.get(Post, 1)
    assert set(seen.parts) == {"primary"}, [str(ran) for ran in seen]
    assert len(seen.statements) >= 3


@pytest.mark.parametrize("name", PRIMARY)
def test_r3_a_read_before_it_changes_nothing(stage: Stage, name: str) -> None:
    """The transaction has read from a replica already: the write and all that follows are on the primary still."""
    session = stage.session()
    session.execute(select(Post)).all()
    with stage.watching() as seen:
        try:
            PRIMARY[name](session)
        except Exception:
            assert name in MAY_FAIL
            return
        session.execute(select(User.id)).all()
        session.scalars(select(User).where(User.id == 2)).one().posts  # noqa: B018  a lazy load
    assert set(seen.parts) == {"primary"}, [str(ran) for ran in seen]


def test_commit_when_dirty_flushes_to_the_primary(stage: Stage) -> None:
    session = stage.session()
    user = session.get_one(User, 1)
    user.name = "anna"
    with stage.watching() as seen:
        session.commit()
    assert seen.parts == ["primary"]
    assert stage.on_server(0, "SELECT name FROM rt_user WHERE id = 1") == "anna"


def test_begin_asks_nobody(stage: Stage) -> None:
    session = stage.session()
    with stage.watching() as seen:
        session.begin()
        session.commit()
    assert seen == []


def test_begin_nested_alone_asks_nobody(stage: Stage) -> None:
    session = stage.session()
    with stage.watching() as seen, session.begin_nested():
        pass
    assert seen == []


def test_str_of_a_query_runs_nothing_and_changes_nothing(stage: Stage) -> None:
    session = stage.session()
    with stage.watching() as seen:
        assert "FROM rt_user" in str(session.query(User))
        assert "FROM rt_user" in str(session.query(User).with_for_update())
    assert seen == []


def test_asking_for_a_bind_changes_nothing(stage: Stage) -> None:
    """Somebody who asks get_bind() itself gets the primary's engine; the transaction stays where it was."""
    session = stage.session()
    assert session.get_bind() is stage.router.primary_engine()
    assert session.get_bind(clause=users) is stage.router.primary_engine()
    with stage.watching() as seen:
        session.execute(select(User)).all()
    assert seen.parts == ["replica"]


@pytest.mark.parametrize("hint", ["prefix_with", "suffix_with", "with_statement_hint", "with_hint"])
def test_a_hint_with_a_lock_in_it_goes_to_the_primary(on_sqlite: Callable[..., Stage], hint: str) -> None:
    """Text inside hints is read too. (It need not even compile: who decides is get_bind.)"""
    stage = on_sqlite()
    arguments = (users, "FOR UPDATE") if hint == "with_hint" else ("FOR UPDATE",)
    statement = getattr(select(users), hint)(*arguments)
    assert not stage.router.judge(statement).is_read
    assert stage.session().get_bind(clause=statement) is stage.router.primary_engine()


@pytest.mark.parametrize(
    ("statement", "part"),
    [
        (select(users).prefix_with("SQL_NO_CACHE"), "replica"),
        (select(users).suffix_with("LOCK IN SHARE MODE"), "primary"),
        (select(users).suffix_with("FOR UPDATE"), "primary"),
        (select(users).with_hint(users, "USE INDEX (PRIMARY)"), "replica"),
        (select(User).with_statement_hint("FOR UPDATE"), "primary"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_hints_on_mariadb(on_mariadb: Callable[..., Stage], statement: Any, part: str) -> None:
    stage = on_mariadb()
    with stage.watching() as seen:
        stage.session().execute(statement).all()
    assert seen.parts == [part]


def test_an_option_from_do_orm_execute_arrives(stage: Stage) -> None:
    """A do_orm_execute listener may give bind_arguments; they arrive, and its bind is honoured (R7)."""
    from sqlalchemy import event

    session = stage.session()
    primary = stage.router.primary_engine()

    @event.listens_for(session, "do_orm_execute")
    def send_to_primary(state: Any) -> None:
        state.bind_arguments["bind"] = primary

    with stage.watching() as seen:
        session.execute(select(User)).all()
    assert seen.parts == ["primary"]


def test_a_statement_replaced_in_do_orm_execute_is_judged_as_itself(stage: Stage) -> None:
    from sqlalchemy import event

    session = stage.session()

    @event.listens_for(session, "do_orm_execute")
    def lock(state: Any) -> Any:
        return state.invoke_statement(statement=select(User).with_for_update())

    with stage.watching() as seen:
        session.execute(select(User)).all()
        session.execute(select(User)).all()
    assert seen.parts == ["primary", "primary"]


def test_the_record_tells_the_truth(stage: Stage) -> None:
    """What the engines' events call a replica is a server whose own answers say so."""
    ask = "SELECT inet_server_port()" if stage.is_proxied else "SELECT @@port"
    if stage.is_sqlite:
        ask = "SELECT file FROM pragma_database_list WHERE name = 'main'"
    told = [str(stage.on_server(number, ask)) for number in range(3)]
    assert len(set(told)) == 3
    session = stage.session()
    with stage.watching() as seen:
        reader = session.execute(text(ask), execution_options={"rds_route": "replica"}).scalar()
        session.execute(select(User).with_for_update()).all()
        writer = session.execute(text(ask)).scalar()
    names = ["primary", "replica-1", "replica-2"]
    assert seen.servers == [names[told.index(str(reader))], "primary", "primary"]
    assert str(writer) == told[0]


def test_a_subclass_of_the_session_routes_too(stage: Stage) -> None:
    """The listeners that end a scope hold for sessions of the user's own class."""

    class Mine(RoutingSession):
        pass

    session = stage.session(Mine)
    with stage.watching() as seen:
        session.execute(select(User).with_for_update()).all()
        session.rollback()
        stage.catch_up()  # with what was seen on the primary
        session.execute(select(User)).all()
    assert seen.parts == ["primary", "replica"]
