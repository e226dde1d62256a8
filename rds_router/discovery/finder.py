"""Looks for the servers again and again, in a thread of its own, and tells the router."""

from __future__ import annotations

import random as dice
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final, Protocol

from rds_router.discovery.base import Discovery
from rds_router.servers import Target

HURRIES_APART: Final = 5.0
"""Seconds between two hurried looks: twice within ``failover_timeout``, and no burden to the API of RDS, which has a
bound for all of an account."""


class Listener(Protocol):
    """Who wants to know. Told in the finder's thread."""

    def relist(self, found: tuple[Target, ...], /) -> None: ...
    def not_found(self, error: Exception, /) -> None: ...


class Finder:
    """Runs one discovery; without one it does nothing."""

    def __init__(
        self,
        discovery: Discovery | None,
        listener: Listener,
        *,
        interval: float,
        random: Callable[[], float] = dice.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.discovery = discovery
        self.listener = listener
        self._interval = interval
        self._random = random
        self._clock = clock
        self._hurried = float("-inf")
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin. The caller makes sure that this is called once."""
        if self.discovery is None:
            return
        arguments = (weakref.ref(self), self.discovery, self._stop, self._wake)
        self._thread = threading.Thread(target=_look, args=arguments, name="rds-router discovery", daemon=True)
        self._thread.start()

    def hurry(self) -> None:
        """Look now: something has changed. Does not wait, and has nobody asked more than once in HURRIES_APART."""
        now = self._clock()
        if now - self._hurried >= HURRIES_APART:
            self._hurried = now
            self._wake.set()

    def close(self) -> None:
        """End the thread. One whose server hangs ends when its time is up."""
        self._stop.set()
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)

    def forked(self) -> None:
        """In a forked child: no thread lives."""
        self._thread = None
        self._wake, self._stop = threading.Event(), threading.Event()

    def pause(self) -> float:
        """Seconds until the next time, with jitter: a fleet does not ask at one moment."""
        return self._interval * (0.8 + 0.2 * self._random())


def _look(finder: weakref.ref[Finder], discovery: Discovery, stop: threading.Event, wake: threading.Event) -> None:
    """The life of the thread. It holds no reference that keeps a forgotten router alive."""
    owner = finder()
    while owner is not None:
        pause = owner.pause()
        del owner
        wake.wait(pause)
        wake.clear()
        if stop.is_set():
            return
        failure: Exception | None = None
        try:
            found = discovery.find()
        except Exception as error:  # whatever drivers and clients raise: the list stays as it is
            failure = error
        owner = finder()
        if owner is None or stop.is_set():
            return
        if failure is None:
            owner.listener.relist(found)
        else:
            owner.listener.not_found(failure)
