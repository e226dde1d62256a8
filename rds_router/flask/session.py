"""db.session: Flask-SQLAlchemy's session and a routing one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import g, has_app_context
from flask_sqlalchemy.session import Session as _BindKeySession
from sqlalchemy.engine import Connection, Engine

from rds_router.flask import promises
from rds_router.router import Router
from rds_router.session import RoutingSession

if TYPE_CHECKING:
    from rds_router.flask.extension import SQLAlchemy


class FlaskRoutingSession(RoutingSession, _BindKeySession):
    """Models with a bind key go where Flask-SQLAlchemy sends them (R7); all else is routed."""

    def __init__(self, db: SQLAlchemy, **options: Any) -> None:
        super().__init__(db=db, router=db._router_or_none(), **options)
        # What this client has written: in requests before, and in this one by a session that was removed.
        self.read_after(db.request_token())
        self.read_after(g.get("_rds_router_written"))
        brought = db._brought()
        self._follow(brought.sight, brought.arrived)
        if "_rds_router_seen" in g:
            self._scope = replace(self._scope, seen=g._rds_router_seen)
        if (contract := promises.current()) is not None:
            self._promise(contract)

    def _end_scope(self, router: Router) -> None:
        super()._end_scope(router)
        if has_app_context():
            if self._scope.token is not None:
                g._rds_router_written = self._scope.token.merge(g.get("_rds_router_written"))
            g._rds_router_seen = self._scope.seen

    def get_bind(
        self,
        mapper: Any = None,
        clause: Any = None,
        bind: Engine | Connection | None = None,
        **options: Any,
    ) -> Engine | Connection:
        """The engine for one statement."""
        if bind is None and self.bind is None and self._db.has_bind_keys:
            chosen = _BindKeySession.get_bind(self, mapper, clause, **options)
            if chosen is not self._db.engine:
                return chosen
        return RoutingSession.get_bind(self, mapper, clause=clause, bind=bind, **options)
