"""Applications on SQLite files: a primary and two replicas that stand still until they are copied anew."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from rds_router.flask import SQLAlchemy, travel
from tests.session.models import Base
from tests.session.stage import UNHURRIED, Record, copy_file, make_files, record, set_caught_up_at


class Site:
    """An application with its database files and a record of every statement."""

    def __init__(self, app: Flask, db: SQLAlchemy, seen: Record, paths: list[Path]) -> None:
        self.app = app
        self.db = db
        self.seen = seen
        self.paths = paths

    def cookie(self, what: travel.Carrier) -> str:
        """The name of its cookie."""
        return what.cookie(self.app.config["SECRET_KEY"])

    def forget(self) -> None:
        self.seen.clear()

    def catch_up(self) -> None:
        """Have the replicas contain what the primary contains, and the router know it."""
        with self.app.app_context():
            assert self.db.router.refresh()
            for path in self.paths[1:]:
                copy_file(self.paths[0], path)
            assert self.db.router.refresh()


MakeSite = Callable[..., Site]
"""``(config..., db=..., replicas=2)`` -> a Site whose router is closed after the test."""


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three files with the tables, as made by make_files()."""
    return [Path(url.removeprefix("sqlite:///")) for url in make_files(tmp_path)]


@pytest.fixture
def make_site(paths: list[Path]) -> Iterator[MakeSite]:
    with contextlib.ExitStack() as opened:

        def make(
            db: SQLAlchemy | None = None, replicas: int = 2, files: list[Path] | None = None, **config: Any
        ) -> Site:
            chosen = files or paths
            for path in chosen[1:]:
                set_caught_up_at(path, time.time())
            app = Flask("site")
            app.config.update(
                SECRET_KEY="a key of the test's",
                SQLALCHEMY_DATABASE_URI=f"sqlite:///{chosen[0]}",
                SQLALCHEMY_REPLICA_URIS=[f"sqlite:///{path}" for path in chosen[1 : 1 + replicas]],
                **{f"RDS_ROUTER_{key.upper()}": value for key, value in UNHURRIED.items()},
            )
            app.config.update(config)
            seen = Record()
            db = db or SQLAlchemy(model_class=Base)
            db.init_app(app)
            opened.callback(_close, app, db)
            with app.app_context():
                db.router.refresh()
                for server in db.router.topology.servers:
                    _watch(db, server.server.name, seen)
            return Site(app, db, seen, chosen)

        yield make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """A primary and two replicas."""
    return make_site()


def _watch(db: SQLAlchemy, name: str, seen: Record) -> None:
    is_primary = name == db.router.topology.writer
    part: Any = "primary" if is_primary else "replica"
    record(db.router._engines.get(name, part), seen, server=name, part=part)


def _close(app: Flask, db: SQLAlchemy) -> None:
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()
        db.router.close()
