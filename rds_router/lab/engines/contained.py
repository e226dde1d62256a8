"""How to make and start servers of each engine from a container image: the official ones, or what behaves like them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rds_router.lab.engines import postgresql
from rds_router.lab.engines.base import APP, Engine, Options
from rds_router.lab.engines.mysql_family import MysqlFamily, account_statements, server_options
from rds_router.lab.engines.postgresql import PostgreSQL
from rds_router.lab.server import Server


@dataclass(frozen=True, slots=True)
class Plan:
    """What a container is started with."""

    command: Sequence[str]
    environment: Mapping[str, str]
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of docker-py's ``create``."""


class ContainerRecipe(Protocol):
    """One engine's part of the container runtime."""

    official_image: str
    port: int
    """Inside the container."""
    clones: bool
    """True if a replica is made from a running primary, not beside it."""

    def plan(self, server: Server, source: Server | None) -> Plan:
        """The container of that server, which begins as a copy of ``source`` if there is one."""
        ...

    def check(self, server: Server) -> None:
        """Raises LabError until the server takes connections."""
        ...

    def finish(self, server: Server) -> None:
        """Make of a fresh server what a local template is: the lab's accounts, and no history."""
        ...


def container_recipe(engine: Engine, options: Options) -> ContainerRecipe:
    """The recipe of that engine."""
    if isinstance(engine, PostgreSQL):
        return PostgresqlInContainer(engine, options)
    assert isinstance(engine, MysqlFamily)
    return MysqlInContainer(engine, options)


class MysqlInContainer:
    """MySQL or MariaDB. All servers start empty and alike; a replica replays everything."""

    port = 3306
    clones = False

    def __init__(self, engine: MysqlFamily, options: Options) -> None:
        self.official_image = {"mysql": "mysql:9", "mariadb": "mariadb:11"}[engine.name]
        self._engine = engine
        self._options = options

    def plan(self, server: Server, source: Server | None) -> Plan:
        settings = server_options(self._engine.name, server)
        # The image's own initialisation writes; replicas are made read-only when they begin to follow.
        for name in ("read-only", "super-read-only"):
            settings.pop(name, None)
        settings |= {"innodb-buffer-pool-size": "64M"}
        settings |= {name.replace("_", "-"): _text(value) for name, value in self._options.items()}
        command = [f"--{name}={value}" if value else f"--{name}" for name, value in settings.items()]
        password = self._engine.root[1]
        variables = ("MYSQL_ROOT_PASSWORD",) if self._engine.name == "mysql" else ("MARIADB_ROOT_PASSWORD",)
        return Plan(command, dict.fromkeys(variables, password))

    def check(self, server: Server) -> None:
        self._engine.check_as(server, self._engine.root)

    def finish(self, server: Server) -> None:
        statements = [*account_statements(self._engine.name), "CREATE DATABASE IF NOT EXISTS app"]
        self._engine.initialise(server, statements)


class PostgresqlInContainer:
    """PostgreSQL. A replica begins as a base backup of the running primary."""

    official_image = "postgres:17"
    port = 5432
    clones = True

    def __init__(self, engine: PostgreSQL, options: Options) -> None:
        self._engine = engine
        self._options = options

    def plan(self, server: Server, source: Server | None) -> Plan:
        settings = postgresql.server_settings(server) | {"fsync": "off"}
        settings |= {name: _text(value) for name, value in self._options.items()}
        environment = {"POSTGRES_PASSWORD": self._engine.admin[1], "PGDATA": "/var/lib/postgresql/data/lab"}
        if source is None:
            return Plan(_postgres(settings), environment)
        environment["LAB_SOURCE"] = self._engine.connection_info(server, source)
        settings["unix_socket_directories"] = ""  # their folder may not be this user's to write to
        # In place of the image's entry point, and as its user from the start; a restart finds the data and goes on.
        script = (
            'set -e; if [ ! -s "$PGDATA/PG_VERSION" ]; then '
            'pg_basebackup -D "$PGDATA" -d "$LAB_SOURCE" -X stream -c fast --no-sync; touch "$PGDATA/standby.signal"; '
            'echo "primary_conninfo = \'$LAB_SOURCE\'" >> "$PGDATA/postgresql.auto.conf"; fi; exec "$@"'
        )
        return Plan(
            ["-c", script, "lab", *_postgres(settings)], environment, {"entrypoint": ["bash"], "user": "postgres"}
        )

    def check(self, server: Server) -> None:
        self._engine.check(server)

    def finish(self, server: Server) -> None:
        self._engine.initialise(server, postgresql.account_statements(), APP[0])


def _postgres(settings: Mapping[str, str]) -> list[str]:
    return ["postgres", *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))]


def _text(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
