"""Run by an environment in which rds_router is installed: does the installed package route? ``smoke.py plain | flask``

Needs nothing but the package: two SQLite files stand for a primary and its replica, which says by a table of its own
how far it has come.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

import rds_router
from rds_router import Kind, Replica, Router, RoutingPolicy, RoutingSession, classify


class Base(DeclarativeBase):
    """Of the one table."""


class Post(Base):
    """One row tells where it was read."""

    __tablename__ = "posts"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(80))


def write(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def files(folder: Path) -> tuple[str, str]:
    """A primary and a replica that tell themselves apart by the title of their only post."""
    table = "CREATE TABLE posts (id INTEGER PRIMARY KEY, title VARCHAR(80) NOT NULL)"
    write(folder / "primary", table, "INSERT INTO posts VALUES (1, 'primary')")
    write(
        folder / "replica",
        table,
        "INSERT INTO posts VALUES (1, 'replica')",
        "CREATE TABLE rds_router_replica_status (caught_up_at REAL NOT NULL)",
        f"INSERT INTO rds_router_replica_status VALUES ({time.time()})",
    )
    return f"sqlite:///{folder / 'primary'}", f"sqlite:///{folder / 'replica'}"


def check_session(session: Any, router: Router) -> None:
    """Reads go to the replica, writes and what follows them to the primary."""
    title = select(Post.title).where(Post.id == 1)
    assert router.refresh()
    assert router.explain(title).is_replica, router.explain(title)
    assert session.scalar(title) == "replica"
    session.add(Post(title="new"))
    session.flush()
    assert session.scalar(title) == "primary"
    session.commit()
    assert session.scalar(title) == "primary", "read behind its own write"


def plain(primary: str, replica: str) -> None:
    router = Router(primary, [Replica(replica, name="replica")], policy=RoutingPolicy(max_lag=60))
    with router, sessionmaker(class_=RoutingSession, router=router)() as session:
        check_session(session, router)
    assert "flask" not in sys.modules


def flask(primary: str, replica: str) -> None:
    from flask import Flask

    from rds_router.flask import SQLAlchemy

    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="smoke",
        SQLALCHEMY_DATABASE_URI=primary,
        SQLALCHEMY_REPLICA_URIS=[replica],
        RDS_ROUTER_MAX_LAG=60,
    )
    db = SQLAlchemy(app)
    with app.app_context():
        check_session(db.session, db.router)
        db.session.remove()
        db.router.close()


def main(way: str) -> None:
    assert classify("SELECT nextval('s')", dialect="postgresql").kind is Kind.WRITE
    with tempfile.TemporaryDirectory() as folder:
        {"plain": plain, "flask": flask}[way](*files(Path(folder)))
    print(f"rds_router {rds_router.__version__} from {rds_router.__file__}")
    print("smoke test passed")


main(sys.argv[1])
