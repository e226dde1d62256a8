"""What the doctor knows of the servers: values, put together by ``gather.py`` or by a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rds_router.core.observation import Report
from rds_router.core.policy import RoutingPolicy


@dataclass(frozen=True, slots=True)
class Encryption:
    """How the connection to a server is protected."""

    version: str = ""
    """``TLSv1.3``; empty: not encrypted."""
    is_verified: bool | None = None
    """The client checks the certificate's chain and the server's name; None when the driver does not tell."""
    is_required: bool | None = None
    """The server refuses connections without TLS; None when it does not tell."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many connections a server takes."""

    maximum: int
    """``max_connections``, or the lower limit of this account or database."""
    reserved: int = 0
    """Kept back for administrators."""
    in_use: int = 0
    """By whomever, the doctor itself included."""
    own: int = 0
    """By this account: the application's own, counted anew from its pools, and the doctor's."""

    @property
    def left(self) -> int:
        """What the application may have altogether."""
        return self.maximum - self.reserved - max(0, self.in_use - self.own)


@dataclass(frozen=True, slots=True)
class Pool:
    """What one process may open to one server; None is without bound."""

    size: int = 5
    overflow: int | None = 10

    @property
    def most(self) -> int | None:
        """Connections at most."""
        return None if self.overflow is None else self.size + self.overflow


@dataclass(frozen=True, slots=True)
class Load:
    """The processes that will use the servers."""

    workers: int = 1
    """On one machine."""
    machines: int = 1
    is_told: bool = True
    """False: nobody said how many workers there are, and 1 was taken."""

    @property
    def processes(self) -> int:
        """All of them."""
        return self.workers * self.machines


@dataclass(frozen=True, slots=True)
class Table:
    """What a table is made of: name -> its definition in words that can be compared."""

    columns: Mapping[str, str]
    indexes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """One server. Without ``report`` nothing but its name, its part and the error is known."""

    name: str
    is_primary: bool
    """Configured as the primary."""
    host: str = ""
    """Empty for a file or a socket."""
    family: str = ""
    """``mysql``, ``mariadb``, ``postgresql``, ``sqlite`` or another backend of SQLAlchemy's."""
    error: str = ""
    """Why it was not reached, in one line without a secret."""
    is_login_refused: bool = False
    report: Report | None = None
    version: str = ""
    account: str = ""
    """Whom the server takes us for, as a GRANT statement names him."""
    encryption: Encryption | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Server settings by the server's own names, lower case."""
    capacity: Capacity | None = None
    pool: Pool = Pool()
    tables: Mapping[str, Table] | None = None
    tells_positions: bool = True
    """Its kind has positions to wait for (GTIDs, LSNs); Aurora's servers, and engines not known, have none."""
    heartbeat: float | None = None
    """The time in the heartbeat row this server holds, by the primary's clock; None without a row."""
    is_pooled: bool | None = None
    """Another server's connection answers than the one that was opened: a proxy stands between."""
    unasked: tuple[str, ...] = ()
    """What could not be asked, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that findings are made of."""

    servers: tuple[ServerFacts, ...]
    load: Load = Load()
    policy: RoutingPolicy = field(default_factory=RoutingPolicy)

    @property
    def reached(self) -> tuple[ServerFacts, ...]:
        """Those that answered."""
        return tuple(each for each in self.servers if each.report is not None)

    @property
    def primary(self) -> ServerFacts:
        """The one configured as the primary."""
        return next(each for each in self.servers if each.is_primary)

    @property
    def replicas(self) -> tuple[ServerFacts, ...]:
        """Those configured as replicas that answered."""
        return tuple(each for each in self.reached if not each.is_primary)
