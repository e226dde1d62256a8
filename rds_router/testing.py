"""For tests of your own application: servers that say what the test wants, a clock moved by hand, captured routes.

"Does this view read from a replica?" needs no replica. Let two URLs lead to one test database, and look at the routes::

    app.config["SQLALCHEMY_DATABASE_URI"] = url = f"sqlite:///{tmp_path}/test.db"
    app.config["SQLALCHEMY_REPLICA_URIS"] = [Replica(replica_of(url), name="replica-1")]

    with fixed_servers(db.router) as servers, db.router.capture() as routes:
        client.get("/posts")
        assert_on_replicas(routes)              # fails with every statement that went elsewhere, and why
        servers.lags("replica-1", 30.0)
        client.get("/posts")                    # now from the primary

Nothing is probed and no thread runs; statements run for real, on guarded connections, so a view that writes where it
should not fails as it would in production. Data must be committed to be seen by the replica's own connection.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import URL, make_url

from rds_router.captured import Routed
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import Position
from rds_router.errors import ConfigurationError
from rds_router.monitor import Monitor
from rds_router.router import Router
from rds_router.servers import ReplicaLike

__all__ = ["Clock", "FixedServers", "assert_on_replicas", "fixed_router", "fixed_servers", "replica_of"]


class Clock:
    """Monotonic seconds that stand still until they are moved. Pass it to ``Router(clock=...)``."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __repr__(self) -> str:
        return f"<Clock at {self.now:g} s>"

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on. What is known of the servers grows old by that: see :meth:`FixedServers.refresh`."""
        if not seconds >= 0:
            raise ValueError(f"a monotonic clock never goes back: {seconds!r}")
        self.now += seconds


class FixedServers(Monitor):
    """A monitor that asks nobody: each server is as the test says, the replicas caught up to begin with.

    A replica that is 0 s behind has everything that was ever committed. One further behind lacks what was committed
    in so many seconds before it was told of, and everything a token from another process names.
    """

    def __init__(self, router: Router) -> None:
        super().__init__((), publish=router._observe, is_writer=router._is_writer, pause=router._pause)
        self._router = router
        self._lag: dict[str, float | None] = {}
        self._errors: dict[str, str] = {}
        self._primary = router.topology.writer
        for seen in router.topology.replicas:
            self._lag[seen.server.name] = 0.0

    def __repr__(self) -> str:
        return f"<FixedServers: {self._router.topology!r}>"

    def lags(self, name: str, seconds: float | None) -> None:
        """From now on this replica is so far behind; None: nobody knows how far."""
        self._lag[self._replica(name)] = seconds
        self._errors.pop(name, None)
        self.refresh()

    def fails(self, name: str, error: str = "OperationalError: told to fail") -> None:
        """From now on this server does not answer its probes. Its engine is left alone: statements sent to it run."""
        self._errors[self._known(name)] = error
        self.refresh()

    def recovers(self, name: str) -> None:
        """It answers again, as it did before."""
        self._errors.pop(self._known(name), None)
        self.refresh()

    def promotes(self, name: str) -> None:
        """This replica is the primary from now on, and the former primary a replica that is caught up."""
        del self._lag[self._replica(name)]
        self._lag[self._primary], self._primary = 0.0, name
        self.refresh()

    def refresh(self, timeout: float = 0.0) -> bool:
        """Tell the router anew what each server says, as of now. ``router.refresh()`` does the same."""
        # The primary first: replicas are measured against it. And once more for one that has just changed its role.
        for _ in range(2):
            for name in (self._primary, *self._lag):
                self._publish(self._observation(name), self._router.dialect)
        return True

    def hurry(self, names: Iterable[str], timeout: float, *, enough: int = 1) -> bool:
        """Tell the router anew; False: waiting longer changes nothing."""
        self.refresh()
        return False

    def wake(self, name: str) -> None:
        """Nobody to wake."""

    def wake_all(self) -> None:
        """Tell the router anew."""
        self.refresh()

    @property
    def is_running(self) -> bool:
        """True: there is nothing to start."""
        return True

    def start(self) -> None:
        """Nothing to start."""

    def close(self, *, wait: float = 0.0) -> None:
        """Nothing to end."""

    def forked(self) -> None:
        """Nothing to start anew."""

    def _observation(self, name: str) -> Observation:
        now = self._router.clock()
        if name in self._errors:
            return Observation(name, now, error=self._errors[name])
        if name == self._primary:
            return Observation(name, now, Report(Role.PRIMARY, position=_Held(now), is_writable=True, follows=False))
        lag = self._lag[name]
        held = None if lag is None else _Held(now - lag, has_all=lag == 0)
        return Observation(name, now, Report(Role.REPLICA, lag=lag, position=held, is_writable=False, follows=True))

    def _known(self, name: str) -> str:
        names = [seen.server.name for seen in self._router.topology.servers]
        if name not in names:
            raise ValueError(f"no server is called {name!r}; there are {', '.join(names)}")
        return name

    def _replica(self, name: str) -> str:
        if self._known(name) == self._primary:
            raise ValueError(f"{name} is the primary of the moment, not a replica")
        return name


@contextmanager
def fixed_servers(router: Router, *, lag: Mapping[str, float | None] | None = None) -> Iterator[FixedServers]:
    """Take the monitor's place in a router that is there already, ``db.router`` for one, while the block runs.

    ``lag``: seconds by replica, where it is not 0. Afterwards the servers are probed again from the next use on.
    """
    asleep, router._monitor = router._monitor, _taken_over(router)
    servers = router._monitor
    assert isinstance(servers, FixedServers)
    try:
        for name, seconds in (lag or {}).items():
            servers.lags(name, seconds)
        yield servers
    finally:
        router._monitor = asleep
        router._is_awake = not router.has_replicas


def fixed_router(
    primary: ReplicaLike,
    replicas: str | Iterable[ReplicaLike] = (),
    *,
    lag: Mapping[str, float | None] | None = None,
    policy: RoutingPolicy | None = None,
    clock: Callable[[], float] | None = None,
    random: Callable[[], float] = lambda: 0.0,
    **options: Any,
) -> Router:
    """A router whose servers never change by themselves: every one answers, every replica is caught up.

    ``lag``: seconds by replica, where it is not 0. ``clock``: usually a :class:`Clock`, which it is by default.
    ``random``: 0 picks the first of equals. ``options`` are the Router's own. To have something happen to the servers
    later, use :func:`fixed_servers` on it.
    """
    router = Router(primary, replicas, policy=policy, clock=clock or Clock(), random=random, **options)
    router._monitor = servers = _taken_over(router)
    for name, seconds in (lag or {}).items():
        servers.lags(name, seconds)
    return router


def replica_of(url: str | URL) -> URL:
    """A second, read-only way to the database of a SQLite file, to stand for its replica.

    On a server use two names of the same host, ``localhost`` and ``127.0.0.1``: the guard makes it read-only. Raises
    ConfigurationError for a database that is no file: each connection to ``:memory:`` is another database.
    """
    primary = make_url(url)
    if primary.get_backend_name() != "sqlite" or not primary.database or primary.database == ":memory:":
        raise ConfigurationError(
            f"replica_of() takes the URL of a SQLite file, and not {primary.render_as_string(hide_password=True)!r}"
        )
    path = primary.database.removeprefix("file:")
    return primary.set(database=f"file:{os.path.normpath(path)}", query={"mode": "ro", "uri": "true"})


def assert_on_replicas(routes: Iterable[Routed]) -> None:
    """Raise AssertionError if no statement was routed, or one went to the primary: with each statement, and why."""
    lines = [_line(each) for each in routes]
    if not lines:
        raise AssertionError("no statement was routed: none ran, or it ran on a bind of its own")
    strays = [line for line, is_replica in lines if not is_replica]
    if strays:
        raise AssertionError(f"{len(strays)} of {len(lines)} statements went to the primary:\n" + "\n".join(strays))


def _line(route: Routed) -> tuple[str, bool]:
    clause = " ".join(str(route.clause).split())
    shown = clause if len(clause) <= 100 else f"{clause[:100]}..."
    return f"  {shown}\n    -> {route.decision}", route.decision.is_replica


def _taken_over(router: Router) -> FixedServers:
    """End the monitor's threads, but leave it able to begin anew."""
    router._monitor.close(wait=router.policy.probe_timeout)
    router._monitor.forked()
    servers = FixedServers(router)
    servers.refresh()
    return servers


@dataclass(frozen=True, slots=True)
class _Held:
    """A position in the test's own seconds."""

    seconds: float
    has_all: bool = True

    @property
    def is_empty(self) -> bool:
        return False

    def covers(self, other: Position, /) -> bool:
        return self.seconds >= other.seconds if isinstance(other, _Held) else self.has_all

    def union(self, other: Position, /) -> Position:
        raise TypeError("positions of a test are not merged: tokens hold the engine's own")

    def __str__(self) -> str:
        return f"{self.seconds:g} s"
