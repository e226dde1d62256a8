"""What the doctor finds on real servers with planted faults, and that what it advises helps."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from asking import asked, eventually
from click.testing import CliRunner
from flask import Flask

from rds_router import Router
from rds_router.cli import commands
from rds_router.doctor import Finding, Load, Severity, findings_of, gather
from rds_router.doctor.facts import Pool
from rds_router.flask import SQLAlchemy
from rds_router.flask.cli import rds
from rds_router.lab import Cluster

ENGINES = ["mysql", "mariadb", "postgresql"]


@pytest.fixture
def shared(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The run's cluster of the engine the test is asked for, with one table, left without it."""
    cluster: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    with asked(cluster.primary.url) as primary:
        primary.execute("CREATE TABLE doctored (id INT PRIMARY KEY, title VARCHAR(80))")
    cluster.wait_caught_up()
    yield cluster
    with asked(cluster.primary.url) as primary:
        primary.execute("DROP TABLE doctored")
    cluster.wait_caught_up()


every_server = pytest.mark.parametrize("shared", ENGINES, indirect=True)
mysql_family = pytest.mark.parametrize("shared", ["mysql", "mariadb"], indirect=True)
only_postgresql = pytest.mark.parametrize("shared", ["postgresql"], indirect=True)


def examined(*urls: str, load: Load | None = None, timeout: float = 30.0) -> tuple[Finding, ...]:
    with Router(urls[0], urls[1:]) as router:
        return findings_of(gather(router, load=load or Load(2), timeout=timeout))


def told(findings: tuple[Finding, ...], topic: str) -> list[tuple[str, str, str]]:
    """What is not OK: severity, text, advice."""
    return [
        (each.severity.name, each.says, each.do)
        for each in findings
        if each.topic == topic and each.severity is not Severity.OK
    ]


@contextlib.contextmanager
def changed(url: str, name: str, value: str) -> Iterator[None]:
    """A global variable of MySQL or MariaDB is another one for a while."""
    with asked(url) as server:
        old = server.value(f"SELECT @@global.{name}")
        server.execute(f"SET GLOBAL {name} = {value}")
        try:
            yield
        finally:
            server.execute(f"SET GLOBAL {name} = {old!r}")


@every_server
def test_a_healthy_cluster_has_no_warning(shared: Cluster) -> None:
    findings = examined(shared.primary.url, *(each.url for each in shared.replicas))
    assert [each for each in findings if each.severity > Severity.NOTE] == []
    schemas = [each.says for each in findings if each.topic == "schema"]
    assert len(schemas) == 2
    assert all(re.fullmatch(r"\d+ tables, as on the primary", says) for says in schemas)


@every_server
def test_a_grant_that_is_missing_is_told_with_the_statement_that_gives_it(shared: Cluster) -> None:
    """The statement is run as it stands, and nothing is missing any more."""
    urls = shared.primary.bare_url, shared.replicas[0].bare_url
    before = told(examined(*urls), "grants")
    assert before
    statements = {re.fullmatch(r"as an administrator of the primary: (GRANT .+;)", do)[1] for _, _, do in before}  # type: ignore[index]
    with asked(shared.primary.admin_url) as admin:
        try:
            for statement in statements:
                admin.execute(statement.replace("%", "%%"))  # the driver's
            shared.wait_caught_up()
            after = examined(*urls)
        finally:
            for statement in statements:
                admin.execute(statement.replace("GRANT", "REVOKE", 1).replace(" TO ", " FROM ").replace("%", "%%"))
            shared.wait_caught_up()
    assert told(after, "grants") == []
    assert [each for each in after if each.severity > Severity.NOTE] == []


@mysql_family
def test_settings_that_differ_are_told(shared: Cluster) -> None:
    replica = shared.replicas[0]
    with changed(replica.admin_url, "sql_mode", "'ANSI_QUOTES'"), changed(replica.admin_url, "time_zone", "'+05:00'"):
        found = told(examined(shared.primary.url, replica.url), "settings")
    assert [says.split(",")[0] for _, says, _ in found] == ["sql_mode differs", "time_zone differs"]
    assert "ANSI_QUOTES on 127.0.0.1" in found[0][1]
    assert "+05:00 on 127.0.0.1" in found[1][1]


