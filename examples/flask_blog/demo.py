"""The blog on a real cluster: ``python examples/flask_blog/demo.py``.

Starts a primary and two replicas on this machine, the best engine it can: MariaDB, MySQL or PostgreSQL from local
server programs, else MariaDB or MySQL in containers, else SQLite files. Fills the blog, serves it on 127.0.0.1 and says
what to click. Ctrl-C ends everything and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import errno
import logging
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Literal

from blog import create_app
from blog.models import db
from blog.seed import seed
from flask import Flask
from sqlalchemy import URL, make_url
from werkzeug.serving import make_server

from rds_router import Replica
from rds_router.lab import Cluster, LabError, cluster

HOST = "127.0.0.1"
REPLICAS = 2
ENGINES = ("mariadb", "mysql", "postgresql", "sqlite")
Runtime = Literal["local", "docker"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until Ctrl-C. Returns the exit status."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)  # SIGINT too: a shell starts background jobs with it ignored
    logging.basicConfig(format="  %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    try:
        listener = socket.create_server((HOST, options.port))
    except OSError as error:
        return _no_port(options.port, error)
    with listener, suppress(KeyboardInterrupt):  # Ctrl-C while it starts; later the web server takes it as its end
        _run(listener, options.engine, options.runtime)
    print("\nEnded; nothing is left behind.")
    return 0


def demo_app(servers: Cluster) -> Flask:
    """The blog, configured for a running cluster of the lab."""
    return create_app(
        {
            "SECRET_KEY": secrets.token_hex(32),
            "SQLALCHEMY_DATABASE_URI": servers.primary.url,
            "SQLALCHEMY_REPLICA_URIS": [Replica(each.url, name=each.name) for each in servers.replicas],
            # Servers are killed and restarted here by the click of a button: no page is made with a connection to
            # one that is gone.
            "SQLALCHEMY_ENGINE_OPTIONS": {
                "pool_pre_ping": True,
                "connect_args": _patience(make_url(servers.primary.url)),
            },
            "RDS_ROUTER_PRIMARY_NAME": servers.primary.name,
            "DEMO_CLUSTER": servers,
        }
    )


def fill(app: Flask, servers: Cluster) -> None:
    """Create and fill the tables, and wait until every replica has them."""
    with app.app_context():
        db.create_all()
        seed()
        servers.wait_caught_up()
        db.router.refresh()


def _run(listener: socket.socket, engine: str | None, runtime: Runtime) -> None:
    with _best_cluster(engine, runtime) as servers:
        app = demo_app(servers)
        try:
            fill(app, servers)
            port = listener.getsockname()[1]
            server = make_server(HOST, port, app, threaded=True, fd=listener.fileno())
            _welcome(servers, port)
            server.serve_forever()
        finally:
            with app.app_context():
                db.router.close()


def _best_cluster(engine: str | None, runtime: Runtime) -> Cluster:
    """The first that starts, or exactly what was asked for. Ends the program if that cannot be had."""
    print("Starting a primary and two replicas ...", flush=True)
    for each, where in _choices(engine, runtime):
        try:
            return cluster(each, replicas=REPLICAS, runtime=where)
        except LabError as error:
            print(f"  not {each}{' in containers' if where == 'docker' else ''}: {_brief(error)}", flush=True)
    print(
        "No cluster could be started: `python -m rds_router.lab doctor` says what is missing.",
        file=sys.stderr,
    )
    raise SystemExit(1)


def _choices(engine: str | None, runtime: Runtime) -> Iterator[tuple[str, Runtime]]:
    if engine is not None:
        yield engine, runtime
        return
    if runtime == "local":
        for each in ("mariadb", "mysql", "postgresql"):
            yield each, "local"
    for each in ("mariadb", "mysql"):
        yield each, "docker"
    yield "sqlite", "local"


def _patience(url: URL) -> dict[str, Any]:
    """Connection settings that let no page wait long for a frozen server."""
    if url.drivername == "mysql+pymysql":
        return {"connect_timeout": 2, "read_timeout": 4, "write_timeout": 4}
    if url.get_backend_name() == "postgresql":
        return {"connect_timeout": 2}
    return {}


def _welcome(servers: Cluster, port: int) -> None:
    names = ", ".join(each.name for each in servers.replicas)
    files = servers.engine == "sqlite"
    trouble, soon = ("Kill", "some") if files else ("Freeze or kill", "one or two")
    print(
        f"""
The blog is at  http://{HOST}:{port}/

  {servers.primary.name} is the primary; {names} follow it.

  1. Open a post, then "How this page was made" at the foot: a replica answered.
  2. Sign in as anybody and write a comment. The form went to the primary, and you see your comment at once.
  3. Open "Servers" and pause the replication of both replicas. Comment again: you still see what you wrote,
     now from the primary, and the foot of the page says why. Resume, and the replicas are back.
  4. Delay all replicas by 3 s and write a post: you see it at once, a private window 3 s later. Delay one by 20 s:
     its lag grows, and from 5 s on it gets no reads.
  5. {trouble} a replica: {soon} seconds later all reads go to the other one.

Ctrl-C ends it.""",
        flush=True,
    )
    if files:
        print(
            "\nThese are SQLite files, as no database server was found: with MariaDB it is the real thing.",
            flush=True,
        )


def _no_port(port: int, error: OSError) -> int:
    if error.errno == errno.EADDRINUSE:
        print(f"Port {port} is taken by another program. Choose another: --port {port + 1}", file=sys.stderr)
    else:
        print(f"Port {port} cannot be used: {error.strerror}", file=sys.stderr)
    return 1


def _brief(error: LabError) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 140 else text[:139] + "…"


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The example blog on a cluster of this machine.")
    parser.add_argument("--port", type=int, default=5000, help="on 127.0.0.1; default %(default)s")
    parser.add_argument("--engine", choices=ENGINES, help="exactly this one, instead of the best that starts")
    parser.add_argument("--runtime", choices=("local", "docker"), default="local", help="default %(default)s")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
