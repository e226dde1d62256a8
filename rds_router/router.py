"""The router: the state of the world, and the one place that changes it.

1. It holds the snapshot (``_topology``), assigned in :meth:`Router._observe` and nowhere else once it is made.
2. :meth:`Router.route` throws the dice, reads the clock and asks the pure ``decide``.
3. It owns the engines and the monitor, and lets go of both in :meth:`Router.close`.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy.engine import URL, Engine
from sqlalchemy.sql.base import Executable

from rds_router import causality
from rds_router.captured import Routed, captured, capturing
from rds_router.catching_up import WITHOUT_A_REPLICA, CatchingUp
from rds_router.classify.cache import Classifier
from rds_router.core import choice, health
from rds_router.core.decision import Decision, Reason, decide, first_read, pinned_to
from rds_router.core.observation import Observation
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import FRESH, Scope, Sight
from rds_router.core.statement import Kind, Statement
from rds_router.core.topology import Drain, Server, Topology, evolve
from rds_router.credentials import Credentials, Tls
from rds_router.dialects import dialect_for
from rds_router.dialects.base import Dialect, Verdict
from rds_router.discovery import Discovery, Find, Finder, found_by
from rds_router.engine_writes import listen, listen_to_raw
from rds_router.engines import Engines, OnEngine, for_each_role
from rds_router.errors import NoServerAvailable, RouterClosed, WrongServer
from rds_router.events import (
    CredentialsRenewed,
    DiscoveryFailed,
    Emitter,
    Healed,
    ReadRetried,
)
from rds_router.forks import tell_when_forked
from rds_router.last_resort import LastResort
from rds_router.login import Login
from rds_router.monitor import Monitor, Prober, one_line
from rds_router.noticed import Acknowledged, changes, listed
from rds_router.outage import Outage, deadline
from rds_router.routed_engine import RoutedEngine
from rds_router.servers import ReplicaLike, Target, checked_url, policy_for, refuse_what_does_nothing, targets
from rds_router.sharing import sharing_of
from rds_router.token_router import TokenRouter

_T = TypeVar("_T")
Pin: TypeAlias = tuple[Topology, Engine, Scope]
"""What a first read settles: the snapshot that it was made from, good as long as that stands, engine and scope."""
A_READ: Final = Statement(Kind.READ, "asked for")


class Router(TokenRouter):
    """Sends statements to the primary and its replicas.

    ``primary`` and ``replicas`` are URLs or :class:`~rds_router.Replica`; replicas may be one comma-separated string.
    ``engine_options`` go to ``create_engine`` for every server, ``replica_engine_options`` override them for replicas.
    ``on_engine(engine, server, part)`` is called for each engine made. ``clock`` (monotonic seconds) and ``random``
    are for tests. ``credentials`` tell the password for each new connection (``IamAuth()``, ``SecretsManager("name")``,
    a function), ``tls`` what to trust. Without a policy the primary's host name chooses one: RDS Proxy has its own.
    Nothing connects before the first use. Raises ConfigurationError for what cannot work.
    """

    def __init__(
        self,
        primary: ReplicaLike,
        replicas: str | Iterable[ReplicaLike] = (),
        *,
        policy: RoutingPolicy | None = None,
        engine_options: Mapping[str, Any] | None = None,
        replica_engine_options: Mapping[str, Any] | None = None,
        on_engine: OnEngine | None = None,
        credentials: Credentials | None = None,
        tls: Tls | None = None,
        discovery: Discovery | None = None,
        discovery_interval: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        found = targets(primary, replicas)
        self.policy = policy or policy_for(found[0].url)
        refuse_what_does_nothing(self.policy, found[0])
        self._contract = self.policy.contract
        self._is_plain = self._contract.is_plain
        self.clock = clock
        self.events = Emitter()
        login = Login(credentials, tls, renewed=lambda name: self.events.emit(CredentialsRenewed(name)))
        self.healed_shapes: Counter[str] = Counter()
        """How often replicas refused statements of each shape; of the last 1024 shapes."""
        self.has_replicas = len(found) > 1 or discovery is not None
        options = for_each_role(engine_options, replica_engine_options, has_replicas=self.has_replicas)
        self._finder = Finder(discovery, self, interval=discovery_interval, random=random)
        self.cluster = self.policy.cluster or causality.cluster_of(found[0].url)
        """What tokens call this cluster."""
        # What sessions must not read behind, though it is written without them.
        notes_writes = self.has_replicas and self.policy.after_write != "any"
        self.primary = RoutedEngine(
            "primary",
            self.primary_engine,
            self.reach,
            seen_raw=(lambda raw: listen_to_raw(raw, self)) if notes_writes else None,
        )
        self.reader = RoutedEngine("reader", self._reader_engine)
        self._random = random
        self._turns = itertools.count(int(random() * 1e6))
        self._draw = self._turn if self.policy.balance == "round_robin" else random
        self._topology = Topology.of((each.server for each in found), self.policy)
        self._pins: dict[str, Pin] = {}  # of the replicas that were first read from lately
        self._dialect = dialect_for(found[0].family, behind_proxy=self.policy.behind_proxy)
        self._classifier = Classifier(self._dialect.name, self.policy.pure_functions)
        self._lock = threading.Lock()
        self._is_awake = not self.has_replicas
        self._is_closed = False
        self._acknowledged = Acknowledged()  # the last commits that the primary told: its heir must have them
        self._catching_up = CatchingUp(self.policy, clock, self.events, self._acknowledged)
        self._engines = Engines(
            {each.server.name: each for each in found},
            policy=self.policy,
            dialect=lambda: self._dialect,
            options=options,
            login=login,
            heard=lambda name: self._topology.heard_at(name),
            ask=lambda name: self._monitor.wake(name),
            clock=clock,
            on_engine=on_engine,
            on_fault=self._primary_failed if self.has_replicas else None,
            on_primary=(lambda engine: listen(engine, self)) if notes_writes else None,
            is_own_wish=self._is_own_wish,
            known=lambda name: next((each.report for each in self._topology.servers if each.server.name == name), None),
        )
        self._load = self._engines.in_use
        self._last_resort = LastResort(self._engines, self.events, share=self.policy.primary_read_share, random=random)
        self._prober: Callable[[Target], Prober] = lambda each: Prober(
            each,
            policy=self.policy,
            clock=clock,
            connect_options=options["primary" if each.server.is_primary else "replica"].get("connect_args", {}),
            opening=login.opening(each.url, each.server.name),
        )
        self._monitor = Monitor(
            map(self._prober, found),
            publish=self._observe,
            is_writer=self._is_writer,
            pause=self._pause,
            sharing=None if discovery else sharing_of(found, self.policy, clock=clock, tell=self.events.emit),
        )
        self._outage = Outage(
            policy=self.policy,
            clock=clock,
            random=random,
            topology=lambda: self._topology,
            probe=self._ask_all,
            is_gone=lambda error: self.verdict_of(error) is Verdict.GONE,
            events=self.events,
        )
        tell_when_forked(self)

    @classmethod
    def from_cluster(cls, url: str | URL, *, find: Find = Find(), **options: Any) -> Router:  # noqa: B008  frozen
        """A router that finds a cluster's servers, now and ever again. ``options``: as above. Raises DiscoveryError."""
        return cls(**found_by(checked_url(url, "the URL of the cluster"), find, options))

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else repr(self._topology)[1:-1]
        return f"<Router {self._dialect.name}, {state}>"

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def topology(self) -> Topology:
        """What is believed of the servers now."""
        return self._topology

    @property
    def dialect(self) -> Dialect:
        """The engine family: from the URL, then from the server itself (``mysql://`` may lead to MariaDB)."""
        return self._dialect

    def judge(self, clause: Executable | str) -> Statement:
        """The cached verdict on a statement."""
        return self._classifier.judge(clause)

    def route(
        self,
        statement: Statement,
        scope: Scope = FRESH,
        *,
        exclude: frozenset[str] = frozenset(),
        clause: Any = None,
    ) -> Decision:
        """Decide where a statement goes. Raises NoServerAvailable where the policy forbids the last resort."""
        if not self._is_awake:
            self.start()
        given = statement, scope, exclude
        try:
            decision = self._decide(*given)
            if decision.reason in WITHOUT_A_REPLICA:
                decision = self._catching_up.looked_again(decision, self._monitor, self._decide)
            if decision.reason is Reason.NO_REPLICA_ELIGIBLE:
                decision = self._last_resort.admitted(decision, lambda: self._decide(*given, is_primary_full=True))
        except NoServerAvailable as error:
            self._last_resort.tell_refusal(error)
            raise
        self._last_resort.tell(decision)
        collected = captured.get()
        if collected is not None:
            collected.append(Routed(clause, decision))
        return decision

    def first_read(self, seen: Sight | None = None) -> Pin | None:
        """The replica for a plain read of a session that has done no more than to read, or None: ask :meth:`route`."""
        if not self._is_awake or not self._is_plain or captured.get() is not None:
            return None
        if seen is not None and not self._contract.monotonic:
            return None
        topology = self._topology
        name = first_read(topology, seen, now=self.clock(), draw=self._draw(), load=self._load)
        if name is None:
            return None
        pin = self._pins.get(name)
        if pin is None or pin[0] is not topology:
            pin = self._pins[name] = topology, self._engines.get(name, "replica"), pinned_to(name)
        return pin

    def noted(self, statement: Statement, scope: Scope, clause: Any) -> None:
        """A statement follows an earlier decision of its transaction: only who captures wants to know."""
        if captured.get() is not None:
            self.route(statement, scope, clause=clause)

    def engine(self, decision: Decision) -> Engine:
        """The engine that a decision means."""
        return self._engines.get(decision.target, "replica" if decision.is_replica else "primary")

    def primary_engine(self, *, start: bool = True) -> Engine:
        """The engine of the primary of the moment. ``start=False`` leaves the monitor asleep."""
        if start and not self._is_awake:
            self.start()
        return self._engines.get(self._topology.writer, "primary")

    def reach(self, connect: Callable[[Engine], _T], *, is_read: bool = False) -> _T:
        """``connect(engine)`` on the primary's engine; while there is no primary, wait for one (see outage)."""
        if self.has_replicas and self.policy.failover_timeout:
            return self._outage.reach(connect, self.primary_engine, is_read=is_read)
        began = time.monotonic()
        try:
            return connect(self.primary_engine())
        except WrongServer as error:
            raise self._outage.misled(error, since=began) from None

    @property
    def primary_answers(self) -> bool:
        """A read of the primary need not wait for one, as far as is known."""
        return self._outage.answers_reads

    deadline = staticmethod(deadline)

    def explain(self, clause: Executable | str, scope: Scope = FRESH) -> Decision:
        """Where this statement would go now, and why: ``print(router.explain(select(Post)))``."""
        decision = self._decide(self.judge(clause), scope, frozenset())
        if decision.reason is Reason.NO_REPLICA_ELIGIBLE and not self._last_resort.has_place(
            decision.target, self._random()
        ):
            return self._decide(decision.statement, scope, frozenset(), is_primary_full=True)
        return decision

    def start(self) -> None:
        """Begin to watch the servers; the first use does it. Raises RouterClosed after close()."""
        threads: Sequence[threading.Thread] = ()
        with self._lock:
            if self._is_closed:
                raise RouterClosed("this router is closed: make a new one")
            if not self._monitor.is_running and self.has_replicas:
                threads = self._monitor.made_ready()
            self._is_awake = True
        # Not under the lock: starting a thread waits for it, and under gevent others run meanwhile.
        self._monitor.go(threads, self._finder.start)

    def refresh(self, timeout: float = 5.0) -> bool:
        """Probe every server now and wait for the answers. False if some took longer than ``timeout`` seconds."""
        self.start()
        return not self.has_replicas or self._monitor.refresh(timeout)

    def drain(self, server: str) -> None:
        """Take a replica out of use in this process: no transaction begins to read there, those under way go on.

        Until :meth:`undrain`, whatever its health. Raises ValueError for a name that no replica has.
        """
        self._observe(Drain(self._replica(server), True))

    def undrain(self, server: str) -> None:
        """Put a drained replica back into use, with a slow start. Raises ValueError for a name that no replica has."""
        self._observe(Drain(self._replica(server), False))

    def close(self) -> None:
        """End the monitor's threads and dispose of every engine. The router cannot be used again."""
        with self._lock:
            self._is_closed = True
            self._is_awake = False
        self._outage.end()
        self._finder.close()
        self._monitor.close(wait=self.policy.probe_timeout)
        self._engines.close()

    def capture(self) -> AbstractContextManager[list[Routed]]:
        """Collect the decisions made in this thread or task while the block runs, of every router."""
        return capturing()

    def verdict_of(self, error: BaseException) -> Verdict:
        """What a driver's error means."""
        return self._dialect.verdict_of_error(error)

    def lost(self, server: str, error: BaseException) -> None:
        """A replica failed a read: it gets no more until a probe finds it well (R10)."""
        text = one_line(error, self._engines.url(server))
        self.events.emit(ReadRetried(server, text))
        refused = self.verdict_of(error) is Verdict.LOGIN
        self._observe(Observation(server, self.clock(), error=text, is_login_refused=refused, is_read=True))
        found = [each.health.state for each in self._topology.servers if each.server.name == server]  # it may have left
        if found and found[0] is not health.State.DOWN:
            self._monitor.wake(server)

    def replica_engine(self, server: str) -> Engine:
        """The engine of a server in a replica's part."""
        return self._engines.get(server, "replica")

    def healed(self, clause: Executable, server: str, error: BaseException) -> None:
        """A replica refused ``clause`` as a write: remember its shape, and say so (R9)."""
        because = f"refused by the read-only replica {server}"
        self._classifier.learn(clause, Statement(Kind.WRITE, because))
        shape = self._classifier.shown(clause)
        with self._lock:
            if shape not in self.healed_shapes and len(self.healed_shapes) >= _MAX_HEALED_SHAPES:
                del self.healed_shapes[next(iter(self.healed_shapes))]
            self.healed_shapes[shape] += 1
        self.events.emit(Healed(server, shape, one_line(error, URL.create(self._dialect.name))))

    def _decide(
        self, statement: Statement, scope: Scope, exclude: frozenset[str], *, is_primary_full: bool = False
    ) -> Decision:
        decided = partial(decide, statement, scope, self._topology, self.policy, load=self._load, exclude=exclude)
        return decided(now=self.clock(), draw=self._draw(), is_primary_full=is_primary_full)

    def _turn(self) -> float:
        """The dice of "round_robin"."""
        now, weights = self.clock(), self._topology.eligible or self._topology.servers
        return choice.turn(next(self._turns), [seen.weight_at(now, self.policy) for seen in weights])

    def _reader_engine(self) -> Engine:
        # Always the guarded kind, also when the last resort is the primary: whoever asks for a reader must not write.
        token = self.awaited()
        return self._engines.get(self.route(A_READ, Scope(token=token) if token else FRESH).target, "replica")

    def _is_writer(self, name: str) -> bool:
        topology = self._topology
        return topology.writer == name and not topology.contested

    def _replica(self, name: str) -> str:
        names = [seen.server.name for seen in self._topology.replicas]
        if name not in names:
            raise ValueError(f"no replica is called {name!r}; there are {', '.join(names) or 'none'}")
        return name

    def _pause(self, name: str) -> float:
        """Seconds until a server is asked again. While the primary is missing, nobody is left alone for long."""
        topology = self._topology
        if self._outage.is_urgent:
            return self._outage.pause
        is_urgent = name == topology.writer or topology[topology.writer].silence is not None
        return health.pause(topology[name].health, self.policy, draw=self._random(), is_urgent=is_urgent)

    def _observe(self, news: Observation | Drain | list[Server], dialect: Dialect | None = None) -> None:
        """The one place that changes the state of the world; acts on it after the lock."""
        with self._lock:
            old = self._topology
            self._topology = new = evolve(old, news, now=self.clock())
            if isinstance(news, Observation) and dialect is not None and news.server == new.writer:
                if dialect.name != self._dialect.name:
                    self._classifier = Classifier(dialect.name, self.policy.pure_functions)
                self._dialect = dialect
        self._engines.follow(old, new)
        is_same = new.generation == old.generation
        if is_same and new[new.writer].silence is not None and old[new.writer].silence is None:
            # Whoever is left alone because he was down may be the next primary.
            for seen in new.replicas:
                self._monitor.wake(seen.server.name)
        if new.eligible:
            self._last_resort.over()
        for event in changes(old, new, self._acknowledged):
            self.events.emit(event)
        if new.history is not old.history:
            self._acknowledged.asked()
        self._outage.note(new)

    def _ask_all(self) -> None:
        """The primary is missing: where is everybody? Its heir may be one that is not in the list yet."""
        self._monitor.wake_all()
        self._finder.hurry()

    def relist(self, found: Iterable[Target]) -> None:
        """Another list of servers: new ones begin slowly, those that are gone end their work. One call at a time."""
        before, now = self._topology, tuple(found)
        kept = {each.name: each for each in self._monitor.probers if any(map(each.watches, now))}
        self._engines.relist(now)
        self._observe([each.server for each in now])
        self._monitor.relist([kept.get(each.server.name) or self._prober(each) for each in now])
        self._pins = {}  # each keeps a snapshot and an engine
        if event := listed(before, self._topology):
            self.events.emit(event)

    def not_found(self, error: Exception) -> None:
        """Nobody tells who the servers are: the list stays."""
        self.events.emit(DiscoveryFailed(one_line(error, self._engines.url(self._topology.writer))))

    def _is_own_wish(self, server: str, error: BaseException) -> bool:
        """The primary, asked now, takes writes: the transaction was read-only, by its owner's wish."""
        if server != self._topology.writer or not self._dialect.may_be_own_wish(error) or not self._monitor.is_running:
            return False
        now = self.clock()
        self._monitor.hurry((server,), self.policy.probe_timeout)
        topology = self._topology
        if topology.writer != server or not topology.has_primary_since(now):
            return False
        report = topology[server].report
        return report is not None and report.is_writable is True  # and not only: it does not say

    def _primary_failed(self, server: str, error: BaseException, verdict: Verdict) -> None:
        if server == self._topology.writer and self._is_awake:  # else an old connection: the primary has moved already
            self._outage.suspect(server, verdict.value, one_line(error, self._engines.url(server)))

    def forked(self) -> None:
        """In a forked child: no thread runs, no lock is held by a living one, sockets are the parent's (R13)."""
        self._lock = threading.Lock()
        self._is_awake = not self.has_replicas
        self._turns = itertools.count(int(self._random() * 1e6))  # or all workers would march in step
        for each in (self._classifier, self._engines, self._monitor, self._outage, self._finder):
            each.forked()


_MAX_HEALED_SHAPES: Final = 1024