@only_postgresql
def test_another_time_zone_is_told(shared: Cluster) -> None:
    replica = shared.replicas[0]
    with asked(replica.admin_url) as server:
        server.execute("ALTER SYSTEM SET timezone = 'Asia/Tokyo'")
        server.execute("SELECT pg_reload_conf()")
        try:
            assert eventually(lambda: "Asia/Tokyo" in str(told(examined(shared.primary.url, replica.url), "settings")))
        finally:
            server.execute("ALTER SYSTEM RESET timezone")
            server.execute("SELECT pg_reload_conf()")


@mysql_family
def test_a_replica_that_accepts_writes_is_told(shared: Cluster) -> None:
    replica = shared.replicas[0]
    with changed(replica.admin_url, "read_only", "0"):  # MySQL turns super_read_only off with it
        ((severity, says, do),) = told(examined(shared.primary.url, replica.url), "read only")
    with asked(replica.admin_url) as admin:
        if shared.engine == "mysql":
            admin.execute("SET GLOBAL super_read_only = 1")
    assert (severity, says) == ("WARNING", "accepts writes of its own, which its primary never sees")
    assert "read_only=1" in do


@mysql_family
def test_a_column_that_drifted_is_told(shared: Cluster) -> None:
    """Somebody altered a table on the replica alone."""
    replica = shared.replicas[0]
    with changed(replica.admin_url, "read_only", "0"), asked(replica.admin_url) as admin:
        admin.execute("SET SESSION sql_log_bin = 0")
        admin.execute("ALTER TABLE doctored MODIFY title VARCHAR(40), ADD COLUMN extra INT, ADD INDEX by_title (title)")
        found = told(examined(shared.primary.url, replica.url), "schema")
    with asked(replica.admin_url) as admin:
        if shared.engine == "mysql":
            admin.execute("SET GLOBAL super_read_only = 1")
    assert [says for _, says, _ in found] == [
        "column doctored.extra is not on the primary",
        "index of doctored: by_title is not on the primary",
        "column doctored.title is VARCHAR(40), but VARCHAR(80) on the primary",
    ]


@every_server
def test_a_migration_that_has_not_arrived_is_told(shared: Cluster) -> None:
    """On PostgreSQL the only way two schemas can differ: replicas are copies, byte by byte."""
    replica = shared.replicas[0]
    shared.pause_replication(replica, sql_only=True)
    try:
        with asked(shared.primary.url) as primary:
            primary.execute("ALTER TABLE doctored ADD COLUMN late INT")
            found = examined(shared.primary.url, replica.url)
            assert [says for _, says, _ in told(found, "schema")] == ["column doctored.late is missing"]
            if shared.engine != "postgresql":
                ((severity, says, _),) = (each for each in told(found, "lag") if each[0] != "NOTE")
                assert severity == "ERROR"
                assert says == "not known, because its replication does not run: it gets no reads"
    finally:
        shared.resume_replication(replica, sql_only=True)


@mysql_family
def test_too_small_a_server_is_told(shared: Cluster) -> None:
    with changed(shared.primary.admin_url, "max_connections", "40"):
        found = examined(shared.primary.url, shared.replicas[0].url, load=Load(4))
    errors = [each for each in found if each.severity is Severity.ERROR]
    assert [each.topic for each in errors] == ["connections"]
    assert "= 64 connections, but" in errors[0].says
    assert "left of 40" in errors[0].says


@only_postgresql
def test_an_account_with_too_few_connections_is_told(shared: Cluster) -> None:
    with asked(shared.primary.admin_url) as admin:
        admin.execute("ALTER ROLE app CONNECTION LIMIT 10")
        try:
            found = examined(shared.primary.url, load=Load(2))
        finally:
            admin.execute("ALTER ROLE app CONNECTION LIMIT -1")
    (error,) = (each for each in found if each.severity is Severity.ERROR)
    assert "= 30 connections, but 10 are left of 10" in error.says


