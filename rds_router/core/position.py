"""How far a server has come: which position covers which.

Four flavours, one class each, all frozen, all hashable:

1. ``MySQLGtidSet``    what ``@@global.gtid_executed`` says: exact, whatever happened before
2. ``MariaDBGtidList`` the last sequence number of each server in each domain
3. ``Lsn``             a PostgreSQL write-ahead log location and its timeline
4. ``WallClock``       the time of a heartbeat: for engines that have no position, and for SQLite

Each flavour is a lattice: ``covers`` is a partial order, and ``union`` the least position that covers both,
which always exists. Positions of different flavours never cover one another, not even empty ones, so a
token of a foreign cluster sends its reader to the primary. Where a server's own rule is too generous (MariaDB
compares sequence numbers only, an LSN means nothing on another timeline) ours is the stricter one: a position
that cannot be shown to contain another does not cover it.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

__all__ = [
    "Lsn",
    "MariaDBGtidList",
    "MySQLGtidSet",
    "Position",
    "WallClock",
    "format_position",
    "parse_position",
]

Interval = tuple[int, int]
"""First and last transaction number, both included."""


@runtime_checkable
class Position(Protocol):
    """A place in a cluster's history of writes. A partial order: two positions may be incomparable."""

    @property
    def is_empty(self) -> bool:
        """True if every position of its flavour covers it."""
        ...

    def covers(self, other: Position, /) -> bool:
        """True if everything up to ``other`` is contained in this position."""
        ...

    def union(self, other: Position, /) -> Position:
        """The least position that covers both. Raises TypeError across flavours."""
        ...

    def __str__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class MySQLGtidSet:
    """A set of MySQL transactions: ``uuid:1-5:8, uuid:tag:1-3`` (tags since MySQL 8.3).

    A set, not a point: it names every transaction it contains, so ``covers`` is exact over failovers, lost
    transactions and transactions committed out of order by a parallel replica.
    """

    ranges: tuple[tuple[str, tuple[Interval, ...]], ...] = ()
    """``uuid`` or ``uuid:tag`` -> its intervals; brought to one canonical form when constructed."""

    flavour: ClassVar[str] = "mysql"

    def __post_init__(self) -> None:
        if len(self.ranges) == 1 and len(self.ranges[0][1]) == 1:
            return  # what a commit tells of itself: canonical as it is
        merged: dict[str, list[Interval]] = {}
        for source, intervals in self.ranges:
            merged.setdefault(source, []).extend(intervals)
        ranges = tuple((source, _joined(merged[source])) for source in sorted(merged) if merged[source])
        object.__setattr__(self, "ranges", ranges)

    @classmethod
    def parse(cls, text: str, /) -> MySQLGtidSet:
        """Read what MySQL prints: any case, white space around the punctuation, nothing for the empty set.

        Stricter than the server, which takes ``uuid:5-3`` and a bare ``uuid`` for empty sets.
        Raises ValueError, naming the text, on anything else.
        """
        one = _ONE_GTID.fullmatch(text)
        if one is not None:  # four times as fast, and after each commit that wrote
            return cls(((one[1], (_interval(one[2], text),)),))
        ranges: list[tuple[str, tuple[Interval, ...]]] = []
        bare = _SPACE_AROUND_PUNCTUATION.sub(r"\1", text.strip().lower())
        for item in bare.split(",") if bare else ():
            if not _GTID_ITEM.fullmatch(item):
                raise _malformed("MySQL GTID set", text)
            uuid, *parts = item.split(":")
            source = uuid
            for part in parts:
                if part[0].isdigit():
                    ranges.append((source, (_interval(part, text),)))
                else:
                    source = f"{uuid}:{part}"
        return cls(tuple(ranges))

    @property
    def is_empty(self) -> bool:
        """True if every MySQL position covers this one."""
        return not self.ranges

    def covers(self, other: Position, /) -> bool:
        """True if each transaction of ``other`` is in this set, as the server's ``GTID_SUBSET`` has it."""
        if not isinstance(other, MySQLGtidSet):
            return False
        mine = dict(self.ranges)
        return all(_contain(mine.get(source, ()), wanted) for source, wanted in other.ranges)

    def union(self, other: Position, /) -> MySQLGtidSet:
        """The transactions of both sets. Raises TypeError if ``other`` is of another flavour."""
        if not isinstance(other, MySQLGtidSet):
            raise _foreign(self, other)
        return MySQLGtidSet(self.ranges + other.ranges)

    def __str__(self) -> str:
        items: list[str] = []
        for source, intervals in self.ranges:
            uuid, _, tag = source.partition(":")
            numbers = ":".join(f"{first}-{last}" if last > first else str(first) for first, last in intervals)
            if tag and items and items[-1].startswith(uuid):
                items[-1] += f":{tag}:{numbers}"
            else:
                items.append(f"{source}:{numbers}")
        return ",".join(items)


