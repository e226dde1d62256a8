"""The tables that the tests of the session read and write. Names begin with ``rt_``: clusters are shared."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String, insert
from sqlalchemy.engine import Connection
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "rt_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    posts: Mapped[list[Post]] = relationship(back_populates="user", order_by="Post.id")


class Post(Base):
    __tablename__ = "rt_post"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("rt_user.id"))
    title: Mapped[str] = mapped_column(String(40))
    user: Mapped[User] = relationship(back_populates="posts")


class Account(Base):
    """Counts its versions: SQLAlchemy refuses an update that was computed from an old one."""

    __tablename__ = "rt_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    version: Mapped[int] = mapped_column(nullable=False)
    __mapper_args__ = {"version_id_col": version}


users: Any = User.__table__
posts: Any = Post.__table__
accounts: Any = Account.__table__


def seed(connection: Connection) -> None:
    """Empty the tables and fill them again. The caller commits."""
    for table in (posts, users, accounts):
        connection.execute(table.delete())
    connection.execute(insert(users), [{"id": 1, "name": "ann"}, {"id": 2, "name": "bob"}, {"id": 3, "name": "cem"}])
    connection.execute(
        insert(posts), [{"id": 1, "user_id": 1, "title": "first"}, {"id": 2, "user_id": 1, "title": "second"}]
    )
    connection.execute(insert(accounts), [{"id": 1, "balance": 100, "version": 1}])
