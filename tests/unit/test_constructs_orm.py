"""ORM statements are judged with what their mappers, relationships and options will add when compiled."""

from __future__ import annotations

from typing import Any

import pytest
from constructs_models import Animal, Cat, Desk, Locker, Order, Owned, Ticket, User
from sqlalchemy import delete, exists, func, insert, lambda_stmt, literal_column, select, text, union, update
from sqlalchemy.orm import (
    Bundle,
    Query,
    aliased,
    contains_eager,
    defer,
    immediateload,
    joinedload,
    lazyload,
    load_only,
    raiseload,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_expression,
    with_loader_criteria,
    with_polymorphic,
)
from sqlalchemy.orm.interfaces import CriteriaOption, UserDefinedOption

from rds_router.classify.constructs import classify
from rds_router.core.statement import Kind

UserAlias = aliased(User)
locked = select(Order.user_id).with_for_update()

READS: dict[str, Any] = {
    "entity": select(User),
    "two entities": select(User, Order).join(User.orders),
    "column": select(User.id),
    "column property": select(User.order_count),  # type: ignore[attr-defined]
    "hybrid": select(User.shout).where(User.shout == "A"),
    "composite": select(User.point),
    "bundle": select(Bundle("b", User.id, Bundle("c", User.name))),
    "alias": select(UserAlias).where(UserAlias.id == 1),
    "alias of a subquery": select(aliased(User, select(User).limit(3).subquery())),
    "join to a relationship": select(User).join(User.orders).where(Order.id == 1),
    "join to a class": select(User).join(Order, Order.user_id == User.id),
    "join to a class by a relationship": select(User).join(Order, User.orders),
    "join to an alias": select(User).join(User.orders.of_type(aliased(Order))),
    "join with criteria": select(User).join(User.orders.and_(Order.id > 3)),
    "outer join": select(User).outerjoin(User.orders),
    "join from": select(Order).join_from(User, Order),
    "select from": select(func.count()).select_from(User),
    "any, has, contains": select(User).where(User.orders.any(Order.id == 1), User.orders.contains(Order(id=1))),
    "has": select(Order).where(Order.user.has(User.id == 1)),
    "with parent": select(Order).where(Order.user == User(id=1)),
    "exists": select(exists().where(User.id == 1)),
    "subquery": select(select(User.id).subquery()),
    "cte": select(select(User).cte()),
    "union": union(select(User.id), select(Order.id)),
    "from statement": select(User).from_statement(text("SELECT * FROM users")),
    "from union": select(User).from_statement(union(select(User), select(User))),
    "textual": text("SELECT id FROM users").columns(User.id),
    "query": Query([User]).filter(User.id == 1).order_by(User.id),
    "query of columns": Query([User.id, func.count()]),
    "query, from statement": Query([User]).from_statement(text("SELECT * FROM users")),
    "lambda": lambda_stmt(lambda: select(User).where(User.id == 1)),
    "joinedload": select(User).options(joinedload(User.orders).joinedload(Order.user)),
    "selectinload": select(User).options(selectinload(User.orders)),
    "subqueryload": select(User).options(subqueryload(User.orders)),
    "lazyload": select(User).options(lazyload("*"), raiseload("*")),
    "immediateload": select(User).options(immediateload(User.orders)),
    "contains eager": select(User).join(User.orders).options(contains_eager(User.orders)),
    "columns loaded": select(User).options(load_only(User.id), defer(User.name), undefer(User.x)),
    "with_expression": select(User).options(with_expression(User.extra, User.x + 1)),
    "loader criteria": select(User).options(with_loader_criteria(User, User.x > 1)),
    "loader criteria, lambda": select(User).options(with_loader_criteria(User, lambda cls: cls.x > 1)),
    "loader criteria of a base": select(User).options(
        with_loader_criteria(Owned, lambda cls: cls.tenant == 1, include_aliases=True)
    ),
    "loader criteria of a class that is not there": select(User).options(
        with_loader_criteria(Ticket, lambda cls: cls.id.in_(locked))
    ),
    "own option": select(User).options(UserDefinedOption("payload")),
    "selectin polymorphic": select(Animal).options(selectin_polymorphic(Animal, [Cat])),
    "polymorphic base": select(Animal),
    "another relationship's lock": select(Locker),
    "selectin of what is not pure": select(User, Ticket.id).options(selectinload(Ticket.user)),
}


