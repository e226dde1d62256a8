"""What is not found on a replica is asked of the primary before the client is told 404."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from flask_sqlalchemy.query import Query
from sqlalchemy.orm import Session
from werkzeug.exceptions import NotFound

from rds_router.session import RoutingSession

_T = TypeVar("_T")


def confirmed(session: Session, ask: Callable[[], _T], what: str) -> _T:
    """``ask()``, which aborts with 404 for a miss; once more, on the primary, if a replica is to blame."""
    if not isinstance(session, RoutingSession):
        return ask()
    return session.confirmed_or(NotFound, ask, what)


class RoutingQuery(Query):
    """``Model.query``: get() is the session's own, which confirms a miss by itself."""

    def first_or_404(self, description: str | None = None) -> Any:
        """As Flask-SQLAlchemy's; a miss on a replica is asked of the primary (``confirm_misses``)."""
        return confirmed(self.session, functools.partial(super().first_or_404, description), "first_or_404()")

    def one_or_404(self, description: str | None = None) -> Any:
        """As Flask-SQLAlchemy's; a miss on a replica is asked of the primary (``confirm_misses``)."""
        return confirmed(self.session, functools.partial(super().one_or_404, description), "one_or_404()")
