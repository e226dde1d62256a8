"""What this machine can start, what it lacks, and how to get it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rds_router.lab import engines
from rds_router.lab.binaries import LOCAL_ENGINES, find
from rds_router.lab.cache import cache_dir
from rds_router.lab.errors import EngineMissing

_DRIVERS = {"mariadb": "pymysql", "mysql": "pymysql", "postgresql": "psycopg"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One way to get a cluster, and whether it is open here."""

    engine: str
    runtime: str
    """``local`` or ``docker``."""
    is_ready: bool
    detail: str
    """What would be started, or what is missing and how to get it."""


def examine() -> list[Finding]:
    """Look at everything; starts nothing but version questions."""
    return [*_local(), _sqlite(), _containers()]


def _local() -> Iterator[Finding]:
    for engine in LOCAL_ENGINES:
        try:
            found = find(engine)
            made = (cache_dir() / "templates" / engines.recipe(engine).key).is_dir()
        except EngineMissing as error:
            yield Finding(engine, "local", False, str(error))
            continue
        driver = _DRIVERS[engine]
        if importlib.util.find_spec(driver) is None:
            yield Finding(engine, "local", False, f"{found.server} is here, its driver is not: pip install {driver}")
        else:
            kept = "template made" if made else "the first start makes its template, which takes some seconds"
            yield Finding(engine, "local", True, f"{found.version}, {found.server}; {kept}")


def _sqlite() -> Finding:
    return Finding("sqlite", "local", True, f"{sqlite3.sqlite_version}, part of Python")


def _containers() -> Finding:
    trouble = container_trouble()
    engine = ", ".join(LOCAL_ENGINES)
    return Finding(engine, "docker", not trouble, trouble or "a container engine answers; images are pulled if need be")


def container_trouble() -> str:
    """Why no container can be started here; empty when one can."""
    if importlib.util.find_spec("testcontainers") is None:
        return "testcontainers is missing: pip install testcontainers"
    address = os.environ.get("DOCKER_HOST", f"unix://{_SOCKET}")
    if address == f"unix://{_SOCKET}" and not Path(_SOCKET).exists():
        return f"no container engine: no {_SOCKET} and no DOCKER_HOST; .ci/servers/containers.sh starts one"
    import docker  # type: ignore[import-untyped,unused-ignore]

    try:
        if address.startswith("unix://"):
            # The client leaves its socket open if nobody listens there any more.
            with socket.socket(socket.AF_UNIX) as door:
                door.connect(address.removeprefix("unix://"))
        with contextlib.closing(docker.from_env(timeout=5)) as client:
            client.ping()
    except (docker.errors.DockerException, OSError) as error:
        return f"the container engine does not answer: {str(error).splitlines()[0]}"
    return ""


_SOCKET = "/var/run/docker.sock"
