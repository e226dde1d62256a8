"""Tokens come and go: what a token means here, made to mean the same in another process, and back.

1. A driver that is not told positions leaves a moment: :func:`located` asks the primary for the position, once a write,
   and only when somebody wants it.
2. Where there is no position to be told (no GTIDs, the primary does not answer), :func:`departing` says the moment by
   the primary's clock, and :func:`arriving` turns that into a moment of this process, with a margin.
3. What cannot be read, or comes from another cluster, tells nothing but that somebody wrote: its reader is sent to the
   primary for ``after_write_window``.
"""

from __future__ import annotations

import hashlib
from typing import Final

from sqlalchemy.engine import URL, Connection, Engine

from rds_router.core.token import Token
from rds_router.dialects.base import Dialect
from rds_router.servers import DEFAULT_PORTS

MARGIN: Final = 2.0
"""Seconds by which the primary's clock, as two processes know it, may differ: a probe's time each, and after a failover
two machines' clocks."""


def cluster_of(url: URL) -> str:
    """What tokens call the cluster of this primary: eight letters made of its address, no secret in them."""
    family = "mysql" if url.get_backend_name() == "mariadb" else url.get_backend_name()
    host = url.host or url.query.get("unix_socket") or url.query.get("host") or url.database
    place = f"{family}://{host}:{url.port or DEFAULT_PORTS.get(family, 0)}"
    return hashlib.blake2s(place.lower().encode(), digest_size=4).hexdigest()


def located(token: Token, primary: Engine | Connection, dialect: Dialect) -> Token:
    """``token`` with a position in place of a moment that means something in this process only.

    Costs one round trip to the primary; a token that has no moment costs none. The position is read now, and so lies
    at or after every commit that returned before. An engine family without positions leaves the token as it is.
    Raises the driver's error if the primary does not answer.
    """
    if token.at is None or dialect.position_after_write is None:
        return token
    if isinstance(primary, Connection):
        text = primary.exec_driver_sql(dialect.position_after_write).scalar()
    else:
        with Connection(primary) as connection:  # a plain one: to ask is no write, whatever the statement looks like
            text = connection.exec_driver_sql(dialect.position_after_write).scalar()
    if text is None:
        return token
    position = dialect.parse_position(str(text))
    return Token(position=position, unplaced=token.unplaced).merge(Token(position=token.position))


def departing(token: Token, *, cluster: str, ahead: float) -> Token:
    """``token`` as it travels. ``ahead``: the primary's clock less this process's monotonic one."""
    if token.travels:
        return Token(position=token.position, cluster=cluster)
    moments = [each + ahead for each in (token.at, token.unplaced) if each is not None]
    return Token(position=token.position, time=max(moments, default=None), cluster=cluster)


def arriving(token: Token | str, *, cluster: str, ahead: float) -> Token:
    """``token``, or its text, as it counts here. Raises ValueError for what cannot be read or is another cluster's."""
    found = Token.parse(token) if isinstance(token, str) else token
    if found.cluster not in ("", cluster):
        raise ValueError(f"A token of another cluster: {found.cluster}, and this one is {cluster}")
    by_clock = None if found.time is None else Token(at=found.time - ahead + MARGIN)
    return Token(found.at, found.position, unplaced=found.unplaced).merge(by_clock)
