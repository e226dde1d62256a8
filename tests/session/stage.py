"""A primary, two replicas, a router, and a record of every statement with the server that ran it.

The record is made by each real engine's own events, below everything that routes. An engine never changes its
server, so it tells who ran the SQL; ``test_the_record_tells_the_truth`` compares it with what the servers say.
Nothing is probed but at the start and by ``refresh()``: what a test sees depends on no clock.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from rds_router import Replica, Router, RoutingPolicy, RoutingSession
from rds_router.causality import MARGIN
from rds_router.engines import Part
from rds_router.events import Event
from rds_router.lab import Cluster
from tests.session.models import Base, seed

NAMES = ("primary", "replica-1", "replica-2")


@dataclass(frozen=True, slots=True)
class Ran:
    """One statement, or one step of a transaction (BEGIN, COMMIT, ROLLBACK, SAVEPOINT ...), and who was told it."""

    server: str
    part: Part
    sql: str

    def __str__(self) -> str:
        return f"{self.part}: {self.sql}"


class Record(list[Ran]):
    """What ran, in order."""

    @property
    def parts(self) -> list[str]:
        """``primary`` or ``replica``, for each statement in order."""
        return [ran.part for ran in self.statements]

    @property
    def servers(self) -> list[str]:
        """The server of each statement in order."""
        return [ran.server for ran in self.statements]

    @property
    def statements(self) -> list[Ran]:
        """Without the steps of transactions."""
        return [ran for ran in self if ran.sql not in STEPS]

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The steps of transactions: (part, step)."""
        return [(ran.part, ran.sql) for ran in self if ran.sql in STEPS]


_EVENTS = {
    "begin": "BEGIN",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "savepoint": "SAVEPOINT",
    "release_savepoint": "RELEASE",
    "rollback_savepoint": "ROLLBACK TO",
    "begin_twophase": "XA BEGIN",
    "prepare_twophase": "XA PREPARE",
    "commit_twophase": "XA COMMIT",
    "rollback_twophase": "XA ROLLBACK",
}
_TOLD_BY_EVENTS = ("SAVEPOINT ", "RELEASE SAVEPOINT ", "ROLLBACK TO ", "XA ")
STEPS = frozenset(_EVENTS.values())


def record(engine: Engine, into: Record, *, server: str = "primary", part: Part = "primary") -> None:
    """Write down everything that this engine runs."""

    @event.listens_for(engine, "before_cursor_execute")
    def before_cursor_execute(*arguments: Any) -> None:
        sql = " ".join(str(arguments[2]).split())
        if not sql.startswith(_TOLD_BY_EVENTS):
            into.append(Ran(server, part, sql))

    for name, step in _EVENTS.items():
        event.listen(engine, name, _noting(into, Ran(server, part, step)))


def _noting(into: Record, ran: Ran) -> Callable[..., None]:
    def note(connection: Connection, *_: Any) -> None:
        into.append(ran)

    return note


UNHURRIED = {
    "probe_interval": 3600.0,
    "probe_timeout": 5.0,
    "causal_wait": 0.0,
    "max_lag": 30.0,  # SQLite replicas stand still until catch_up()
    "read_deadline": 60.0,
    "share_observations": False,  # another stage's news would come unasked
    "latency_window": 60.0,  # how fast a probe is answered tells of this machine's other work only
}
"""The policy of a test that wants to see what is decided from what is known, however slow the machine is."""


