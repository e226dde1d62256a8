"""The servers as the user names them: URLs, checked before anything connects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from rds_router.core.endpoint import EndpointKind, endpoint_of
from rds_router.core.policy import RoutingPolicy
from rds_router.core.topology import Server
from rds_router.dialects import dialect_for
from rds_router.dialects.heartbeat import heartbeat_for
from rds_router.errors import ConfigurationError

DEFAULT_PORTS = {"mysql": 3306, "mariadb": 3306, "postgresql": 5432}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A replica with more than a URL to say of it."""

    url: str | URL = field(repr=False, kw_only=False)
    name: str = ""
    """What logs, pages and ``explain()`` call it; ``host:port`` when not given."""
    weight: float = 1.0
    """Its share of the reads against the others'; above 0."""
    zone: str = ""
    """Its availability zone, for ``RoutingPolicy(zone=)``."""


ReplicaLike: TypeAlias = "str | URL | Replica"


@dataclass(frozen=True, slots=True)
class Target:
    """A server with the way to it. ``repr`` shows no password."""

    server: Server
    url: URL

    @property
    def family(self) -> str:
        """The engine family the URL names: ``mysql``, ``mariadb``, ``postgresql``, ``sqlite`` or another."""
        return self.url.get_backend_name()


def targets(primary: ReplicaLike, replicas: str | Iterable[ReplicaLike]) -> tuple[Target, ...]:
    """The primary, then the replicas. Raises ConfigurationError for what cannot work, naming it."""
    if not primary:
        raise ConfigurationError("no primary is configured: give the URL of the server that accepts writes")
    found = [
        _target(primary, "the primary", is_primary=True),
        *(_target(each, f"replica {place}", is_primary=False) for place, each in enumerate(_split(replicas), start=1)),
    ]
    _refuse_mixtures(found)
    _refuse_twins(found)
    return tuple(found)


def policy_for(primary: URL) -> RoutingPolicy:
    """The policy of who has none of his own: the primary's host name may say that it is an RDS Proxy."""
    is_proxy = endpoint_of(primary.host or "").kind is EndpointKind.PROXY
    return RoutingPolicy.rds_proxy() if is_proxy else RoutingPolicy()


def _split(replicas: str | Iterable[ReplicaLike]) -> Sequence[ReplicaLike]:
    if isinstance(replicas, str):
        return [each.strip() for each in replicas.split(",") if each.strip()]
    if isinstance(replicas, (URL, Replica)) or not isinstance(replicas, Iterable):
        raise ConfigurationError(
            f"the replicas are {shown(replicas)}, but must be a list, or one comma-separated string"
        )
    return list(replicas)


def checked_url(given: str | URL, what: str) -> URL:
    """The URL of a server. Raises ConfigurationError for one that cannot work, calling it ``what``."""
    if not isinstance(given, (str, URL)):
        raise ConfigurationError(f"{what} is {shown(given)}, but must be a string, URL or Replica")
    form = "a URL of the form dialect+driver://user:password@host:port/database"
    if not given:
        raise ConfigurationError(f"{what} is '', but must be {form}")
    try:
        url = make_url(given)
    except ArgumentError:
        # The text itself stays out of the message: it may hold a password.
        raise ConfigurationError(f"{what} is not {form}") from None
    except ValueError:
        raise ConfigurationError(f"{what} is not {form}: its port is not a number") from None
    # Drivers take passwords among their own options too.
    without_secrets = url.set(query={}).render_as_string(hide_password=True)
    _check_dialect(url, f"{what} {without_secrets}")
    if url.get_backend_name() in DEFAULT_PORTS and not (url.host or url.query):
        raise ConfigurationError(f"{what} {without_secrets} names no host")
    if url.port is not None and not 0 <= url.port < 65536:
        raise ConfigurationError(
            f"{what} {without_secrets} names the port {url.port}, but a port must be a number from 1 to 65535"
        )
    return url


