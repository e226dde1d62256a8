"""What one session has done and settled on, from the begin of its root transaction to the end.

1. The scope begins anew when the root transaction ends, whoever ended it: the events below tell.
2. The first write settles the transaction on one engine of the primary (``_home``), the first read on one of a
   replica (``_pin``): nothing moves inside it (R2, R3).
3. A commit that wrote leaves a token, which the scope carries on (R5).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import InvalidRequestError, SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from rds_router import drivers, engine_writes, read_transaction, stale_writes
from rds_router.core.demands import bare
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import FRESH, Hold, Scope, Sight, Tables
from rds_router.core.statement import Kind
from rds_router.core.token import Token
from rds_router.core.trail import Trail
from rds_router.primary_faults import is_autocommitting
from rds_router.router import Pin, Router

_PLAIN: Final = frozenset({Kind.READ, Kind.LOCKING_READ, Kind.WRITE, Kind.DDL})
"""What leaves a transaction of PostgreSQL open. The others do as they like, and tell the GTIDs themselves."""
NOTHING: Final[frozenset[str]] = frozenset()


class ScopedSession(Session):
    """A Session that knows what it has done. Where its statements go is for the classes below to say."""

    # What the transaction has settled on: nothing moves inside it.
    _home: Engine | None = None
    _pin: Pin | None = None
    _home_connection: Any = None
    _told: str | None = None
    _committed = False
    _is_in_doubt = False
    """Something may have ended the transaction, and begun another, behind this session's back."""
    _saw = False
    _touched: Tables = NOTHING
    _answering: Engine | None = None
    """A replica's, if the statement under way was sent to one. What leads there later may be another engine."""
    _statement: Any = None
    """That of the call under way."""
    _failed: frozenset[str] = frozenset()
    """The servers that have failed it."""
    _deaths = 0
    """How many of them went away while they ran it."""
    _read_from: frozenset[str] = frozenset()
    """The replicas that this session has read from; an empty name for the primary."""
    _followed: Sight | None = None
    _follows_from: float = float("-inf")
    """Monotonic seconds: nothing was read before."""

    def __init__(
        self, bind: Engine | Connection | None = None, *, router: Router | None = None, **options: Any
    ) -> None:
        # By keyword: a session class further down may have a first argument of its own (Flask-SQLAlchemy's has).
        super().__init__(bind=bind, **options)
        self._router = router
        # What the router's last note was when this session last looked.
        self._heard = None if router is None else router.last_note
        awaited = None if router is None else router.awaited()
        self._scope: Scope = FRESH if awaited is None else Scope(token=awaited)
        self._examines_writes = router is not None and router.policy.stale_writes != "allow"
        if self._examines_writes:
            stale_writes.listen()

    def _replica_answering(self) -> str | None:
        """The replica that the statement under way was sent to."""
        engine, router = self._answering, self._router
        return None if engine is None or router is None else router._engines.server_of(engine)

    @property
    def token(self) -> Token | None:
        """What later reads may not go behind, wherever they happen; None before the first commit that wrote.

        ``str(session.token)`` travels through a queue to ``router.read_after()``. Costs one round trip to the primary
        after a commit whose position the driver was not told, else none, and never raises.
        """
        router = self._router
        if router is not None and self._heard is not router.last_note:
            self._hear(router)
        token = self._scope.token
        if token is None or router is None:
            return token
        if token.at is not None:
            token = router.located(token, self._at_hand())
            self._scope = replace(self._scope, token=token)
        return router.departing(token)

    def _at_hand(self) -> Connection | None:
        """This transaction's connection to the primary, if it has one that can be used."""
        if self._home is None or not self.is_active:  # it waits for its rollback
            return None
        try:
            return super().connection({"bind": self._home})
        except SQLAlchemyError:
            return None

    @property
    def seen(self) -> Token | None:
        """What later reads may not be older than, wherever they happen: all that this session has written and read.

        :attr:`token` says what was written only. For a client whose next request another process serves, and who must
        not see less there: ``str(session.seen)`` in place of ``str(session.token)``. Costs a look at each server that
        was read from, which readers share, and never raises. None before the first read or commit that wrote.
        """
        token, router = self.token, self._router
        self._note_where_it_reads()
        if router is not None and router.has_replicas:
            for server in sorted(self._read_from):
                token = router.departing(router.shown(server)).merge(token)
        return token

    def _note_where_it_reads(self) -> None:
        scope = self._scope
        if scope.hold is not None:
            self._read_from |= {""}
        elif scope.pinned is not None and scope.pinned not in self._read_from:
            self._read_from |= {scope.pinned}

    @property
    def trail(self) -> Trail | None:
        """What this session's client has seen, for his next request, wherever that is: ``follow(str(trail))`` there.

        The cheap way to a client who never sees less: asks nobody, costs him nothing while he reads on one replica,
        and stays the same meanwhile. None if there is nothing to add to what this session was told to follow, and to
        its token.
        """
        router = self._router
        if router is None or not router.has_replicas or router.policy.behind_proxy:
            return None
        sight = self._scope.seen_by(router.clock(), saw=self._saw)
        if sight is None or sight is self._followed or self._is_told_by_token(sight, router.policy):
            return None
        return router.trail_of(sight, since=self._follows_from)

    def _is_told_by_token(self, sight: Sight, policy: RoutingPolicy) -> bool:
        """It was seen before a commit of this session, whose token every later read of the client heeds."""
        token = self._scope.token
        is_heeded = policy.contract.own_writes and policy.after_write == "token" and not policy.track_tables
        return is_heeded and not sight.server and token is not None and token.merge(sight.token) == token

    def follow(self, trail: Trail | str | None) -> None:
        """Show nothing older than what is said by ``trail``, of the same client's last request; None: he brings none.

        To be called before the first read. What cannot be read demands all that is committed by now.
        """
        router = self._router
        if router is not None:
            now = router.clock()
            self._follow(router.sight_of(trail, at=now), now)

    def _follow(self, sight: Sight | None, since: float) -> None:
        self._followed, self._follows_from = sight, since
        if sight is not None:
            self._scope = replace(self._scope, seen=sight)

    def read_after(self, token: Token | str | None) -> None:
        """Never read behind ``token``, or its text, from now on, nor behind what this session has written.

        Best before the first read of a transaction. A snapshot that is open on a replica is left for the primary; one
        that is open on the primary cannot be renewed: InvalidRequestError.
        """
        arrived = token if self._router is None or not token else self._router.arriving(token)
        if not isinstance(arrived, Token):
            return
        known, needed = self._scope.token, arrived.merge(self._scope.token)
        if needed == known:
            return
        if self._home_connection is not None and self._home is not None and _keeps_a_snapshot(self._home):
            raise InvalidRequestError(
                "read_after() comes too late: this transaction may have a snapshot on the primary from before the "
                "token; end the transaction first"
            )
        self._need(needed)

    def _need(self, token: Token) -> None:
        """Every read from now on needs it, of whichever table."""
        self._scope = replace(self._scope, token=token, tables=None)
        self._pin = None
        if self._scope.pinned is not None and self._has_snapshots():
            self._hold(Hold.READ, wrote=False)

    def _hear(self, router: Router) -> None:
        """Something was written without a session. If it was here: nothing is read behind it any more."""
        self._heard = router.last_note
        noted = router.written_here()
        if noted is not None and (needed := noted.merge(self._scope.token)) != self._scope.token:
            self._need(needed)

    def _has_snapshots(self) -> bool:
        return self._router is not None and self._router.policy.replica_transactions == "snapshot"

    def _hold(self, hold: Hold, *, wrote: bool) -> None:
        self._scope = self._scope.held(hold, wrote=wrote)
        self._pin = None

    def _at_home(self, router: Router, *, joins: bool, is_read: bool = False) -> Engine:
        """The primary's engine, and the same one until the transaction ends, wherever the primary goes meanwhile.

        ``joins``: a statement follows. Its connection is taken here, where a primary can be waited for, and found
        elsewhere, before anything was sent. ``is_read``: raises ReadElsewhere if a replica may answer meanwhile.
        """
        self._answering = None
        home = self._home
        if home is None and joins:
            home = router.reach(self._join, is_read=is_read).engine
        elif home is None:
            home = self._home = router.primary_engine()
        return home

    def _join(self, engine: Engine) -> Connection:
        """Take the primary's connection into the transaction."""
        return self._joined(engine, lambda: Session.connection(self, {"bind": engine}))

    def _joined(self, engine: Engine, connect: Callable[[], Connection]) -> Connection:
        self._home = engine  # before it begins, for the event below
        try:
            return connect()
        except BaseException:
            self._home = None
            raise

    def _primary_connection(self, mapper: Any) -> Connection:
        """The connection of this transaction to the primary, which stays there from now on."""
        router = self._router
        assert router is not None
        self._hold(Hold.LOCKED, wrote=False)
        return super().connection({"bind": self._at_home(router, joins=True)})

    def _notice(self, router: Router, clause: Any) -> None:
        """A statement runs on the primary: what it may have shown, committed by itself, and touched."""
        if clause.is_select:
            self._saw = True
        elif not clause.is_dml:
            # Text, DDL and the like may commit by themselves: a rollback at the end need not undo them.
            self._saw = self._committed = True
            if not self._is_in_doubt:
                is_plain = router.judge(clause).kind in _PLAIN and ";" not in getattr(clause, "text", "")
                self._is_in_doubt = not is_plain
        elif clause._returning:
            self._saw = True
        if router.policy.track_tables and not clause.is_select:
            self._touch(router.judge(clause).tables)

    def _touch(self, tables: Tables) -> None:
        """What this transaction has written to, if anybody wants to know."""
        self._touched = None if tables is None or self._touched is None else self._touched | bare(tables)

    def _end_scope(self, router: Router) -> None:
        scope = self._scope
        if scope is not FRESH:
            wrote = scope.wrote and self._may_have_committed()
            written = router.trace(self._told, self._home) if wrote else None
            tables = self._touched if router.policy.track_tables else None
            self._scope = scope.ended(written=written, now=router.clock(), tables=tables, saw=self._saw)
        self._committed = self._is_in_doubt = self._saw = False
        self._touched = NOTHING
        self._pin = self._home = self._home_connection = self._told = None

    def _may_have_committed(self) -> bool:
        return self._committed or (self._home is not None and is_autocommitting(self._home))


