"""What the classifier costs: CPU time a statement, paired and interleaved, against the budget of the design.

    python benchmarks/bench_classify.py

A statement that was judged before must cost next to nothing; one seen for the first time may cost what one
parameter of its compilation costs. The base of each pair does the same without the classifier: nothing, building the
statement, or building it and making the cache key that its execution makes anyway. Then what importing
the package costs (``imports.py``). Exit code 1 if a budget is broken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imports import measure
from paired import Difference, compare
from sqlalchemy import ForeignKey, String, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship

from rds_router.classify.cache import Classifier
from rds_router.classify.constructs import classify


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


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison and what it may add, in microseconds; None where the design names no budget."""

    name: str
    without: Callable[[], object]
    with_: Callable[[], object]
    budget: float | None = None
    calls: int = 200


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


def cases() -> list[Case]:
    """Every way a statement reaches the classifier."""
    classifier = Classifier("mysql")
    memoised, textual, joined = point(), text(SHORT), select(Post).options(joinedload(Post.comments))
    core = three_tables()
    fresh = text(SHORT)
    for each in (SHORT, memoised, textual, fresh, memoised, textual, SHORT):
        classifier.judge(each)
    textual._generate_cache_key()
    classifier.judge(textual)
    classifier.judge(point())

    def keyed() -> object:
        return point()._generate_cache_key()

    def judged() -> object:
        statement = point()
        classifier.judge(statement)
        return statement._generate_cache_key()

    def nothing() -> None:
        return None

    return [
        Case("A/A: nothing", nothing, lambda: None),
        Case("cached: text as a string", nothing, lambda: classifier.judge(SHORT), 2),
        Case("cached: text(), first execution", nothing, lambda: classifier.judge(fresh), 2),
        Case("cached: text(), executed before", nothing, lambda: classifier.judge(textual), 1),
        Case("memoised: ORM select", nothing, lambda: classifier.judge(memoised), 1),
        Case("cached: ORM select built anew", keyed, judged, None),
        Case("first sight: ORM point select", nothing, lambda: classify(memoised), 150, 20),
        Case("first sight: ORM three tables", nothing, lambda: classify(core), 150, 20),
        Case("first sight: ORM joinedload", nothing, lambda: classify(joined), 150, 20),
        Case("first sight: short text", nothing, lambda: classify(SHORT), 150, 20),
        Case("first sight: three-table text", nothing, lambda: classify(THREE_TABLES), 150, 20),
        Case(f"first sight: long text ({len(LONG)} chars)", nothing, lambda: classify(LONG), 700, 20),
    ]


def main() -> list[Difference]:
    """Measure, print, and fail if a budget is broken beyond the noise."""
    results, broken = [], []
    for case in cases():
        result = compare(case.name, case.without, case.with_, calls=case.calls)
        results.append(result)
        verdict = ""
        if case.budget is not None:
            is_within = result.low * 1e6 <= case.budget
            verdict = f"   {'within' if is_within else 'OVER'} {case.budget:g} us"
            if not is_within:
                broken.append(case.name)
        print(f"{result}{verdict}")
    for cost in measure():
        print(cost)
        if not cost.is_within:
            broken.append(cost.of.what)
    if broken:
        raise SystemExit(f"over budget: {', '.join(broken)}")
    return results


if __name__ == "__main__":
    main()
