"""Three tables and statements on them, of every size that a web application has."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    posts: Mapped[list[Post]] = relationship(back_populates="author")


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    title: Mapped[str] = mapped_column(String(80))
    author: Mapped[Author] = relationship(back_populates="posts")
    comments: Mapped[list[Comment]] = relationship(back_populates="post")


class Comment(Base):
    __tablename__ = "comments"
    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(ForeignKey("posts.id"))
    body: Mapped[str] = mapped_column(String(800))
    post: Mapped[Post] = relationship(back_populates="comments")


SHORT = "SELECT id, title FROM posts WHERE author_id = :author ORDER BY id DESC LIMIT 10"
THREE_TABLES = (
    "SELECT a.id, a.name, p.title, count(c.id) AS comments FROM authors AS a "
    "JOIN posts AS p ON p.author_id = a.id LEFT JOIN comments AS c ON c.post_id = p.id "
    "WHERE a.name LIKE :name AND p.id > :after GROUP BY a.id, a.name, p.title HAVING count(c.id) > 2 "
    "ORDER BY comments DESC, p.title LIMIT 20"
)
LONG = " UNION ALL ".join([THREE_TABLES] * 6)


def point() -> Any:
    return select(Post).where(Post.id == 7)


def three_tables() -> Any:
    return (
        select(Author.id, Post.title, func.count(Comment.id))
        .join(Author.posts)
        .join(Post.comments)
        .where(Author.name.like("a%"), Post.id > 3)
        .group_by(Author.id, Post.title)
        .order_by(Post.title)
        .limit(20)
    )
