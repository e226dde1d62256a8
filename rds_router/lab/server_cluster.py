"""A primary and its replicas on real servers: what a test, or an accident, does to them."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rds_router.lab.engines import Engine
from rds_router.lab.errors import LabError, LabTimeout
from rds_router.lab.guard import Guard
from rds_router.lab.parallel import each
from rds_router.lab.runtime import Runtime
from rds_router.lab.server import BOTH, Server, State, halves

PATIENCE = 30.0  # seconds for a step of a promotion; each takes some hundredths of one normally


class ServerCluster:
    """Servers of one engine, replicating. Made by :func:`rds_router.lab.cluster`; a context manager.

    Every method returns when what it says is true. All raise LabError and its kind.
    """

    def __init__(
        self, engine: Engine, runtime: Runtime, guard: Guard, servers: Sequence[Server], *, database: str
    ) -> None:
        self.engine = engine.name
        self.servers = tuple(servers)
        """All servers, in the order of their numbers, dead ones too."""
        self._engine = engine
        self._runtime = runtime
        self._guard = guard
        self._is_stopped = False
        atexit.register(self.stop)
        try:
            self._start(database)
        except BaseException:
            self.stop()
            raise

    @property
    def primary(self) -> Server:
        """The server last made primary, even if it is dead."""
        return next(server for server in self.servers if server.is_primary)

    @property
    def replicas(self) -> tuple[Server, ...]:
        """All others, dead ones too, in the order of their numbers."""
        return tuple(server for server in self.servers if not server.is_primary)

    def pause_replication(self, replica: Server, *, io_only: bool = False, sql_only: bool = False) -> None:
        """Stop the replica's receiver and applier; ``io_only``: only the receiver; ``sql_only``: only the applier.

        They are different cases of lag: without a receiver the replica does not know how far behind it is,
        without an applier it does.
        """
        stopped = halves(io_only=io_only, sql_only=sql_only)
        self._must_be_running_replica(replica)
        self._engine.pause(replica, stopped)
        replica.pauses |= stopped

    def resume_replication(self, replica: Server, *, io_only: bool = False, sql_only: bool = False) -> None:
        """Start again what was paused; returns when the stream is up again, before the replica has caught up."""
        started = halves(io_only=io_only, sql_only=sql_only)
        self._must_be_running_replica(replica)
        self._engine.resume(replica, started, self.primary)
        replica.pauses -= started
        self._verify(replica)

    def set_delay(self, replica: Server, seconds: float) -> None:
        """Have the replica hold every transaction back (SOURCE_DELAY, MASTER_DELAY, recovery_min_apply_delay).

        MySQL and MariaDB know whole seconds only: the figure is rounded. 0 ends it.
        """
        self._must_be_running_replica(replica)
        self._engine.set_delay(replica, seconds)
        replica.delay = seconds

    def kill(self, server: Server) -> None:
        """SIGKILL. The port stays reserved for its restart."""
        self._runtime.kill(server)

    def freeze(self, server: Server) -> None:
        """SIGSTOP: connections stay open, new ones are accepted by the system, and nobody answers."""
        if server.state is not State.RUNNING:
            raise LabError(f"{server.name} is {server.state.value}: only a running server can be frozen")
        self._runtime.freeze(server)

    def thaw(self, server: Server) -> None:
        """SIGCONT. A replica then follows the primary of the moment.

        A primary that was replaced while frozen wakes up believing it still is one, and takes writes: that is what
        happens in life. :meth:`rejoin` makes a replica of it.
        """
        if server.state is not State.FROZEN:
            raise LabError(f"{server.name} is {server.state.value}, not frozen")
        self._runtime.thaw(server)
        if not server.is_primary and not server.is_stale and server.source != self.primary.name:
            self._follow(server, self.primary)

    def demote(self, server: Server) -> None:
        """Have it refuse writes and change nothing else: super_read_only, read_only, default_transaction_read_only.

        ``promote(server)`` on the same server ends it.
        """
        self._must_be_running(server)
        self._engine.fence(server)
        server.is_fenced = True

    def promote(self, server: Server) -> Server:
        """Make it the primary and have all others follow it; returns it.

        A primary that is alive is demoted first and nothing confirmed is lost; it becomes a replica (PostgreSQL's
        by being made anew, on the same port). If it is dead or frozen, the new one first fetches what any
        living replica has more of; the old one is made anew when it is restarted. Pauses and delays of the
        promoted server end; those of the others stay.
        """
        self._must_be_running(server)
        if server.is_stale:
            raise LabError(f"{server.name} was replaced as primary and has data of its own: rejoin() it first")
        old = self.primary
        if server is not old:
            self._change_primary(server)
        self._engine.become_primary(server)
        server.is_fenced, server.source = False, ""
        if old.state is State.DEAD and not old.is_stale:
            self._rebuild(old)  # PostgreSQL's was stopped in good order
        # Dead and frozen ones follow when they are back, a stale one when it is told to rejoin.
        for other in self.replicas:
            if self._is_alive(other) and not other.is_stale and other.source != server.name:
                self._follow(other, server)
        return server

    def restart(self, server: Server) -> None:
        """Stop it, if need be, and start it in its present role: primary, or replica of the primary of the moment.

        Ends its pauses; keeps its data, unless it was replaced as primary while nobody could tell it.
        """
        if server.state is State.RUNNING and self._runtime.is_up(server):
            self._engine.let_go_of(server, [other.name for other in self.servers if not other.is_running])
            self._runtime.stop(server)
        self._runtime.kill(server)
        server.pauses = frozenset()
        if server.is_stale:
            self._rebuild(server)
            return
        self._runtime.start(server)
        if server.is_fenced:
            self._engine.fence(server)
        if not server.is_primary:
            self._follow(server, self.primary)

    def rejoin(self, server: Server) -> None:
        """Throw the server's data away and make it a fresh replica of the primary."""
        if server.is_primary:
            raise LabError(f"{server.name} is the primary: promote another server first")
        self._rebuild(server)

    def wait_caught_up(self, replica: Server | None = None, *, timeout: float = 10.0) -> None:
        """Wait until what the primary has confirmed so far is visible on the replica, or on every one that can.

        Without an argument, dead, frozen, paused and stale replicas are left out. Raises LabTimeout.
        """
        position = self._engine.written(self.primary)
        deadline = time.monotonic() + timeout
        waiting = [replica] if replica else [r for r in self.replicas if _follows(r)]
        for one in waiting:
            if not self._engine.wait_for(one, position, deadline - time.monotonic()):
                raise LabTimeout(f"{one.name} has not reached {position} of {self.primary.name} within {timeout:g} s")

    def pids(self, server: Server) -> list[int]:
        """The server's processes on this machine, the main one first; none where they are out of sight."""
        return self._runtime.pids(server)

    def log(self, server: Server) -> str:
        """The end of the server's own log."""
        return self._runtime.log(server)

    def stop(self) -> None:
        """End all servers and delete their files. May be called twice; in a forked child it does nothing."""
        if self._is_stopped or os.getpid() != self._guard.owner:
            return
        self._is_stopped = True
        atexit.unregister(self.stop)
        try:
            self._runtime.close()
        finally:
            self._guard.close()
            for server in self.servers:
                server.state = State.DEAD

    def __enter__(self) -> ServerCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{self.engine} cluster: {', '.join(map(repr, self.servers))}>"

    def _start(self, database: str) -> None:
        primary = self.servers[0]
        primary.is_primary = True
        # Containers clone a running primary; local replicas start beside it.
        self._runtime.create_all(primary, self.servers[1:])
        each(self.replicas, lambda replica: self._point(replica, primary))
        self._engine.provision(primary, database)
        self.wait_caught_up(timeout=PATIENCE)

    def _change_primary(self, server: Server) -> None:
        """Everything of a promotion up to the point where the new primary has all there is to have."""
        old = self.primary
        server.pauses = frozenset()
        server.delay = 0.0
        source = old if self._is_alive(old) else None
        self._engine.set_delay(server, 0.0)
        self._engine.resume(server, BOTH, source or server)
        if source:
            self._retire(source, server)
        else:
            self._gather(server)
        old.is_primary, old.is_stale = False, source is None
        server.is_primary = True

    def _retire(self, old: Server, successor: Server) -> None:
        self._engine.fence(old)
        old.is_fenced = True
        self._must_reach(successor, self._engine.written(old))
        if self._engine.rejoins:
            return
        # A clean shutdown ends open transactions and sends all replicas the rest, but waits for frozen ones.
        self._engine.let_go_of(old, [other.name for other in self.replicas if not other.is_running])
        self._runtime.stop(old)
        self._must_reach(successor, self._engine.received(successor))

    def _gather(self, server: Server) -> None:
        if not self._engine.drain(server, PATIENCE):
            raise LabTimeout(f"{server.name} did not apply what it had received within {PATIENCE:g} s")
        for other in self.replicas:
            if other is not server and self._is_alive(other) and not other.is_stale:
                position = self._engine.received(other)
                if not self._engine.wait_for(server, position, 0.0):
                    self._engine.follow(server, other)
                    self._must_reach(server, position)

    def _follow(self, replica: Server, primary: Server) -> None:
        self._point(replica, primary)
        self._verify(replica)

    def _verify(self, replica: Server) -> None:
        """What does not get a stream from the primary has other data than it: make it anew."""
        # PostgreSQL does not connect to a new source while its replay is paused.
        if replica.pauses or not self._is_alive(self.primary):
            return
        if not self._comes_true(lambda: self._engine.is_following(replica), 10.0):
            self._rebuild(replica)

    def _point(self, replica: Server, primary: Server) -> None:
        self._engine.follow(replica, primary)
        replica.source = primary.name
        replica.is_fenced = False

    def _rebuild(self, server: Server) -> None:
        self._must_be_running(self.primary)
        server.is_stale = server.is_fenced = False
        server.pauses, server.delay = frozenset(), 0.0
        # Under its old number it would take its own former writes, coming back from the primary, for applied.
        server.server_id = max(other.server_id for other in self.servers) + 1
        self._runtime.rebuild(server, self.primary)
        self._point(server, self.primary)
        self.wait_caught_up(server, timeout=PATIENCE)

    def _must_reach(self, server: Server, position: str) -> None:
        if not self._engine.wait_for(server, position, PATIENCE):
            raise LabTimeout(f"{server.name} has not reached {position} within {PATIENCE:g} s; {self.log(server)}")

    def _must_be_running(self, server: Server) -> None:
        if not self._is_alive(server):
            raise LabError(f"{server.name} is {server.state.value}: this needs it running")

    def _must_be_running_replica(self, server: Server) -> None:
        self._must_be_running(server)
        if server.is_primary:
            raise LabError(f"{server.name} is the primary: it replicates from nobody")

    def _is_alive(self, server: Server) -> bool:
        return server.is_running and self._runtime.is_up(server)

    def _comes_true(self, question: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not question():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def _follows(replica: Server) -> bool:
    return replica.is_running and not replica.pauses and not replica.is_stale