@dataclass(frozen=True, slots=True)
class MariaDBGtidList:
    """MariaDB GTIDs, ``domain-server-sequence``: the last of each server in each domain.

    ``0-1-5`` stands for all that server 1 wrote in domain 0 up to its number 5. Several servers of one domain
    may stand side by side, as ``@@gtid_binlog_state`` prints them. A GTID is covered only by the same
    server's same or later number in its domain.

    The server itself (``MASTER_GTID_WAIT``) compares domain and sequence only, and takes 0-1-110 for proof
    of 0-2-106. After a failover that is wrong: a replica left behind at the dead primary's 0-1-110 never saw
    what server 2 wrote since. The price of being stricter: a position that only says where it stands now
    (``@@gtid_slave_pos`` of a replica without a binary log) does not cover the former primary's GTIDs, and
    who must not read behind those reads from the primary.

    The limit that stays: numbers of one server are taken for one history, so a GTID which its own server lost
    (restored from a backup under the old server_id, then numbered anew) looks applied.
    """

    gtids: tuple[tuple[int, int, int], ...] = ()
    """(domain, server, sequence), sorted, the highest sequence of each domain and server."""

    flavour: ClassVar[str] = "mariadb"

    def __post_init__(self) -> None:
        last: dict[tuple[int, int], int] = {}
        for domain, server, sequence in self.gtids:
            last[domain, server] = max(sequence, last.get((domain, server), 0))
        object.__setattr__(self, "gtids", tuple((*key, last[key]) for key in sorted(last)))

    @classmethod
    def parse(cls, text: str, /) -> MariaDBGtidList:
        """Read what the server prints in ``@@gtid_slave_pos``, ``@@gtid_binlog_state``, ``@@last_gtid``.

        White space around the commas is allowed, nothing is the empty list. Raises ValueError, naming the
        text, on anything else.
        """
        gtids: list[tuple[int, int, int]] = []
        for item in text.split(",") if text.strip() else ():
            match = _MARIADB_GTID.fullmatch(item.strip())
            if match is None:
                raise _malformed("MariaDB GTID list", text)
            domain, server, sequence = (int(number) for number in match.groups())
            if domain > _MAX_32 or server > _MAX_32 or not 1 <= sequence <= _MAX_64:
                raise _malformed("MariaDB GTID list", text)
            gtids.append((domain, server, sequence))
        return cls(tuple(gtids))

    @property
    def is_empty(self) -> bool:
        """True if every MariaDB position covers this one."""
        return not self.gtids

    def covers(self, other: Position, /) -> bool:
        """True if for each GTID of ``other`` this list has the same server at that number or later."""
        if not isinstance(other, MariaDBGtidList):
            return False
        return all(_reaches(self.gtids, gtid) for gtid in other.gtids)

    def union(self, other: Position, /) -> MariaDBGtidList:
        """The later number of each domain and server. Raises TypeError if ``other`` is of another flavour."""
        if not isinstance(other, MariaDBGtidList):
            raise _foreign(self, other)
        return MariaDBGtidList(self.gtids + other.gtids)

    def __str__(self) -> str:
        return ",".join(f"{domain}-{server}-{sequence}" for domain, server, sequence in self.gtids)


@dataclass(frozen=True, slots=True)
class Lsn:
    """A PostgreSQL write-ahead log location and the timeline it was read on: ``16/B374D848@2``.

    One position covers another if it lies at or after it on the same or a later timeline. A later timeline
    contains the earlier one up to the fork, and the rest is lost for good. An earlier one may have run past
    the fork with writes nobody else has, so its numbers prove nothing about a later one, however high.

    Timeline 0 means not known and comes before all: such a position covers only those whose timeline is not
    known either. The union takes the later location and the later timeline.

    The limit: two servers promoted independently of one another may have taken the same timeline number.
    """

    location: int = 0
    """Bytes of log since the cluster's beginning."""
    timeline: int = 0
    """Number of the timeline, from 1; 0 when not known."""

    flavour: ClassVar[str] = "postgresql"

    @classmethod
    def parse(cls, text: str, /) -> Lsn:
        """Read ``X/Y`` as ``pg_lsn`` prints it, or ``X/Y@timeline``.

        Raises ValueError, naming the text, on anything else.
        """
        match = _LSN.fullmatch(text.strip())
        if match is None:
            raise _malformed("LSN", text)
        high, low, timeline = match.groups()
        if timeline is not None and int(timeline) > _MAX_32:
            raise _malformed("LSN", text)
        return cls((int(high, 16) << 32) | int(low, 16), int(timeline or 0))

    @property
    def is_empty(self) -> bool:
        """True if every LSN covers this one."""
        return not self.location and not self.timeline

    def covers(self, other: Position, /) -> bool:
        """True if this lies at or after ``other``, on the same or a later timeline."""
        return isinstance(other, Lsn) and self.location >= other.location and self.timeline >= other.timeline

    def union(self, other: Position, /) -> Lsn:
        """The later location and the later timeline. Raises TypeError if ``other`` is of another flavour."""
        if not isinstance(other, Lsn):
            raise _foreign(self, other)
        return Lsn(max(self.location, other.location), max(self.timeline, other.timeline))

    def __str__(self) -> str:
        text = f"{self.location >> 32:X}/{self.location & 0xFFFFFFFF:X}"
        return f"{text}@{self.timeline}" if self.timeline else text


