"""cluster(): from an engine's name to running servers."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Protocol

from rds_router.lab.containers import ContainerRuntime
from rds_router.lab.engines import ENGINES, Engine, Options, recipe
from rds_router.lab.engines.base import APP, BARE
from rds_router.lab.errors import NotSupported
from rds_router.lab.file_cluster import FileCluster
from rds_router.lab.guard import Guard
from rds_router.lab.local import LocalRuntime
from rds_router.lab.runtime import Runtime
from rds_router.lab.server import Server
from rds_router.lab.server_cluster import ServerCluster


class Cluster(Protocol):
    """A primary and its replicas, whatever they run on. See ServerCluster for what each method promises."""

    engine: str

    @property
    def servers(self) -> tuple[Server, ...]: ...
    @property
    def primary(self) -> Server: ...
    @property
    def replicas(self) -> tuple[Server, ...]: ...
    def pause_replication(self, replica: Server, *, io_only: bool = False, sql_only: bool = False) -> None: ...
    def resume_replication(self, replica: Server, *, io_only: bool = False, sql_only: bool = False) -> None: ...
    def set_delay(self, replica: Server, seconds: float) -> None: ...
    def kill(self, server: Server) -> None: ...
    def freeze(self, server: Server) -> None: ...
    def thaw(self, server: Server) -> None: ...
    def demote(self, server: Server) -> None: ...
    def promote(self, server: Server) -> Server: ...
    def restart(self, server: Server) -> None: ...
    def rejoin(self, server: Server) -> None: ...
    def wait_caught_up(self, replica: Server | None = None, *, timeout: float = 10.0) -> None: ...
    def pids(self, server: Server) -> list[int]: ...
    def log(self, server: Server) -> str: ...
    def stop(self) -> None: ...
    def __enter__(self) -> Cluster: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def cluster(
    engine: str,
    *,
    replicas: int = 2,
    runtime: Literal["local", "docker"] = "local",
    image: str | None = None,
    options: Options | None = None,
    database: str = "app",
) -> Cluster:
    """Start a primary and its replicas on 127.0.0.1; returns when all of them work and follow.

    ``engine``    ``mariadb``, ``mysql``, ``postgresql`` or ``sqlite``.
    ``runtime``   ``local`` (programs of this machine) or ``docker`` (containers, through testcontainers).
    ``image``     the container image, instead of ``RDS_ROUTER_LAB_<ENGINE>_IMAGE`` or the engine's official one.
    ``options``   extra server settings, by the names the server itself uses.
    ``database``  created if it is not ``app``; the URLs name it.

    Stop it with ``stop()`` or use it as a context manager. If this process dies first, a watchdog ends the
    servers and deletes their files. Raises EngineMissing when this machine lacks what it takes, ServerFailed when
    a server does not start, ValueError for an engine or runtime that does not exist.
    """
    if replicas < 0:
        raise ValueError(f"replicas is {replicas}: 0 or more are accepted")
    if runtime not in ("local", "docker"):
        raise ValueError(f"unknown runtime {runtime!r}; accepted: local, docker")
    if engine not in (*ENGINES, "sqlite"):
        raise ValueError(f"unknown engine {engine!r}; accepted: {', '.join(ENGINES)}, sqlite")
    if engine == "sqlite":
        return _sqlite(replicas, runtime, options)
    chosen = ENGINES[engine]
    guard = Guard()
    try:
        runs: Runtime
        if runtime == "docker":
            runs = ContainerRuntime(chosen, guard, options or {}, image)
        else:
            runs = LocalRuntime(chosen, recipe(engine), guard, options or {})
        servers = [
            _server(chosen, number, port, runs, database)
            for number, port in enumerate(runs.reserve_ports(replicas + 1), start=1)
        ]
    except BaseException:
        guard.close()
        raise
    return ServerCluster(chosen, runs, guard, servers, database=database)


def _sqlite(replicas: int, runtime: str, options: Options | None) -> Cluster:
    if runtime != "local" or options:
        raise NotSupported("sqlite is files of this machine: it has neither a docker runtime nor server options")
    guard = Guard()
    try:
        return FileCluster(guard, replicas=replicas)
    except BaseException:
        guard.close()
        raise


def _server(engine: Engine, number: int, port: int, runtime: Runtime, database: str) -> Server:
    name = f"{engine.name}-{number}"
    urls = {
        user: f"{engine.scheme}://{user}:{password}@127.0.0.1:{port}/{database}"
        for user, password in (APP, BARE, engine.admin)
    }
    return Server(
        name=name,
        engine=engine.name,
        url=urls[APP[0]],
        admin_url=urls[engine.admin[0]],
        bare_url=urls[BARE[0]],
        port=port,
        server_id=number,
        peer=runtime.peer(name, port),
    )
