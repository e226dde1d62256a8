"""What every source of passwords shares: whom it is asked for, what it answers, and a memory for the answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

from rds_router.forks import tell_when_forked

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Place:
    """The account and server that a connection is about to be made to."""

    name: str
    """What the router calls the server."""
    host: str
    port: int
    user: str
    """The user of the URL; empty if it names none."""
    database: str = ""


class Secret(str):
    """A text that only its reader sees: ``repr`` is what tracebacks with local variables and crash reports show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


Answer: TypeAlias = "str | tuple[str, str]"
"""A password, or a user and his password."""


class Credentials(Protocol):
    """Told for each new connection. Thread-safe: pools and the monitor ask at the same time."""

    def __call__(self, place: Place, /) -> Answer: ...


@runtime_checkable
class Renewable(Protocol):
    """Credentials that remember."""

    def renew(self, place: Place, refused: Answer, /) -> Answer:
        """The server refused that answer: what to try instead. The same again means that there is nothing else."""
        ...


class Remembered(Generic[_T]):
    """Answers with the moment until which they count. Thread-safe; one question at a time is under way."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: dict[Hashable, tuple[_T, float]] = {}
        self._lock = threading.Lock()
        tell_when_forked(self)

    def get(self, key: Hashable, ask: Callable[[], tuple[_T, float]], *, unless: _T | None = None) -> _T:
        """The answer remembered, or a new one; ``ask`` returns it and the seconds it counts for.

        ``unless``: an answer that is of no use any more. Whoever comes second finds the new one.
        """
        with self._lock:
            answer, until = self._answers.get(key, (None, 0.0))
            if answer is None or answer == unless or self._clock() >= until:
                answer, lifetime = ask()
                self._answers[key] = answer, self._clock() + lifetime
            return answer

    def forked(self) -> None:
        """In a forked child: the lock may be held by a thread that does not live here."""
        self._lock = threading.Lock()
