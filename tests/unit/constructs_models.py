"""Tables and mapped classes for the tests of the construct classifier. Nothing is ever executed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    case,
    delete,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    composite,
    mapped_column,
    query_expression,
    relationship,
)
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator, UserDefinedType


class Base(DeclarativeBase):
    pass


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y


class Owned:
    """What is hidden from other tenants: the usual use of with_loader_criteria()."""

    tenant: Mapped[int] = mapped_column(default=0)


class User(Owned, Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    x: Mapped[int] = mapped_column(default=0)
    y: Mapped[int] = mapped_column(default=0)
    data: Mapped[Any] = mapped_column(JSON)
    extra: Mapped[int] = query_expression()
    point: Mapped[Point] = composite(Point, "x", "y")
    orders: Mapped[list[Order]] = relationship(back_populates="user", order_by="Order.id")

    @hybrid_property
    def shout(self) -> str:
        return self.name.upper()

    @shout.inplace.expression
    @classmethod
    def _shout(cls) -> Any:
        return func.upper(cls.name)


class Order(Owned, Base):
    __tablename__ = "orders"
    __table_args__ = {"schema": "shop"}

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    user: Mapped[User] = relationship(back_populates="orders")


User.order_count = column_property(  # type: ignore[attr-defined]
    select(func.count(Order.id)).where(Order.user_id == User.id).correlate_except(Order).scalar_subquery()
)


class Ticket(Base):
    """Its number comes from a function of the user's own: whoever selects it runs that function."""

    __tablename__ = "tickets"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    number: Mapped[int] = column_property(func.draw_number(literal_column("1")))
    user: Mapped[User] = relationship()


class Desk(Base):
    """Loads its tickets within its own SELECT."""

    __tablename__ = "desks"

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    ticket: Mapped[Ticket] = relationship(lazy="joined")


class Locker(Base):
    """Related by a condition that takes a lock."""

    __tablename__ = "lockers"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    owner: Mapped[User] = relationship(
        primaryjoin=lambda: and_(User.id == Locker.user_id, func.get_lock("locker", 1) == 1), viewonly=True
    )


class Animal(Base):
    __tablename__ = "animals"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    __mapper_args__ = {"polymorphic_on": case((kind == "c", "cat"), else_="animal"), "polymorphic_identity": "animal"}


class Cat(Animal):
    __tablename__ = "cats"

    id: Mapped[int] = mapped_column(ForeignKey("animals.id"), primary_key=True)
    lives: Mapped[int] = mapped_column(default=9)
    purr: Mapped[int] = column_property(func.purr_loudly(literal_column("1")))
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Geometry(UserDefinedType[Any]):
    """A type that wraps its values and its columns into functions."""

    cache_ok = True

    def get_col_spec(self, **kw: Any) -> str:
        return "GEOMETRY"

    def bind_expression(self, bindvalue: Any) -> Any:
        return func.keep_geometry(bindvalue, type_=self)

    def column_expression(self, col: Any) -> Any:
        return func.show_geometry(col, type_=self)


class Wrapped(TypeDecorator[str]):
    """A type whose values are only ever bound as they are."""

    impl = String
    cache_ok = True


metadata = MetaData()
things = Table("things", metadata, Column("id", Integer, primary_key=True), schema="geo")
users = Table("u", metadata, Column("id", Integer, primary_key=True), Column("name", String(40)), Column("x", Integer))
places = Table("places", metadata, Column("id", Integer, primary_key=True), Column("shape", Geometry()), schema="geo")


u = users.c
locked = select(u.id).with_for_update()
deleting = delete(users).returning(u.id)


def distinct_on(expression: Any) -> Any:
    """SELECT DISTINCT ON: an extension in SQLAlchemy 2.1, an argument before."""
    if hasattr(postgresql, "distinct_on"):
        return select(users).ext(postgresql.distinct_on(expression))
    return select(users).distinct(expression)


class opaque(FunctionElement[Any]):
    name = "opaque"
    type = Integer()
    inherit_cache = True


@compiles(opaque)
def _opaque(element: Any, compiler: Any, **kw: Any) -> str:
    return "nextval('numbers')"


class Custom(ColumnElement[Any]):
    inherit_cache = True


@compiles(Custom)
def _custom(element: Any, compiler: Any, **kw: Any) -> str:
    return "nextval('numbers')"