def _keeps_a_snapshot(engine: Engine) -> bool:
    """Its transactions may go on seeing what they saw first."""
    dialect = engine.dialect
    levels = (
        engine.get_execution_options().get("isolation_level"),
        getattr(dialect, "_on_connect_isolation_level", None),
        getattr(dialect, "default_isolation_level", None),
    )
    level = next((each for each in levels if each), None)
    return dialect.name != "sqlite" and level in ("REPEATABLE READ", "SERIALIZABLE")


def _wanting(session: weakref.ref[ScopedSession]) -> Callable[[], bool]:
    def wanted() -> bool:
        owner = session()
        return owner is not None and owner._scope.wrote and not owner._is_in_doubt

    return wanted


@event.listens_for(ScopedSession, "after_begin")
def _after_begin(session: ScopedSession, transaction: SessionTransaction, connection: Connection) -> None:
    if transaction.nested:
        return
    if connection.engine is session._answering:
        read_transaction.only_reads(transaction, connection)
    elif session._home is not None and connection.engine is session._home:
        engine_writes.leave_to_session(connection)
        session._home_connection = connection.connection.dbapi_connection
        # Weakly: the connection outlives the transaction in its pool, and must not keep the session.
        drivers.forget_position(session._home_connection, _wanting(weakref.ref(session)))


@event.listens_for(ScopedSession, "before_flush")
def _before_flush(session: ScopedSession, context: object, instances: Any) -> None:
    router = session._router
    if router is not None and session._examines_writes and router.has_replicas:
        refuse = router.policy.stale_writes == "refuse"
        stale_writes.examine(session, instances, primary=session._primary_connection, refuse=refuse)


@event.listens_for(ScopedSession, "before_commit")
def _before_commit(session: ScopedSession) -> None:
    # A COMMIT whose answer is lost may have been carried out.
    if not session.in_nested_transaction():
        session._committed = True


@event.listens_for(ScopedSession, "after_commit")
def _after_commit(session: ScopedSession) -> None:
    if not session.in_nested_transaction():
        session._committed = True
        session._told = drivers.told_position(session._home_connection)


@event.listens_for(ScopedSession, "after_transaction_end")
def _after_transaction_end(session: ScopedSession, transaction: SessionTransaction) -> None:
    # Session.commit() is not enough to listen to: `with session.begin():` never calls it.
    if transaction.parent is None and session._router is not None:
        session._note_where_it_reads()
        session._end_scope(session._router)
