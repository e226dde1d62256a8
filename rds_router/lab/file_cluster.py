"""SQLite: a primary file and replica files that follow it. Needs no server."""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
import time
from pathlib import Path
from types import TracebackType

from rds_router.lab.errors import LabError, LabTimeout, NotSupported
from rds_router.lab.follower import STATUS_TABLE, Follower, Following, connect
from rds_router.lab.guard import Guard
from rds_router.lab.server import Server, State, halves


class FileCluster:
    """Files that behave like a cluster, as far as files can: the same methods as ServerCluster.

    Each replica has a table ``rds_router_replica_status`` whose one row says up to which unix time (``caught_up_at``)
    the primary's content is contained; the primary has no such table. A killed "server" is a file that cannot be
    opened; connections that are already open keep the old file. Freezing and demoting do not exist.
    """

    def __init__(self, guard: Guard, *, replicas: int) -> None:
        self.engine = "sqlite"
        self._guard = guard
        self._is_stopped = False
        self.servers = tuple(_server(guard.directory, number) for number in range(1, replicas + 2))
        self.servers[0].is_primary = True
        self._followers = {server: Follower(server.path) for server in self.servers}
        for server in self.servers:
            connect(server.path).close()
            server.state = State.RUNNING
        self._following = self._follow_primary()
        atexit.register(self.stop)
        self.wait_caught_up()

    @property
    def primary(self) -> Server:
        """The file last made primary."""
        return next(server for server in self.servers if server.is_primary)

    @property
    def replicas(self) -> tuple[Server, ...]:
        """All other files."""
        return tuple(server for server in self.servers if not server.is_primary)

    def pause_replication(self, replica: Server, *, io_only: bool = False, sql_only: bool = False) -> None:
        """Nothing new reaches the replica. Its caught_up_at stands still, whichever half is stopped."""
        self._must_be_running_replica(replica)
        stopped = halves(io_only=io_only, sql_only=sql_only)
        self._set(replica, paused=replica.pauses | stopped)

    def resume_replication(self, replica: Server, *, io_only: bool = False, sql_only: bool = False) -> None:
        """Go on following."""
        self._must_be_running_replica(replica)
        started = halves(io_only=io_only, sql_only=sql_only)
        self._set(replica, paused=replica.pauses - started)

    def set_delay(self, replica: Server, seconds: float) -> None:
        """Have the replica show the primary's content of that many seconds ago."""
        self._must_be_running_replica(replica)
        self._set(replica, delay=seconds)

    def kill(self, server: Server) -> None:
        """Nobody can open the file any more."""
        if server.state is State.DEAD:
            return
        self._following.end()
        _checkpoint(server.path)
        server.path.rename(_hidden(server.path))
        # A directory in its place: SQLite would make a new, empty file otherwise.
        server.path.mkdir()
        server.state = State.DEAD
        self._following = self._follow_primary()

    def freeze(self, server: Server) -> None:
        """Raises NotSupported."""
        raise NotSupported("a SQLite file has no process to freeze")

    def thaw(self, server: Server) -> None:
        """Raises NotSupported."""
        raise NotSupported("a SQLite file has no process to thaw")

    def demote(self, server: Server) -> None:
        """Raises NotSupported."""
        raise NotSupported("a SQLite file cannot refuse writes by itself: use PRAGMA query_only in the connection")

    def promote(self, server: Server) -> Server:
        """The other files follow it from now on; a living old primary's commits are all contained."""
        if server.state is State.DEAD:
            raise LabError(f"{server.name} is dead: this needs it running")
        if server.is_primary:
            return server
        self._set(server, delay=0.0, paused=frozenset())
        if self.primary.is_running:
            self.wait_caught_up(server)
        self._following.end()
        self.primary.is_primary = False
        server.is_primary = True
        with contextlib.closing(connect(server.path)) as promoted:
            promoted.execute(f"DROP TABLE IF EXISTS {STATUS_TABLE}")
        self._following = self._follow_primary()
        self.wait_caught_up()
        return server

    def restart(self, server: Server) -> None:
        """The file can be opened again."""
        if server.state is State.DEAD:
            server.path.rmdir()
            _hidden(server.path).rename(server.path)
            server.state = State.RUNNING
        self._following.end()
        self._following = self._follow_primary()
        self._set(server, paused=frozenset())

    def rejoin(self, server: Server) -> None:
        """A file is brought in line with the primary's by following it."""
        if server.is_primary:
            raise LabError(f"{server.name} is the primary: promote another server first")
        self.restart(server)

    def wait_caught_up(self, replica: Server | None = None, *, timeout: float = 10.0) -> None:
        """Wait until what the primary contains now is in the replica, or in every one that can."""
        wanted = time.time()
        deadline = time.monotonic() + timeout
        waiting = [replica] if replica else [r for r in self.replicas if r.is_running and not r.pauses]
        with self._following.passes:
            while behind := [server for server in waiting if _caught_up_at(server.path) < wanted]:
                if not self._following.passes.wait(deadline - time.monotonic()):
                    why = f" ({self._following.error})" if self._following.error else ""
                    raise LabTimeout(f"{behind[0].name} has not caught up within {timeout:g} s{why}")

    def pids(self, server: Server) -> list[int]:
        """None: a file has no process."""
        return []

    def log(self, server: Server) -> str:
        """Why the last pass of the follower failed, if it did."""
        return self._following.error

    def stop(self) -> None:
        """End following and delete the files. May be called twice; in a forked child it does nothing."""
        if self._is_stopped or os.getpid() != self._guard.owner:
            return
        self._is_stopped = True
        atexit.unregister(self.stop)
        self._following.end()
        self._guard.close()
        for server in self.servers:
            server.state = State.DEAD

    def __enter__(self) -> FileCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<sqlite cluster: {', '.join(map(repr, self.servers))}>"

    def _must_be_running_replica(self, server: Server) -> None:
        if server.state is State.DEAD:
            raise LabError(f"{server.name} is dead: this needs it running")
        if server.is_primary:
            raise LabError(f"{server.name} is the primary: it follows nobody")

    def _set(self, replica: Server, *, delay: float | None = None, paused: frozenset[str] | None = None) -> None:
        """Between two passes, so that it holds from now on."""
        with self._following.passes:
            if delay is not None:
                replica.delay = self._followers[replica].delay = delay
            if paused is not None:
                replica.pauses = paused
                self._followers[replica].receives = "receiver" not in paused
                self._followers[replica].applies = "applier" not in paused

    def _follow_primary(self) -> Following:
        """A new thread: after a change of roles everything is copied once more."""
        alive = [self._followers[replica] for replica in self.replicas if replica.is_running]
        for follower in alive:
            follower.applied = follower.caught_up_at = 0.0
        following = Following(self.primary.path, alive if self.primary.is_running else [])
        if self.primary.is_running:
            following.start()
        return following


def _server(directory: Path, number: int) -> Server:
    path = directory / f"sqlite-{number}.sqlite"
    url = f"sqlite:///{path}"
    return Server(
        name=f"sqlite-{number}",
        engine="sqlite",
        url=url,
        admin_url=url,
        bare_url=url,
        host="",
        path=path,
        server_id=number,
    )


def _hidden(path: Path) -> Path:
    return path.with_suffix(".killed")


def _checkpoint(path: Path) -> None:
    """Bring the write-ahead log into the file, which is moved without it."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _caught_up_at(path: Path) -> float:
    try:
        with contextlib.closing(sqlite3.connect(path)) as replica:
            return float(replica.execute(f"SELECT caught_up_at FROM {STATUS_TABLE}").fetchone()[0])
    except sqlite3.Error:
        return 0.0
