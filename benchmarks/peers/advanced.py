"""advanced-alchemy's routing, as its documentation sets it up: sticky after a write, until the commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from advanced_alchemy.config.routing import RoutingConfig
from advanced_alchemy.routing.context import reset_routing_context
from advanced_alchemy.routing.maker import RoutingSyncSessionMaker
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import Session

from rds_router.torture.jar import Cookie
from rds_router.torture.ways import Plain, Way, engine_options

NAME = f"advanced-alchemy {version('advanced_alchemy')}"


def maker(
    primary: str, replicas: list[str], create: Callable[[str], Engine] = create_engine, **options: Any
) -> RoutingSyncSessionMaker:
    """Makes its sessions. ``options``: of the engines."""
    config = RoutingConfig(engines={"default": [primary], "read": list(replicas)})
    return RoutingSyncSessionMaker(routing_config=config, engine_config=options, create_engine_callable=create)


def way(task: Mapping[str, Any]) -> Way:
    """Made by ``rds_router.torture.ways.way_for`` for ``kind="benchmarks.peers.advanced:way"``."""
    return ThroughAdvancedAlchemy(task["servers"], task["primary"], task["threads"])


class ThroughAdvancedAlchemy(Plain):
    """Its session maker; what is sticky is forgotten at the end of a request, as its own integrations do."""

    def __init__(self, servers: Mapping[str, str], primary: str, threads: int) -> None:
        self._ports = {make_url(url).port: name for name, url in servers.items()}
        replicas = [url for name, url in servers.items() if name != primary]
        self._maker = maker(servers[primary], replicas, **engine_options(servers[primary], threads))

    def session(self, cookie: Cookie, *, writes: bool) -> Session:
        reset_routing_context()
        return self._maker()

    def server_of(self, connection: Connection) -> str:
        return self._ports.get(connection.engine.url.port, "")

    def close(self) -> dict[str, int]:
        self._maker.close_all()
        return {}
