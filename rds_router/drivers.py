"""What is peculiar to a DBAPI driver."""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import InvalidatePoolError

from rds_router.errors import ConfigurationError
from rds_router.patience import Patience

MYSQL: Final = ("mysql", "mariadb")
Opening: TypeAlias = Callable[[Callable[..., Any], Any, dict[str, Any]], Any]
"""(connect, its arguments, its keywords) -> a DBAPI connection: where passwords and TLS are added."""


def as_told(connect: Callable[..., Any], arguments: Any, parameters: dict[str, Any]) -> Any:
    """Opens with nothing but what the URL and the options say."""
    return connect(*arguments, **parameters)


def connector(url: URL, options: Mapping[str, Any], timeout: float, opening: Opening = as_told) -> Callable[[], Any]:
    """A function that opens an autocommit DBAPI connection for probes, bounded in time as far as the driver can.

    ``options``: connect arguments of the user's; ``timeout``: seconds. Raises ConfigurationError without the driver.
    """
    dialect_class = url.get_dialect()
    try:
        driver = dialect_class.import_dbapi()
    except ImportError as error:
        raise not_installed(url, error) from None
    dialect = dialect_class(dbapi=driver)  # type: ignore[call-arg]  # typed on each dialect
    arguments, parameters = dialect.create_connect_args(url)
    parameters = {**parameters, **options, **_time_limits(url, timeout)}
    connect = _pymysql_connect() if _is_pymysql(dialect) else dialect.connect

    def open_one() -> Any:
        connection = opening(connect, arguments, parameters)
        dialect.set_isolation_level(connection, "AUTOCOMMIT")
        return connection

    return open_one


def through_proxy(url: URL) -> dict[str, Any]:
    """Connect arguments for a proxy that gives each transaction another connection."""
    if url.get_driver_name() != "psycopg":
        return {}
    # It would prepare statements on a connection, and DEALLOCATE them: https://github.com/psycopg/psycopg/issues/1105
    return {"prepare_threshold": None}


def not_installed(url: URL, error: ImportError) -> ConfigurationError:
    """What to say when the driver that a URL names, or leaves to SQLAlchemy, is not there."""
    return ConfigurationError(
        f"{url.set(query={}).render_as_string(hide_password=True)} needs a driver that is not installed ({error}): "
        "install it, or name another one in the URL, as in mysql+pymysql or postgresql+psycopg"
    )


def improve(
    engine: Engine, opening: Opening = as_told, patience: Patience | None = None, *, wakes_in: float = 0.0
) -> None:
    """Let an engine's connections be opened by ``opening``, and do what their driver cannot do by itself.

    ``patience``: for how long they wait for their server; ``wakes_in``: how long connecting may take because it sleeps.
    Time limits among the user's own connect arguments hold as well: on a replica whichever is the shorter.
    """
    taught = _taught_connect(engine.dialect, patience)
    seconds = wakes_in if patience is None else patience.seconds
    limits = _connect_limits(engine.url, seconds) if seconds else {}
    if patience is None:
        limits.pop("write_timeout", None)  # a primary's connection is never given up once it is there
    if opening is as_told and taught is None and not limits:
        return
    connect = taught or engine.dialect.connect

    def open_one(*arguments: Any, **parameters: Any) -> Any:
        with _within(patience, engine.dialect) if patience is not None else nullcontext():
            return opening(connect, arguments, _shorter(limits, parameters) if patience else {**limits, **parameters})

    # Not as a listener to "do_connect": SQLAlchemy stops at the first that connects, and those are the user's.
    engine.dialect.connect = open_one  # type: ignore[method-assign]


