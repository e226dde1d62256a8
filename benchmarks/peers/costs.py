"""CPU a statement costs through each way of routing: run by ``benchmarks.routing`` under the peers' interpreter.

    python -m benchmarks.peers.costs '{"seed": 1, "rounds": 30, "mysql": ["mysql+...://primary", "mysql+...://replica"]}'

Prints a JSON object a line: ``{"done": 0.3, "text": "..."}`` on the way, ``{"part": ...}`` for each comparison.

1. SQLite in memory, which costs as little as a database can, so that routing shows as much as it can. The topology is
   fixed and no monitor runs. The plain session, the recipe, advanced-alchemy where it is, rds_router.
2. A real MySQL primary and replica through MySQL Connector, the only driver for MySQL that aws-advanced-python-wrapper
   takes: the same ways, and the wrapper.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import create_engine, event, insert, select, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool, StaticPool

from benchmarks.blog_tables import Author, Base, Post
from benchmarks.paired import Difference, compare, compare_all
from benchmarks.peers.naive import RecipeSession
from rds_router import Router, RoutingPolicy, RoutingSession
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.scope import FRESH

AGAIN = "plain again"
AWS = "aws wrapper"
Make = Callable[[], Session]
# The same for all ways: an engine's cache finds a statement that is the one it was made for faster than one like it.
BY_KEY = select(Post).where(Post.id == 7)
TITLES = select(Post.__table__.c.title).limit(3)
COUNTING = text("SELECT count(*) FROM posts WHERE title <> :title")
Tell = Callable[[dict[str, Any]], None]


def main() -> None:
    task = json.loads(sys.argv[1])

    def tell(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)

    in_memory(tell, rounds=task["rounds"], seed=task["seed"])
    if task["mysql"]:
        on_mysql(tell, task["mysql"], rounds=max(5, task["rounds"] // 2), seed=task["seed"])


def in_memory(tell: Tell, *, rounds: int, seed: int) -> None:
    """The first stage, and what ``get_bind`` and whole sessions cost."""
    with contextlib.ExitStack() as opened:
        plain, router = opened.enter_context(routers())
        # Of their own: what they commit on the router's engines would be noted as this task's writes.
        engines = [create_engine("sqlite://", poolclass=StaticPool) for _ in range(2)]
        opened.enter_context(contextlib.closing(_Disposed(*engines)))
        for each in engines:
            _fill(each)
        makers: dict[str, Make] = {
            "plain": lambda: Session(plain),
            AGAIN: lambda: Session(plain),
            "recipe": lambda: RecipeSession(engines[0], [engines[1]]),
            **_advanced_alchemy(engines[0], engines[1]),
            "rds_router": lambda: RoutingSession(router=router),
        }
        _statements(tell, "memory", makers, rounds=rounds, calls=100, seed=seed)
        _sessions(tell, makers, rounds=rounds, seed=seed)
        with Session(plain) as a, RoutingSession(router=router) as b:
            for name, asked in _binds(a).items():
                _told(tell, "get_bind", name, {"rds_router": compare(name, asked, _binds(b)[name], rounds=rounds)})
            if not b.get_bind(Post, clause=select(Post)).url.database.startswith("file:replica"):  # type: ignore[union-attr]
                raise RuntimeError("the session did not read on its replica")
            first = compare("first", _binds(a)["ORM, again"], first_question(b), rounds=rounds)
            _told(tell, "get_bind", "first of a session", {"rds_router": first})
    with routers(3) as (plain, router), Session(plain) as a, RoutingSession(router=router) as b:
        base, asked = _binds(a)["ORM, again"], first_question(b)
        idle = compare("idle", base, asked, rounds=rounds)
        _told(tell, "get_bind", "first, of 3 idle replicas", {"rds_router": idle})
        with contextlib.ExitStack() as busy:
            for engine in router._engines._all():
                busy.enter_context(contextlib.closing(engine.connect()))
            found = compare("busy", base, asked, rounds=rounds)
        _told(tell, "get_bind", "first, of 3 busy replicas", {"rds_router": found})


def on_mysql(tell: Tell, urls: Sequence[str], *, rounds: int, seed: int) -> None:
    """The second stage."""
    try:
        import mysql.connector  # noqa: F401
    except ImportError:
        tell({"missing": "mysql-connector-python"})
        return
    first, second = (make_url(url).set(drivername="mysql+mysqlconnector") for url in urls)
    # Pure Python for all; over TLS, without which MySQL's default authentication is refused.
    arguments = {"use_pure": True}
    plain, replica = (create_engine(url, connect_args=arguments) for url in (first, second))
    policy = RoutingPolicy(probe_interval=3600, max_lag=7200)
    router = Router(first, [second], policy=policy, engine_options={"connect_args": arguments})
    with router, contextlib.closing(_Disposed(plain, replica)):
        router.refresh()
        _fill(plain, drop=True)
        deadline = time.monotonic() + 30
        while not _is_there(replica):
            if time.monotonic() > deadline:
                raise RuntimeError("the replica does not follow")
            time.sleep(0.05)
        makers: dict[str, Make] = {
            "plain": lambda: Session(plain),
            AGAIN: lambda: Session(plain),
            "recipe": lambda: RecipeSession(plain, [replica]),
            **_advanced_alchemy(plain, replica),
            **_aws_wrapper(first, second, tell),
            "rds_router": lambda: RoutingSession(router=router),
        }
        try:
            _statements(tell, "mysql", makers, rounds=rounds, calls=20, seed=seed)
        finally:
            Base.metadata.drop_all(plain)


class _Disposed:
    def __init__(self, *engines: Engine) -> None:
        self._engines = engines

    def close(self) -> None:
        for engine in self._engines:
            engine.dispose()


def _statements(tell: Tell, stage: str, makers: dict[str, Make], *, rounds: int, calls: int, seed: int) -> None:
    """Each kind of statement on an open session of each way, all ways in the same rounds."""
    with contextlib.ExitStack() as opened:
        sessions = {name: opened.enter_context(make()) for name, make in makers.items()}
        writing = sessions.pop(f"{AWS}, writing", None)
        asked = {name: questions(session, 7 + place) for place, (name, session) in enumerate(sessions.items())}
        if writing is not None:  # a transaction of the wrapper cannot move from the replica to the primary
            asked[AWS]["flush"] = questions(writing, 7 + len(asked))["flush"]
        kinds = list(asked["plain"])
        for number, kind in enumerate(kinds):
            tell({"done": number / len(kinds), "text": f"{stage}: {kind}"})
            others = {name: each[kind] for name, each in asked.items() if name != "plain"}
            _told(tell, stage, kind, compare_all(asked["plain"][kind], others, rounds=rounds, calls=calls, seed=seed))


def questions(session: Session, row: int) -> dict[str, Callable[[], object]]:
    """The kinds of statement, each on an open session; what writes is last, and each session has a row of its own."""
    numbers = itertools.count()
    held: list[Post] = []

    def flush() -> None:
        if not held:
            held.append(session.get_one(Post, row))
        held[0].title = f"Post {next(numbers)}"
        session.flush()

    return {
        "ORM select": lambda: session.scalars(BY_KEY).one(),
        "ORM select, built each time": lambda: session.scalars(select(Post).where(Post.id == 7)).one(),
        "get": lambda: session.get_one(Post, row, populate_existing=True),
        "Core select": lambda: session.execute(TITLES).all(),
        "text": lambda: session.execute(COUNTING, {"title": "x"}).scalar(),
        "flush": flush,
    }


def _sessions(tell: Tell, makers: dict[str, Make], *, rounds: int, seed: int) -> None:
    """Whole sessions: what a web request does."""

    def reading(make: Make) -> Callable[[], object]:
        def read() -> None:
            with make() as session:
                session.scalars(select(Post).where(Post.id == 7)).one()

        return read

    def writing(make: Make) -> Callable[[], object]:
        def write() -> None:
            with make() as session:
                session.get_one(Post, 7).title = str(time.perf_counter_ns())
                session.commit()

        return write

    for kind, of in (("session with one read", reading), ("session with get, flush, commit", writing)):
        tell({"done": 0.9, "text": kind})
        base, others = of(makers["plain"]), {name: of(make) for name, make in makers.items() if name != "plain"}
        _told(tell, "memory", kind, compare_all(base, others, rounds=rounds, calls=50, seed=seed))


def _binds(session: Session) -> dict[str, Callable[[], object]]:
    return {
        "ORM, again": lambda: session.get_bind(Post, clause=BY_KEY),
        "text, again": lambda: session.get_bind(clause=COUNTING),
    }


def first_question(session: RoutingSession) -> Callable[[], object]:
    """get_bind as the first read of a session meets it: nothing is pinned yet."""

    def ask() -> object:
        session._scope, session._pin = FRESH, None
        return session.get_bind(Post, clause=BY_KEY)

    return ask


def _told(tell: Tell, stage: str, kind: str, found: dict[str, Difference]) -> None:
    tell({"part": stage, "kind": kind, "ways": {name: asdict(each) for name, each in found.items()}})


@contextlib.contextmanager
def routers(replicas: int = 1) -> Iterator[tuple[Engine, Router]]:
    """A plain engine, and a router with replicas that are always eligible: the monitor is told to wait an hour."""
    plain = create_engine("sqlite://", poolclass=StaticPool)
    names = ["primary", *(f"replica-{number}" for number in range(replicas))]
    urls = [f"sqlite:///file:{name}-of-{replicas}?mode=memory&cache=shared&uri=true" for name in names]
    router = Router(
        urls[0],
        urls[1:],
        policy=RoutingPolicy(probe_interval=3600, guard=False),
        engine_options={"poolclass": StaticPool} if replicas == 1 else {"poolclass": QueuePool},
    )
    router._is_awake = True
    now = time.monotonic()
    for seen in router.topology.servers:
        role = Role.PRIMARY if seen.server.is_primary else Role.REPLICA
        report = Report(role, lag=0.0, is_writable=role is Role.PRIMARY)
        router._observe(Observation(seen.server.name, now, report), router.dialect)
    # By engines of their own: what the router's commit without a session is a write of this task, whose author's reads
    # would go to the primary. They stay open, as the databases live in memory only.
    others = [create_engine(url, poolclass=StaticPool) for url in urls]
    for engine in (plain, *others):
        _fill(engine)
    yield plain, router
    router.close()
    for engine in (plain, *others):
        engine.dispose()


def _fill(engine: Engine, *, drop: bool = False) -> None:
    if drop:
        Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Author), [{"id": 1, "name": "Ann"}])
        rows = [{"id": number, "author_id": 1, "title": f"Post {number}"} for number in range(1, 21)]
        connection.execute(insert(Post), rows)


def _is_there(replica: Engine) -> bool:
    try:
        with replica.connect() as connection:
            return connection.scalar(text("SELECT count(*) FROM posts")) == 20
    except Exception:  # the table is not there yet
        return False


def _advanced_alchemy(primary: Engine, replica: Engine) -> dict[str, Make]:
    try:
        from benchmarks.peers.advanced import maker
    except ImportError:
        return {}
    engines = {"primary": primary, "replica": replica}
    return {"advanced-alchemy": maker("primary", ["replica"], engines.__getitem__)}


def _aws_wrapper(first: Any, second: Any, tell: Tell) -> dict[str, Make]:
    """As in ``benchmarks.peers.aws``; a connection that only reads says so once, and stays on its replica."""
    try:
        import aws_advanced_python_wrapper  # noqa: F401
    except ImportError:
        tell({"missing": "aws-advanced-python-wrapper"})
        return {}
    engine = create_engine(
        first.set(drivername="mysql+aws_wrapper_mysqlconnector"),
        connect_args={
            "plugins": "srw",
            "srw_write_endpoint": f"{first.host}:{first.port}",
            "srw_read_endpoint": f"{second.host}:{second.port}",
            "use_pure": True,
        },
    )
    return {AWS: lambda: _on_replica(engine), f"{AWS}, writing": lambda: Session(engine)}


def _on_replica(engine: Engine) -> Session:
    """A session that says on its connection that it only reads, whereupon the wrapper moves it to the replica."""
    session = Session(engine)

    @event.listens_for(session, "after_begin")
    def after_begin(session: Session, transaction: object, connection: Any) -> None:
        connection.connection.dbapi_connection.read_only = True

    return session


if __name__ == "__main__":
    main()