@dataclass(frozen=True, slots=True)
class WallClock:
    """The primary's wall clock when a heartbeat or a write was made: seconds since 1970.

    Only times of one and the same clock may be compared. After a failover it is another machine's clock;
    whoever makes these positions adds the margin by which clocks may differ.
    """

    seconds: float = 0.0

    flavour: ClassVar[str] = "clock"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"Not a time in seconds since 1970: {self.seconds!r}")

    @classmethod
    def parse(cls, text: str, /) -> WallClock:
        """Read a decimal number of seconds. Raises ValueError, naming the text, on anything else."""
        if not _SECONDS.fullmatch(text.strip()):
            raise _malformed("time in seconds since 1970", text)
        return cls(float(text))

    @property
    def is_empty(self) -> bool:
        """True if every time covers this one."""
        return self.seconds == 0

    def covers(self, other: Position, /) -> bool:
        """True if this is the same or a later time."""
        return isinstance(other, WallClock) and self.seconds >= other.seconds

    def union(self, other: Position, /) -> WallClock:
        """The later of the two. Raises TypeError if ``other`` is of another flavour."""
        if not isinstance(other, WallClock):
            raise _foreign(self, other)
        return self if self.seconds >= other.seconds else other

    def __str__(self) -> str:
        return repr(float(self.seconds))


_FLAVOURS: dict[str, type[MySQLGtidSet] | type[MariaDBGtidList] | type[Lsn] | type[WallClock]] = {
    flavour.flavour: flavour for flavour in (MySQLGtidSet, MariaDBGtidList, Lsn, WallClock)
}


def format_position(position: Position, /) -> str:
    """The text that ``parse_position`` reads: ``flavour:position``. Raises TypeError on a foreign class."""
    if not isinstance(position, (MySQLGtidSet, MariaDBGtidList, Lsn, WallClock)):
        raise TypeError(f"No text form for a position of class {type(position).__name__}")
    return f"{position.flavour}:{position}"


def parse_position(text: str, /) -> Position:
    """Read ``flavour:position``, for example ``mariadb:0-1-5``.

    Raises ValueError, naming the text, on anything that ``format_position`` would not write.
    """
    name, colon, rest = text.partition(":")
    if not colon or name not in _FLAVOURS:
        raise _malformed(f"position ({', '.join(_FLAVOURS)})", text)
    return _FLAVOURS[name].parse(rest)


_SPACE_AROUND_PUNCTUATION = re.compile(r"\s*([-:,])\s*")
_INTERVALS = r"(?::[0-9]{1,19}(?:-[0-9]{1,19})?)+"
_TAG = r":[a-z_][a-z0-9_]{0,31}"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ONE_GTID = re.compile(rf"({_UUID}):([0-9]{{1,19}})")
_GTID_ITEM = re.compile(rf"{_UUID}(?:{_INTERVALS}|(?={_TAG}))(?:{_TAG}{_INTERVALS})*")
_MARIADB_GTID = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})(?:@([1-9][0-9]{0,9}))?")
_SECONDS = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,400})?(?:e(?:-[0-9]{1,3}|\+?[0-9]{1,2}))?")
_LAST_GTID_NUMBER = 2**63 - 2
"""The server refuses 2**63 - 1: "Interval end out of range"."""
_MAX_32 = 2**32 - 1
_MAX_64 = 2**64 - 1


def _interval(part: str, text: str) -> Interval:
    low, _, high = part.partition("-")
    first, last = int(low), int(high or low)
    if not 1 <= first <= last <= _LAST_GTID_NUMBER:
        raise _malformed("MySQL GTID set", text)
    return first, last


def _joined(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    joined: list[Interval] = []
    for first, last in sorted(intervals):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return tuple(joined)


def _contain(intervals: tuple[Interval, ...], wanted: tuple[Interval, ...]) -> bool:
    """True if all that is wanted is in them: in one of them, as where nothing is missing, or each in some."""
    is_in_one = _contains(intervals, (wanted[0][0], wanted[-1][1]))
    return is_in_one or (len(wanted) > 1 and all(_contains(intervals, each) for each in wanted))


def _contains(intervals: tuple[Interval, ...], wanted: Interval) -> bool:
    after = bisect_right(intervals, (wanted[0], _LAST_GTID_NUMBER))
    return after > 0 and intervals[after - 1][1] >= wanted[1]


def _reaches(gtids: tuple[tuple[int, int, int], ...], wanted: tuple[int, int, int]) -> bool:
    # Sorted, and one for each domain and server: the first that is not less is theirs, or they have none.
    place = bisect_left(gtids, wanted)
    return place < len(gtids) and gtids[place][:2] == wanted[:2]


def _malformed(what: str, text: str) -> ValueError:
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return ValueError(f"Not a {what}: {shown!r}")


def _foreign(mine: Position, other: object) -> TypeError:
    return TypeError(f"No union of {type(mine).__name__} and {type(other).__name__}: different flavours")
