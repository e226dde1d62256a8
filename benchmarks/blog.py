"""The blog of examples/ under gunicorn, on servers of the lab: what the load questions load.

fill(c)
with serving(Blog(c.primary.url, [each.url for each in c.replicas])) as site:
    made = site.load(clients=8, seconds=3)
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.request import urlopen

from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from sqlalchemy import create_engine, func, insert, select
from sqlalchemy.pool import NullPool

from benchmarks.load import Load, User, load
from benchmarks.processes import program
from rds_router.lab import Cluster, ports

ROOT = Path(__file__).resolve().parent.parent
USERS, POSTS = 50, 200
SECRET = "of a benchmark on loopback"
Tls = Literal["", "off", "shared", "each"]


@dataclass(frozen=True, kw_only=True)
class Blog:
    """How one is run."""

    primary: str
    replicas: Sequence[str] = ()
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    """Fields of RoutingPolicy."""
    tls: Tls = ""
    """PyMySQL: none; a context that all connections share (as rds_router does by itself); one for each connect."""
    workers: int = 2
    threads: int = 4

    def environment(self) -> dict[str, str]:
        config: dict[str, Any] = {
            "SECRET_KEY": SECRET,
            "SQLALCHEMY_DATABASE_URI": self.primary,
            "SQLALCHEMY_REPLICA_URIS": list(self.replicas),
            "SQLALCHEMY_ENGINE_OPTIONS": dict(self.engine_options),
            # One cookie for everything: wrk keeps no more.
            "RDS_ROUTER_TOKEN_STORE": "session",
            **{f"RDS_ROUTER_{name.upper()}": value for name, value in self.policy.items()},
        }
        told = json.dumps({"config": config, "tls": self.tls})
        return {**os.environ, "PYTHONPATH": str(ROOT), "RDS_ROUTER_BENCHMARK": told}


@dataclass(frozen=True)
class Site:
    """One that runs."""

    port: int
    process: subprocess.Popen[bytes]
    """gunicorn's own; its workers are its children."""
    log: Any

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self) -> None:
        """Until it has answered a few requests."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                for _ in range(8):
                    urlopen(f"http://127.0.0.1:{self.port}/", timeout=30).read()
                return
            time.sleep(0.05)
        self.log.seek(0)
        raise RuntimeError(f"gunicorn did not start: {self.log.read()[-3000:]}")

    def load(self, *, clients: int, seconds: int, seed: int = 1, writes: float = 0.1) -> Load:
        """See ``load.py``. Each client is another user."""
        return load(self.port, signed_in(clients), seconds=seconds, posts=POSTS, seed=seed, writes=writes)


@contextlib.contextmanager
def serving(blog: Blog) -> Iterator[Site]:
    """Serve it on 127.0.0.1 until the block ends."""
    with starting(blog) as site:
        site.wait()
        yield site


@contextlib.contextmanager
def starting(blog: Blog) -> Iterator[Site]:
    """As :func:`serving`, but not waited for: several start at once."""
    (port,) = ports.reserve(1)
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", str(blog.workers)]
    command += ["--worker-class", "gthread", "--threads", str(blog.threads), "--no-control-socket", "--preload"]
    command += ["--backlog", "512", "--keep-alive", "30", "benchmarks.blog_app:app"]
    with tempfile.TemporaryFile("w+") as log:
        try:
            with program(command, cwd=ROOT, env=blog.environment(), log=log) as process:
                yield Site(port, process, log)
        finally:
            ports.release([port])


def fill(c: Cluster) -> None:
    """Tables with users, posts and a few comments each; nothing, if they are there. Replicas have them afterwards."""
    if str(ROOT / "examples" / "flask_blog") not in sys.path:
        sys.path.insert(0, str(ROOT / "examples" / "flask_blog"))
    from blog.models import Comment, Post, User, db, now

    engine = create_engine(c.primary.url, poolclass=NullPool)
    db.metadatas[None].create_all(engine)
    with engine.begin() as connection:
        if connection.execute(select(func.count(User.id))).scalar_one() == 0:
            began = now() - timedelta(days=POSTS)
            people = [{"name": f"Reader {n}", "about": "Reads, and says so."} for n in range(1, USERS + 1)]
            connection.execute(insert(User), people)
            body = "\n\n".join(["A paragraph of some length, as people write them about boats and bread. " * 4] * 4)
            posts = [
                {
                    "title": f"Post {n}",
                    "body": body,
                    "author_id": n % USERS + 1,
                    "created_at": began + timedelta(days=n),
                }
                for n in range(1, POSTS + 1)
            ]
            connection.execute(insert(Post), posts)
            comments = [
                {"body": "True.", "post_id": n % POSTS + 1, "author_id": n % USERS + 1, "created_at": now()}
                for n in range(POSTS * 4)
            ]
            connection.execute(insert(Comment), comments)
    engine.dispose()
    c.wait_caught_up()


def signed_in(count: int) -> list[User]:
    """Users with a session each, as the blog would have given it to them."""
    app = Flask("blog")
    app.secret_key = SECRET
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    found = []
    for number in range(count):
        token = secrets.token_hex(12)
        kept = serializer.dumps({"user_id": number % USERS + 1, "csrf_token": token})
        found.append(User(f"session={kept}", token))
    return found
