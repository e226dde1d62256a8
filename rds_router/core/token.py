"""What a reader must not go behind."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final

from rds_router.core.position import Position, format_position, parse_position


@dataclass(frozen=True, slots=True)
class Token:
    """The trace of a write. A replica may answer its author only if it satisfies every part that is set.

    Its text, ``str(token)``, travels: through cookies, headers and queues, to whoever gives it to
    ``session.read_after()`` or ``router.read_after()`` there. ``session.token`` is always one that can.
    """

    at: float | None = None
    """Monotonic seconds, read after the commit returned: a server that holds everything committed before
    this moment satisfies it. Means nothing outside this process."""
    position: Position | None = None
    """The primary's position at or after the commit. Travels anywhere."""
    time: float | None = None
    """Seconds since 1970 by the primary's clock, at or after the commit: for a write whose position cannot be told.
    Where it arrives it becomes ``at``."""
    unplaced: float | None = None
    """Monotonic seconds of a token that could not be read: what it stood for, nobody knows, and only the primary
    satisfies it, for ``after_write_window`` from then on."""
    cluster: str = ""
    """Where it comes from: that of another cluster says nothing here. Empty within a process."""

    @property
    def travels(self) -> bool:
        """True if it means something in other processes."""
        return self.at is None and self.unplaced is None

    def merge(self, other: Token | None) -> Token:
        """The token that demands what both demand, and nothing else. Of two positions of different flavours, which
        no cluster has, this one's counts. Raises ValueError for tokens of two clusters."""
        if other is None:
            return self
        if self.cluster and other.cluster and self.cluster != other.cluster:
            raise ValueError(f"Tokens of two clusters, {self.cluster} and {other.cluster}, do not merge")
        position = self.position or other.position
        if self.position is not None and other.position is not None and _are_alike(self.position, other.position):
            position = self.position.union(other.position)
        return Token(
            _later(self.at, other.at),
            position,
            _later(self.time, other.time),
            _later(self.unplaced, other.unplaced),
            self.cluster or other.cluster,
        )

    @classmethod
    def parse(cls, text: str, /) -> Token:
        """Read what ``str(token)`` wrote. Raises ValueError, naming the text, on anything else."""
        return _parsed(text)

    def __str__(self) -> str:
        # What does not travel is shown all the same, and not read again: to leave it out would be to demand less.
        parts = (
            ("cluster", self.cluster or None),
            ("time", _plain(self.time)),
            ("here", _plain(self.at)),
            ("unplaced", _plain(self.unplaced)),
        )
        words = [f"{name}:{value}" for name, value in parts if value is not None]
        if self.position is not None:
            words.append(format_position(self.position))
        return ";".join(words)


_WORDS: Final = frozenset({"cluster", "time"})
_CLUSTER: Final = re.compile(r"[A-Za-z0-9_.-]{0,64}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Token:
    """A client brings the same text with each request until he writes again, and many writes make a long one."""
    found: dict[str, str] = {}
    for item in text.split(";"):
        name, colon, rest = item.partition(":")
        key = name if name in _WORDS else "position"
        if not colon or key in found:
            raise _malformed(text)
        found[key] = rest if name in _WORDS else item
    cluster, time, position = found.get("cluster", ""), found.get("time"), found.get("position")
    if not (_CLUSTER.fullmatch(cluster) and (time is None or _SECONDS.fullmatch(time)) and (time or position)):
        raise _malformed(text)
    return Token(
        position=None if position is None else parse_position(position),
        time=None if time is None else float(time),
        cluster=cluster,
    )


def _later(one: float | None, other: float | None) -> float | None:
    return max((each for each in (one, other) if each is not None), default=None)


def _are_alike(one: Position, other: Position) -> bool:
    return type(one) is type(other)


def _plain(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.6f}"


def _malformed(text: str) -> ValueError:
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return ValueError(f"Not a token: {shown!r}")