class Stage:
    """One cluster with a router before it. ``close()`` it."""

    def __init__(
        self,
        urls: list[str],
        *,
        cluster: Cluster | None = None,
        replicas: int = 2,
        behind_proxy: bool = False,
        **options: Any,
    ) -> None:
        if cluster is not None and not urls[0].startswith("postgresql"):
            # A context for TLS costs 30 ms of CPU, and each stage makes engines of its own.
            options["engine_options"] = {"connect_args": {"ssl_disabled": True}, **options.get("engine_options", {})}
        self.urls = urls
        self.cluster = cluster
        self.is_sqlite = cluster is None
        self.is_proxied = behind_proxy
        self.record = Record()
        self._ahead = 0.0
        self.events: list[Event] = []
        if self.is_sqlite:
            for path in self._paths[1:]:
                set_caught_up_at(path, time.time())
        given = {**UNHURRIED, **options.pop("policy", {})}
        self.router = Router(
            Replica(urls[0], name=NAMES[0]),
            [Replica(url, name=name) for url, name in zip(urls[1 : 1 + replicas], NAMES[1:], strict=False)],
            policy=RoutingPolicy.rds_proxy(**given) if behind_proxy else RoutingPolicy(**given),
            on_engine=lambda engine, server, part: record(engine, self.record, server=server, part=part),
            **{"clock": lambda: time.monotonic() + self._ahead, **options},
        )
        self.router.events.listen(self.events.append)
        self.sessions: list[Session] = []
        self.refresh()

    @property
    def has_no_returning(self) -> bool:
        """MariaDB knows no UPDATE .. RETURNING."""
        return not (self.is_sqlite or self.is_proxied)

    def session(self, kind: type[RoutingSession] = RoutingSession, **options: Any) -> RoutingSession:
        """A session of this stage's router, closed with the stage."""
        made = kind(router=self.router, **options)
        self.sessions.append(made)
        return made

    def refresh(self) -> None:
        """Probe every server now."""
        assert self.router.refresh(), repr(self.router)

    @contextlib.contextmanager
    def watching(self) -> Iterator[Record]:
        """What runs within the block."""
        begin = len(self.record)
        seen = Record()
        yield seen
        seen.extend(self.record[begin:])

    def told(self, kind: type[Event]) -> list[Event]:
        """The events of one kind so far."""
        return [each for each in self.events if isinstance(each, kind)]

    def catch_up(self, *, arrived: bool = False) -> None:
        """Have the replicas contain what the primary contains, and the router know it. ``arrived``: with what a token
        from elsewhere asks for, whose time has a margin."""
        if self.cluster is None:
            # First the primary's position now, which the copies made after it contain.
            self.refresh()
            for path in self._paths[1:]:
                copy_file(self._paths[0], path)
        else:
            self.cluster.wait_caught_up()
        if self.is_proxied and self.router.policy.after_write == "token":
            self._ahead += self.router.policy.after_write_window + (
                MARGIN if arrived else 0.0
            )  # there a token goes by time
        self.refresh()

    def fall_behind(self, seconds: float) -> None:
        """SQLite only: the replicas say they are that far behind, and the router knows it."""
        for path in self._paths[1:]:
            set_caught_up_at(path, time.time() - seconds)
        self.refresh()

    def on_server(self, number: int, sql: str) -> Any:
        """The first value of a query that a server was asked directly, past the router. 0 is the primary."""
        has_tls = not self.is_sqlite and not self.urls[0].startswith("postgresql")
        options = {"connect_args": {"ssl_disabled": True}} if has_tls else {}
        engine = create_engine(self.urls[number], **options)
        try:
            with engine.begin() as connection:
                result = connection.exec_driver_sql(sql)
                return result.scalar() if result.returns_rows else None
        finally:
            engine.dispose()

    def forget(self) -> None:
        """Begin the record anew."""
        self.record.clear()
        self.events.clear()

    def close_sessions(self) -> None:
        for session in self.sessions:
            session.close()
        self.sessions.clear()

    def close(self) -> None:
        self.close_sessions()
        self.router.close()

    @property
    def _paths(self) -> list[Path]:
        return [Path(url.removeprefix("sqlite:///")) for url in self.urls]


def make_files(directory: Path, count: int = 3) -> list[str]:
    """SQLite files with the tables: a primary, and replicas with the same content. Their URLs."""
    paths = [directory / f"{name}.sqlite" for name in NAMES[:count]]
    engine = create_engine(f"sqlite:///{paths[0]}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        seed(connection)
    engine.dispose()
    for path in paths[1:]:
        copy_file(paths[0], path)
    return [f"sqlite:///{path}" for path in paths]


def copy_files(urls: list[str], directory: Path) -> list[str]:
    """The same files in another place."""
    sources = [Path(url.removeprefix("sqlite:///")) for url in urls]
    return [f"sqlite:///{shutil.copy(source, directory / source.name)}" for source in sources]


def copy_file(source: Path, target: Path) -> None:
    """Bring a replica's file in line with its primary's."""
    time.sleep(0.002)  # a SQLite primary's clock is cut to milliseconds, and one more: it must be past that
    at = time.time()
    with contextlib.ExitStack() as opened:
        whence, between, whither = (
            opened.enter_context(contextlib.closing(sqlite3.connect(each))) for each in (source, ":memory:", target)
        )
        whence.backup(between)
        _write_status(between, at)
        # Content and status at once: a replica without its status would look like a primary.
        between.backup(whither)


def set_caught_up_at(path: Path, at: float) -> None:
    """Write a replica's status, as whoever copies the files does."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        _write_status(connection, at)


def _write_status(connection: sqlite3.Connection, at: float) -> None:
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS rds_router_replica_status (caught_up_at REAL)")
        connection.execute("DELETE FROM rds_router_replica_status")
        connection.execute("INSERT INTO rds_router_replica_status VALUES (?)", (at,))
