"""PostgreSQL: streaming replication's knobs in SQL."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rds_router.lab.engines.base import APP, BARE, REPLICATION
from rds_router.lab.errors import EngineMissing, LabError, LabTimeout
from rds_router.lab.server import Server


def account_statements() -> list[str]:
    """The accounts of a fresh server."""
    (app, app_password), (bare, bare_password), (repl, repl_password) = APP, BARE, REPLICATION
    return [
        f"CREATE ROLE {app} LOGIN PASSWORD '{app_password}'",
        f"CREATE ROLE {bare} LOGIN PASSWORD '{bare_password}'",
        f"CREATE ROLE {repl} LOGIN REPLICATION PASSWORD '{repl_password}'",
        f"GRANT pg_monitor TO {app}",
    ]


def database_statements() -> list[str]:
    """Run inside a new database: what the application's account creates there, the bare account may use."""
    to_bare = f"GRANT ALL ON {{}} TO {BARE[0]}"
    return [
        to_bare.format("SCHEMA public"),
        f"ALTER SCHEMA public OWNER TO {APP[0]}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {APP[0]} {to_bare.format('TABLES')}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {APP[0]} {to_bare.format('SEQUENCES')}",
    ]


def server_settings(server: Server) -> dict[str, str]:
    """Settings of every server of a cluster, local or in a container."""
    return {
        "wal_level": "replica",
        "hot_standby": "on",
        "hot_standby_feedback": "on",
        "max_wal_senders": "10",
        # Instead of replication slots, which would have to be moved at each promotion.
        "wal_keep_size": "1GB",
        "wal_retrieve_retry_interval": "100ms",
        "wal_receiver_status_interval": "1s",
        "max_connections": "100",
        "cluster_name": server.name,
    }


Rows = list[tuple[Any, ...]]


