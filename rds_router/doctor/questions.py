"""What is asked of a server besides the probe, by engine family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rds_router.dialects.base import Row
from rds_router.dialects.reading import is_on, text_of
from rds_router.doctor.facts import Capacity

Execute = Callable[[str], Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Told:
    """What a server told of itself."""

    version: str
    account: str = ""
    connection: int | None = None
    """The server's own number of the connection that asked."""
    tls_version: str = ""
    is_tls_required: bool | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    capacity: Capacity | None = None


def ask(backend: str, execute: Execute) -> Told:
    """Ask a server of this SQLAlchemy backend name. Drivers' errors are raised as they are."""
    if backend in ("mysql", "mariadb"):
        return _ask_mysql(execute)
    if backend == "postgresql":
        return _ask_postgresql(execute)
    if backend == "sqlite":
        return Told(version=str(execute("SELECT sqlite_version() AS version")[0]["version"]))
    return Told(version="")


_MYSQL_SETTINGS: Final = (
    "character_set_server collation_server lower_case_table_names max_connections require_secure_transport sql_mode "
    "super_read_only system_time_zone time_zone"
).split()


def _ask_mysql(execute: Execute) -> Told:
    (me,) = execute(
        "SELECT VERSION() AS version, CURRENT_USER() AS account, CONNECTION_ID() AS connection,"
        " @@session.max_user_connections AS account_limit"
    )
    names = ", ".join(f"'{name}'" for name in _MYSQL_SETTINGS)
    settings = _pairs(execute(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"))
    if settings.get("time_zone") == "SYSTEM":
        settings["time_zone"] = settings.get("system_time_zone", "SYSTEM")
    settings.pop("system_time_zone", None)
    user, _, host = str(text_of(me["account"])).rpartition("@")
    # Without PROCESS only this account's own connections are listed, and no others are looked for.
    own = sum(_value(row, "user") == user for row in execute("SHOW PROCESSLIST"))
    in_use = int(_pairs(execute("SHOW GLOBAL STATUS LIKE 'Threads_connected'"))["threads_connected"])
    limit, maximum = int(me["account_limit"]), int(settings["max_connections"])
    # A limit of the account counts its own connections alone.
    capacity = Capacity(limit, 0, own, own) if 0 < limit < maximum else Capacity(maximum, 0, in_use, own)
    return Told(
        version=str(me["version"]),
        account=f"{_quoted(user)}@{_quoted(host)}",
        connection=int(me["connection"]),
        tls_version=_pairs(execute("SHOW SESSION STATUS LIKE 'Ssl_version'")).get("ssl_version", ""),
        is_tls_required=is_on(settings.pop("require_secure_transport", None)),
        settings=settings,
        capacity=capacity,
    )


_POSTGRESQL_SETTINGS: Final = (
    "TimeZone DateStyle IntervalStyle default_transaction_isolation max_connections reserved_connections "
    "standard_conforming_strings superuser_reserved_connections"
).split()


def _ask_postgresql(execute: Execute) -> Told:
    (me,) = execute(
        "SELECT current_setting('server_version') AS version, quote_ident(current_user) AS account,"
        " pg_backend_pid() AS connection,"
        " (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS tls_version,"
        " (SELECT sum(numbackends) FROM pg_stat_database)::int AS in_use,"
        " (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)::int AS own,"
        " (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS account_limit"
    )
    names = ", ".join(f"'{name}'" for name in _POSTGRESQL_SETTINGS)
    settings = _pairs(execute(f"SELECT name, reset_val FROM pg_settings WHERE name IN ({names})"))
    maximum = int(settings["max_connections"])
    reserved = sum(int(settings.pop(f"{who}reserved_connections", 0)) for who in ("superuser_", ""))
    own, in_use, limit = int(me["own"]), int(me["in_use"] or 0), int(me["account_limit"])
    is_limited = 0 <= limit < maximum - reserved
    return Told(
        version=str(me["version"]),
        account=str(me["account"]),
        connection=int(me["connection"]),
        tls_version=me["tls_version"] or "",
        settings=settings,
        capacity=Capacity(limit, 0, own, own) if is_limited else Capacity(maximum, reserved, in_use, own),
    )


def _pairs(rows: Sequence[Row]) -> dict[str, str]:
    """Rows of a name and a value, whatever the columns are called."""
    pairs = (tuple(row.values()) for row in rows)
    return {str(text_of(name)).lower(): text_of(value) or "" for name, value in pairs}


def _value(row: Row, name: str) -> Any:
    return next((text_of(value) for key, value in row.items() if key.lower() == name), None)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
