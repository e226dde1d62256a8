"""What is peculiar to a DBAPI driver."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

from sqlalchemy import event
from sqlalchemy.engine import URL, Engine

from rds_router.errors import ConfigurationError

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


def not_installed(url: URL, error: ImportError) -> ConfigurationError:
    """What to say when the driver that a URL names, or leaves to SQLAlchemy, is not there."""
    return ConfigurationError(
        f"{url.render_as_string(hide_password=True)} needs a driver that is not installed ({error}): install it, or "
        "name another one in the URL, as in mysql+pymysql or postgresql+psycopg"
    )


def improve(engine: Engine, opening: Opening = as_told) -> None:
    """Let an engine's connections be opened by ``opening``, and do what their driver cannot do by itself."""
    taught = _taught_connect(engine.dialect)
    if opening is as_told and taught is None:
        return
    connect = taught or engine.dialect.connect

    @event.listens_for(engine, "do_connect")
    def do_connect(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> Any:
        return opening(connect, arguments, parameters)


def track_positions(connection: Any, record: object) -> None:
    """A pool's "connect" listener: make ready to tell the position of each commit, where driver and server can."""
    if hasattr(connection, "rds_track"):
        connection.rds_track()


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
    family, driver = url.get_backend_name(), url.get_driver_name()
    if family in MYSQL and driver == "pymysql":
        # connect_timeout does not cover the handshake's reads; read_timeout does.
        return {"connect_timeout": timeout, "read_timeout": timeout, "write_timeout": timeout}
    if family in MYSQL and driver == "mysqldb":
        whole = max(1, round(timeout))
        return {"connect_timeout": whole, "read_timeout": whole, "write_timeout": whole}
    if family == "postgresql" and driver in ("psycopg", "psycopg2"):
        # libpq takes none below 2 s, and has none for a query: the monitor shuts the socket of such a one.
        return {"connect_timeout": max(2, round(timeout))}
    if family == "sqlite":
        # Probed by one thread at a time, but not always by the same.
        return {"timeout": timeout, "check_same_thread": False}
    return {}


def _is_pymysql(dialect: Any) -> bool:
    return dialect.name in MYSQL and dialect.driver == "pymysql"


def _taught_connect(dialect: Any) -> Callable[..., Any] | None:
    """Makes connections that do more than their driver's own; None where there is nothing to add."""
    if _is_pymysql(dialect):
        return _pymysql_connect()
    # Not its asyncio form, which has the same driver name.
    if dialect.name == "postgresql" and dialect.driver == "psycopg" and not dialect.is_async:
        from rds_router.psycopg_connection import ToldConnection

        return ToldConnection.connect
    return None


def _pymysql_connect() -> Callable[..., Any]:
    from rds_router.pymysql_connection import connection_class

    return connection_class()
