"""SQLite files that follow another one, with a lag that can be set."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PASS = 0.05
"""Seconds between two looks at the primary: what an idle replica is behind at most."""

STATUS_TABLE = "rds_router_replica_status"
"""One row, one column: ``caught_up_at``, the unix time up to which the primary's content is contained."""


@dataclass(slots=True, eq=False)
class Follower:
    """One replica file and how it is to follow."""

    path: Path
    delay: float = 0.0
    """Seconds it stays behind."""
    receives: bool = True
    """False: it is told nothing new of the primary."""
    applies: bool = True
    """False: its content and its caught_up_at stand still."""
    received_until: float = 0.0
    """Unix time of the newest content it was told of."""
    applied: float = 0.0
    """When the copy it contains was taken; 0 before the first."""
    caught_up_at: float = 0.0
    """What its status table says."""


@dataclass(slots=True, eq=False)
class Copy:
    """The primary's content at one time."""

    taken_at: float
    """Everything committed before that unix time is in it."""
    valid_until: float
    """No commit was seen before that unix time that is not in it."""
    content: sqlite3.Connection = field(repr=False)


class Following(threading.Thread):
    """Copies a primary file into its followers until told to end.

    One pass: look whether the primary changed (``PRAGMA data_version``), if so take a copy, then bring each follower
    to the newest copy its delay allows, and write down how far that is, also when nothing changed.
    """

    def __init__(self, primary: Path, followers: Sequence[Follower], *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(name=f"lab: followers of {primary.name}", daemon=True)
        self._primary = primary
        self._followers = followers
        self._clock = clock
        self._copies: deque[Copy] = deque()
        self._open: dict[Path, sqlite3.Connection] = {}
        self._seen = -1
        self._ending = threading.Event()
        self.passes = threading.Condition()
        """Notified after each pass, for those who wait for an effect; held while one runs."""
        self.error = ""
        """What went wrong in the last pass; it is tried again in the next."""

    def run(self) -> None:
        with contextlib.closing(connect(self._primary)) as primary:
            while not self._ending.is_set():
                with self.passes:
                    try:
                        self.follow(primary)
                        self.error = ""
                    except sqlite3.Error as error:  # locked by a reader or writer that does not let go
                        self.error = str(error)
                    self.passes.notify_all()
                self._ending.wait(PASS)
        for connection in [*self._open.values(), *(copy.content for copy in self._copies)]:
            connection.close()

    def end(self) -> None:
        """End after the present pass."""
        self._ending.set()
        if self.is_alive():
            self.join()

    def follow(self, primary: sqlite3.Connection) -> None:
        """One pass."""
        self._look(primary)
        for follower in self._followers:
            self._bring_up(follower)
        self._forget_old_copies()

    def _look(self, primary: sqlite3.Connection) -> None:
        looked_at = self._clock()
        version = primary.execute("PRAGMA data_version").fetchone()[0]
        if version != self._seen:
            looked_at = self._clock()
            content = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
            primary.backup(content)
            content.execute(f"CREATE TABLE {STATUS_TABLE} (caught_up_at REAL NOT NULL)")
            content.execute(f"INSERT INTO {STATUS_TABLE} VALUES (0)")
            self._copies.append(Copy(looked_at, looked_at, content))
            self._seen = version
        self._copies[-1].valid_until = looked_at
        for follower in self._followers:
            if follower.receives:
                follower.received_until = looked_at

    def _bring_up(self, follower: Follower) -> None:
        if not follower.applies:
            return
        until = min(self._clock() - follower.delay, follower.received_until)
        # A new follower starts with what there is; later it never goes back, also when its delay grows.
        oldest = self._copies[0] if not follower.applied else None
        copy = next((copy for copy in reversed(self._copies) if copy.taken_at <= until), oldest)
        if copy is None or copy.taken_at < follower.applied:
            return
        caught_up_at = max(copy.taken_at, follower.caught_up_at, min(until, copy.valid_until))
        replica = self._connection(follower.path)
        if copy.taken_at == follower.applied:
            replica.execute(f"UPDATE {STATUS_TABLE} SET caught_up_at = ?", (caught_up_at,))
        else:
            # In the copy first: the replica's content and its time change in one transaction.
            copy.content.execute(f"UPDATE {STATUS_TABLE} SET caught_up_at = ?", (caught_up_at,))
            copy.content.backup(replica)
        follower.applied, follower.caught_up_at = copy.taken_at, caught_up_at

    def _connection(self, path: Path) -> sqlite3.Connection:
        if path not in self._open:
            self._open[path] = connect(path)
        return self._open[path]

    def _forget_old_copies(self) -> None:
        """Drop what every follower is past."""
        oldest = min((follower.applied for follower in self._followers), default=self._copies[-1].taken_at)
        while len(self._copies) > 1 and self._copies[0].taken_at < oldest:
            self._copies.popleft().content.close()


def connect(path: Path) -> sqlite3.Connection:
    """The file in WAL mode, in autocommit: readers and the follower do not block each other."""
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    return connection
