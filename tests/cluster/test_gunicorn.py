"""Item 12: under gunicorn, preloaded, with threads and with gevent: own sockets, a living monitor, nothing left."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rds_router.lab import Cluster
from tests.cluster.asking import eventually
from tests.cluster.watching import run

ROOT = Path(__file__).parents[2]
APP = """
import json, os, threading, time
from sqlalchemy import text
from rds_router import Router, RoutingPolicy, RoutingSession

urls = os.environ["URLS"].split()
WHO = text("SELECT pg_backend_pid()" if urls[0].startswith("postgresql") else "SELECT CONNECTION_ID()")
router = Router(urls[0], urls[1:], policy=RoutingPolicy(probe_interval=0.3))
assert router.refresh(20)  # the master uses it before it forks
with router.primary.connect() as connection:
    masters = connection.execute(WHO).scalar()

def app(environ, start_response):
    with RoutingSession(router=router) as session:
        read = session.execute(WHO, execution_options={"rds_route": "replica"}).scalar()
        on_replica = session._scope.pinned
    with RoutingSession(router=router) as session:
        write = session.connection().execute(WHO).scalar()
    said = {
        "pid": os.getpid(), "masters": masters, "read": [on_replica, read], "write": write,
        "age": max(time.monotonic() - seen.observation.at for seen in router.topology.servers),
        "watchers": sum(thread.name.startswith("rds-router ") for thread in threading.enumerate()),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]
"""


class _Local(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def get(path: str) -> Any:
    connection = _Local(path)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return json.loads(body)
    finally:
        connection.close()


@contextmanager
def gunicorn(directory: Path, c: Cluster, *options: str) -> Iterator[str]:
    """gunicorn with two workers; its socket. It ends by SIGTERM, in good order."""
    (directory / "routed_app.py").write_text(APP)
    path = str(directory / "s")
    log = directory / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"unix:{path}", *options, "routed_app:app"],
            cwd=directory,
            env={**os.environ, "URLS": " ".join(each.url for each in c.servers), "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(lambda: os.path.exists(path) or process.poll() is not None, seconds=40)
            assert process.poll() is None, log.read_text()
            yield path
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def connections(c: Cluster) -> int:
    """Of the application's account, on all servers."""
    counted = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'",
    }.get(c.engine, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app'")
    return sum(int(run(each.admin_url, counted)) for each in c.servers)


def is_fresh(path: str) -> bool:
    """Whichever worker answers, none of its news is old."""
    return all(get(path)["age"] < 1.5 for _ in range(6))


THREADS = ("--preload", "-k", "gthread", "--threads", "4")
GEVENT = ("-k", "gevent")


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("mariadb", THREADS),
        ("postgresql", GEVENT),
        ("mariadb", ("--preload", *GEVENT)),
        ("postgresql", ("--preload", *GEVENT)),
    ],
    ids=["threads-mariadb", "gevent-postgresql", "preload-gevent-mariadb", "preload-gevent-postgresql"],
)
def test_workers_have_sockets_and_monitors_of_their_own(
    engine: str, options: tuple[str, ...], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pytest.importorskip("gunicorn")
    pytest.importorskip("gevent")
    c: Cluster = request.getfixturevalue(f"{engine}_cluster")
    before = connections(c)
    with gunicorn(tmp_path, c, *options) as path:
        said: list[Any] = []

        def has_both() -> bool:
            said.append(get(path))
            return len({each["pid"] for each in said}) == 2 and len(said) >= 12

        assert eventually(has_both, seconds=40)
        held: dict[int, set[Any]] = {}
        for each in said:
            held.setdefault(each["pid"], set()).update({each["write"], tuple(each["read"])})
            assert "--preload" not in options or each["write"] != each["masters"]
        first, second = held.values()
        assert not first & second, "a connection is used by two processes"
        assert {get(path)["watchers"] for _ in range(8)} == {3}
        began = time.monotonic()
        assert eventually(lambda: time.monotonic() - began > 2 and is_fresh(path), seconds=40), "a monitor is dead"
    assert eventually(lambda: connections(c) <= before, seconds=30), "connections are left"
