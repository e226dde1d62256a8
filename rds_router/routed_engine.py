"""An Engine that means a server of the moment: for pandas, Alembic and whatever else takes an Engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.pool import PoolProxiedConnection


class RoutedEngine(Engine):
    """Connects to the server that is right at the time of the call.

    Only connecting is redirected; attributes (``url``, ``dialect``, ``pool``) are those of the server of the
    moment. Event listeners belong on the real engines: pass ``on_engine=`` to the Router.
    """

    def __init__(
        self,
        label: str,
        choose: Callable[[], Engine],
        reach: Callable[[Callable[[Engine], Any]], Any] | None = None,
        seen_raw: Callable[[PoolProxiedConnection], None] | None = None,
    ) -> None:
        """``reach(connect)``: as ``connect(choose())``, for a server that may have to be waited for.

        ``seen_raw``: called with each DBAPI connection that is handed out.
        """
        # Engine.__init__ is left out on purpose: there is no pool here to set up.
        self._label = label
        self._choose = choose
        self._seen_raw = seen_raw
        self._reach = reach or (lambda connect: connect(choose()))

    def __repr__(self) -> str:
        return f"<RoutedEngine {self._label}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_choose", "_label", "_reach", "_seen_raw"):
            raise AttributeError(name)
        return getattr(self._choose(), name)

    def connect(self) -> Connection:
        """A connection to the server of the moment."""
        connection: Connection = self._reach(lambda engine: engine.connect())
        connection.engine = _Moment(connection.engine, self)
        return connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction on the server of the moment."""
        with self.connect() as connection, connection.begin():
            yield connection

    def raw_connection(self) -> PoolProxiedConnection:
        """A DBAPI connection to the server of the moment."""
        connection: PoolProxiedConnection = self._reach(lambda engine: engine.raw_connection())
        if self._seen_raw is not None:
            self._seen_raw(connection)
        return connection

    def execution_options(self, **options: Any) -> Any:
        """The real engine of the moment, with options."""
        return self._choose().execution_options(**options)

    def dispose(self, close: bool = True) -> None:
        """Dispose of the pool of the moment's server."""
        self._choose().dispose(close=close)


class _Moment(OptionEngine):
    """A connection's real engine, which counts as the RoutedEngine that it was asked for by.

    A Session keeps a connection under its ``engine`` and looks it up under its own ``bind``: if these two differ, each
    of its statements has a connection and a transaction of its own.
    """

    def __init__(self, real: Engine, asked: RoutedEngine) -> None:
        super().__init__(real, {})
        self._asked = asked

    def __eq__(self, other: object) -> bool:
        return other is self._asked or (isinstance(other, _Moment) and other._asked is self._asked)

    def __hash__(self) -> int:
        return hash(self._asked)
