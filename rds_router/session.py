"""RoutingSession: an ordinary Session whose statements find their server.

1. ``get_bind`` is where SQLAlchemy asks; it answers with the engine that the router decided on.
2. The scope is what this session has done: it begins anew when the root transaction ends, whoever ended it.
3. ``execute`` and its siblings are overridden for what ``get_bind`` cannot see: options given with the call, the
   statement around a nested load, and a replica that refuses a write (R9) or is gone (R10).
4. Binds of any kind that the user chose himself are honoured (R7); without replicas nothing here does anything (R8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, UnboundExecutionError
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm import scoped_session as _scoped_session

from rds_router import causality, drivers
from rds_router.classify.hints import ROUTE_OPTION, STALENESS_OPTION, max_staleness_from, route_from
from rds_router.core.decision import Reason, pinned_to
from rds_router.core.scope import FRESH, Hold, Route, Scope
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Topology
from rds_router.dialects.base import Verdict
from rds_router.router import Router

_T = TypeVar("_T")
_NONE: Final[Mapping[str, Any]] = {}
_SERVERS_FAULT: Final = (Verdict.GONE, Verdict.TOO_MANY, Verdict.LOGIN)
_HELD: Final = Statement(Kind.WRITE, "in a transaction that writes")


class RoutingSession(Session):
    """A Session that reads from replicas and writes to the primary.

    Takes ``router=`` and everything that :class:`sqlalchemy.orm.Session` takes. Without a router, with ``bind=`` or
    ``binds=`` of your own, it is a plain Session for what they cover.
    """

    def __init__(
        self, bind: Engine | Connection | None = None, *, router: Router | None = None, **options: Any
    ) -> None:
        # By keyword: a session class further down may have a first argument of its own (Flask-SQLAlchemy's has).
        super().__init__(bind=bind, **options)
        self._router = router
        self._has_binds = bool(options.get("binds"))
        self._scope: Scope = FRESH
        # What the transaction has settled on: nothing moves inside it.
        self._home: Engine | None = None
        self._pin: tuple[Topology, Engine] | None = None
        self._home_connection: Any = None
        self._told: str | None = None
        self._committed = False
        # What the call under way is.
        self._statement: Any = None
        self._call_wish: Mapping[str, Any] = _NONE
        self._changing = 0
        self._answering: str | None = None

    @property
    def _routes(self) -> bool:
        return self._router is not None and self._router.has_replicas and self.bind is None

    # --- what a user asks for

    @contextmanager
    def using_primary(self) -> Iterator[RoutingSession]:
        """Reads of the block go to the primary. A commit inside does not end it (R5)."""
        with self._wishing("primary", None):
            yield self

    @contextmanager
    def using_replica(self, *, max_staleness: float | None = None) -> Iterator[RoutingSession]:
        """Reads of the block may be older than this session's own writes, by ``max_staleness`` seconds at most.

        Statements that are no reads, and transactions that have written, go to the primary all the same.
        """
        with self._wishing("replica", max_staleness):
            yield self

    @property
    def token(self) -> Token | None:
        """What later reads may not go behind; None before the first commit that wrote."""
        return self._scope.token

    def locate(self) -> Token | None:
        """The token in a form that means something in other processes, remembered.

        Costs one round trip to the primary after a commit that wrote, else none. Raises the driver's error if the
        primary does not answer.
        """
        token, router = self._scope.token, self._router
        if token is not None and token.at is not None and router is not None and router.policy.after_write != "primary":
            # The transaction's own connection if there is one: the pool may have no second to give.
            at_hand = None if self._home is None else super().connection({"bind": self._home})
            located = causality.located(token, at_hand or router.primary_engine(), router.dialect)
            self._scope = replace(self._scope, token=located)
        return self._scope.token

    def read_after(self, token: Token | None) -> None:
        """Never read behind ``token`` from now on, nor behind what this session has written."""
        if token is not None:
            self._scope = replace(self._scope, token=token.merge(self._scope.token))
            self._pin = None

    # --- what SQLAlchemy asks

    def get_bind(
        self,
        mapper: Any = None,
        *,
        clause: Any = None,
        bind: Engine | Connection | None = None,
        **options: Any,
    ) -> Engine | Connection:
        """The engine for one statement: see the module's docstring."""
        router = self._router
        if router is None or bind is not None or self.bind is not None:
            return super().get_bind(mapper, clause=clause, bind=bind, **options)
        if self._has_binds:
            try:
                return super().get_bind(mapper, clause=clause, **options)
            except UnboundExecutionError:
                pass  # not among the user's own binds
        if not router.has_replicas:
            return router.primary_engine()
        return self._route(router, mapper, clause)

    def connection(self, *arguments: Any, **options: Any) -> Connection:
        """As Session.connection(). What runs on it is invisible here: the transaction stays on the primary (R3)."""
        chosen = (arguments[0] if arguments else options.get("bind_arguments")) or _NONE
        if self._routes and chosen.get("bind") is None:
            self._hold(Hold.CONNECTION, wrote=True)
            self._committed = True  # whoever has it may commit on it, or run what commits by itself
        return super().connection(*arguments, **options)

    def begin(self, nested: bool = False) -> SessionTransaction:
        """As Session.begin(). With a savepoint the transaction is on the primary: in AUTOCOMMIT a replica has none."""
        if nested and self._routes:
            self._hold(Hold.SAVEPOINT, wrote=False)
        return super().begin(nested)

    def merge(self, instance: _T, **options: Any) -> _T:
        """As Session.merge(). It reads what it is about to change: on the primary (R4)."""
        if self._routes:
            self._hold(Hold.MERGE, wrote=False)
        return super().merge(instance, **options)

    if hasattr(Session, "merge_all"):  # new in SQLAlchemy 2.1

        def merge_all(self, instances: Iterable[_T], **options: Any) -> Sequence[_T]:
            """As Session.merge_all(): see merge()."""
            if self._routes:
                self._hold(Hold.MERGE, wrote=False)
            return super().merge_all(instances, **options)

    if not TYPE_CHECKING:  # type checkers keep Session's own overloads, which know what a select() of Post returns

        def execute(self, statement: Any, params: Any = None, **options: Any) -> Any:
            """As Session.execute(), with ``execution_options=dict(rds_route=..., rds_max_staleness=...)``."""
            return self._run(super().execute, statement, params, options)

        def scalar(self, statement: Any, params: Any = None, **options: Any) -> Any:
            """As Session.scalar()."""
            return self._run(super().scalar, statement, params, options)

        def scalars(self, statement: Any, params: Any = None, **options: Any) -> Any:
            """As Session.scalars()."""
            return self._run(super().scalars, statement, params, options)

    def bind_mapper(self, mapper: Any, bind: Any) -> None:
        """As Session.bind_mapper()."""
        self._has_binds = True
        super().bind_mapper(mapper, bind)

    def bind_table(self, table: Any, bind: Any) -> None:
        """As Session.bind_table()."""
        self._has_binds = True
        super().bind_table(table, bind)

    # --- how it is answered

    def _run(self, run: Callable[..., _T], statement: Any, params: Any, options: dict[str, Any]) -> _T:
        router = self._router
        if router is None or not router.has_replicas or self.bind is not None:
            return run(statement, params, **options)
        outer = self._statement, self._call_wish
        self._statement = statement
        given = options.get("execution_options")
        self._call_wish = _wish_of_call(given) if given else _NONE
        self._answering = None
        is_change = getattr(statement, "is_dml", False)
        self._changing += is_change
        failed: set[str] | None = None
        try:
            while True:
                try:
                    return run(statement, params, **options)
                except DBAPIError as error:
                    failed = failed or set()
                    if not self._may_run_again(statement, error, failed):
                        raise
        finally:
            self._changing -= is_change
            self._statement, self._call_wish = outer

    def _route(self, router: Router, mapper: Any, clause: Any) -> Engine:
        if clause is None:
            if mapper is not None and (self._changing or self._flushing):
                # A flush, or the second question of an ORM bulk statement (R4).
                return self._on_primary(router, Hold.WROTE, mapper)
            if mapper is not None or self._statement is None:
                # session.connection(), or somebody who wants an engine and sends no statement here.
                return self._home or (self._at_home(router) if self._scope.hold else router.primary_engine())
            clause = self._statement  # a union() of ORM selects comes without its clause
        if self._changing:
            # The SELECT that an UPDATE or DELETE runs first to learn which rows it will change (R4).
            return self._on_primary(router, Hold.WROTE, clause)
        scope = self._scope
        if scope.wrote and self._home is not None:
            self._notice(clause)
            router.noted(_HELD, scope, clause)
            self._answering = None
            return self._home
        statement = router.judge(clause)
        pin = self._pin
        try:
            own_wish = _wish_in(clause._execution_options)
        except AttributeError:
            # A table: somebody asks for its engine, and no statement follows here.
            return self._home or router.primary_engine()
        if own_wish or self._call_wish:
            scope = self._wished(scope, own_wish)
        elif (
            pin is not None
            and statement.kind is Kind.READ
            and pin[0] is router.topology
            and router.clock() <= pin[0].fresh_until
        ):
            self._answering = scope.pinned
            router.noted(statement, scope, clause)
            return pin[1]
        if self.twophase:
            return self._on_primary(router, Hold.TWO_PHASE, clause)
        if scope is FRESH and statement.kind is Kind.READ:
            topology = router.topology
            name = router.first_read()
            if name is not None:
                engine = router.replica_engine(name)
                self._answering, self._scope, self._pin = name, pinned_to(name), (topology, engine)
                return engine
        if scope.token is not None and _is_reload(clause):
            scope = _reloading(scope, router)
        return self._decided(router, statement, scope, clause)

    def _decided(self, router: Router, statement: Any, scope: Scope, clause: Any) -> Engine:
        decision = router.route(statement, scope, clause=clause)
        self._scope = decision.statement_effect(self._scope)
        if not decision.is_replica:
            self._pin = None
            self._notice(clause)
            return self._at_home(router)
        self._answering = decision.target
        engine = router.engine(decision)
        if scope is FRESH and decision.reason is Reason.READ:  # the least stale one is asked for anew each time
            self._pin = decision.topology, engine
        return engine

    def _notice(self, clause: Any) -> None:
        """Text, DDL and the like may commit by themselves: a rollback at the end need not undo them."""
        if not (clause.is_select or clause.is_dml):
            self._committed = True

    def _on_primary(self, router: Router, hold: Hold, what: Any) -> Engine:
        self._hold(hold, wrote=True)
        router.noted(_HELD, self._scope, what)
        return self._at_home(router)

    def _at_home(self, router: Router) -> Engine:
        """The primary's engine, and the same one until the transaction ends, wherever the primary goes meanwhile."""
        self._answering = None
        if self._home is None:
            self._home = router.primary_engine()
        return self._home

    def _hold(self, hold: Hold, *, wrote: bool) -> None:
        self._scope = self._scope.held(hold, wrote=wrote)
        self._pin = None

    def _wished(self, scope: Scope, own_wish: Mapping[str, Any]) -> Scope:
        """R6: the statement's wish wins over the block's; given with the call, over the statement's own."""
        wish = {**own_wish, **self._call_wish}
        route, staleness = route_from(wish), max_staleness_from(wish)
        return replace(
            scope,
            wish=scope.wish if route is None else route,
            max_staleness=scope.max_staleness if staleness is None else staleness,
        )

    @contextmanager
    def _wishing(self, wish: Route, max_staleness: float | None) -> Iterator[None]:
        outer = self._scope.wish, self._scope.max_staleness
        self._scope = replace(self._scope, wish=wish, max_staleness=max_staleness)
        self._pin = None
        try:
            yield
        finally:
            self._scope = replace(self._scope, wish=outer[0], max_staleness=outer[1])
            self._pin = None

    def _may_run_again(self, statement: Any, error: DBAPIError, failed: set[str]) -> bool:
        """A replica failed the statement, nothing of it was delivered, and this transaction has written nothing."""
        router, server = self._router, self._answering
        if router is None or server is None or self._scope.wrote or error.orig is None or server in failed:
            return False
        failed.add(server)
        verdict = router.verdict_of(error.orig)
        if verdict is Verdict.READ_ONLY:
            # R9: it was a write after all. On the primary this time, as its shape from now on.
            router.healed(statement, server, error.orig)
            self._hold(Hold.WROTE, wrote=True)
            return True
        if verdict in _SERVERS_FAULT or error.connection_invalidated:
            # R10: on another replica, or on the primary if there is none.
            router.lost(server, error.orig)
            self._take_out(router.replica_engine(server))
            self._scope = replace(self._scope, pinned=None)
            self._pin = None
            return True
        return False

    def _take_out(self, engine: Engine) -> None:
        """A connection that broke inside a SessionTransaction stays in it and makes commit() raise."""
        transaction = self.get_transaction()
        joined = transaction._connections if transaction is not None else {}
        if engine in joined:
            connection, begun = joined[engine][:2]
            del joined[engine]
            joined.pop(connection, None)
            with suppress(Exception):  # it is broken, in whichever way
                connection.invalidate()
                begun.close()
                connection.close()

    def _end_scope(self, router: Router) -> None:
        scope = self._scope
        if scope is not FRESH:
            written = self._written(router) if scope.wrote and self._may_have_committed() else None
            self._scope = scope.ended(written=written)
        self._committed = False
        self._pin = self._home = self._home_connection = self._told = None

    def _may_have_committed(self) -> bool:
        return self._committed or (self._home is not None and _is_autocommitting(self._home))

    def _written(self, router: Router) -> Token | None:
        """The trace of a commit: as the server told it, else the moment by which it was done."""
        if self._told == "":
            return None  # told that nothing changed
        if self._told is not None and router.policy.after_write != "primary":  # that counts from a moment
            with suppress(ValueError):
                return Token(position=router.dialect.parse_position(self._told))
        return Token(at=router.clock())