def _shorter(limits: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Connect arguments with time limits, none of which is longer than it was told to be by either.

    The user's own are passed on as they are: some drivers take whole numbers only.
    """
    return {**own, **{name: limit for name, limit in limits.items() if limit <= _seconds(own.get(name))}}


def _seconds(limit: Any) -> float:
    """A time limit as drivers take it, from a URL as text; what is no time, or not above 0, is no limit."""
    try:
        seconds = float(limit)
    except (TypeError, ValueError):
        return math.inf
    return seconds if seconds > 0 else math.inf


@contextmanager
def _within(patience: Patience, dialect: Any) -> Iterator[None]:
    """Connect to a server within its time, and not at all to one that was just given up."""
    if patience.is_spent:
        words = f"not connected: {patience.words}"
        # CR_CONN_HOST_ERROR, as the drivers of MySQL number it.
        raise dialect.loaded_dbapi.OperationalError(*((2003, words) if dialect.name in MYSQL else (words,)))
    began = patience.clock()
    try:
        yield
    except dialect.loaded_dbapi.Error:
        if patience.clock() - began >= patience.seconds:
            patience.give_up()
        raise


def track_positions(connection: Any, record: object) -> None:
    """A pool's "connect" listener: make ready to tell the position of each commit, where driver and server can."""
    if hasattr(connection, "rds_track"):
        connection.rds_track()


def is_patient(engine: Engine) -> bool:
    """True if its connections end their own wait for a silent server, by ``patience``; else somebody has to."""
    return _taught_connect(engine.dialect, None) is not None


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection's socket, for another thread: some drivers let nobody but the user of a connection ask for it."""

    number: int
    ends: tuple[Any, Any]
    """Both addresses: the number may be somebody else's by now."""

    def hang_up(self) -> None:
        """End the wait of whoever uses the connection, in whichever thread, with an error of the driver's."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.number)) as copy:  # it may be closed
            if (copy.getsockname(), copy.getpeername()) == self.ends:
                copy.shutdown(socket.SHUT_RDWR)


def wire_of(connection: Any) -> Wire | None:
    """The wire of a DBAPI connection of this thread's; None where the driver does not tell its socket."""
    number = socket_of(connection)
    if number is None:
        return None
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
        return Wire(number, (copy.getsockname(), copy.getpeername()))
    return None


def rows_of(connection: Any, sql: str) -> list[dict[str, Any]]:
    """The rows of one statement on a DBAPI connection, by column name."""
    cursor = connection.cursor()
    try:
        cursor.execute(sql)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row)) for row in cursor.fetchall()] if names else []  # noqa: B905  as long as its header
    finally:
        cursor.close()


def refuse_hung_up(connection: Any, record: object, proxy: object) -> None:
    """A pool's "checkout" listener: a connection that its server has closed meanwhile is not handed out.

    Costs no round trip: the operating system knows. So the first statement after a server's death is not sent into
    the void, where nobody could tell whether it was done. (A server that hangs has closed nothing.)
    """
    number = socket_of(connection)
    if number is not None and _HUNG_UP:
        asked = select.poll()
        asked.register(number, _HUNG_UP)
        if asked.poll(0):
            raise InvalidatePoolError("the server has closed this connection")


def forget_position(connection: Any, wanted: Callable[[], bool]) -> None:
    """Before a transaction: what the DBAPI connection wrote earlier is not this one's.

    ``wanted``: asked at its commit, whether anybody wants to know the position, where that is not told for nothing.
    """
    if hasattr(connection, "rds_forget"):
        connection.rds_forget(wanted)


def told_position(connection: Any) -> str | None:
    """After a commit: the position of what it wrote, as the server told with its answer.

    Empty if it told that nothing was written; None if this connection was not told.
    """
    return cast("str | None", connection.rds_told()) if hasattr(connection, "rds_told") else None


def socket_of(connection: Any) -> int | None:
    """The file descriptor of a DBAPI connection's socket, or None where the driver does not tell."""
    if hasattr(connection, "fileno"):
        return int(connection.fileno())
    sock = getattr(connection, "_sock", None)  # PyMySQL
    if sock is None:
        sock = getattr(getattr(connection, "_socket", None), "sock", None)  # MySQL Connector/Python without C
    return int(sock.fileno()) if sock is not None else None


