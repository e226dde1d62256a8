"""Clients at work: slices of time in which one side is used, A and B and A again, in an order drawn for each round."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from rds_router import RoutingSession
from rds_router.comparison.blog import OPERATIONS, drawn, fill
from rds_router.comparison.place import Place
from rds_router.core.token import Token
from rds_router.core.trail import Trail
from rds_router.errors import RouterError

SHORTEST_SLICE: Final = 0.1
PATIENCE, PATIENCE_WHEN_STOPPED = 60.0, 5.0
"""Seconds that an operation may take beyond the end of its slice."""
A, AGAIN, B = "A", "A again", "B"
"""The slices of a round. A is there twice: what differs between the two is noise."""


class BrokeOff(RouterError):
    """A side does not answer any more, or refuses the work."""


@dataclass(slots=True)
class Slice:
    """What the clients did in one slice."""

    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of CPU of this process, the clients' own."""
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Name of the operation -> seconds, for each that succeeded."""
    errors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Progress:
    """How far it is: called before each slice."""

    tell: Callable[[str, int, int], None] = lambda words, done, whole: None
    stop: threading.Event = field(default_factory=threading.Event)
    """Set: the clients finish what they are at, and no slice follows."""


Round = dict[str, Slice]


def slice_seconds(seconds: float, rounds: int) -> float:
    """What one slice may take, if all of them and a warm-up for each side are to take ``seconds``."""
    return seconds / (3 * rounds + 2)


def run(
    a: Place, b: Place, *, seconds: float, rounds: int, clients: int, seed: int, progress: Progress
) -> Sequence[Round]:
    """Fill both, warm both up, and let them take turns. Fewer rounds if it was stopped. Raises BrokeOff."""
    length = slice_seconds(seconds, rounds)
    whole = 3 * rounds + 2
    sides = {}
    for number, place in enumerate((a, b)):
        if progress.stop.is_set():
            return []
        progress.tell(f"filling and warming up {place.letter}", number, whole)
        sides[place.letter] = _Side(place, clients, seed)
        sides[place.letter].work(length, seed, progress.stop)
    sides[AGAIN] = sides[A]
    dice = random.Random(seed)
    done: list[Round] = []
    for number in range(1, rounds + 1):
        order = [A, AGAIN, B]
        dice.shuffle(order)
        found: Round = {}
        for name in order:
            if progress.stop.is_set():
                return done
            progress.tell(f"round {number} of {rounds}: {name}", 3 * (number - 1) + len(found) + 2, whole)
            # The same visitors come to each slice of a round; where they are served faster they do more.
            found[name] = sides[name].work(length, seed + number, progress.stop)
        if not progress.stop.is_set():
            done.append(found)
    progress.tell("done", whole, whole)
    return done


@dataclass(slots=True)
class _Cookie:
    """What a visitor's browser brings along, as with the Flask extension: he reads behind nothing he wrote or saw.

    The first contents count as written by him.
    """

    token: Token | None
    trail: Trail | None = None


class _Side:
    """One place with its blog, and the tokens of its clients."""

    def __init__(self, place: Place, clients: int, seed: int) -> None:
        self._place = place
        try:
            with RoutingSession(router=place.router) as session:
                self._posts = fill(session, seed=seed)
                filled = session.token
        except (SQLAlchemyError, RouterError) as error:
            raise BrokeOff(f"{place.letter} ({place}): {place.readable(error)}") from None
        self._cookies = [_Cookie(filled) for _ in range(clients)]

    def work(self, seconds: float, seed: int, stop: threading.Event) -> Slice:
        """All clients at once, for so long."""
        found = Slice()
        cpu, start = time.process_time(), time.monotonic()
        # Daemons: a client that hangs in its server's silence must not keep the program from its end.
        threads = [
            threading.Thread(
                target=self._client,
                args=(number, seed, start + seconds, stop, found),
                daemon=True,
                name=f"client {number}",
            )
            for number in range(len(self._cookies))
        ]
        for thread in threads:
            thread.start()
        _join(threads, stop, until=start + seconds + PATIENCE)
        found.cpu = time.process_time() - cpu
        if any(thread.is_alive() for thread in threads):
            raise BrokeOff(f"{self._place.letter} ({self._place}) does not answer any more")
        done = sum(map(len, found.took.values()))
        if len(found.errors) > done and not stop.is_set():
            place = self._place
            raise BrokeOff(f"{place.letter} ({place}): {len(found.errors)} errors, the first: {found.errors[0]}")
        return found

    def _client(self, number: int, seed: int, until: float, stop: threading.Event, found: Slice) -> None:
        cookie = self._cookies[number]
        dice, began = random.Random(1000 * seed + number), time.monotonic()
        while not stop.is_set() and time.monotonic() < until:
            name = drawn(dice)
            operation, _ = OPERATIONS[name]
            start = time.perf_counter()
            try:
                with RoutingSession(router=self._place.router) as session:
                    session.read_after(cookie.token)
                    session.follow(cookie.trail)
                    operation(session, dice, self._posts)
                    # First the trail: asking for the token may replace the moment that it is compared with.
                    cookie.trail = session.trail or cookie.trail
                    cookie.token = session.token or cookie.token
            except (SQLAlchemyError, RouterError) as error:
                found.errors.append(f"{name}: {self._place.readable(error)}")
                if not isinstance(error, NoConnectionLeft):
                    stop.wait(0.05)  # a server that is away is not asked in a busy loop
                continue
            found.took[name].append(time.perf_counter() - start)
        found.seconds = max(found.seconds, time.monotonic() - began)


def _join(threads: Sequence[threading.Thread], stop: threading.Event, *, until: float) -> None:
    """Wait for the clients' last operation; when told to stop, not for long."""
    while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
        if stop.wait(0.02):
            until = min(until, time.monotonic() + PATIENCE_WHEN_STOPPED)
            break
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