def _check_dialect(url: URL, what: str) -> None:
    """Raise ConfigurationError if SQLAlchemy does not know what the URL begins with."""
    try:
        url.get_dialect()
    except NoSuchModuleError:
        raise ConfigurationError(
            f"{what} names the dialect {url.drivername!r}, which SQLAlchemy does not know; "
            f"use mysql+pymysql, mariadb+pymysql, postgresql+psycopg or sqlite"
        ) from None


def shown(value: object) -> str:
    """A value of a wrong type for a message: itself if it surely holds no password, else its type."""
    return repr(value) if value is None or isinstance(value, (bool, int, float)) else f"a {type(value).__name__}"


def _target(given: ReplicaLike, what: str, *, is_primary: bool) -> Target:
    replica = given if isinstance(given, Replica) else Replica(given)
    url = checked_url(replica.url, f"the URL of {what}")
    for field_name, value in (("name", replica.name), ("zone", replica.zone)):
        if not isinstance(value, str):
            raise ConfigurationError(f"the {field_name} of {what} is {shown(value)}, but must be a string")
    name = replica.name or _name(url)
    is_number = isinstance(replica.weight, (int, float)) and not isinstance(replica.weight, bool)
    if not (is_number and 0 < replica.weight < math.inf):
        raise ConfigurationError(f"the weight of {name} is {replica.weight!r}, but must be a number above 0")
    return Target(Server(name, weight=replica.weight, zone=replica.zone, is_primary=is_primary), url)


def refuse_what_does_nothing(policy: RoutingPolicy, primary: Target) -> None:
    """Raise ConfigurationError for a choice that this engine has no part in: it would promise what nobody keeps."""
    if policy.heartbeat and heartbeat_for(dialect_for(primary.family).name) is None:
        raise ConfigurationError(
            f"heartbeat=True does nothing on {primary.family}: its row is known for MySQL, MariaDB, PostgreSQL "
            "and SQLite only. Turn it off (RDS_ROUTER_HEARTBEAT=0); the lag of the replicas stays unknown, and "
            "unknown_lag='allow' uses them all the same"
        )


def _name(url: URL) -> str:
    if url.host is None:
        return (url.database or "memory").rsplit("/", 1)[-1]
    port = url.port or DEFAULT_PORTS.get(url.get_backend_name())
    return f"{url.host}:{port}" if port else url.host


def _refuse_mixtures(found: Sequence[Target]) -> None:
    related = {"mysql": "mysql", "mariadb": "mysql"}
    kinds = {each.server.name: related.get(each.family, each.family) for each in found}
    primary = found[0]
    for each in found[1:]:
        if kinds[each.server.name] != kinds[primary.server.name]:
            raise ConfigurationError(
                f"replica {each.server.name} is {each.family}, but the primary {primary.server.name} is "
                f"{primary.family}: a replica must be of its primary's engine"
            )


def _refuse_twins(found: Sequence[Target]) -> None:
    names: dict[str, Target] = {}
    places: dict[tuple[object, ...], Target] = {}
    for each in found:
        name, place = each.server.name, _place(each.url)
        if place is not None and place in places:
            other = places[place].server.name
            who = f"{name} is configured twice" if name == other else f"{name} and {other} are the same server"
            raise ConfigurationError(f"{who}: name it once")
        if name in names:
            raise ConfigurationError(f"two servers are called {name}: each needs a name of its own")
        names[name] = each
        if place is not None:
            places[place] = each


def _place(url: URL) -> tuple[object, ...] | None:
    """Where a URL leads, so far as it can be compared; None if each connection is a database of its own."""
    port = url.port or DEFAULT_PORTS.get(url.get_backend_name())
    if url.host is not None:
        return url.host.lower(), port
    if url.get_backend_name() == "sqlite":
        return None if url.database in (None, "", ":memory:") else (url.database,)
    # A socket, or hosts, named among the driver's own options.
    return port, *sorted(url.query.items())
