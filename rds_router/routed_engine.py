"""An Engine that means a server of the moment: for pandas, Alembic and whatever else takes an Engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import PoolProxiedConnection


class RoutedEngine(Engine):
    """Connects to the server that is right at the time of the call.

    Only connecting is redirected; attributes (``url``, ``dialect``, ``pool``) are those of the server of the
    moment. Event listeners belong on the real engines: pass ``on_engine=`` to the Router.
    """

    def __init__(self, label: str, choose: Callable[[], Engine]) -> None:
        # Engine.__init__ is left out on purpose: there is no pool here to set up.
        self._label = label
        self._choose = choose

    def __repr__(self) -> str:
        return f"<RoutedEngine {self._label}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_choose", "_label"):
            raise AttributeError(name)
        return getattr(self._choose(), name)

    def connect(self) -> Connection:
        """A connection to the server of the moment."""
        return self._choose().connect()

    def begin(self) -> AbstractContextManager[Connection]:  # type: ignore[override]  # Engine's is a generator's
        """A transaction on the server of the moment."""
        return self._choose().begin()

    def raw_connection(self) -> PoolProxiedConnection:
        """A DBAPI connection to the server of the moment."""
        return self._choose().raw_connection()

    def execution_options(self, **options: Any) -> Any:
        """The real engine of the moment, with options."""
        return self._choose().execution_options(**options)

    def dispose(self, close: bool = True) -> None:
        """Dispose of the pool of the moment's server."""
        self._choose().dispose(close=close)
