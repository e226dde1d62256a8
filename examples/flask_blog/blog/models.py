"""Users, posts, comments."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from rds_router.flask import SQLAlchemy

TITLE_LENGTH = 120
BODY_LENGTH = 15_000
"""Characters. Four bytes each still fit into MySQL's TEXT."""
COMMENT_LENGTH = 2_000


class Base(DeclarativeBase):
    """What all tables share."""

    __table_args__ = {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4"}


db = SQLAlchemy(model_class=Base)

if TYPE_CHECKING:
    Model = Base  # db.Model is made at run time, where a type checker cannot follow
else:
    Model = db.Model


def now() -> datetime:
    """UTC without a zone, in whole seconds: what every database stores alike."""
    return datetime.now(timezone.utc).replace(tzinfo=None, microsecond=0)


class User(Model):
    """Somebody who writes."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    about: Mapped[str] = mapped_column(String(250), default="")

    posts: Mapped[list[Post]] = relationship(back_populates="author")

    @property
    def initials(self) -> str:
        """One or two letters for the round picture."""
        words = self.name.split()
        return "".join(word[0] for word in (words[:1] + words[-1:] if len(words) > 1 else words)).upper()


class Post(Model):
    """An article. The body is plain text; a blank line ends a paragraph."""

    __tablename__ = "posts"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(TITLE_LENGTH))
    body: Mapped[str] = mapped_column(Text)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    edited_at: Mapped[datetime | None] = mapped_column(default=None)

    author: Mapped[User] = relationship(back_populates="posts")
    comments: Mapped[list[Comment]] = relationship(
        back_populates="post", cascade="all, delete-orphan", order_by="Comment.id"
    )


class Comment(Model):
    """A remark under a post."""

    __tablename__ = "comments"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String(COMMENT_LENGTH))
    post_id: Mapped[int] = mapped_column(ForeignKey("posts.id", ondelete="CASCADE"), index=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)

    post: Mapped[Post] = relationship(back_populates="comments")
    author: Mapped[User] = relationship()