def number_of(connection: Any) -> int | None:
    """The number that the server gave a DBAPI connection when it was opened, or None where the driver does not tell.

    ``CONNECTION_ID()`` or ``pg_backend_pid()`` says another one if a pooler stands between.
    """
    if hasattr(connection, "thread_id"):  # PyMySQL, mysqlclient
        return int(connection.thread_id())
    info = getattr(connection, "info", None)
    number = getattr(info, "backend_pid", None)  # psycopg
    return int(number) if number else None


def verifies(connection: Any) -> bool | None:
    """True if a DBAPI connection checked the server's certificate and name; None if the driver does not tell."""
    context = getattr(connection, "ctx", None)
    if isinstance(context, ssl.SSLContext):  # PyMySQL
        return context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    parameters = getattr(getattr(connection, "info", None), "get_parameters", None)
    if parameters is not None:  # psycopg
        return bool(parameters().get("sslmode") == "verify-full")
    return None


def _time_limits(url: URL, timeout: float) -> dict[str, Any]:
    """Connect arguments that bound a probe's time."""
    limits = _connect_limits(url, timeout)
    family, driver = url.get_backend_name(), url.get_driver_name()
    if family in MYSQL and driver in ("pymysql", "mysqldb"):
        # The connect time-out does not cover the handshake's reads; these do.
        seconds = limits["connect_timeout"]
        return {**limits, "read_timeout": seconds, "write_timeout": seconds}
    if family in MYSQL and driver == "mysqlconnector" and _knows_read_timeout():
        seconds = limits["connection_timeout"]
        return {**limits, "read_timeout": seconds, "write_timeout": seconds}
    if family == "sqlite":
        # Probed by one thread at a time, but not always by the same.
        return {"timeout": timeout, "check_same_thread": False}
    return limits


def _connect_limits(url: URL, timeout: float) -> dict[str, Any]:
    """Connect arguments that bound the time of connecting, as far as the driver can."""
    family, driver = url.get_backend_name(), url.get_driver_name()
    if family in MYSQL and driver == "pymysql":
        return {"connect_timeout": timeout, "write_timeout": timeout}
    if family in MYSQL and driver == "mysqldb":
        return {"connect_timeout": max(1, round(timeout))}
    if family in MYSQL and driver == "mysqlconnector":
        return {"connection_timeout": max(1, round(timeout))}
    if family == "postgresql" and driver in ("psycopg", "psycopg2"):
        # libpq takes none below 2 s.
        return {"connect_timeout": max(2, round(timeout))}
    return {}


def _knows_read_timeout() -> bool:
    """MySQL Connector/Python does since 9.2."""
    from mysql.connector.constants import DEFAULT_CONFIGURATION

    return "read_timeout" in DEFAULT_CONFIGURATION


_HUNG_UP: Final[int] = getattr(select, "POLLRDHUP", 0)
"""Linux tells a closed connection from one with something to read; elsewhere nothing is told."""


def _is_pymysql(dialect: Any) -> bool:
    return dialect.name in MYSQL and dialect.driver == "pymysql"


def _taught_connect(dialect: Any, patience: Patience | None) -> Callable[..., Any] | None:
    """Makes connections that do more than their driver's own; None where there is nothing to add."""
    if _is_pymysql(dialect):
        return _pymysql_connect(patience)
    # Not its asyncio form, which has the same driver name.
    if dialect.name == "postgresql" and dialect.driver == "psycopg" and not dialect.is_async:
        if patience is not None:
            from rds_router.patient_psycopg import connection_class

            return connection_class(patience).connect
        from rds_router.psycopg_connection import ToldConnection

        return ToldConnection.connect
    return None


def _pymysql_connect(patience: Patience | None = None) -> Callable[..., Any]:
    from rds_router.pymysql_connection import connection_class

    return connection_class(patience)
