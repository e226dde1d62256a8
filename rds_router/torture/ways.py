"""What a client goes through: rds_router, or something that looks like one server, as a proxy does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import Session

from rds_router import (
    CommitInDoubt,
    Replica,
    Router,
    RoutingPolicy,
    RoutingSession,
    prepare_transactions,
    run_transaction,
)
from rds_router.events import Event, WritesLost
from rds_router.torture.jar import Cookie

_PROMPT = {"probe_interval": 0.25, "max_lag": 1.5}


_T = TypeVar("_T")
Work = Callable[[Session], _T]
_TIMEOUT = 20.0
"""Seconds after which a client gives up a write."""


class InDoubt(Exception):
    """COMMIT was sent, and nobody can say what became of it."""


class Way(Protocol):
    """A kind of session for each request, and what a cookie carries from one request to the next."""

    @property
    def losses(self) -> Sequence[tuple[str, float]] | None:
        """What was announced as lost with a primary: server and moment. None: nobody announces anything."""
        ...

    def session(self, cookie: Cookie, *, writes: bool) -> Session:
        """A session for one request of this client."""
        ...

    def transact(self, make_session: Callable[[], Session], work: Work[_T]) -> _T:
        """``work(session)`` in a transaction, and its COMMIT. Raises InDoubt; after any other error it is undone."""
        ...

    def keep(self, session: Session, cookie: Cookie) -> None:
        """At the end of a request: what the client's next one must not read behind."""
        ...

    def server_of(self, connection: Connection) -> str:
        """The name of the server that a connection leads to."""
        ...

    def close(self) -> dict[str, int]:
        """The end; returns what was told on the way, by kind."""
        ...


def way_for(task: Mapping[str, Any]) -> Way:
    """What the task says in ``through``: "router", "proxy", or "module:function" that makes a way of its own."""
    through = task["through"]
    if through["kind"] == "router":
        return ThroughRouter(task["servers"], task["primary"], through.get("policy", {}), task["threads"])
    if through["kind"] == "proxy":
        return ThroughProxy(through["url"], task["threads"])
    module, _, name = through["kind"].partition(":")
    made: Way = getattr(import_module(module), name)(task)
    return made


class Plain:
    """A way without anything beside SQLAlchemy's own transactions."""

    losses = None

    def transact(self, make_session: Callable[[], Session], work: Work[_T]) -> _T:
        session = make_session()
        value = work(session)
        session.flush()
        try:
            session.commit()
        except Exception as error:
            raise InDoubt(str(error)) from error
        return value

    def keep(self, session: Session, cookie: Cookie) -> None:
        """Nothing is given to the next request."""


class ThroughRouter:
    """A Router of this process, as a web application has one; writes are run again where that is safe."""

    def __init__(self, servers: Mapping[str, str], primary: str, policy: Mapping[str, Any], threads: int) -> None:
        self._names = {make_url(url).port: name for name, url in servers.items()}
        self._router = Router(
            Replica(servers[primary], name=primary),
            [Replica(url, name=name) for name, url in servers.items() if name != primary],
            policy=RoutingPolicy(**{**_PROMPT, **policy}),
            engine_options=engine_options(servers[primary], threads),
        )
        self.losses: list[tuple[str, float]] = []
        self._router.events.listen(self._hear)
        self._router.refresh()
        prepare_transactions(self._router)

    def _hear(self, event: Event) -> None:
        if isinstance(event, WritesLost):
            self.losses.append((event.old, time.monotonic()))

    def session(self, cookie: Cookie, *, writes: bool) -> Session:
        session = RoutingSession(router=self._router)
        if self._uses_tokens:
            session.read_after(cookie.token)
            session.follow(cookie.trail)
        return session

    def transact(self, make_session: Callable[[], Session], work: Work[_T]) -> _T:
        try:
            return run_transaction(make_session, work, timeout=_TIMEOUT)
        except CommitInDoubt as error:
            raise InDoubt(str(error)) from error

    def keep(self, session: Session, cookie: Cookie) -> None:
        assert isinstance(session, RoutingSession)
        if self._uses_tokens:
            # First the trail: asking for the token may replace the moment that it is compared with.
            if (trail := session.trail) is not None:
                cookie.trail = str(trail)
            if (token := session.token) is not None:
                cookie.token = str(token)

    def server_of(self, connection: Connection) -> str:
        return self._names.get(connection.engine.url.port, "")

    def close(self) -> dict[str, int]:
        self._router.close()
        return dict(self._router.events.counts)

    @property
    def _uses_tokens(self) -> bool:
        return self._router.policy.after_write != "any"


class ThroughProxy(Plain):
    """One URL behind which somebody else splits reads from writes, which proxies do outside of transactions only."""

    def __init__(self, url: str, threads: int) -> None:
        options = engine_options(url, threads)
        self._writer = create_engine(url, **options)
        self._reader: Engine = create_engine(
            url, **options, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True
        )

    def session(self, cookie: Cookie, *, writes: bool) -> Session:
        return Session(self._writer if writes else self._reader)

    def server_of(self, connection: Connection) -> str:
        return ""

    def close(self) -> dict[str, int]:
        self._writer.dispose()
        self._reader.dispose()
        return {}


def listen(session: Session, way: Way, heard: list[str]) -> None:
    """Note each server that the session talks to, in the order of its beginnings."""

    @event.listens_for(session, "after_begin")
    def after_begin(session: Session, transaction: object, connection: Connection) -> None:
        heard.append(way.server_of(connection))


def engine_options(url: str, threads: int) -> dict[str, Any]:
    """What a careful application sets: time limits, and connections that are tried before use."""
    arguments: dict[str, Any] = {"connect_timeout": 3}
    if make_url(url).get_backend_name() != "postgresql":
        arguments |= {"read_timeout": 8, "write_timeout": 8}
    return {"pool_pre_ping": True, "pool_size": threads, "max_overflow": threads, "connect_args": arguments}