class PostgreSQL:
    """PostgreSQL 13 or newer: a replica changes its source by a reload."""

    name = "postgresql"
    scheme = "postgresql+psycopg"
    admin = ("postgres", "postgres")
    rejoins = False  # it must be stopped, and then its log may already have gone another way

    def check(self, server: Server) -> str:
        return str(self._value(server, "SHOW server_version", connect_timeout=2))

    def provision(self, primary: Server, database: str) -> None:
        if not self._value(primary, f"SELECT count(*) FROM pg_database WHERE datname = '{database}'"):
            self._run(primary, f'CREATE DATABASE "{database}" OWNER {APP[0]}')
            self._run(primary, *database_statements(), database=database)

    def initialise(self, server: Server, statements: Sequence[str], owner: str) -> None:
        """Make of a fresh container what a template is: accounts, a database, and replication let in."""
        # Images let ordinary connections in from other hosts, and replication from none.
        line = "host replication all all scram-sha-256"
        let_in = f"COPY (SELECT '{line}') TO PROGRAM 'cat >> \"$PGDATA/pg_hba.conf\"'"
        self._run(server, *statements, f"CREATE DATABASE app OWNER {owner}", let_in, "SELECT pg_reload_conf()")
        self._run(server, *database_statements(), database="app")

    def connection_info(self, replica: Server, source: Server) -> str:
        """The value of ``primary_conninfo`` that makes one server follow the other."""
        host, port = source.peer
        user, password = REPLICATION
        return f"host={host} port={port} user={user} password={password} application_name={replica.name}"

    def follow(self, replica: Server, source: Server) -> None:
        if not self._value(replica, "SELECT pg_is_in_recovery()"):
            raise LabError(f"{replica.name} is a PostgreSQL primary: it becomes a replica by being made anew")
        info = "" if "receiver" in replica.pauses else self.connection_info(replica, source)
        self._configure(replica, primary_conninfo=info, recovery_min_apply_delay=_milliseconds(replica.delay))
        if "applier" not in replica.pauses:
            self._run(replica, "SELECT pg_wal_replay_resume()")

    def is_following(self, replica: Server) -> bool:
        return bool(self._value(replica, "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"))

    def pause(self, replica: Server, halves: frozenset[str]) -> None:
        if "receiver" in halves:
            self._configure(replica, primary_conninfo="")
            self._until(replica, "SELECT count(*) = 0 FROM pg_stat_wal_receiver", "stopped receiving")
        if "applier" in halves:
            self._run(replica, "SELECT pg_wal_replay_pause()")
            # Asking is not yet having: a record may still be applied in between.
            version = int(self._value(replica, "SHOW server_version_num"))
            paused = "pg_get_wal_replay_pause_state() = 'paused'" if version >= 140000 else "pg_is_wal_replay_paused()"
            self._until(replica, f"SELECT {paused}", "paused its replay")

    def resume(self, replica: Server, halves: frozenset[str], source: Server) -> None:
        if "receiver" in halves:
            self._configure(replica, primary_conninfo=self.connection_info(replica, source))
        if "applier" in halves:
            self._run(replica, "SELECT pg_wal_replay_resume()")

    def set_delay(self, replica: Server, seconds: float) -> None:
        self._configure(replica, recovery_min_apply_delay=_milliseconds(seconds))

    def written(self, primary: Server) -> str:
        # Not the insert position: at a page's end that may lie behind the last record's end, where no replay stops.
        return str(self._value(primary, "SELECT pg_current_wal_flush_lsn()"))

    def received(self, replica: Server) -> str:
        # What is received is in its own log and will be applied, whatever it follows later.
        return str(
            self._value(replica, "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), '0/0'::pg_lsn)")
        )

    def wait_for(self, replica: Server, position: str, timeout: float) -> bool:
        return self._becomes_true(replica, f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn", timeout)

    def drain(self, replica: Server, timeout: float) -> bool:
        return self.wait_for(replica, self.received(replica), timeout)

    def fence(self, server: Server) -> None:
        self._configure(server, default_transaction_read_only="on")
        self._until(server, "SELECT current_setting('default_transaction_read_only') = 'on'", "become read-only")

    def become_primary(self, server: Server) -> None:
        if self._value(server, "SELECT pg_is_in_recovery()"):
            self._run(server, "SELECT pg_wal_replay_resume()")
            if not self._value(server, "SELECT pg_promote(true, 60)"):
                raise LabTimeout(f"{server.name} was not promoted within 60 s")
        self._configure(
            server, primary_conninfo=None, recovery_min_apply_delay=None, default_transaction_read_only=None
        )
        self._until(server, "SELECT current_setting('default_transaction_read_only') = 'off'", "become writable")

    def let_go_of(self, primary: Server, replicas: Sequence[str]) -> None:
        """Drop the streams to these replicas: a clean shutdown would wait for a frozen one."""
        names = ", ".join(f"'{name}'" for name in replicas) or "''"
        self._run(
            primary,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name IN ({names})",
        )

    def _configure(self, server: Server, **settings: str | None) -> None:
        """Write settings to postgresql.auto.conf (None removes one) and have them read."""
        changes = [
            f"ALTER SYSTEM RESET {name}" if value is None else f"ALTER SYSTEM SET {name} = '{value}'"
            for name, value in settings.items()
        ]
        self._run(server, *changes, "SELECT pg_reload_conf()")

    def _until(self, server: Server, question: str, what: str) -> None:
        if not self._becomes_true(server, question, 10):
            raise LabTimeout(f"{server.name} has not {what} within 10 s")

    def _becomes_true(self, server: Server, question: str, timeout: float) -> bool:
        """Ask until the answer is true; in one session, which reads changed settings between two questions."""
        deadline = time.monotonic() + timeout
        with self._session(server) as execute:
            while not execute(question)[0][0]:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
        return True

    def _run(self, server: Server, *statements: str, database: str = "postgres") -> None:
        with self._session(server, database=database) as execute:
            for statement in statements:
                execute(statement)

    def _value(self, server: Server, statement: str, *, connect_timeout: int = 5) -> Any:
        with self._session(server, connect_timeout=connect_timeout) as execute:
            rows = execute(statement)
        return rows[0][0] if rows else None

    @contextlib.contextmanager
    def _session(
        self, server: Server, *, database: str = "postgres", connect_timeout: int = 5
    ) -> Iterator[Callable[[str], Rows]]:
        """A connection of the administrator; gives a function that runs a statement and returns its rows."""
        try:
            import psycopg
        except ImportError as error:
            raise EngineMissing("the lab talks to postgresql through psycopg: pip install 'psycopg[binary]'") from error
        user, password = self.admin
        try:
            connection = psycopg.connect(
                host=server.host,
                port=server.port,
                user=user,
                password=password,
                dbname=database,
                autocommit=True,
                connect_timeout=connect_timeout,
            )
        except psycopg.Error as error:
            raise LabError(f"{server.name} does not answer: {error}") from error
        with connection:

            def execute(statement: str) -> Rows:
                try:
                    cursor = connection.execute(statement.encode())
                    return cursor.fetchall() if cursor.description else []
                except psycopg.Error as error:
                    raise LabError(f"{server.name} refused {statement!r}: {error}") from error

            yield execute


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
