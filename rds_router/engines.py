"""One SQLAlchemy engine a server and role: made at first use, handed out, retired.

A pool slot never changes its server, and a server's role never changes inside a pool (R12): a promoted replica gets
a new engine with the primary's options, and its old pool is let go.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import engine_from_config, event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.pool import Pool, QueuePool

from rds_router import drivers
from rds_router.core.election import is_another_server, is_on_earlier_timeline
from rds_router.core.observation import Report
from rds_router.core.policy import RoutingPolicy
from rds_router.core.topology import Topology
from rds_router.dialects.base import Dialect, Verdict
from rds_router.errors import ConfigurationError, WrongServer
from rds_router.login import Login
from rds_router.patience import Patience
from rds_router.primary_faults import OnFault, OwnWish, is_autocommitting, watch_primary
from rds_router.servers import Target

Part: TypeAlias = Literal["primary", "replica"]
OnEngine: TypeAlias = Callable[[Engine, str, Part], None]


def for_each_role(
    common: Mapping[str, Any] | None, of_replicas: Mapping[str, Any] | None, *, has_replicas: bool
) -> dict[Part, dict[str, Any]]:
    """Engine options of the primary, and of the replicas, which have those for all and their own.

    A common ``isolation_level`` is the primary's: how replicas run is for ``replica_transactions`` to say, unless they
    have one of their own. Raises ConfigurationError for what would lead every engine to the same server.
    """
    options, own = dict(common or {}), dict(of_replicas or {})
    misleading = sorted({"creator", "async_creator", "pool"} & {*options, *own})
    if misleading and has_replicas:
        raise ConfigurationError(
            f"the engine option {misleading[0]!r} connects every engine to the same server, whatever its URL: leave it "
            "out, and use credentials= for passwords, connect_args for the driver, or on_engine= to change each engine"
        )
    shared = {key: value for key, value in options.items() if key != "isolation_level"}
    return {"primary": options, "replica": {**shared, **own}}


class Engines:
    """The engines of one router. Thread-safe."""

    def __init__(
        self,
        servers: Mapping[str, Target],
        *,
        policy: RoutingPolicy,
        dialect: Callable[[], Dialect],
        options: Mapping[Part, Mapping[str, Any]],
        login: Login,
        heard: Callable[[str], float],
        ask: Callable[[str], None],
        clock: Callable[[], float],
        on_engine: OnEngine | None = None,
        on_fault: OnFault | None = None,
        on_primary: Callable[[Engine], None] | None = None,
        is_own_wish: OwnWish = lambda server, error: False,
        known: Callable[[str], Report | None] = lambda name: None,
    ) -> None:
        """``known``: the last good report of a server."""
        self._targets = dict(servers)
        self._policy = policy
        self._dialect = dialect
        self._options = options
        self._login = login
        self._patience: Callable[[str], Patience] = lambda name: Patience(
            name, policy.read_deadline, clock=clock, heard=lambda: heard(name), ask=lambda: ask(name)
        )
        self._on_engine = on_engine
        self._on_fault = on_fault
        self._on_primary = on_primary
        self._is_own_wish = is_own_wish
        self._known = known
        self._clock = clock
        self._wires: dict[tuple[str, Part], weakref.WeakKeyDictionary[Any, drivers.Wire]] = {}
        self._engines: dict[Part, dict[str, Engine]] = {"primary": {}, "replica": {}}
        self._names: weakref.WeakKeyDictionary[Engine, str] = weakref.WeakKeyDictionary()  # of those let go too
        self._parents: list[Pool] = []
        self._lock = threading.RLock()  # on_engine() may ask for another engine
        self._wires_lock = threading.Lock()

    def get(self, name: str, part: Part) -> Engine:
        """The engine for this server in this role. Raises ConfigurationError for options it does not take."""
        engine = self._engines[part].get(name)
        return engine if engine is not None else self._make(name, part)

    def server_of(self, engine: Engine) -> str | None:
        """The server that an engine leads to, one that was let go meanwhile too; None if it was not made here."""
        return self._names.get(engine)

    def follow(self, old: Topology, new: Topology) -> None:
        """Act on what was learnt of the servers: pools whose server changed its role, or was away, are let go."""
        if new.generation != old.generation:
            self.retire(old.writer, "primary")  # also if another server is behind the same name
        if new.writer != old.writer:
            self.retire(new.writer, "replica")
        for name in new.returned_since(old):
            self.renew(name)
        for name in new.silent_for(self._policy.read_deadline, now=self._clock()):
            self._hang_up(name, "replica")

    def retire(self, name: str, part: Part) -> None:
        """Let go of a pool whose server changed its role. Connections in use end when they are returned."""
        with self._lock:
            engine = self._engines[part].pop(name, None)
        if engine is not None:
            _end(engine)
        if part == "primary":
            # Who waits for a server that hangs waits in vain: another one is the primary.
            self._hang_up(name, part)

    def _hang_up(self, name: str, part: Part) -> None:
        with self._wires_lock:
            wires = list(self._wires.pop((name, part), {}).values())
        for wire in wires:
            wire.hang_up()

    def relist(self, servers: Iterable[Target]) -> None:
        """Other servers, or the same names elsewhere. Pools of what is gone are let go, as :meth:`retire` does.

        The way to the servers that went last stays known: a decision made a moment ago may still ask for its engine.
        """
        with self._lock:
            new = {each.server.name: each for each in servers}
            old = self._targets
            gone = [name for name in old if name not in new][-_REMEMBERED:]
            self._targets = {**{name: old[name] for name in gone}, **new}
            for key in [each for each in [*self._wires] if each[0] not in self._targets]:
                self._wires.pop(key, None)
            moved = {name for name, each in new.items() if name in old and old[name].url != each.url}
            engines = [
                made.pop(name)
                for made in self._engines.values()
                for name in [*made]
                if name in moved or name not in new
            ]
        for engine in engines:
            _end(engine)

    def renew(self, name: str) -> None:
        """Let go of a replica's idle connections: it was away, they may lead nowhere, or to another server."""
        engine = self._engines["replica"].get(name)
        if engine is not None:
            engine.dispose()

    def url(self, name: str) -> URL:
        """The way to a server, with the password in it."""
        return self._targets[name].url

    def in_use(self, name: str, part: Part = "replica") -> int:
        """How many connections of a pool are checked out now; 0 where the pool does not count them."""
        try:
            # What QueuePool.checkedout() does, in a third of its time: it takes a lock to ask a deque for its length.
            pool: Any = self._engines[part][name].pool
            queue = pool._pool
            return queue.maxsize - len(queue.queue) + pool._overflow  # type: ignore[no-any-return]
        except KeyError:
            return 0  # nobody has used it yet
        except AttributeError:
            count = getattr(pool, "checkedout", None)
            return 0 if count is None else int(count())

    def places(self, name: str, part: Part) -> float:
        """How many connections a pool may hold; infinity where it does not say."""
        pool = self.get(name, part).pool
        overflow = getattr(pool, "_max_overflow", -1)
        return pool.size() + overflow if isinstance(pool, QueuePool) and overflow >= 0 else math.inf

    def close(self) -> None:
        """Dispose of every engine."""
        with self._lock:
            engines = self._all()
            for made in self._engines.values():
                made.clear()
        for engine in engines:
            engine.dispose()

    def forked(self) -> None:
        """In a forked child: forget the parent's sockets without closing them (R13)."""
        self._lock = threading.RLock()  # on_engine() may ask for another engine
        self._wires_lock = threading.Lock()
        self._wires = {}
        for engine in self._all():
            # Kept, not only not closed: some drivers say goodbye to the server when a connection is collected.
            self._parents.append(engine.pool)
            engine.dispose(close=False)

    def _all(self) -> list[Engine]:
        return [engine for made in self._engines.values() for engine in [*made.values()]]

    def _make(self, name: str, part: Part) -> Engine:
        with self._lock:
            engine = self._engines[part].get(name)
            if engine is not None:
                return engine
            url = self._targets[name].url
            options = dict(self._options[part])
            if part == "replica":
                options = {**_replica_defaults(url, self._policy, options), **options}
            if self._policy.behind_proxy:
                options = _behind_proxy(url, options)
            try:
                # As Flask-SQLAlchemy does: options from the environment are strings, and become what they must be.
                engine = engine_from_config({"url": url, **options}, prefix="")
            except ImportError as error:
                raise drivers.not_installed(url, error) from None
            except (TypeError, ValueError) as error:
                raise ConfigurationError(f"the engine options for {name} ({part}) are not accepted: {error}") from None
            # A write may have been done though its answer is late: only reads are given up.
            patience = self._patience(name) if part == "replica" else None
            wakes_in = self._policy.wake_timeout if part == "primary" else 0.0
            drivers.improve(engine, self._login.opening(url, name), patience, wakes_in=wakes_in)
            if patience is not None and not drivers.is_patient(engine):
                event.listen(engine, "connect", functools.partial(self._note, name, part))
            if part == "primary" and self._on_primary is not None:
                self._on_primary(engine)
            if part == "primary" and self._policy.session_tracking:
                event.listen(engine, "connect", drivers.track_positions)
            if part == "primary" and self._on_fault is not None:
                watch_primary(engine, name, self._verdict_of, self._on_fault, self._is_own_wish)
                event.listen(engine, "connect", functools.partial(self._recognise, name))
            if self._on_fault is not None:
                event.listen(engine, "checkout", drivers.refuse_hung_up)
            if part == "replica" and self._policy.guard:
                event.listen(engine, "connect", functools.partial(self._guard, not is_autocommitting(engine)))
            if self._on_engine is not None:
                self._on_engine(engine, name, part)
            self._engines[part][name], self._names[engine] = engine, name
            return engine

    def _verdict_of(self, error: BaseException) -> Verdict:
        return self._dialect().verdict_of_error(error)

    def _note(self, name: str, part: Part, connection: Any, record: object) -> None:
        """A new connection, that may have to be hung up while somebody waits for its answer."""
        wire = drivers.wire_of(connection)
        if wire is not None:
            with self._wires_lock, contextlib.suppress(TypeError):  # one that takes no weak reference is not
                self._wires.setdefault((name, part), weakref.WeakKeyDictionary())[connection] = wire

    def _recognise(self, name: str, connection: Any, record: object) -> None:
        """A new connection to the primary leads to the server that was probed under its name, in the role it had.

        A name may still resolve to the old server, or already to another one. One round trip a connection.
        """
        self._note(name, "primary", connection, record)
        known, dialect = self._known(name), self._dialect()
        if known is None or not known.identity:
            return
        try:
            rows = drivers.rows_of(connection, dialect.probe[0].sql)
            found = dialect.read({dialect.probe[0].name: rows})
        except Exception as error:
            if dialect.verdict_of_error(error) is Verdict.GONE:
                raise
            return  # another dialect's server, or an account that may not ask: nothing is known
        finally:
            if dialect.name == "postgresql":
                connection.rollback()  # else it would be idle in a transaction
        if found.is_writable is False and known.is_writable is not False:
            raise WrongServer(f"{name} led to a server that refuses writes")
        if is_another_server(known, found) or is_on_earlier_timeline(found, known):
            raise WrongServer(f"{name} led to another server than the one that was probed under this name")

    def _guard(self, is_in_transaction: bool, connection: Any, record: object) -> None:
        """R9: a new replica connection refuses writes, whatever the classifier says."""
        cursor = connection.cursor()
        try:
            for statement in self._dialect().guard:
                cursor.execute(statement)
            if is_in_transaction:
                # PostgreSQL's SET is undone with its transaction, and the pool's reset rolls back.
                connection.commit()
        finally:
            cursor.close()


