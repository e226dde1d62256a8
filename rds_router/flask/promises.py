"""A view's contract holds as long as its reads do: beyond remove(), and until its stream is done.

It is kept where all sessions of the application context find it when they are made, and not in one of them only. A
response that is streamed is read after its view has returned, often by another session: Flask ends the application
context in between, and takes it up again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from flask import Response, g
from flask.ctx import _AppCtxGlobals

from rds_router.core.contract import Contract
from rds_router.session import RoutingSession, scoped_session

_KEY = "_rds_router_contract"


def current() -> Contract | None:
    """What the application context promises to reads; None: what the policy promises."""
    found: Contract | None = g.get(_KEY)
    return found


def kept(sessions: scoped_session, contract: Contract, view: Callable[[], Any]) -> Any:
    """What ``view()`` returns; its reads, and those of the stream it returns, are promised ``contract``."""
    here = _Place(g._get_current_object(), sessions(), sessions)
    with here.promising(contract):
        answer = view()
    return _streamed(answer, lambda: here.promising(contract))


@dataclass(frozen=True, slots=True)
class _Place:
    """An application context, as far as it reads."""

    memory: _AppCtxGlobals
    session: RoutingSession
    sessions: scoped_session

    @contextmanager
    def promising(self, contract: Contract) -> Iterator[None]:
        outer = self.memory.get(_KEY)
        setattr(self.memory, _KEY, contract)
        try:
            with self.session.reading(contract):
                yield
        finally:
            setattr(self.memory, _KEY, outer)
            self._tell_successor(outer)

    def _tell_successor(self, contract: Contract | None) -> None:
        """To the session that was made in the place of one that was removed, if this context is still there."""
        with suppress(RuntimeError):
            if g._get_current_object() is self.memory and self.sessions.registry.has():
                session = self.sessions()
                if session is not self.session:
                    session._promise(contract)


def _streamed(answer: Any, promising: Callable[[], AbstractContextManager[None]]) -> Any:
    """What a view returned; if it is a stream, or a response with one, that is read under the promise."""
    if isinstance(answer, tuple):
        return (_streamed(answer[0], promising), *answer[1:]) if answer else answer
    if isinstance(answer, Response):
        if answer.is_streamed and not answer.direct_passthrough:
            answer.response = _Stream(iter(answer.response), promising)
        return answer
    return _Stream(answer, promising) if isinstance(answer, Iterator) else answer


class _Stream:
    """An iterator that is read under a promise, from its first item to its end."""

    def __init__(self, items: Iterator[Any], promising: Callable[[], AbstractContextManager[None]]) -> None:
        self._items = items
        self._promising = promising
        self._promise: AbstractContextManager[None] | None = None

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> Any:
        if self._promise is None:
            self._promise = self._promising()
            self._promise.__enter__()
        try:
            return next(self._items)
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """The client has gone, or has it all."""
        try:
            if hasattr(self._items, "close"):
                self._items.close()
        finally:
            self._end()

    def _end(self) -> None:
        promise, self._promise = self._promise, None
        if promise is not None:
            promise.__exit__(None, None, None)
