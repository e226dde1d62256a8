"""db.session: Flask-SQLAlchemy's session and a routing one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask_sqlalchemy.session import Session as _BindKeySession
from sqlalchemy.engine import Connection, Engine

from rds_router.session import RoutingSession

if TYPE_CHECKING:
    from rds_router.flask.extension import SQLAlchemy


class FlaskRoutingSession(RoutingSession, _BindKeySession):
    """Models with a bind key go where Flask-SQLAlchemy sends them (R7); all else is routed."""

    def __init__(self, db: SQLAlchemy, **options: Any) -> None:
        super().__init__(db=db, router=db.router, **options)
        self.read_after(db.request_token())

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
