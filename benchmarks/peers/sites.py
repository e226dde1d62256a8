"""The blog of ``app.py`` under gunicorn for each peer that is here, and what its visitors found."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import sqlalchemy
from sqlalchemy import create_engine, insert
from sqlalchemy.pool import NullPool

from benchmarks.blog_tables import Author, Base, Comment, Post
from benchmarks.peers import here
from benchmarks.peers.proxies import InFront, move_primary, mysql_router, pgpool, version
from benchmarks.processes import program
from rds_router import __version__
from rds_router.lab import Cluster, EngineMissing, Server, ports

THREADS, POSTS = 8, 200
OURS, PLAIN, AGAIN = "rds_router", "plain Session, primary only", "plain again"


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to run the blog on a cluster."""

    name: str
    what: str
    """Its version, and what else a reader must know."""
    through: Mapping[str, Any]
    """What ``rds_router.torture.ways.way_for`` makes of it."""
    proxy: int = 0
    """The process in front of the servers, if there is one."""
    promoted: Callable[[Server], object] | None = None
    """Who must hear that another server is the primary, as its operator would tell it."""


@contextlib.contextmanager
def peers_on(c: Cluster) -> Iterator[tuple[list[Peer], list[str]]]:
    """Those that can be measured on this engine, ours first; and a sentence for each that is not here."""
    found = [
        Peer(
            OURS,
            f"rds_router {__version__}, default policy",
            {"kind": "router", "policy": _DEFAULTS},
        ),
        Peer(PLAIN, f"SQLAlchemy {sqlalchemy.__version__}, one engine", {"kind": "proxy", "url": c.primary.url}),
    ]
    lacking = []
    with contextlib.ExitStack() as opened:
        proxies: dict[str, tuple[str, Any, Any]] = {
            "mysql": ("MySQL Router", mysql_router, move_primary),
            "postgresql": ("pgpool-II", pgpool, None),
        }
        if c.engine in proxies:
            name, start, promoted = proxies[c.engine]
            program = "mysqlrouter" if c.engine == "mysql" else "pgpool"
            try:
                front: InFront = opened.enter_context(start(c))
                what = f"{name} {version(program)}, views that read in autocommit"
                found.append(Peer(name, what, {"kind": "proxy", "url": front.url}, front.pid, promoted))
            except EngineMissing as error:
                lacking.append(f"{name}: {error}")
        recipe = "recipe of SQLAlchemy's documentation, written here; two replicas drawn at random"
        found.append(Peer("recipe", recipe, {"kind": "benchmarks.peers.naive:way"}))
        for name, module, needs in _PACKAGES:
            missing = [each for each in needs if each not in here.versions()]
            if c.engine != "mysql" and "mysql-connector-python" in missing:
                missing.remove("mysql-connector-python")
            if missing:
                lacking.append(f"{name}: {', '.join(missing)} {here.HOW}")
            else:
                what = f"{name} {here.versions()[name]}{_SAYS.get(name, '')}"
                found.append(Peer(name, what, {"kind": module}))
        yield found, lacking


_DEFAULTS = {"probe_interval": 1.0, "max_lag": 5.0}
"""As RoutingPolicy has them: the torture's own clients look more often."""
_PACKAGES = (
    ("advanced-alchemy", "benchmarks.peers.advanced:way", ["advanced-alchemy"]),
    (
        "aws-advanced-python-wrapper",
        "benchmarks.peers.aws:way",
        ["aws-advanced-python-wrapper", "mysql-connector-python"],
    ),
)
_SAYS = {"aws-advanced-python-wrapper": ", plugin srw, one reader endpoint; its failover needs Aurora's topology"}


class NotServed(RuntimeError):
    """A peer's blog does not start, or does not answer."""


@dataclass(frozen=True, slots=True)
class Site:
    """One peer's blog, which runs."""

    peer: Peer
    port: int
    process: subprocess.Popen[bytes]
    log: Any

    def wait(self) -> None:
        """Until it has answered."""
        deadline, said = time.monotonic() + 60, ""
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urlopen(f"http://127.0.0.1:{self.port}/posts", timeout=30).read()
                return
            except HTTPError as error:
                said = error.read().decode(errors="replace")
            except OSError as error:
                said = str(error)
            time.sleep(0.05)
        self.log.seek(0)
        raise NotServed(f"the blog of {self.peer.name} did not start ({said}): {self.log.read()[-1000:]}")

    def visit(self, *, seconds: float, visitors: int = THREADS, seed: int) -> Visits:
        """Visitors for so long."""
        return Visits(self, seconds, visitors, seed)


class Visits:
    """Visitors who are under way: ``found()`` waits for them."""

    def __init__(self, site: Site, seconds: float, visitors: int, seed: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("visitors.py"))]
        command += [str(each) for each in (site.port, seconds, visitors, POSTS, seed)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._patience = seconds + 90

    def found(self) -> dict[str, Any]:
        said, errors = self._process.communicate(timeout=self._patience)
        if self._process.returncode:
            raise RuntimeError(f"the visitors failed: {errors[-2000:]}")
        return dict(json.loads(said))


@contextlib.contextmanager
def serving(c: Cluster, *peers: Peer, failed: dict[str, str]) -> Iterator[list[Site]]:
    """Each peer's blog on 127.0.0.1, each on connections of its own; all started before any is waited for.

    One that does not start is put into ``failed``, with the reason; the others are served.
    """
    with contextlib.ExitStack() as opened:
        sites = [opened.enter_context(_started(c, peer)) for peer in peers]
        for each in sites:
            try:
                each.wait()
            except NotServed as error:
                failed[each.peer.name] = str(error).partition("\n")[0]
        yield [each for each in sites if each.peer.name not in failed]


@contextlib.contextmanager
def _started(c: Cluster, peer: Peer) -> Iterator[Site]:
    (port,) = ports.reserve(1)
    servers = {each.name: each.url for each in c.servers}
    task = {"through": dict(peer.through), "servers": servers, "primary": c.primary.name, "threads": THREADS}
    command = [here.python(), "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
    command += ["--worker-class", "gthread", "--threads", str(THREADS), "--no-control-socket", "--keep-alive", "30"]
    command += ["--graceful-timeout", "2", "benchmarks.peers.app:app"]
    environment = {**os.environ, "PYTHONPATH": str(here.ROOT), "RDS_ROUTER_PEER": json.dumps(task)}
    with tempfile.TemporaryFile("w+") as log:
        try:
            with program(command, cwd=here.ROOT, env=environment, log=log) as process:
                yield Site(peer, port, process, log)
        finally:
            ports.release([port])


def fill(c: Cluster) -> None:
    """Authors, posts, comments; the replicas have them afterwards."""
    engine = create_engine(c.primary.url, poolclass=NullPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Author), [{"name": f"Author {number}"} for number in range(20)])
        posts = [{"author_id": number % 20 + 1, "title": f"Post {number}"} for number in range(POSTS)]
        connection.execute(insert(Post), posts)
        comments = [{"post_id": number % POSTS + 1, "body": "True. " * 20} for number in range(POSTS * 4)]
        connection.execute(insert(Comment), comments)
    engine.dispose()
    c.wait_caught_up()