def _wish_in(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options themselves if they hold a wish, else nothing: most statements carry options, few a wish."""
    return options if options and (ROUTE_OPTION in options or STALENESS_OPTION in options) else _NONE


def _wish_of_call(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The wish given with a call; for a load on behalf of another statement, that statement's and its call's."""
    above = options.get("sa_top_level_orm_context")
    if above is None:
        return _wish_in(options)
    # SQLAlchemy merges them in this order too, but only on its way to the cursor.
    return _wish_in({**above.query._execution_options, **above.execution_options, **options})


def _is_reload(clause: Any) -> bool:
    """A refresh() or the load of what expired: the object is known to exist, for this session at least."""
    return bool(getattr(clause, "_compile_options", None) and getattr(clause._compile_options, "_for_refresh_state", 0))


def _reloading(scope: Scope, router: Router) -> Scope:
    """R4: whoever gave up reading his own writes still finds the objects he wrote, when he loads them again."""
    gave_up = scope.wish == "replica" or router.policy.after_write == "any"
    return replace(scope, wish="primary") if gave_up else scope


def _is_autocommitting(engine: Engine) -> bool:
    level = engine.get_execution_options().get("isolation_level")
    return "AUTOCOMMIT" in (level, getattr(engine.dialect, "_on_connect_isolation_level", None))


@event.listens_for(RoutingSession, "after_begin")
def _after_begin(session: RoutingSession, transaction: SessionTransaction, connection: Connection) -> None:
    if session._home is not None and not transaction.nested and connection.engine is session._home:
        session._home_connection = connection.connection.dbapi_connection
        drivers.forget_position(session._home_connection)


@event.listens_for(RoutingSession, "before_commit")
def _before_commit(session: RoutingSession) -> None:
    # A COMMIT whose answer is lost, or one that fails on the replica's connection only, may have been carried out.
    if not session.in_nested_transaction():
        session._committed = True


@event.listens_for(RoutingSession, "after_commit")
def _after_commit(session: RoutingSession) -> None:
    if not session.in_nested_transaction():
        session._committed = True
        session._told = drivers.told_position(session._home_connection)


@event.listens_for(RoutingSession, "after_transaction_end")
def _after_transaction_end(session: RoutingSession, transaction: SessionTransaction) -> None:
    # Session.commit() is not enough to listen to: `with session.begin():` never calls it.
    if transaction.parent is None and session._router is not None:
        session._end_scope(session._router)


class scoped_session(_scoped_session[RoutingSession]):
    """SQLAlchemy's scoped_session, with RoutingSession's own methods."""

    def using_primary(self) -> Any:
        """See :meth:`RoutingSession.using_primary`."""
        return self().using_primary()

    def using_replica(self, *, max_staleness: float | None = None) -> Any:
        """See :meth:`RoutingSession.using_replica`."""
        return self().using_replica(max_staleness=max_staleness)

    @property
    def token(self) -> Token | None:
        """See :attr:`RoutingSession.token`."""
        return self().token

    def read_after(self, token: Token | None) -> None:
        """See :meth:`RoutingSession.read_after`."""
        self().read_after(token)
