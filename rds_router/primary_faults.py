"""What an error on a connection to the primary says of the primary, and what is raised in its place.

1. It refuses a write that it took a moment ago (also at COMMIT): it is the primary no more. The whole pool is let go,
   not this connection only, and :class:`~rds_router.errors.PrimaryChanged` is raised.
2. It is gone, or going (1053, 3032 and 57P01 are its last words): the pool is let go; the driver's error is raised.
3. All else, a server that is full among it (1040), is left alone; so is a write that was refused because the
   transaction was made read-only by its owner (``SET TRANSACTION READ ONLY``, ``postgresql_readonly``). Errors that
   do not tell that from 1 (1792, 25006) are followed by a look at the server itself, before anybody sees them.

SQLAlchemy knows none of 1 and a part of 2 only: with ``pool_pre_ping`` a demoted server is handed out again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError

from rds_router.dialects.base import Verdict
from rds_router.errors import PrimaryChanged

OnFault: TypeAlias = Callable[[str, BaseException, Verdict], None]
"""Called with the server's name, the driver's error and what it means, before the error reaches anybody."""


OwnWish: TypeAlias = Callable[[str, BaseException], bool]
"""With the server's name and the driver's error: the transaction is read-only by its owner's wish, not the server."""


def watch_primary(
    engine: Engine, server: str, verdict_of: Callable[[BaseException], Verdict], told: OnFault, is_own_wish: OwnWish
) -> None:
    """Listen to the errors on an engine that leads to the primary."""

    @event.listens_for(engine, "handle_error")
    def handle_error(context: ExceptionContext) -> BaseException | None:
        error, wrapped = context.original_exception, context.sqlalchemy_exception
        if not isinstance(wrapped, DBAPIError) or context.is_pre_ping:
            return None  # not the database's; or an old connection, in whose place the pool opens another one
        verdict = verdict_of(error)
        if verdict is Verdict.GONE:
            context.is_disconnect = True
            told(server, error, verdict)
        elif verdict is Verdict.READ_ONLY and context.connection is not None and not is_own_wish(server, error):
            context.is_disconnect = True
            told(server, error, verdict)
            return _primary_changed(wrapped, server, safe_to_repeat=not is_autocommitting(context.connection))
        return None


def is_autocommitting(where: Engine | Connection) -> bool:
    """True if each statement there is a transaction of its own."""
    level = where.get_execution_options().get("isolation_level")
    return "AUTOCOMMIT" in (level, getattr(where.dialect, "_on_connect_isolation_level", None))


def _primary_changed(wrapped: DBAPIError, server: str, *, safe_to_repeat: bool) -> BaseException:
    kind: Any = type(wrapped)
    changed = _class_for(kind)(
        wrapped.statement,
        wrapped.params,
        wrapped.orig,
        hide_parameters=wrapped.hide_parameters,
        connection_invalidated=True,
        code=wrapped.code,
        ismulti=wrapped.ismulti,
    )
    changed.server, changed.safe_to_repeat = server, safe_to_repeat
    changed.add_detail(
        f"{server} refuses writes: it is not the primary any more, or read-only; "
        + ("nothing of this transaction was done" if safe_to_repeat else "what AUTOCOMMIT did before stands")
    )
    return changed  # type: ignore[no-any-return]


@cache
def _class_for(kind: Any) -> Any:
    """PrimaryChanged as a subclass of what SQLAlchemy would have raised: who catches that catches this."""
    return type(
        "PrimaryChanged", (PrimaryChanged, kind), {"__module__": PrimaryChanged.__module__, "__reduce__": _reduce}
    )


def _reduce(changed: Any) -> Any:
    kind = type(changed).__bases__[1]
    arguments = (changed.statement, changed.params, changed.orig, changed.hide_parameters, True, changed.code)
    return _restored, (kind, arguments, {**changed.__dict__})


def _restored(kind: Any, arguments: Any, state: dict[str, Any]) -> Any:
    changed = _class_for(kind)(*arguments)
    changed.__dict__.update(state)
    return changed
