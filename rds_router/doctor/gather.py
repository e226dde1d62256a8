"""Asks the servers of a router: the doctor's only I/O.

Each server has a daemon thread, so that one that hangs delays no other and does not hold up the end; the
application's own engines are used, so that what is looked at is what the application gets.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Mapping, Sequence

from sqlalchemy import inspect
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from rds_router import drivers
from rds_router.dialects import dialect_for, run_probe, told_dialect
from rds_router.dialects.base import Row, Verdict
from rds_router.dialects.heartbeat import TABLE, heartbeat_for
from rds_router.dialects.sqlite import STATUS_TABLE
from rds_router.doctor.facts import Encryption, Facts, Load, Pool, ServerFacts, Table
from rds_router.doctor.questions import ask
from rds_router.monitor import one_line
from rds_router.router import Router


def gather(router: Router, *, load: Load | None = None, timeout: float = 10.0) -> Facts:
    """All that can be known of the router's servers within ``timeout`` seconds. The router is not started.

    Raises ConfigurationError for a driver that is not installed.
    """
    engines = {
        each.server.name: (
            router.primary_engine(start=False) if each.server.is_primary else router.replica_engine(each.server.name),
            each.server.is_primary,
        )
        for each in router.topology.servers
    }
    found: dict[str, ServerFacts] = {}

    def examine(name: str, engine: Engine, is_primary: bool) -> None:
        found[name] = _examine(name, engine, is_primary=is_primary, behind_proxy=router.policy.behind_proxy)

    threads = [
        threading.Thread(target=examine, args=(name, *each), name=f"rds_router doctor {name}", daemon=True)
        for name, each in engines.items()
    ]
    end = time.monotonic() + timeout
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    servers = tuple(
        found.get(name)
        or ServerFacts(
            name=name, is_primary=is_primary, host=engine.url.host or "", error=f"no answer within {timeout:g} s"
        )
        for name, (engine, is_primary) in engines.items()
    )
    return Facts(servers=servers, load=load or Load(is_told=False), policy=router.policy)


def pool_of(engine: Engine) -> Pool:
    """What this engine's pool may open."""
    pool = engine.pool
    if isinstance(pool, QueuePool):
        size, overflow = pool.size(), pool._max_overflow
        return Pool(size, None if overflow < 0 or size == 0 else overflow)
    return Pool(0, None) if isinstance(pool, NullPool) else Pool(1, 0)


def _examine(name: str, engine: Engine, *, is_primary: bool, behind_proxy: bool) -> ServerFacts:
    url, dialect = engine.url, dialect_for(engine.url.get_backend_name())
    backend, host = url.get_backend_name(), url.host or ""
    pool = pool_of(engine)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.detach()  # closed at the end, also if the pool is gone by then
            told = ask(backend, lambda sql: _rows(connection, sql))
            dialect = told_dialect(backend, lambda sql: _rows(connection, sql), behind_proxy=behind_proxy)
            report = run_probe(dialect, lambda sql: _rows(connection, sql))
            tables, unasked = _tables(connection)
            raw = connection.connection.dbapi_connection
            number = drivers.number_of(raw)
            return ServerFacts(
                name=name,
                is_primary=is_primary,
                host=host,
                family=dialect.name,
                report=report,
                version=told.version,
                account=told.account,
                encryption=None
                if told.connection is None
                else Encryption(told.tls_version, drivers.verifies(raw), told.is_tls_required),
                settings=told.settings,
                capacity=told.capacity,
                pool=pool,
                tables=tables,
                tells_positions=dialect.position_after_write is not None,
                heartbeat=_heartbeat(connection, dialect.name, tables),
                is_pooled=None if None in (number, told.connection) else number != told.connection,
                unasked=unasked,
            )
    except Exception as error:  # whatever a driver raises is news of this server
        verdict = dialect.verdict_of_error(getattr(error, "orig", None) or error)
        return ServerFacts(
            name=name,
            is_primary=is_primary,
            host=host,
            error=one_line(getattr(error, "orig", None) or error, url),
            is_login_refused=verdict is Verdict.LOGIN,
            pool=pool,
        )


def _rows(connection: Connection, sql: str) -> Sequence[Row]:
    return [dict(row) for row in connection.exec_driver_sql(sql).mappings()]


def _tables(connection: Connection) -> tuple[Mapping[str, Table] | None, tuple[str, ...]]:
    """The tables of the URL's database, and why they are not known."""
    try:
        with warnings.catch_warnings():
            # A type that SQLAlchemy does not know is NULL on every server: it differs nowhere.
            warnings.simplefilter("ignore", SAWarning)
            inspector = inspect(connection)
            columns = inspector.get_multi_columns()
            keys, indexes = inspector.get_multi_pk_constraint(), inspector.get_multi_indexes()
    except (SQLAlchemyError, NotImplementedError) as error:
        return None, (f"the tables ({type(error).__name__})",)
    found = {}
    for place, listed in columns.items():
        if place[1] == STATUS_TABLE:
            continue  # SQLite's replicas have it, its primary has not
        by_name = {
            str(each["name"]): f"({', '.join(str(name) for name in each.get('expressions') or each['column_names'])})"
            + (" unique" if each["unique"] else "")
            for each in indexes.get(place, ())
        }
        key = keys.get(place)
        if key and key["constrained_columns"]:
            by_name["the primary key"] = f"({', '.join(key['constrained_columns'])})"
        found[place[1]] = Table(
            {
                each["name"]: f"{each['type']!s}{'' if each['nullable'] else ' NOT NULL'}"
                + ("" if each["default"] is None else f" DEFAULT {each['default']}")
                for each in listed
            },
            by_name,
        )
    return found, ()


def _heartbeat(connection: Connection, dialect: str, tables: Mapping[str, Table] | None) -> float | None:
    heartbeat = heartbeat_for(dialect)
    if heartbeat is None or TABLE not in (tables or {}):
        return None
    rows = _rows(connection, heartbeat.read)
    return float(rows[0]["at"]) if rows else None
