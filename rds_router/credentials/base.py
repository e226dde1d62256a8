"""What every source of passwords shares: whom it is asked for, what it answers, and a memory for the answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

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
    """Answers with the moment until which they count. Thread-safe.

    One that is remembered is told at once, whoever is being asked for another one meanwhile. Of those who need a new
    answer to the same question one asks; the others wait for it, unless the old one may still do.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: dict[Hashable, tuple[_T, float]] = {}
        self._refused: dict[Hashable, tuple[_T, float]] = {}
        """Answers that a server refused and that were the same when asked anew, and until when nobody asks again."""
        self._askers: dict[Hashable, threading.Lock] = {}
        tell_when_forked(self)

    def get(self, key: Hashable, ask: Callable[[], tuple[_T, float]], *, unless: _T | None = None) -> _T:
        """The answer remembered, or a new one; ``ask`` returns it and the seconds it counts for.

        ``unless``: an answer that is of no use any more. Whoever comes second finds the new one; if there was none, the
        old one is the answer for ``ASKED_AGAIN`` seconds.
        """
        found = self._found(key, unless)
        if found is not None:
            return found
        with self._askers.setdefault(key, threading.Lock()):
            found = self._found(key, unless)
            if found is not None:
                return found
            answer, lifetime = ask()
            now = self._clock()
            self._answers[key] = answer, now + lifetime
            if unless is not None and answer == unless:
                self._refused[key] = answer, now + ASKED_AGAIN
            return answer

    def _found(self, key: Hashable, unless: _T | None) -> _T | None:
        now = self._clock()
        answer, until = self._answers.get(key, (None, 0.0))
        if answer is None or now >= until:
            return None
        refused, asked_again = self._refused.get(key, (None, 0.0))
        return answer if answer != unless or (answer == refused and now < asked_again) else None

    def forked(self) -> None:
        """In a forked child: a lock may be held by a thread that does not live here."""
        self._askers = {}


ASKED_AGAIN: Final = 5.0
"""Seconds for which a refused answer that is still the current one is not asked for anew. A server that refuses it is
probed about once a second by each process, and each time costs two calls of AWS, which has a bound for all clients of
an account; a rotated password is found these seconds later, when its writer is not done sooner."""
