"""The servers as the user names them: URLs, checked before anything connects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from rds_router.core.topology import Server
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
    found = [_target(primary, is_primary=True), *(_target(each, is_primary=False) for each in _split(replicas))]
    _refuse_mixtures(found)
    _refuse_twins(found)
    return tuple(found)


def _split(replicas: str | Iterable[ReplicaLike]) -> Sequence[ReplicaLike]:
    if isinstance(replicas, str):
        return [each.strip() for each in replicas.split(",") if each.strip()]
    if isinstance(replicas, (URL, Replica)) or not isinstance(replicas, Iterable):
        raise ConfigurationError(
            f"the replicas are {type(replicas).__name__}, but must be a list, or one comma-separated string"
        )
    return list(replicas)


def _target(given: ReplicaLike, *, is_primary: bool) -> Target:
    what = "the primary's URL" if is_primary else "a replica's URL"
    replica = given if isinstance(given, Replica) else Replica(given)
    url = _url(replica.url, what)
    name = replica.name or _name(url)
    is_number = isinstance(replica.weight, (int, float)) and not isinstance(replica.weight, bool)
    if not (is_number and 0 < replica.weight < math.inf):
        raise ConfigurationError(f"the weight of {name} is {replica.weight!r}, but must be a number above 0")
    return Target(Server(name, weight=replica.weight, zone=replica.zone, is_primary=is_primary), url)


def _url(given: str | URL, what: str) -> URL:
    if not isinstance(given, (str, URL)):
        raise ConfigurationError(f"{what} is a {type(given).__name__}, but must be a string, URL or Replica")
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        # The text itself stays out of the message: it may hold a password.
        raise ConfigurationError(
            f"{what} is not a URL of the form dialect+driver://user:password@host:port/database"
        ) from None
    shown = url.render_as_string(hide_password=True)
    try:
        url.get_dialect()
    except NoSuchModuleError:
        raise ConfigurationError(
            f"{what} {shown} names the dialect {url.drivername!r}, which SQLAlchemy does not know; "
            f"use mysql+pymysql, mariadb+pymysql, postgresql+psycopg or sqlite"
        ) from None
    if url.get_backend_name() in DEFAULT_PORTS and not (url.host or url.query):
        raise ConfigurationError(f"{what} {shown} names no host")
    return url


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
