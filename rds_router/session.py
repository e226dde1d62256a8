"""RoutingSession: an ordinary Session whose statements find their server.

1. ``get_bind`` is where SQLAlchemy asks; it answers with the engine that the router decided on.
2. What the answer depends on besides the servers: what this session has done (:mod:`rds_router.session_scope`), and
   what is asked for (:mod:`rds_router.wishes`).
3. ``execute`` and its siblings are overridden for what ``get_bind`` cannot see: options given with the call, the
   statement around a nested load, and a replica that fails the statement (:mod:`rds_router.rerun`).
4. Binds of any kind that the user chose himself are honoured (R7); without replicas nothing here does anything (R8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, UnboundExecutionError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm import scoped_session as _scoped_session

from rds_router.captured import captured
from rds_router.classify.mapped import tables_of
from rds_router.core.contract import ANY, STRONG, Contract, contract_of
from rds_router.core.decision import Reason
from rds_router.core.scope import FRESH, Hold, Scope
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.trail import Trail
from rds_router.errors import NoPrimary, ReadElsewhere
from rds_router.events import MissConfirmed, MissUnconfirmed
from rds_router.outage import deadline
from rds_router.replaced import statement_may_change
from rds_router.rerun import RerunningSession
from rds_router.router import Router
from rds_router.stale_writes import OPTION, with_origin
from rds_router.wishes import NO_WISH, Wish, asked, is_reload, reloading, wish_in, wish_of_call, wished

_T = TypeVar("_T")
_READ: Final = Kind.READ  # looked up in its class before Python 3.12, it costs as much as a whole function call
_LASTING: Final = (Reason.READ, Reason.SEEN)
"""Reasons that hold for the transaction's other reads, until there is news of the servers."""
_HELD: Final = Statement(Kind.WRITE, "in a transaction that writes")


