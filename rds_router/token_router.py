"""The router's part in tokens: what they mean in this process, and how they leave it (:mod:`rds_router.causality`)."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from rds_router import causality
from rds_router.core import trail as trails
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import Position
from rds_router.core.scope import Sight
from rds_router.core.token import Token
from rds_router.core.topology import Topology
from rds_router.core.trail import Trail
from rds_router.dialects.base import Dialect
from rds_router.engines import Engines
from rds_router.errors import RouterError
from rds_router.events import Emitter, TokenByTime, TokenIgnored
from rds_router.monitor import Monitor, one_line
from rds_router.noticed import Acknowledged, lost

_Self = TypeVar("_Self", bound="TokenRouter")


class TokenRouter:
    """A router as far as tokens go. Where statements go is for the class below to say."""

    policy: RoutingPolicy
    clock: Callable[[], float]
    events: Emitter
    cluster: str
    _acknowledged: Acknowledged
    _topology: Topology
    _dialect: Dialect
    _engines: Engines
    _monitor: Monitor

    def primary_engine(self) -> Engine:
        """The engine of the primary of the moment."""
        raise NotImplementedError

    @contextmanager
    def read_after(self: _Self, token: Token | str | None) -> Iterator[_Self]:
        """Sessions made in this thread or task while the block runs never read behind ``token``.

        For work that was handed over: a job, a message, another service's call. ``token`` is a ``session.token``, or
        its text as it came out of the queue; None or an empty text asks for nothing. One that cannot be read, or comes
        from another cluster, sends its readers to the primary for ``after_write_window``.
        """
        arrived = self.arriving(token)
        mark = _awaited.set(_awaited.get() if arrived is None else (*_awaited.get(), (self, arrived)))
        try:
            yield self
        finally:
            _awaited.reset(mark)

    def awaited(self) -> Token | None:
        """What a session that is made here and now must not read behind: what was written without one, and what
        :meth:`read_after` demands."""
        token = None if self.last_note is None else self.written_here()
        for router, each in _awaited.get():
            if router is self:
                token = each.merge(token)
        return token

    last_note: object = None
    """Another one whenever something was noted, by whomever: sessions look at their own task's notes then."""

    def note_write(self, told: str | None, engine: Engine | None) -> None:
        """This thread or task has committed without a session: its sessions do not read behind that from now on."""
        token = self.trace(told, engine)
        if token is not None:
            self._keep(token.merge(self.written_here()))
            self.last_note = object()

    def written_here(self) -> Token | None:
        """What this thread or task has written without a session."""
        return next((token for router, token in _noted.get() if router() is self), None)

    def _keep(self, token: Token) -> None:
        others = (each for each in _noted.get() if each[0]() not in (None, self))
        _noted.set((*others, (weakref.ref(self), token)))

    def trace(self, told: str | None, engine: Engine | None) -> Token | None:
        """The trace of a commit that was just made: as the server told it, else the moment by which it was done.

        None if it told that nothing has changed.
        """
        if told == "":
            return None
        if told is not None and self.policy.after_write != "primary":  # that counts from a moment
            with suppress(ValueError):
                position = self._dialect.parse_position(told)
                self.acknowledge(position, engine)
                return Token(position=position)
        return Token(at=self.clock())

    def arriving(self, token: Token | str | None) -> Token | None:
        """A token from elsewhere, or its text, as it counts in this process."""
        if not token:
            return None
        try:
            return causality.arriving(token, cluster=self.cluster, ahead=self._primary_is_ahead())
        except ValueError as error:
            return self.unplaced(str(error))

    def unplaced(self, why: str) -> Token:
        """What stands for a token that tells nothing here: the primary, for ``after_write_window``."""
        self.events.emit(TokenIgnored(why))
        return Token(unplaced=self.clock())

    def departing(self, token: Token) -> Token:
        """A token of this process as it travels. Asks nobody: see :meth:`located`."""
        return causality.departing(token, cluster=self.cluster, ahead=self._primary_is_ahead())

    def located(self, token: Token, at_hand: Connection | None) -> Token:
        """``token`` with the primary's position in place of a moment, at one round trip; unchanged if it has none.

        ``at_hand``: a connection to the primary that the caller has already, for the pool may have no second to give.
        """
        writer = self._topology[self._topology.writer].report
        has_none = writer is not None and writer.position is None
        if token.at is None or has_none or self.policy.after_write == "primary":  # that counts from a moment
            return token
        try:
            return causality.located(token, at_hand or self.primary_engine(), self._dialect)
        except (SQLAlchemyError, RouterError) as error:
            server = self._topology.writer
            self.events.emit(TokenByTime(server, one_line(error, self._engines.url(server))))
            return token

    def shown(self, server: str) -> Token:
        """What a server may have shown until now, the primary if ``server`` is empty: a position that covers it.

        The server is asked, by a probe that all who ask share, for ``causal_wait`` at most; one that does not answer
        in time may have shown all that was committed until now.
        """
        now = self.clock()
        name = server or self._topology.writer
        if self._monitor.is_running and self._monitor.hurry((name,), self.policy.causal_wait):
            report = self._topology[name].report
            if report is not None and report.position is not None:
                return Token(position=report.position)
        return Token(at=now)

    def acknowledge(self, position: Position, engine: Engine | None) -> None:
        """A commit's position was told by the server of ``engine``: if that is lost, its heir must have it."""
        self._acknowledged.add(position)
        server = None if engine is None else self._engines.server_of(engine)
        if server is not None and server != self._topology.writer and (event := lost(server, position, self._topology)):
            self.events.emit(event)  # told too late to be asked for when the primary moved

    def trail_of(self, sight: Sight, *, since: float) -> Trail | None:
        """What was seen as it travels, asking nobody: see :func:`rds_router.core.trail.trail_of`."""
        ahead, now = self._primary_is_ahead(), self.clock()
        return trails.trail_of(sight, self._topology, cluster=self.cluster, since=since, ahead=ahead, now=now)

    def sight_of(self, trail: Trail | str | None, *, at: float) -> Sight | None:
        """What the client of a trail, or its text, that arrived at ``at`` has seen; None if he brought none."""
        if not trail:
            return None
        found = Trail.read(trail) if isinstance(trail, str) else trail
        ahead, margin = self._primary_is_ahead(), causality.MARGIN
        return trails.sight_of(found, self._topology, cluster=self.cluster, ahead=ahead, margin=margin, now=at)

    def _primary_is_ahead(self) -> float:
        """By how much the primary's clock is ahead of ours, which is monotonic."""
        told = self._topology.clock
        # Not told yet: this machine's clock has to do.
        return time.time() - self.clock() if told is None else told[1] - told[0]


_noted: ContextVar[tuple[tuple[weakref.ref[TokenRouter], Token], ...]] = ContextVar("rds_router noted", default=())
_awaited: ContextVar[tuple[tuple[TokenRouter, Token], ...]] = ContextVar("rds_router awaited", default=())
