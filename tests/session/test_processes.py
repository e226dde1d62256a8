"""R13: no thread at import, one monitor a router, nothing shared after a fork, nothing left after close()."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.pool import NullPool

from rds_router import Router, RouterClosed, RoutingPolicy, RoutingSession
from tests.session.models import User

A_READ = select(User.name).where(User.id == 1)


def run_alone(script: str, *arguments: str) -> Any:
    """What a script prints as JSON, in a Python process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def routers_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("rds-router")]


def test_r13_importing_starts_no_thread() -> None:
    """Not by the package, not by the extension, not by making a router or an app."""
    assert (
        run_alone(
            """
            import json, threading
            import rds_router, rds_router.flask
            from flask import Flask
            from rds_router import Router
            Router("sqlite:////tmp/rt-a", ["sqlite:////tmp/rt-b"])
            app = Flask("site")
            app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:////tmp/rt-a"
            app.config["SQLALCHEMY_REPLICA_URIS"] = "sqlite:////tmp/rt-b"
            rds_router.flask.SQLAlchemy(app)
            print(json.dumps(threading.active_count()))
            """
        )
        == 1
    )


def test_r13_one_thread_a_server_from_the_first_use_on(sqlite_urls: list[str]) -> None:
    before = len(routers_threads())
    with Router(sqlite_urls[0], sqlite_urls[1:]) as router:
        assert len(routers_threads()) == before
        for _ in range(5):
            with RoutingSession(router=router) as session:
                session.scalar(A_READ)
        assert len(routers_threads()) == before + 3
        assert all(thread.daemon for thread in routers_threads())
    assert len(routers_threads()) == before


def test_r13_a_closed_router_says_so(sqlite_urls: list[str]) -> None:
    router = Router(sqlite_urls[0], sqlite_urls[1:])
    router.close()
    router.close()
    with RoutingSession(router=router) as session, pytest.raises(RouterClosed, match="make a new one"):
        session.scalar(A_READ)
    assert repr(router) == "<Router sqlite, closed>"


FORK = """
    import json, os, sys
    from sqlalchemy import select, text
    from rds_router import Router, RoutingPolicy, RoutingSession

    urls, is_sqlite, moment = sys.argv[1].split(), sys.argv[1].startswith("sqlite"), sys.argv[2]
    router = Router(urls[0], urls[1:], policy=RoutingPolicy(probe_interval=0.2, probe_timeout=5.0, max_lag=30.0))
    WHO = text("SELECT 1") if is_sqlite else text("SELECT CONCAT(@@port, '/', CONNECTION_ID())")

    def look():
        seen = {"read": [], "write": []}
        for _ in range(8):
            with RoutingSession(router=router) as session:
                seen["read"].append(str(session.execute(WHO, execution_options={"rds_route": "replica"}).scalar()))
            with RoutingSession(router=router) as session:
                seen["write"].append(str(session.connection().execute(WHO).scalar()))
        return {key: sorted(set(value)) for key, value in seen.items()}

    def sockets():
        found = {}
        for number in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink("/proc/self/fd/" + number)
            except OSError:
                continue
            if target.startswith("socket:"):
                found[number] = target
        return found

    if moment != "before first use":
        assert router.refresh(20)
        first = look()
    else:
        first = None
    if moment == "locks held":
        router._lock.acquire(); router._engines._lock.acquire(); router._monitor._turned.acquire()
        router._classifier._lock.acquire()
        router._classifier._by_text._lock.acquire(); router._classifier._by_key._lock.acquire()
    inherited = set(sockets().values())
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        import threading
        code = 1
        try:
            alone = threading.active_count()
            is_refreshed = router.refresh(20)
            seen = look()
            with RoutingSession(router=router) as session:  # judged anew: not a text seen before
                session.execute(text("SELECT 1 AS in_the_child")).all()
            watched = sum(thread.name.startswith("rds-router") for thread in threading.enumerate())
            router.close()
            report = {"alone": alone, "refreshed": is_refreshed, "watched": watched, "seen": seen,
                      "eligible": len(router.topology.eligible)}
            os.write(into, json.dumps(report).encode())
            code = 0
        finally:
            os._exit(code)
    if moment == "locks held":
        router._lock.release(); router._engines._lock.release(); router._monitor._turned.release()
        router._classifier._lock.release()
        router._classifier._by_text._lock.release(); router._classifier._by_key._lock.release()
    os.close(into)
    report = os.fdopen(out).read()
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    after = look()
    router.refresh(20)
    router.close()
    print(json.dumps({"first": first, "child": json.loads(report), "after": after}))
"""


@pytest.mark.parametrize("moment", ["before first use", "in use", "locks held"])
@pytest.mark.parametrize("engine", ["sqlite", "mariadb"])
def test_r13_after_a_fork(request: pytest.FixtureRequest, engine: str, moment: str) -> None:
    """The child watches for itself, over connections of its own; the parent's go on as if nothing had been."""
    urls: list[str] = request.getfixturevalue(f"{engine}_urls")
    told = run_alone(FORK, " ".join(urls), moment)
    child = told["child"]
    assert child["alone"] == 1, "no thread of the parent's is counted"
    assert child["refreshed"]
    assert child["watched"] == 3
    assert child["eligible"] == 2
    if engine == "mariadb":
        mine = set(child["seen"]["read"] + child["seen"]["write"])
        parents = set(told["after"]["read"] + told["after"]["write"])
        assert not mine & parents, "a connection of the parent's was used in the child"
        if told["first"] is not None:
            assert told["first"] == told["after"], "the child has broken a connection of the parent's"


def test_r13_two_hundred_routers_leave_nothing(mariadb_urls: list[str]) -> None:
    """Opened, used, closed: as many threads and file descriptors as before."""
    options = {"connect_args": {"ssl_disabled": True}}

    def use_one() -> None:
        with Router(mariadb_urls[0], mariadb_urls[1:2], engine_options=options) as router:
            assert router.refresh(20)
            with RoutingSession(router=router) as session:
                session.scalar(A_READ)
                session.execute(A_READ.with_for_update()).all()

    use_one()
    gc.collect()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(200):
        use_one()
    gc.collect()
    after = len(os.listdir("/proc/self/fd")), threading.active_count()
    assert after <= before


def test_r13_a_forgotten_router_ends(sqlite_urls: list[str]) -> None:
    """Not closed, only dropped: collected, and its threads end by themselves."""
    before = set(threading.enumerate())

    def use_one() -> weakref.ref[Router]:
        router = Router(
            sqlite_urls[0],
            sqlite_urls[1:],
            policy=RoutingPolicy(probe_interval=0.05, max_lag=30.0),
            engine_options={"poolclass": NullPool},
        )
        assert router.refresh(20)
        with RoutingSession(router=router) as session:
            session.scalar(A_READ)
        return weakref.ref(router)

    gone = use_one()
    threads = set(threading.enumerate()) - before
    for thread in threads:
        # A thread that is just probing keeps the router until it has told it: hence again after each.
        gc.collect()
        thread.join(10)
        assert not thread.is_alive()
    gc.collect()
    assert gone() is None
