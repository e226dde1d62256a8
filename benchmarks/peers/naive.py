"""The session that SQLAlchemy's documentation sketches, as it is often copied: an engine drawn for each statement.

Written here after "Custom Vertical Partitioning" of the documentation: a flush and constructs that change rows go to
the primary, everything else to a replica drawn at random. It knows no transaction, no lag, no health.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import Delete, Engine, Insert, Update, create_engine
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import Session

from rds_router.torture.jar import Cookie
from rds_router.torture.ways import Plain, Way, engine_options

NAME = f"recipe of the docs of SQLAlchemy {sqlalchemy.__version__}"


class RecipeSession(Session):
    """Two kinds of engines, and a look at the clause."""

    def __init__(self, primary: Engine, replicas: Sequence[Engine], **options: Any) -> None:
        super().__init__(**options)
        self._primary, self._replicas = primary, replicas

    def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Engine:  # type: ignore[override]
        if self._flushing or isinstance(clause, (Insert, Update, Delete)):
            return self._primary
        return random.choice(self._replicas)


def way(task: Mapping[str, Any]) -> Way:
    """Made by ``rds_router.torture.ways.way_for`` for ``kind="benchmarks.peers.naive:way"``."""
    return ThroughRecipe(task["servers"], task["primary"], task["threads"])


class ThroughRecipe(Plain):
    """One engine for each server; a session that draws among them."""

    def __init__(self, servers: Mapping[str, str], primary: str, threads: int) -> None:
        self._ports = {make_url(url).port: name for name, url in servers.items()}
        engines = {name: create_engine(url, **engine_options(url, threads)) for name, url in servers.items()}
        self._primary = engines.pop(primary)
        self._replicas = list(engines.values())

    def session(self, cookie: Cookie, *, writes: bool) -> Session:
        return RecipeSession(self._primary, self._replicas)

    def server_of(self, connection: Connection) -> str:
        return self._ports.get(connection.engine.url.port, "")

    def close(self) -> dict[str, int]:
        for engine in (self._primary, *self._replicas):
            engine.dispose()
        return {}
