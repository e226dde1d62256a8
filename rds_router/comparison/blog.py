"""The blog that both databases serve: its tables, their first contents, and the five things its visitors do."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKey, String, Text, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship

PREFIX: Final = "rds_router_compare"
"""What the tables' names begin with: SQLite has no schemas that could keep them apart from others."""
AUTHORS, POSTS, COMMENTS_EACH, PAGE = 20, 400, 3, 10
_MOMENT = datetime(2026, 1, 1)


class Base(DeclarativeBase):
    """Without a schema: each side's engine puts its own in front (``schema_translate_map``)."""


class Author(Base):
    __tablename__ = f"{PREFIX}_author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))


class Post(Base):
    __tablename__ = f"{PREFIX}_post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(120))
    body: Mapped[str] = mapped_column(Text)
    author_id: Mapped[int] = mapped_column(ForeignKey(Author.id), index=True)
    created_at: Mapped[datetime]

    author: Mapped[Author] = relationship()


class Comment(Base):
    __tablename__ = f"{PREFIX}_comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String(2000))
    post_id: Mapped[int] = mapped_column(ForeignKey(Post.id), index=True)
    author_id: Mapped[int] = mapped_column(ForeignKey(Author.id), index=True)


def fill(session: Session, *, seed: int) -> range:
    """The first contents, the same for the same seed; returns the posts' ids."""
    dice = random.Random(seed)
    session.execute(insert(Author), [{"name": f"Author {number}"} for number in range(AUTHORS)])
    authors = session.scalars(select(Author.id)).all()
    posts = [
        {"title": f"Post {number}", "body": _words(dice, 200), "author_id": dice.choice(authors), "created_at": _MOMENT}
        for number in range(POSTS)
    ]
    session.execute(insert(Post), posts)
    ids = session.scalars(select(Post.id)).all()
    comments = [
        {"body": _words(dice, 20), "post_id": post, "author_id": dice.choice(authors)}
        for post in ids
        for _ in range(COMMENTS_EACH)
    ]
    session.execute(insert(Comment), comments)
    session.commit()
    return range(min(ids), max(ids) + 1)


def list_page(session: Session, dice: random.Random, posts: range) -> None:
    """Ten posts with their authors, and how many there are."""
    newest = select(Post).options(joinedload(Post.author)).order_by(Post.id.desc())
    session.scalars(newest.offset(PAGE * dice.randrange(10)).limit(PAGE)).all()
    session.scalar(select(func.count()).select_from(Post))


def post_page(session: Session, dice: random.Random, posts: range) -> None:
    """One post with its author, and its first comments with theirs."""
    post = _any_post(session, dice, posts)
    comments = select(Comment, Author).join(Author, Author.id == Comment.author_id)
    session.execute(comments.where(Comment.post_id == post.id).order_by(Comment.id).limit(2 * PAGE)).all()


def create_post(session: Session, dice: random.Random, posts: range) -> None:
    """A new post by the author of another one."""
    author_id = _any_post(session, dice, posts).author_id
    session.add(Post(title="New", body=_words(dice, 200), author_id=author_id, created_at=_MOMENT))
    session.commit()


def comment(session: Session, dice: random.Random, posts: range) -> None:
    """A comment by the post's author."""
    post = _any_post(session, dice, posts)
    session.add(Comment(body=_words(dice, 20), post_id=post.id, author_id=post.author_id))
    session.commit()


def edit(session: Session, dice: random.Random, posts: range) -> None:
    """A post is read, changed and saved."""
    post = _any_post(session, dice, posts)
    post.title = f"Edited {dice.randrange(10**9)}"
    session.commit()


Operation = Callable[[Session, random.Random, range], None]
OPERATIONS: Final[Mapping[str, tuple[Operation, int]]] = {
    "list page": (list_page, 40),
    "post page": (post_page, 45),
    "create post": (create_post, 4),
    "comment": (comment, 7),
    "edit": (edit, 4),
}
"""What is done, and how many times of a hundred."""


def drawn(dice: random.Random) -> str:
    """The name of the next operation."""
    (name,) = dice.choices(_NAMES, _WEIGHTS)
    return name


_NAMES: Final = tuple(OPERATIONS)
_WEIGHTS: Final = tuple(weight for _, weight in OPERATIONS.values())


def _any_post(session: Session, dice: random.Random, posts: Sequence[int]) -> Post:
    return session.scalars(select(Post).options(joinedload(Post.author)).where(Post.id == dice.choice(posts))).one()


def _words(dice: random.Random, count: int) -> str:
    return " ".join(dice.choices(("read", "write", "replica", "primary", "lag", "token", "commit"), k=count))
