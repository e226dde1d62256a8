"""What a client has seen, on its way from one process to another.

A process remembers a replica's name and a moment (:class:`~rds_router.core.scope.Sight`). Neither means anything
elsewhere: names are a configuration's own, moments a machine's. A trail says one of two things in their place:

1. On which *run* of which server he read last. From its start to its end a server only goes forward, so whoever knows
   the same run, under whatever name and for however long, may read there: nothing has to be proved, no clock compared.
2. When he had looked, by the primary's clock: after a look at the primary, or at several replicas.

Who cannot follow a run, because its server has started anew, is the primary by now, or is not known here, still knows
one thing: all that was seen had been committed before the trail arrived.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2s
from typing import Final

from rds_router.core.scope import Sight
from rds_router.core.token import Token
from rds_router.core.topology import Topology


@dataclass(frozen=True, slots=True)
class Trail:
    """What a client has seen. Its text, ``str(trail)``, travels, to whoever gives it to ``session.follow()`` there."""

    run: str = ""
    """The short name of the run of a replica that he read from; empty: no single one."""
    time: float | None = None
    """Else: seconds since 1970 by the primary's clock, after he looked."""

    @classmethod
    def parse(cls, text: str, /) -> Trail:
        """Read what ``str(trail)`` wrote. Raises ValueError, naming the text, on anything else."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(f"Not a trail: {text[:200]!r}")
        return cls(run=found["run"] or "", time=None if found["time"] is None else float(found["time"]))

    @classmethod
    def read(cls, text: str, /) -> Trail | None:
        """As :meth:`parse`; None for anything else."""
        try:
            return cls.parse(text)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"run:{self.run}" if self.time is None else f"time:{self.time:.6f}"


_TEXT: Final = re.compile(r"run:(?P<run>[0-9a-f]{12})|time:(?P<time>[0-9]{1,12}(\.[0-9]{1,9})?)")


def trail_of(sight: Sight, topology: Topology, *, cluster: str, since: float, ahead: float, now: float) -> Trail | None:
    """``sight`` as it travels; None if a replica was read from that does not tell its runs apart.

    ``since``: before anything was read from that replica by whom the sight is of. A server that failed or started anew
    after that may be in another run by now than when it was read. ``ahead``: the primary's clock less this process's.
    """
    for seen in topology.replicas:
        if seen.server.name == sight.server and seen.report is not None:
            if not seen.report.run:
                return None
            if seen.well_since <= since:
                return Trail(run=_short(seen.report.run, cluster))
    at = sight.token.at
    return Trail(time=(now if at is None else min(at, now)) + ahead)


def sight_of(
    trail: Trail | None, topology: Topology, *, cluster: str, ahead: float, margin: float, now: float
) -> Sight:
    """What the client of a trail that arrives ``now`` has seen; None: a trail that could not be read.

    ``margin``: seconds by which the primary's clock, as two processes know it, may differ.
    """
    if trail is None:
        return Sight("", Token(at=now))
    if trail.time is not None:
        return Sight("", Token(at=min(now, trail.time - ahead + margin)))
    for seen in topology.replicas:
        if seen.report is not None and seen.report.run and _short(seen.report.run, cluster) == trail.run:
            return Sight(seen.server.name, Token(at=now), seen.report.run)
    return Sight("", Token(at=now))


def _short(run: str, cluster: str) -> str:
    """Twelve letters that show nobody the server's own id."""
    return blake2s(f"{cluster} {run}".encode(), digest_size=6).hexdigest()