@every_server
def test_connections_of_others_are_counted_and_ones_own_are_not(shared: Cluster) -> None:
    """The application may be running already: its pools are reckoned anew."""
    with Router(shared.primary.url) as router:
        before = gather(router).primary.capacity
        assert before is not None
        with contextlib.ExitStack() as held:
            for _ in range(3):
                held.enter_context(asked(shared.primary.url))
                held.enter_context(asked(shared.primary.bare_url))
            # PostgreSQL's statistics of a new connection may come a moment after it.
            assert eventually(
                lambda: (now := gather(router).primary.capacity) is not None and now.left == before.left - 3
            )


@pytest.mark.parametrize("shared", ["mariadb", "postgresql"], indirect=True)
def test_a_frozen_server_holds_nobody_up(shared: Cluster) -> None:
    replica = shared.replicas[0]
    shared.freeze(replica)
    try:
        found = examined(shared.primary.url, replica.url, timeout=2.0)
    finally:
        shared.thaw(replica)
    shared.wait_caught_up()
    (error,) = (each for each in found if each.severity is Severity.ERROR)
    assert error.says == "was not reached: no answer within 2 s"
    assert next(each.says for each in found).startswith("answers, ")  # the primary


@every_server
def test_the_command_line(shared: Cluster) -> None:
    """Exit codes: 0 nothing is wrong, 1 an error, with --strict a warning; no password is printed."""

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(commands, ["doctor", "--json", *arguments])

    primary, replica = shared.primary, shared.replicas[0]
    well = run(primary.url, replica.url)
    assert (well.exit_code, json.loads(well.stdout)["worst"]) == (0, "note")
    swapped = run(replica.url, primary.url)
    assert (swapped.exit_code, json.loads(swapped.stdout)["worst"]) == (1, "error")
    bare = run(primary.bare_url, replica.bare_url)
    assert (bare.exit_code, json.loads(bare.stdout)["worst"]) == (0, "warning")
    assert run("--strict", primary.bare_url, replica.bare_url).exit_code == 1
    wrong = run(primary.url.replace("//app:lab-canary@", "//app:geheim-17@"))
    assert wrong.exit_code == 1
    assert "refused the login" in wrong.stdout
    assert "geheim-17" not in wrong.output
    table = CliRunner().invoke(commands, ["doctor", primary.url, replica.url, "--workers", "3"])
    assert table.exit_code == 0
    assert table.stdout.rstrip().splitlines()[-1].endswith(" ok")
    assert run().exit_code == 2


@pytest.mark.parametrize("shared", ["mariadb"], indirect=True)
def test_the_flask_command_takes_servers_and_pools_of_the_configuration(
    shared: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Flask(__name__)
    app.config.update(
        SQLALCHEMY_DATABASE_URI=shared.primary.url,
        SQLALCHEMY_REPLICA_URIS=[shared.replicas[0].url],
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 7},
        RDS_ROUTER_REPLICA_ENGINE_OPTIONS={"max_overflow": 3},
        RDS_ROUTER_PRIMARY_NAME="the-primary",
    )
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    db = SQLAlchemy(app)
    result = app.test_cli_runner().invoke(rds, ["doctor", "--json"])
    with app.app_context():
        db.router.close()
    assert result.exit_code == 0, result.output
    says = [each["says"] for each in json.loads(result.stdout)["findings"] if each["topic"] == "connections"]
    assert says[0].startswith("3 workers x (7 + 10 + 1 for the monitor) = 54 connections")
    assert says[1].startswith("3 workers x (7 + 3 + 1 for the monitor) = 33 connections")


def test_the_flask_command_needs_the_extension() -> None:
    result = Flask(__name__).test_cli_runner().invoke(rds, ["doctor"])
    assert result.exit_code == 2
    assert "this application does not use rds_router.flask.SQLAlchemy" in result.output


def test_pools_without_bound_are_seen() -> None:
    assert _pool(pool_size=0) == Pool(0, None)
    assert _pool(max_overflow=-1) == Pool(5, None)
    assert _pool(pool_size=2, max_overflow=1) == Pool(2, 1)


def _pool(**options: Any) -> Pool:
    from rds_router.doctor.gather import pool_of

    with Router("mysql+pymysql://127.0.0.1:1/nobody", engine_options=options) as router:
        return pool_of(router.primary_engine(start=False))