@pytest.mark.parametrize("statement", READS.values(), ids=READS.keys())
def test_a_plain_orm_read_may_go_to_a_replica(statement: Any) -> None:
    assert classify(statement).is_read, classify(statement)


OTHERS: dict[str, tuple[Any, Kind, str]] = {
    "insert": (insert(User), Kind.WRITE, "INSERT"),
    "bulk insert": (insert(User).values([{"id": 1}]), Kind.WRITE, "INSERT"),
    "update": (update(User).values(x=1), Kind.WRITE, "UPDATE"),
    "update, fetch": (update(User).values(x=1).execution_options(synchronize_session="fetch"), Kind.WRITE, "UPDATE"),
    "delete": (delete(User), Kind.WRITE, "DELETE"),
    "returning entities": (
        select(User).from_statement(insert(User).returning(User)), Kind.WRITE, "INSERT",
    ),
    "from deleting text": (select(User).from_statement(text("DELETE FROM users")), Kind.WRITE, "DELETE"),
    "for update": (select(User).with_for_update(), Kind.LOCKING_READ, "FOR UPDATE"),
    "query for update": (Query([User]).with_for_update(read=True), Kind.LOCKING_READ, "FOR SHARE"),
    "query prefix": (Query([User]).prefix_with("SQL_CALC_FOUND_ROWS"), Kind.SESSION, ""),
    "query suffix": (Query([User]).suffix_with("FOR UPDATE"), Kind.LOCKING_READ, "FOR UPDATE"),
    "query text filter": (Query([User]).filter(text("id = get_lock('a', 1)")), Kind.LOCKING_READ, "get_lock"),
    "delete in cte": (
        select(User).join((c := delete(Order).returning(Order.user_id).cte()), c.c.user_id == User.id),
        Kind.WRITE, "DELETE within",
    ),
    "alias of a locking subquery": (
        select(aliased(User, select(User).with_for_update().subquery())), Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "join to a locking alias": (
        select(Order).join(a := aliased(User, select(User).with_for_update().subquery()), a.id == Order.user_id),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "relationship to a locking alias": (
        select(Order).join(Order.user.of_type(aliased(User, select(User).with_for_update().subquery()))),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "any with a lock": (select(User).where(User.orders.any(Order.id.in_(locked))), Kind.LOCKING_READ, "FOR UPDATE"),
    "join criteria with a lock": (
        select(User).join(User.orders.and_(Order.id.in_(locked))), Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "bundle with a lock": (
        select(Bundle("b", User.id, locked.limit(1).scalar_subquery())), Kind.LOCKING_READ, "FOR UPDATE",
    ),
    # What the mapper adds
    "column property": (select(Ticket.number), Kind.UNKNOWN, "draw_number"),
    "column property of an entity": (select(Ticket), Kind.UNKNOWN, "draw_number"),
    "column property of an alias": (select(aliased(Ticket)), Kind.UNKNOWN, "draw_number"),
    "column property in a bundle": (select(Bundle("b", Ticket.number)), Kind.UNKNOWN, "draw_number"),
    "column property in a subquery": (select(select(Ticket).subquery()), Kind.UNKNOWN, "draw_number"),
    "column property of a query": (Query([Ticket]), Kind.UNKNOWN, "draw_number"),
    "column property in a lambda": (lambda_stmt(lambda: select(Ticket)), Kind.UNKNOWN, "draw_number"),
    "eager join of the mapping": (select(Desk), Kind.UNKNOWN, "draw_number"),
    "subclass": (select(Cat), Kind.UNKNOWN, "purr_loudly"),
    "with_polymorphic": (select(with_polymorphic(Animal, [Cat])), Kind.UNKNOWN, "purr_loudly"),
    "condition of a relationship": (select(Locker).join(Locker.owner), Kind.LOCKING_READ, "get_lock"),
    # What options add
    "joinedload": (select(Locker).options(joinedload(Locker.owner)), Kind.LOCKING_READ, "get_lock"),
    "joinedload of what is not pure": (
        select(User).options(joinedload(Ticket.user)).add_columns(Ticket.number), Kind.UNKNOWN, "draw_number",
    ),
    "joinedload, wildcard": (select(User).options(joinedload("*")), Kind.UNKNOWN, "joinedload"),
    "joinedload with criteria": (
        select(User).options(joinedload(User.orders.and_(Order.id.in_(locked)))), Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "with_expression": (
        select(User).options(with_expression(User.extra, func.draw_number())), Kind.UNKNOWN, "draw_number",
    ),
    "loader criteria": (
        select(User).options(with_loader_criteria(User, User.id.in_(locked))), Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "loader criteria, lambda": (
        select(User).options(with_loader_criteria(User, lambda cls: cls.id.in_(locked))),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "loader criteria, text": (
        select(User).options(with_loader_criteria(User, literal_column("id = get_lock('a', 1)") == 1)),
        Kind.LOCKING_READ, "get_lock",
    ),
    "loader criteria on a joined class": (
        select(User).join(User.orders).options(with_loader_criteria(Order, lambda cls: cls.id.in_(locked))),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "loader criteria on a class in a subquery": (
        select(User)
        .where(User.id.in_(select(Order.user_id)))
        .options(with_loader_criteria(Order, Order.id.in_(locked))),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "loader criteria on a class in exists": (
        select(User).where(User.orders.any()).options(with_loader_criteria(Order, Order.id.in_(locked))),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "loader criteria on an eagerly joined class": (
        select(User).options(joinedload(User.orders), with_loader_criteria(Order, Order.id.in_(locked))),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "loader criteria on a class in a union": (
        select(User).from_statement(union(select(User), select(User))).options(
            with_loader_criteria(User, User.id.in_(locked))
        ),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "loader criteria on a superclass": (
        select(Cat.lives).options(with_loader_criteria(Animal, Animal.id.in_(locked))), Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "loader criteria on an aliased class": (
        select(UserAlias.name).options(with_loader_criteria(User, User.id.in_(locked), include_aliases=True)),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "loader criteria brought in by loader criteria": (
        select(User).options(
            with_loader_criteria(User, User.id.in_(select(Order.user_id))),
            with_loader_criteria(Order, Order.id.in_(locked)),
        ),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "loader criteria behind with_only_columns": (
        select(User).options(with_loader_criteria(User, User.id.in_(locked))).with_only_columns(User.id),
        Kind.LOCKING_READ, "FOR UPDATE",
    ),
    "join kept by with_only_columns": (
        select(Locker).join(Locker.owner).with_only_columns(User.id), Kind.LOCKING_READ, "get_lock",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("statement", "kind", "because"), OTHERS.values(), ids=OTHERS.keys())
def test_whatever_writes_or_locks_is_seen_through_the_orm(statement: Any, kind: Kind, because: str) -> None:
    verdict = classify(statement)
    assert not verdict.is_read
    if kind is not Kind.LOCKING_READ or because != "get_lock":
        assert verdict.kind is kind, verdict
    assert because.lower() in verdict.because.lower(), verdict


def test_an_option_of_an_unknown_sort_is_unknown() -> None:
    class Strange(CriteriaOption):
        inherit_cache = True
        propagate_to_loaders = False

    assert str(classify(select(User).options(Strange()))) == "unknown (option Strange)"


def test_a_strangers_hook_at_compile_time_is_unknown() -> None:
    def hook(state: Any) -> None: ...

    statement = select(User)
    add = getattr(statement, "_add_compile_state_func", None) or statement._add_context_option  # type: ignore[attr-defined]
    assert "changed at compile time by" in classify(add(hook, None)).because


def test_the_tables_of_relationships_are_gathered() -> None:
    assert classify(select(User).join(User.orders)).tables == {"users", "shop.orders"}
    assert classify(select(Order).options(joinedload(Order.user))).tables == {"users", "shop.orders"}
    assert classify(select(Order)).tables == {"shop.orders"}


def test_a_function_named_by_the_user_makes_its_entity_a_read() -> None:
    assert classify(select(Ticket), pure_functions=frozenset({"draw_number"})).is_read
