"""One browser, two processes, replicas that do not hold the same: it never goes back in time (docs/contracts.md)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import NullPool

from rds_router import Router
from rds_router.flask import SQLAlchemy, travel
from rds_router.lab import Cluster, Server
from tests.cluster.watching import ENGINES, run

NEWEST = text("SELECT max(id) FROM looks")
POLICY = {
    # Behind counts as fresh here: what is tested is what was seen, not the lag.
    "MAX_LAG": 3600.0,
    "UNKNOWN_LAG": "allow",
    "BALANCE": "round_robin",  # in turns: one of two new browsers reads on each
    "PROBE_INTERVAL": 0.2,
    "PROBE_TIMEOUT": 10.0,
    "READ_DEADLINE": 60.0,
    "SHARE_OBSERVATIONS": False,
}


class Base(DeclarativeBase):
    pass


class Process:
    """An application with a router of its own, as another worker process or web server has one."""

    def __init__(self, c: Cluster, replicas: list[Server], **policy: Any) -> None:
        self.app = Flask("looks")
        self.app.config.update(SECRET_KEY="the test's", SQLALCHEMY_DATABASE_URI=c.primary.url)
        if c.engine != "postgresql":  # a context for TLS costs 30 ms of CPU
            self.app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": {"ssl_disabled": True}}
        self.app.config["SQLALCHEMY_REPLICA_URIS"] = [each.url for each in replicas]
        self.app.config.update({f"RDS_ROUTER_{key}": value for key, value in {**POLICY, **policy}.items()})
        self.db = SQLAlchemy(self.app, model_class=Base)
        self.app.add_url_rule("/", "look", lambda: str(self.db.session.scalar(NEWEST)))
        with self.app.app_context():
            self.router: Router = self.db.router
            assert self.router.refresh(30.0)

    def look(self, browser: dict[str, str]) -> tuple[int, bool]:
        """What this browser is shown, and whether it was given a cookie."""
        client: FlaskClient = self.app.test_client()
        for name, value in browser.items():
            client.set_cookie(name, value)
        response = client.get("/")
        for name in (each.cookie(self.app.config["SECRET_KEY"]) for each in (travel.TOKEN, travel.TRAIL)):
            if (kept := client.get_cookie(name)) is not None:
                browser[name] = kept.value
        return int(response.text), "Set-Cookie" in response.headers

    def name_of(self, server: Server) -> str:
        """What this process calls a server."""
        names = [each.server.name for each in self.router.topology.servers]
        (name,) = (each for each in names if self.router._engines.url(each).port == server.port)
        return name

    def close(self) -> None:
        with self.app.app_context():
            self.db.session.remove()
            self.router.close()


@contextmanager
def processes(c: Cluster, **policy: Any) -> Iterator[tuple[Process, Process]]:
    """Two: what is the first replica to the one is the second to the other."""
    one, other = c.replicas
    with ExitStack() as opened:
        made = Process(c, [one, other], **policy), Process(c, [other, one], **policy)
        for each in made:
            opened.callback(each.close)
        yield made


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < end, "it did not come true in 30 s"
        time.sleep(0.02)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_browser_never_goes_back_in_time(engine: str, request: pytest.FixtureRequest) -> None:
    """Each replica is the one that stands still in its turn; processes take turns too. Without trails it does."""
    c: Cluster = request.getfixturevalue(f"{engine}_cluster")
    run(c.primary.url, "DROP TABLE IF EXISTS looks", "CREATE TABLE looks (id INT PRIMARY KEY)")
    run(c.primary.url, "INSERT INTO looks VALUES (1)")
    c.wait_caught_up()
    with processes(c, CAUSAL_WAIT=10.0) as both, processes(c, REMEMBER_SEEN=False) as forgetful:
        newest = 1
        for behind, fresh in ((0, 1), (1, 0)):
            c.pause_replication(c.replicas[behind], sql_only=True)
            try:
                newest += 1
                run(c.primary.url, f"INSERT INTO looks VALUES ({newest})")
                c.wait_caught_up(c.replicas[fresh])
                shown = [_shown(both) for _ in range(4)]
                assert {looks[0] for looks, _ in shown} == {newest - 1, newest}, "both replicas answer"
                assert all(looks == sorted(looks) for looks, _ in shown)
                assert all(cookies == 1 for _, cookies in shown), "one cookie, for the first look"
                assert any(looks != sorted(looks) for looks, _ in (_shown(forgetful) for _ in range(2)))
            finally:
                c.resume_replication(c.replicas[behind], sql_only=True)
                c.wait_caught_up()
        for each in both:
            assert not {"CaughtUp", "StillBehind"} & each.router.events.counts.keys(), "nobody had to be asked"
    run(c.primary.url, "DROP TABLE looks")


def _shown(both: tuple[Process, Process]) -> tuple[list[int], int]:
    """What one new browser is shown by processes in turn, and how many cookies it is given."""
    browser: dict[str, str] = {}
    looks = [process.look(browser) for process in (*both, *both, *both)]
    return [seen for seen, _ in looks], sum(is_given for _, is_given in looks)


@pytest.mark.parametrize("engine", ENGINES)
def test_who_loses_his_replica_sees_no_less_elsewhere(engine: str, request: pytest.FixtureRequest) -> None:
    """The other replica is behind: the primary answers. Once it has everything, it does, and the client stays there."""
    c: Cluster = request.getfixturevalue(f"{engine}_cluster")
    behind, fresh = c.replicas
    run(c.primary.url, "DROP TABLE IF EXISTS looks", "CREATE TABLE looks (id INT PRIMARY KEY)")
    run(c.primary.url, "INSERT INTO looks VALUES (1)")
    c.wait_caught_up()
    with processes(c, CAUSAL_WAIT=0.5) as (here, there):
        c.pause_replication(behind, sql_only=True)
        try:
            run(c.primary.url, "INSERT INTO looks VALUES (2)")
            c.wait_caught_up(fresh)
            here.router.drain(here.name_of(behind))
            browser: dict[str, str] = {}
            assert here.look(browser) == (2, True)
            there.router.drain(there.name_of(fresh))
            anybody: dict[str, str] = {}
            assert there.look(anybody)[0] == 1, "the replica is behind, which this test rests on"
            assert there.look(browser) == (2, True), "the primary answers"
            assert here.look(browser)[0] == 2
        finally:
            c.resume_replication(behind, sql_only=True)
            c.wait_caught_up()
        until(lambda: there.look(browser) == (2, False))
    run(c.primary.url, "DROP TABLE looks")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_is_the_same_for_all_and_ends_with_the_server(engine: str, lab_cluster: Any) -> None:
    """Two routers, asked again and again, tell one run of each server, each another; a restart begins a new one."""
    c: Cluster = lab_cluster(engine, 1)
    with ExitStack() as opened:
        made = [Process(c, list(c.replicas)) for _ in range(2)]
        for each in made:
            opened.callback(each.close)

        def runs(server: Server) -> set[str]:
            found = [each.router.topology[each.name_of(server)].report for each in made]
            return {report.run for report in found if report is not None}

        before = [runs(server) for server in c.servers]
        assert all(len(found) == 1 and found != {""} for found in before)
        assert before[0] != before[1]
        end = time.monotonic() + 2.2  # past the turn of a second or two
        while time.monotonic() < end:
            for each in made:
                assert each.router.refresh(30.0)
            assert [runs(server) for server in c.servers] == before
        if engine == "postgresql":
            # One process dies, and the server recovers without a new start: it may show less than it had shown.
            _kill_a_session(c.replicas[0])
            until(lambda: len(found := runs(c.replicas[0])) == 1 and found != before[1])
            before[1] = runs(c.replicas[0])
        if engine == "mysql":
            return  # which takes seconds to start, and says the same as MariaDB
        c.restart(c.replicas[0])
        until(lambda: len(found := runs(c.replicas[0])) == 1 and found != before[1])
        assert runs(c.primary) == before[0]


def _kill_a_session(server: Server) -> None:
    """As a crash of the server's code does. Of a process of this machine that is the server's only."""
    engine = create_engine(server.url, poolclass=NullPool)
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        assert b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
        os.kill(pid, signal.SIGKILL)
        with suppress(DBAPIError):
            connection.execute(text("SELECT 1"))
            connection.invalidate()
