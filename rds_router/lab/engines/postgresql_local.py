"""PostgreSQL from the programs of this machine: templates and command lines."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rds_router.lab.binaries import Binaries
from rds_router.lab.cache import copy_tree
from rds_router.lab.engines.base import APP, REPLICATION, Options, environment
from rds_router.lab.engines.postgresql import PostgreSQL, account_statements, database_statements, server_settings
from rds_router.lab.errors import EngineMissing, ServerFailed
from rds_router.lab.server import Server

# synchronous_commit stays on: off makes a commit wait up to 200 ms to be replayed on a replica.
_SMALL = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "max_worker_processes": "4",
    "max_parallel_workers": "0",
    "jit": "off",
    "autovacuum": "off",
    "unix_socket_directories": "",
    # Inside the data directory; POSIX shared memory of a killed server would stay in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "log_min_messages": "warning",
}
# A standby refuses to start with less of these than its data last ran with, so the template runs with next to nothing.
_LEAST = {
    "fsync": "off",
    "exit_on_error": "on",
    "superuser_reserved_connections": "0",
    "max_connections": "4",
    "max_worker_processes": "0",
    "max_wal_senders": "0",
    "max_locks_per_transaction": "10",
}
_ACCESS = "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n"


class PostgresqlRecipe:
    """How PostgreSQL is made and started here. Its programs refuse root, so as root another user runs them."""

    def __init__(self, binaries: Binaries) -> None:
        self.binaries = binaries
        self.run_as = _unprivileged_user() if os.getuid() == 0 else None

    @property
    def key(self) -> str:
        sql = account_statements() + database_statements()
        made_by = repr((self._initdb(Path("/t"), Path("/p")), sql, _ACCESS, _LEAST, self.run_as))
        return f"postgresql-{self.binaries.version}-{hashlib.sha256(made_by.encode()).hexdigest()[:12]}"

    def build(self, directory: Path) -> None:
        # Not where the template goes: the other user may not enter root's cache folder.
        work = Path(tempfile.mkdtemp(prefix="rds_router_lab-"))
        try:
            data, password = work / "data", work / "password"
            password.write_text(PostgreSQL.admin[1])
            self._give(work)
            self._give(password)
            self._run(self._initdb(data, password))
            (data / "pg_hba.conf").write_text(_ACCESS)
            self._alone(data, "postgres", [*account_statements(), f"CREATE DATABASE app OWNER {APP[0]}"])
            self._alone(data, "app", database_statements())
            copy_tree(data, directory)
        finally:
            shutil.rmtree(work)

    def prepare(self, server: Server, source: Server | None) -> None:
        if source is not None:
            # A copy of a cleanly stopped server is a base backup: it streams from where that one stopped.
            self._write(server.path / "standby.signal", "")
            info = PostgreSQL().connection_info(server, source)
            self._write(server.path / "postgresql.auto.conf", f"primary_conninfo = '{info}'\n")

    def clone(self, server: Server, source: Server) -> bool:
        """Yes, by pg_basebackup: the log that leads from the template to now may be gone."""
        host, port = source.peer
        program = self.binaries.installer.with_name("pg_basebackup")
        info = f"host={host} port={port} user={REPLICATION[0]} password={REPLICATION[1]}"
        self._run([str(program), "-D", str(server.path), "-d", info, "-X", "stream", "-c", "fast", "--no-sync"])
        self.prepare(server, source)
        return True

    def command(self, server: Server, options: Options) -> list[str]:
        settings = _SMALL | server_settings(server) | {"listen_addresses": server.host, "port": str(server.port)}
        settings |= {name: self._readable(server, name, value) for name, value in options.items()}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.binaries.server), "-D", str(server.path), *arguments]

    def _readable(self, server: Server, name: str, value: str | int | float | bool) -> str:
        """A setting's text. Of certificates and keys the server gets copies: a key that others own is refused."""
        if not (name.startswith("ssl_") and name.endswith("_file")):
            return _text(value)
        copy = server.path / name
        shutil.copyfile(str(value), copy)
        copy.chmod(0o600)
        self._give(copy)
        return str(copy)

    def _initdb(self, data: Path, password: Path) -> list[str]:
        form = ["-E", "UTF8", "--locale=C", "--wal-segsize=1", "-A", "scram-sha-256", "-N", "--no-instructions"]
        account = ["-U", PostgreSQL.admin[0], f"--pwfile={password}"]
        return [str(self.binaries.installer), "-D", str(data), *form, *account]

    def _alone(self, data: Path, database: str, statements: Sequence[str]) -> None:
        """Run statements in single-user mode; it leaves a cleanly stopped server."""
        settings = [part for name, value in _LEAST.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.binaries.server), "--single", "-D", str(data), *settings, database]
        self._run(command, "".join(f"{statement};\n" for statement in statements))

    def _run(self, command: Sequence[str], text: str = "") -> None:
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env=environment(Path("/tmp")),
            user=self.run_as,
            group=None if self.run_as is None else pwd.getpwuid(self.run_as).pw_gid,
            extra_groups=None if self.run_as is None else [],
            check=False,
        )
        if done.returncode != 0 or "ERROR:" in done.stdout or "FATAL:" in done.stdout:
            raise ServerFailed(f"{Path(command[0]).name} failed:\n{done.stdout[-2000:]}")

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        self._give(path)

    def _give(self, path: Path) -> None:
        if self.run_as is not None:
            os.chown(path, self.run_as, pwd.getpwuid(self.run_as).pw_gid)


def _unprivileged_user() -> int:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise EngineMissing("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


def _text(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
