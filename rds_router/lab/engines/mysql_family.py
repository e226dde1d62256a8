"""MySQL and MariaDB: replication's knobs in SQL."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rds_router.lab.engines.base import APP, BARE, REPLICATION
from rds_router.lab.errors import EngineMissing, LabError
from rds_router.lab.server import BOTH, Server

ADMIN = ("admin", "admin")
"""Not root: a server comes with several roots of its own, and the one of the nearest host name wins."""

_RIGHTS = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, CREATE TEMPORARY TABLES, LOCK TABLES, "
    "EXECUTE, CREATE ROUTINE, ALTER ROUTINE, CREATE VIEW, SHOW VIEW, TRIGGER"
)

_MONITORING = {"mysql": "REPLICATION CLIENT", "mariadb": "REPLICATION CLIENT, SLAVE MONITOR"}


_FENCING = (1, 1, 2, 4, 8, 16)
"""Seconds that each attempt may take: longer ones for a server with statements that take long."""
_LOCK_WAIT_TIMEOUT = "(1205, "


def account_statements(engine: str) -> list[str]:
    """The accounts of a fresh server. Run them without binary log: each server gets its own copy."""
    admin, password = ADMIN
    statements = [
        f"CREATE USER IF NOT EXISTS '{admin}'@'%' IDENTIFIED BY '{password}'",
        f"GRANT ALL ON *.* TO '{admin}'@'%' WITH GRANT OPTION",
    ]
    for user, secret in (APP, BARE, REPLICATION):
        statements.append(f"CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{secret}'")
    statements.append(f"GRANT REPLICATION SLAVE ON *.* TO '{REPLICATION[0]}'@'%'")
    statements.append(f"GRANT {_MONITORING[engine]} ON *.* TO '{APP[0]}'@'%'")
    # The pattern lets a test have a second database (``app_audit``) without more grants.
    return statements + [grant for user in (APP[0], BARE[0]) for grant in _database_grants("app%", user)]


def server_options(engine: str, server: Server) -> dict[str, str]:
    """Settings of every server of a cluster, local or in a container; ``""`` is a bare switch."""
    shared = {
        "server-id": str(server.server_id),
        "log-bin": "bin",
        "relay-log": "relay",
        # A killed process may leave half an event in its relay log; with GTIDs it is fetched again.
        "relay-log-recovery": "ON",
        # An application creates functions and triggers without being SUPER, on replicas after a promotion too.
        "log-bin-trust-function-creators": "ON",
        "report-host": server.peer[0],
        "report-port": str(server.peer[1]),
        "skip-name-resolve": "ON",
        # The log reaches the operating system at each commit: a killed server loses nothing it has confirmed.
        "innodb-flush-log-at-trx-commit": "2",
        "sync-binlog": "0",
        "max-connections": "200",
    }
    is_read_only = "OFF" if server.is_primary and not server.is_fenced else "ON"
    if engine == "mariadb":
        return shared | {
            "log-slave-updates": "ON",
            "gtid-strict-mode": "ON",
            "skip-slave-start": "",
            "slave-net-timeout": "4",
            "read-only": is_read_only,
        }
    return shared | {
        "gtid-mode": "ON",
        "enforce-gtid-consistency": "ON",
        "skip-replica-start": "",
        "replica-net-timeout": "4",
        "super-read-only": is_read_only,
    }


Rows = list[dict[str, Any]]


class MysqlFamily:
    """What MySQL and MariaDB share. The SQL is the newer spelling, which MariaDB reads since 10.5."""

    name: str
    _forget: str
    scheme = "mysql+pymysql"
    admin = ADMIN
    root = ("root", "root")
    """The account of a container image, used until the lab's own accounts exist."""
    rejoins = True

    def check(self, server: Server) -> str:
        return self.check_as(server, self.admin)

    def check_as(self, server: Server, account: tuple[str, str]) -> str:
        """The server's version, asked by that account. Raises LabError while it does not answer."""
        with self._cursor(server, connect_timeout=1, timeout=10, account=account) as execute:
            return str(next(iter(execute("SELECT VERSION()")[0].values())))

    def initialise(self, server: Server, statements: Sequence[str]) -> None:
        """Run statements as root that reach no replica, and forget all history of the server."""
        with self._cursor(server, account=self.root) as execute:
            execute("SET SESSION sql_log_bin = 0")
            for statement in statements:
                execute(statement)
            execute(self._forget)

    def provision(self, primary: Server, database: str) -> None:
        # Also the first event of a new cluster's binary log: a replica that has it has a working stream.
        self._run(primary, f"CREATE DATABASE IF NOT EXISTS `{database}`")
        if not database.startswith("app"):
            self._run(primary, *_database_grants(database, APP[0]), *_database_grants(database, BARE[0]))

    def is_following(self, replica: Server) -> bool:
        status = self._status(replica)
        running = status.get("Replica_IO_Running") or status.get("Slave_IO_Running")
        return running == "Yes"

    def pause(self, replica: Server, halves: frozenset[str]) -> None:
        self._run(replica, f"STOP REPLICA{_threads(halves)}")

    def resume(self, replica: Server, halves: frozenset[str], source: Server) -> None:
        self._run(replica, f"START REPLICA{_threads(halves)}")

    def let_go_of(self, primary: Server, replicas: Sequence[str]) -> None:
        """End all streams to replicas: MySQL's shutdown waits some seconds for each; they come back by themselves."""
        with self._cursor(primary) as execute:
            for row in execute("SHOW PROCESSLIST"):
                if row["Command"].startswith("Binlog Dump"):
                    # It may have ended meanwhile.
                    with contextlib.suppress(LabError):
                        execute(f"KILL {row['Id']}")

    def become_primary(self, server: Server) -> None:
        # Switching read_only off switches super_read_only off too.
        self._run(server, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL read_only = OFF")

    def _refuse_writes(self, server: Server, variable: str) -> None:
        """Switch it on. The server first waits for the statements under way, and lets no other one begin.

        One of them may wait for a row, locked by a transaction whose next statement may not begin: that would last
        until ``innodb_lock_wait_timeout``, 50 s. So a second is all it may take at first, and then it is tried again.
        """
        with self._cursor(server) as execute:
            for seconds in _FENCING:
                execute(f"SET SESSION lock_wait_timeout = {seconds}")
                try:
                    execute(f"SET GLOBAL {variable} = ON")
                except LabError as error:
                    if _LOCK_WAIT_TIMEOUT not in str(error) or seconds == _FENCING[-1]:
                        raise
                    time.sleep(0.05)
                else:
                    return

    def _start_what_is_not_paused(self, replica: Server) -> None:
        running = BOTH - replica.pauses
        if running:
            self._run(replica, f"START REPLICA{_threads(running)}")

    def _status(self, server: Server) -> Mapping[str, Any]:
        rows = self._rows(server, "SHOW REPLICA STATUS")
        return rows[0] if rows else {}

    def _run(self, server: Server, *statements: str) -> None:
        with self._cursor(server) as execute:
            for statement in statements:
                execute(statement)

    def _rows(self, server: Server, statement: str) -> Rows:
        with self._cursor(server) as execute:
            return execute(statement)

    def _value(self, server: Server, statement: str, *, connect_timeout: float = 5, timeout: float = 60) -> Any:
        with self._cursor(server, connect_timeout, timeout) as execute:
            rows = execute(statement)
        return next(iter(rows[0].values())) if rows else None

    @contextlib.contextmanager
    def _cursor(
        self,
        server: Server,
        connect_timeout: float = 5,
        timeout: float = 60,
        account: tuple[str, str] | None = None,
    ) -> Iterator[Callable[[str], Rows]]:
        """A connection, the administrator's by default; gives a function that runs a statement and returns its rows."""
        try:
            import pymysql  # type: ignore[import-untyped,unused-ignore]
            from pymysql.cursors import DictCursor  # type: ignore[import-untyped,unused-ignore]
        except ImportError as error:
            raise EngineMissing(f"the lab talks to {self.name} through PyMySQL: pip install pymysql") from error
        user, password = account or self.admin
        try:
            connection = pymysql.connect(
                host=server.host,
                port=server.port,
                user=user,
                password=password,
                autocommit=True,
                connect_timeout=connect_timeout,
                # Covers the wait for the server's greeting too, which connect_timeout does not.
                read_timeout=timeout,
                cursorclass=DictCursor,
            )
        except (pymysql.err.Error, OSError) as error:
            raise LabError(f"{server.name} does not answer: {error}") from error
        with connection, connection.cursor() as cursor:

            def execute(statement: str) -> Rows:
                try:
                    cursor.execute(statement)
                    return list(cursor.fetchall())
                except pymysql.err.Error as error:
                    raise LabError(f"{server.name} refused {statement!r}: {error}") from error

            yield execute


class MySQL(MysqlFamily):
    """MySQL with GTID auto-positioning."""

    name = "mysql"
    _forget = "RESET BINARY LOGS AND GTIDS"  # since 8.2

    def follow(self, replica: Server, source: Server) -> None:
        host, port = source.peer
        user, password = REPLICATION
        self._run(
            replica,
            "STOP REPLICA",
            "SET GLOBAL super_read_only = ON",
            f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, SOURCE_USER='{user}', "
            f"SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, "
            f"SOURCE_RETRY_COUNT=86400, SOURCE_HEARTBEAT_PERIOD=1, SOURCE_DELAY={round(replica.delay)}",
        )
        self._start_what_is_not_paused(replica)

    def set_delay(self, replica: Server, seconds: float) -> None:
        self._run(replica, "STOP REPLICA SQL_THREAD", f"CHANGE REPLICATION SOURCE TO SOURCE_DELAY={round(seconds)}")
        if "applier" not in replica.pauses:
            self._run(replica, "START REPLICA SQL_THREAD")

    def written(self, primary: Server) -> str:
        return str(self._value(primary, "SELECT @@GLOBAL.gtid_executed"))

    received = written  # whatever is only in the relay log is thrown away when the source changes

    def wait_for(self, replica: Server, position: str, timeout: float) -> bool:
        # A timeout of 0 would wait for ever.
        wait = f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', {max(timeout, 0.001)})"
        return bool(self._value(replica, wait, timeout=timeout + 5) == 0)

    def drain(self, replica: Server, timeout: float) -> bool:
        received = "SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status"
        return self.wait_for(replica, str(self._value(replica, received) or ""), timeout)

    def fence(self, server: Server) -> None:
        self._refuse_writes(server, "super_read_only")


class MariaDB(MysqlFamily):
    """MariaDB with GTIDs of one domain."""

    name = "mariadb"
    _forget = "RESET MASTER"

    def follow(self, replica: Server, source: Server) -> None:
        host, port = source.peer
        user, password = REPLICATION
        self._run(
            replica,
            "STOP REPLICA",
            "SET GLOBAL read_only = ON",
            # A former primary has replicated nothing, so its slave position is not where its data is.
            "SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos",
            f"CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={port}, MASTER_USER='{user}', "
            f"MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, "
            f"MASTER_HEARTBEAT_PERIOD=1, MASTER_DELAY={round(replica.delay)}",
        )
        self._start_what_is_not_paused(replica)

    def set_delay(self, replica: Server, seconds: float) -> None:
        self._run(replica, "STOP REPLICA", f"CHANGE MASTER TO MASTER_DELAY={round(seconds)}")
        self._start_what_is_not_paused(replica)

    def written(self, primary: Server) -> str:
        return str(self._value(primary, "SELECT @@GLOBAL.gtid_binlog_pos"))

    received = written

    def wait_for(self, replica: Server, position: str, timeout: float) -> bool:
        wait = f"SELECT MASTER_GTID_WAIT('{position}', {max(timeout, 0.001)})"
        return bool(self._value(replica, wait, timeout=timeout + 5) == 0)

    def drain(self, replica: Server, timeout: float) -> bool:
        return self.wait_for(replica, str(self._status(replica).get("Gtid_IO_Pos") or ""), timeout)

    def fence(self, server: Server) -> None:
        self._refuse_writes(server, "read_only")


def _threads(halves: frozenset[str]) -> str:
    if halves == {"receiver"}:
        return " IO_THREAD"
    if halves == {"applier"}:
        return " SQL_THREAD"
    return ""


def _database_grants(database: str, user: str) -> list[str]:
    return [f"GRANT {_RIGHTS} ON `{database}`.* TO '{user}'@'%'"]