_REMEMBERED: Final = 64
"""How many servers that left the list are still known: four times as many as a cluster has."""


def _end(engine: Engine) -> None:
    """Close what is idle now, and what is in use when it is returned: nobody would look for it in this pool again."""
    event.listen(engine.pool, "checkin", lambda connection, record: record.close())
    engine.dispose()


def _replica_defaults(url: URL, policy: RoutingPolicy, options: Mapping[str, Any]) -> dict[str, Any]:
    # A pool full of connections that are stuck on a silent server must not cost more than the server itself. Whole
    # seconds: engine_from_config() cuts the rest off.
    is_queue = url.host is not None and not {"pool", "poolclass"} & options.keys()
    return {**_levels(url, policy), **({"pool_timeout": max(1, int(policy.read_deadline))} if is_queue else {})}


def _levels(url: URL, policy: RoutingPolicy) -> dict[str, Any]:
    if policy.replica_transactions == "autocommit":
        # Two round trips fewer for each read transaction (2 instead of 4 for a session that reads twice).
        return {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
    if url.get_backend_name() in _SNAPSHOT_LEVELS:
        return {"isolation_level": _SNAPSHOT_LEVELS[url.get_backend_name()]}
    return {}


def _behind_proxy(url: URL, options: Mapping[str, Any]) -> dict[str, Any]:
    """The proxy has the pool. It closes what was idle for 30 minutes, RDS Proxy by default at least."""
    found = {**options}
    if "poolclass" not in found and url.get_backend_name() != "sqlite":
        found = {"pool_size": 2, "max_overflow": 8, "pool_recycle": 1500, **found}
    found["connect_args"] = {**drivers.through_proxy(url), **found.get("connect_args", {})}
    return found


_SNAPSHOT_LEVELS: Final = {
    "mysql": "REPEATABLE READ",
    "mariadb": "REPEATABLE READ",
    "postgresql": "REPEATABLE READ",
}