class RoutingSession(RerunningSession):
    """A Session that reads from replicas and writes to the primary.

    Takes ``router=`` and everything that :class:`sqlalchemy.orm.Session` takes. Without a router, with ``bind=`` or
    ``binds=`` of your own, it is a plain Session for what they cover.
    """

    _call_wish: Wish = NO_WISH
    """What the call under way asks for."""
    _changing = 0
    """How many calls under way change rows, one inside another."""

    def __init__(
        self, bind: Engine | Connection | None = None, *, router: Router | None = None, **options: Any
    ) -> None:
        super().__init__(bind=bind, router=router, **options)
        self._has_binds = bool(options.get("binds"))

    @property
    def _routes(self) -> bool:
        return self._router is not None and self._router.has_replicas and self.bind is None

    # --- what a user asks for

    @contextmanager
    def reading(self, contract: str | Contract) -> Iterator[RoutingSession]:
        """Reads of the block are promised this: "any", "bounded(seconds)", "monotonic", "session" or "strong".

        Statements that are no reads, and transactions that have written, go to the primary all the same. A commit
        inside does not end the block. Raises ValueError for what is no contract.
        """
        outer = self._scope.contract
        self._promise(contract_of(contract))
        try:
            yield self
        finally:
            self._promise(outer)

    def _promise(self, contract: Contract | None) -> None:
        """Reads from now on are promised this; None: what the policy says."""
        self._scope = replace(self._scope, contract=contract)
        self._pin = None

    def using_primary(self) -> AbstractContextManager[RoutingSession]:
        """Reads of the block go to the primary: ``reading("strong")``. A commit inside does not end it (R5)."""
        return self.reading(STRONG)

    def using_replica(self, *, max_staleness: float | None = None) -> AbstractContextManager[RoutingSession]:
        """Reads of the block may be older than this session's own writes, by ``max_staleness`` seconds at most.

        ``reading("any")``, or ``reading("bounded(...)")``.
        """
        return self.reading(ANY.within(max_staleness))

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
        router, pin = self._router, self._pin
        if (
            pin is not None
            and router is not None
            and clause is not None
            and pin[0] is router._topology
            and self._heard is router.last_note
            and bind is None
            and self.bind is None
            and not self._call_wish
            and router.clock() <= pin[0].fresh_until
            and router._classifier.judge(clause).kind is _READ
            and not ((own := clause._execution_options) and wish_in(own))
            and captured.get() is None
        ):
            # Where this transaction reads already: nothing was learnt since, and nobody wants to know.
            self._answering = pin[1]
            return pin[1]
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
        chosen = (arguments[0] if arguments else options.get("bind_arguments")) or {}
        if self._routes and chosen.get("bind") is None:
            self._hold(Hold.CONNECTION, wrote=True)
            # Whoever has it may see anything, write anywhere, commit on it, or run what commits by itself.
            self._committed = self._is_in_doubt = self._saw = True
            self._touched = None
            if self._home is None and self._router is not None:
                connect = super().connection
                return self._router.reach(lambda engine: self._joined(engine, lambda: connect(*arguments, **options)))
        return super().connection(*arguments, **options)

    def _get_impl(self, entity: Any, *arguments: Any, **options: Any) -> Any:
        """Behind get(), get_one() and Query.get(): a miss on a replica is asked of the primary."""
        self._answering = None
        found = super()._get_impl(entity, *arguments, **options)
        if found is not None:
            return found
        before, what = self._scope, _name_of(entity)
        if server := self._doubted_miss(what, options.get("execution_options")):
            try:
                with deadline(0.0):
                    found = super()._get_impl(entity, *arguments, **options)
            except NoPrimary:
                self._unconfirmed(server, what, before)
            else:
                self._confirmed(server, what, found is not None)
        return found

    def confirmed_or(self, missing: type[Exception], ask: Callable[[], _T], what: str) -> _T:
        """``ask()``, which raises ``missing`` for a miss; once more, on the primary, if a replica is to blame."""
        self._answering = None
        try:
            return ask()
        except missing:
            before, server = self._scope, self._doubted_miss(what)
            if server is None:
                raise
            try:
                with deadline(0.0):
                    found = ask()
            except missing:
                self._confirmed(server, what, was_found=False)
                raise
            except NoPrimary:
                self._unconfirmed(server, what, before)
            else:
                self._confirmed(server, what, was_found=True)
                return found
            raise

    def _doubted_miss(self, what: str, options: Mapping[str, Any] | None = None) -> str | None:
        """After a look that found nothing: the replica to blame, if the primary is to be asked. It will be from now on.

        Not if the reader himself said that old answers will do, nor while there is no primary: nobody waits for one to
        be told once more that there is nothing.
        """
        router, server = self._router, self._replica_answering()
        if router is None or server is None or not router.policy.confirm_misses:
            return None
        contract, wish = self._scope.contract, wish_in(options or {})
        if wish:
            contract = asked(contract or router.policy.contract, wish)
        if contract is not None and not (contract.own_writes or contract.monotonic):
            return None
        if not router.primary_answers:
            self._unconfirmed(server, what, self._scope)
            return None
        # What belongs to the row that the replica lacks, it lacks too.
        self._hold(Hold.READ, wrote=False)
        return server

    def _confirmed(self, server: str, what: str, was_found: bool) -> None:
        if self._router is not None:
            self._router.events.emit(MissConfirmed(server, what, was_found))

    def _unconfirmed(self, server: str, what: str, before: Scope) -> None:
        """The replica's answer stands, and so does what was known before the primary was to be asked."""
        self._scope = before
        if self._router is not None:
            self._router.events.emit(MissUnconfirmed(server, what))

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
            """As Session.execute(), with ``execution_options=dict(rds_reads=..., rds_max_staleness=...)``."""
            return self._run(super().execute, statement, params, options)

        def scalar(self, statement: Any, params: Any = None, **options: Any) -> Any:
            """As Session.scalar()."""
            return self._run(super().scalar, statement, params, options)

        def scalars(self, statement: Any, params: Any = None, **options: Any) -> Any:
            """As Session.scalars()."""
            return self._run(super().scalars, statement, params, options)

    def bind_mapper(self, mapper: Any, bind: Any) -> None:
        """As Session.bind_mapper()."""
        self._has_binds, self._pin = True, None
        super().bind_mapper(mapper, bind)

    def bind_table(self, table: Any, bind: Any) -> None:
        """As Session.bind_table()."""
        self._has_binds, self._pin = True, None
        super().bind_table(table, bind)

    # --- how it is answered

    def _run(self, run: Callable[..., _T], statement: Any, params: Any, options: dict[str, Any]) -> _T:
        router = self._router
        if router is None or not router.has_replicas or self.bind is not None:
            return run(statement, params, **options)
        given = options.get("execution_options") if options else None
        outer, home = (self._statement, self._call_wish), self._home
        self._statement, self._answering = statement, None
        self._call_wish = wish_of_call(given) if given else NO_WISH
        if self._examines_writes:
            options["execution_options"] = with_origin(given)
        if self.dispatch.do_orm_execute:
            statement_may_change(self)
        is_change = getattr(statement, "is_dml", False)
        if is_change:
            self._changing += 1
            self._pin = None  # whatever it reads, it reads where it writes
        try:
            try:
                result = run(statement, params, **options)
            except (DBAPIError, NoConnectionLeft) as error:
                result = self._run_again(
                    partial(run, statement, params, **options),
                    error,
                    is_first=home is None,
                    is_nested=outer[0] is not None,
                )
            if self._examines_writes:
                options["execution_options"][OPTION].settle(self._replica_answering())
            return result
        finally:
            if is_change:
                self._changing -= 1
            self._statement, self._call_wish = outer

    def _route(self, router: Router, mapper: Any, clause: Any) -> Engine:
        if self._heard is not router.last_note:
            self._hear(router)
        if clause is None:
            if mapper is not None and (self._changing or self._flushing):
                # A flush, or the second question of an ORM bulk statement (R4).
                return self._on_primary(router, Hold.WROTE, mapper)
            if mapper is not None or self._statement is None:
                # session.connection(), or somebody who wants an engine and sends no statement here.
                return self._home or (
                    self._at_home(router, joins=False) if self._scope.hold else router.primary_engine()
                )
            clause = self._statement  # a union() of ORM selects comes without its clause
        if self._changing:
            # The SELECT that an UPDATE or DELETE runs first to learn which rows it will change (R4).
            return self._on_primary(router, Hold.WROTE, clause)
        scope = self._scope
        if scope.wrote and self._home is not None:
            self._notice(router, clause)
            router.noted(_HELD, scope, clause)
            self._answering = None
            return self._home
        statement = router._classifier.judge(clause)
        try:
            options = clause._execution_options
        except AttributeError:
            # A table: somebody asks for its engine, and no statement follows here.
            return self._home or router.primary_engine()
        own_wish = wish_in(options) if options else NO_WISH
        if own_wish or self._call_wish:
            scope = wished(scope, own_wish, self._call_wish, router.policy)
        if self.twophase:
            return self._on_primary(router, Hold.TWO_PHASE, clause)
        if (
            statement.kind is _READ
            and (scope is FRESH or scope.has_only_read)
            and not self._failed
            and not self._has_binds
        ):
            pin = router.first_read(scope.seen)
            if pin is not None:
                self._pin, self._answering = pin, pin[1]
                self._scope = pin[2] if scope is FRESH else replace(scope, pinned=pin[2].pinned)
                return pin[1]
        if scope.token is not None and is_reload(clause):
            scope = reloading(scope, router.policy)
        return self._decided(router, statement, scope, clause)

    def _decided(self, router: Router, statement: Any, scope: Scope, clause: Any, *, may_turn: bool = True) -> Engine:
        decision = router.route(statement, scope, exclude=self._failed, clause=clause)
        before, self._scope = self._scope, decision.statement_effect(self._scope)
        if not decision.is_replica:
            self._pin = None
            self._notice(router, clause)
            is_read = may_turn and statement.kind is _READ
            try:
                return self._at_home(router, joins=self._statement is not None, is_read=is_read)
            except ReadElsewhere:
                self._scope = before
                return self._decided(router, statement, scope, clause, may_turn=False)
        self._answering = engine = router.engine(decision)
        # The least stale one is asked for anew each time, and so is whoever must be fresh.
        if (
            scope.has_only_read
            and decision.reason in _LASTING
            and router.policy.contract.is_plain
            and not self._has_binds
        ):
            self._pin = decision.topology, engine, self._scope
        return engine

    def _on_primary(self, router: Router, hold: Hold, what: Any) -> Engine:
        self._hold(hold, wrote=True)
        router.noted(_HELD, self._scope, what)
        if hasattr(what, "is_select"):
            self._notice(router, what)
        elif router.policy.track_tables:
            self._touch(tables_of(what))
        return self._at_home(router, joins=True)


def _name_of(entity: Any) -> str:
    return str(getattr(getattr(entity, "class_", entity), "__name__", "an object"))


class scoped_session(_scoped_session[RoutingSession]):
    """SQLAlchemy's scoped_session, with RoutingSession's own methods."""

    def reading(self, contract: str | Contract) -> Any:
        """See :meth:`RoutingSession.reading`."""
        return self().reading(contract)

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

    @property
    def seen(self) -> Token | None:
        """See :attr:`RoutingSession.seen`."""
        return self().seen

    def read_after(self, token: Token | str | None) -> None:
        """See :meth:`RoutingSession.read_after`."""
        self().read_after(token)

    @property
    def trail(self) -> Trail | None:
        """See :attr:`RoutingSession.trail`."""
        return self().trail

    def follow(self, trail: Trail | str | None) -> None:
        """See :meth:`RoutingSession.follow`."""
        self().follow(trail)
