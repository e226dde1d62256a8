"""The doctor's findings, from tables of facts: no server is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rds_router import RoutingPolicy
from rds_router.core.observation import Report, Role
from rds_router.core.position import Lsn, MySQLGtidSet
from rds_router.dialects import MARIADB, MYSQL, POSTGRESQL
from rds_router.dialects.probe import missing_grant, told_grant
from rds_router.doctor import Finding, Severity, findings_of
from rds_router.doctor.connections import needed, recommended
from rds_router.doctor.facts import Capacity, Encryption, Facts, Load, Pool, ServerFacts, Table
from rds_router.doctor.schema import SHOWN
from rds_router.doctor.showing import as_json, print_table, summary

OK, NOTE, WARNING, ERROR = Severity
GTIDS = MySQLGtidSet.parse("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5")
LACKS = missing_grant(MYSQL.probe[1].grant, MYSQL.probe[1].without)
SETTINGS = {"time_zone": "UTC", "sql_mode": "STRICT_TRANS_TABLES", "super_read_only": "ON"}
POSTS = Table({"id": "INTEGER NOT NULL", "title": "VARCHAR(80)"}, {"the primary key": "(id)", "by_title": "(title)"})

PRIMARY = ServerFacts(
    name="primary",
    is_primary=True,
    host="db.example",
    family="mysql",
    report=Report(Role.PRIMARY, position=GTIDS, is_writable=True, follows=False, identity="a"),
    version="8.0.40",
    account="'app'@'%'",
    encryption=Encryption("TLSv1.3", True, True),
    settings=SETTINGS,
    capacity=Capacity(200),
    tables={"posts": POSTS},
)
REPLICA = replace(
    PRIMARY,
    name="replica",
    is_primary=False,
    host="r1.example",
    report=Report(Role.REPLICA, lag=0.2, position=GTIDS, is_writable=False, follows=True, identity="b"),
)


def found(*servers: ServerFacts, topic: str = "", **more: Any) -> list[tuple[Severity, str, str]]:
    """The findings of a topic that are not OK: severity, server, text."""
    facts = Facts(servers=servers, **({"policy": RoutingPolicy(heartbeat=True)} | more))
    return [
        (each.severity, each.server, f"{each.says} -> {each.do}" if each.do else each.says)
        for each in findings_of(facts)
        if each.severity is not OK and topic in ("", each.topic)
    ]


def on_replica(**changes: Any) -> ServerFacts:
    return replace(REPLICA, **changes)


def reporting(server: ServerFacts, **changes: Any) -> ServerFacts:
    assert server.report is not None
    return replace(server, report=replace(server.report, **changes))


def test_a_healthy_cluster_has_nothing_but_ok_in_every_topic() -> None:
    healthy = (replace(PRIMARY, heartbeat=99.0), replace(REPLICA, heartbeat=98.9))
    facts = Facts(servers=healthy, load=Load(2, 2), policy=RoutingPolicy(heartbeat=True))
    findings = findings_of(facts)
    assert {each.severity for each in findings} == {OK}
    topics = {each.topic for each in findings}
    spoken = {"reachable", "role", "TLS", "version", "grants", "lag", "read only", "settings", "schema", "connections"}
    assert topics == spoken


CASES: dict[str, tuple[str, Callable[[], tuple[ServerFacts, ...]], list[tuple[Severity, str, str]]]] = {
    "a server that is away": (
        "reachable",
        lambda: (PRIMARY, ServerFacts(name="replica", is_primary=False, error="OperationalError: (2003, 'no')")),
        [(ERROR, "replica", "was not reached: OperationalError: (2003, 'no') -> check that it runs, its host name and "
          "port, and that its security group lets this machine in")],
    ),
    "a refused login": (
        "reachable",
        lambda: (replace(PRIMARY, report=None, error="OperationalError: (1045, 'no')", is_login_refused=True), REPLICA),
        [(ERROR, "primary", "is there, but refused the login: OperationalError: (1045, 'no') -> check user, password "
          "and the database's name; the server lets nobody in by them")],
    ),
    "something that could not be asked": (
        "reachable",
        lambda: (PRIMARY, on_replica(tables=None, unasked=("the tables (OperationalError)",))),
        [(NOTE, "replica", "could not be asked for the tables (OperationalError)")],
    ),
    "primary and replica exchanged": (
        "role",
        lambda: (replace(REPLICA, is_primary=True), replace(PRIMARY, is_primary=False)),
        [(ERROR, "replica", "is configured as the primary, but follows another server -> name the server that accepts "
          "writes first; until then every write fails"),
         (ERROR, "primary", "is configured as a replica, but accepts writes and follows nobody -> set up its "
          "replication, or take it out of the configuration; it gets no reads")],
    ),
    "a primary that refuses writes": (
        "role",
        lambda: (reporting(PRIMARY, role=Role.REPLICA, is_writable=False),),
        [(ERROR, "primary", "is configured as the primary, but refuses writes -> name the server that accepts writes "
          "first; until then every write fails"),
         (NOTE, "", "no replica is configured: everything goes to the primary")],
    ),
    "one server under two names": (
        "role",
        lambda: (PRIMARY, reporting(REPLICA, identity="a")),
        [(ERROR, "replica", "is the same server as primary -> take one of them out of the configuration")],
    ),
    "a role that the account may not see": (
        "role",
        lambda: (reporting(PRIMARY, role=Role.UNKNOWN, missing=(LACKS,)), REPLICA),
        [(WARNING, "primary", "its role is not known for want of a grant -> see grants")],
    ),
    "an engine without roles": (
        "role",
        lambda: (replace(PRIMARY, report=Report(Role.UNKNOWN)), REPLICA),
        [(NOTE, "primary", "its role cannot be told: it is taken for the primary because the configuration says so")],
    ),
    "no encryption": (
        "TLS",
        lambda: (replace(PRIMARY, encryption=Encryption("", None, True)), REPLICA),
        [(WARNING, "primary", "the connection is not encrypted: whoever is in between reads along -> name the CA's "
          "certificates: DB_SSL_CA, or ssl_ca= (PyMySQL), sslmode=verify-full&sslrootcert= (psycopg)")],
    ),
    "no encryption on this machine": (
        "TLS",
        lambda: (replace(PRIMARY, host="127.0.0.1", encryption=Encryption("", None, False)), REPLICA),
        [(NOTE, "primary", "the connection is not encrypted: whoever is in between reads along; it does not leave "
          "this machine")],
    ),
    "encryption without verification": (
        "TLS",
        lambda: (PRIMARY, on_replica(encryption=Encryption("TLSv1.3", False, True))),
        [(WARNING, "replica", "encrypted by TLSv1.3, but the server is not verified: another one could pose as it -> "
          "name the CA's certificates: DB_SSL_CA, or ssl_ca= (PyMySQL), sslmode=verify-full&sslrootcert= (psycopg)")],
    ),
    "a driver that does not tell": (
        "TLS",
        lambda: (PRIMARY, on_replica(encryption=Encryption("TLSv1.2", None, True))),
        [(WARNING, "replica", "encrypted by TLSv1.2, but the server may not be verified: the driver does not tell: "
          "another one could pose as it -> name the CA's certificates: DB_SSL_CA, or ssl_ca= (PyMySQL), "
          "sslmode=verify-full&sslrootcert= (psycopg)")],
    ),
    "an old protocol": (
        "TLS",
        lambda: (replace(PRIMARY, encryption=Encryption("TLSv1.1", True, True)), REPLICA),
        [(WARNING, "primary", "encrypted by TLSv1.1, which is broken -> let the server speak TLSv1.2 or later "
          "(tls_version, ssl_min_protocol_version)")],
    ),
    "a server that lets clients in without TLS too": (
        "TLS",
        lambda: (replace(PRIMARY, encryption=Encryption("TLSv1.3", True, False)), REPLICA),
        [(NOTE, "primary", "it lets clients in without TLS too -> set require_secure_transport=ON (on RDS in the "
          "parameter group)")],
    ),
    "an older replica": (
        "version",
        lambda: (PRIMARY, on_replica(version="8.0.9")),
        [(WARNING, "replica", "MySQL 8.0.9 is older than its primary (8.0.40): what is new there may break its "
          "replication -> upgrade replicas before their primary")],
    ),
    "a newer replica": (
        "version",
        lambda: (PRIMARY, on_replica(version="8.4.1")),
        [(NOTE, "replica", "MySQL 8.4.1 is newer than its primary (8.0.40), as during an upgrade")],
    ),
    "another product": (
        "version",
        lambda: (PRIMARY, on_replica(family="mariadb", version="10.11.19-MariaDB")),
        [(WARNING, "replica", "MariaDB 10.11.19-MariaDB follows MySQL: they differ in SQL -> replicate between "
          "servers of one kind")],
    ),
    "a grant that is missing everywhere": (
        "grants",
        lambda: (reporting(PRIMARY, missing=(LACKS,)), reporting(REPLICA, missing=(LACKS,))),
        [(WARNING, name, "'app'@'%' lacks REPLICATION CLIENT ON *.*; not known without it: whether the server follows "
          "another one, and how far behind it is -> as an administrator of the primary: GRANT REPLICATION CLIENT ON "
          "*.* TO 'app'@'%';") for name in ("primary", "replica")],
    ),
    "a grant that is missing on a replica only": (
        "grants",
        lambda: (PRIMARY, reporting(REPLICA, missing=(LACKS,))),
        [(WARNING, "replica", "'app'@'%' lacks REPLICATION CLIENT ON *.*; not known without it: whether the server "
          "follows another one, and how far behind it is -> as an administrator of replica: GRANT REPLICATION CLIENT "
          "ON *.* TO 'app'@'%';")],
    ),
    "a lag that is too long": (
        "lag",
        lambda: (replace(PRIMARY, heartbeat=100.0), on_replica(heartbeat=93.0)),
        [(WARNING, "replica", "7.0 s behind (the heartbeat), more than max_lag (5 s): it gets no reads -> look for a "
          "long transaction, or a replica that is too small")],
    ),
    "replication that does not run": (
        "lag",
        lambda: (replace(PRIMARY, heartbeat=9.0), reporting(REPLICA, lag=None)),
        [(ERROR, "replica", "not known, because its replication does not run: it gets no reads -> look at SHOW "
          "REPLICA STATUS (Replica_IO_Running, Replica_SQL_Running, Last_Error)")],
    ),
    "a lag that the account may not see": (
        "lag",
        lambda: (replace(PRIMARY, heartbeat=9.0), reporting(REPLICA, lag=None, follows=None, missing=(LACKS,))),
        [(WARNING, "replica", "not known for want of a grant: it gets no reads -> see grants")],
    ),
    "an engine that tells no lag": (
        "lag",
        lambda: (replace(PRIMARY, heartbeat=9.0), on_replica(report=Report(Role.UNKNOWN))),
        [(WARNING, "replica", "it tells none: it gets no reads -> set unknown_lag='allow' with "
          "after_write='primary', where reads of unknown age do no harm")],
    ),
    "a heartbeat that is not there yet": (
        "lag",
        lambda: (PRIMARY, REPLICA),
        [(NOTE, "", "the heartbeat's table rds_router_heartbeat is not there yet: the application makes it at its "
          "first use -> let its account CREATE, INSERT, UPDATE, or make the table yourself")],
    ),
    "a replica that accepts writes": (
        "read only",
        lambda: (PRIMARY, reporting(REPLICA, is_writable=True)),
        [(WARNING, "replica", "accepts writes of its own, which its primary never sees -> set read_only=1 and "
          "super_read_only=1")],
    ),
    "a replica where administrators may write": (
        "read only",
        lambda: (PRIMARY, on_replica(settings=SETTINGS | {"super_read_only": "OFF"})),
        [(NOTE, "replica", "read_only, but not super_read_only: an administrator, or his procedure, may write here -> "
          "set super_read_only=1 where the host lets you")],
    ),
    "a primary without GTIDs": (
        "position",
        lambda: (reporting(PRIMARY, position=None), REPLICA),
        [(WARNING, "primary", "tells no position: who wrote reads on the primary for a while, instead of where his "
          "write is -> set gtid_mode=ON (on RDS: gtid-mode in the parameter group)")],
    ),
    "servers without positions": (
        "position",
        lambda: tuple(replace(reporting(each, position=None), tells_positions=False) for each in (PRIMARY, REPLICA)),
        [(NOTE, name, "its kind has no positions: own writes are told from others by lag or by time")
         for name in ("primary", "replica")],
    ),
    "settings that differ": (
        "settings",
        lambda: (PRIMARY, on_replica(settings={"time_zone": "+02:00", "sql_mode": ""})),
        [(WARNING, "", "sql_mode differs, so a statement may work on one server and fail on another: "
          "STRICT_TRANS_TABLES on primary; empty on replica -> make it the same everywhere (on RDS: one parameter "
          "group)"),
         (WARNING, "", "time_zone differs, so NOW() and TIMESTAMP columns read differently: UTC on primary; +02:00 on "
          "replica -> make it the same everywhere (on RDS: one parameter group)")],
    ),
    "the reader endpoint as a replica": (
        "endpoint",
        lambda: (PRIMARY, on_replica(host="blog.cluster-ro-abc123.eu-west-1.rds.amazonaws.com")),
        [(WARNING, "replica", "leads to another instance at each connect: what is learnt of one connection is not true "
          "of the next -> name the instances, each by its own endpoint")],
    ),
    "the cluster's endpoint as the primary": (
        "endpoint",
        lambda: (replace(PRIMARY, host="blog.cluster-abc123.eu-west-1.rds.amazonaws.com"), REPLICA),
        [(NOTE, "primary", "follows the writer by DNS, for which it needs seconds after a failover -> name the "
          "instances, each by its own endpoint: the router asks them which one is the writer")],
    ),
    "RDS Proxy by its name": (
        "proxy",
        lambda: (replace(PRIMARY, host="blog.proxy-abc123.eu-west-1.rds.amazonaws.com"), REPLICA),
        [(WARNING, "primary", "is RDS Proxy: session state pins a client to one connection, or leaks to others -> turn "
          "off guard and session_tracking of the policy; keep the pool small and pool_recycle under the pooler's idle "
          "limit")],
    ),
    "a pooler in between": (
        "proxy",
        lambda: (replace(PRIMARY, is_pooled=True), REPLICA),
        [(WARNING, "primary", "a pooler stands between: session state pins a client to one connection, or leaks to "
          "others -> turn off guard and session_tracking of the policy; keep the pool small and pool_recycle under the "
          "pooler's idle limit")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_fault_is_told_with_what_to_do(case: str) -> None:
    topic, servers, expected = CASES[case]
    assert found(*servers(), topic=topic) == expected


def test_without_the_heartbeat_a_note_says_what_it_is_for() -> None:
    says = "without the heartbeat a replica that is cut off from an idle primary looks fresh"
    do = "RoutingPolicy(heartbeat=True), RDS_ROUTER_HEARTBEAT=true"
    assert found(PRIMARY, REPLICA, topic="lag", policy=RoutingPolicy()) == [(NOTE, "", f"{says} -> {do}")]


def test_an_idle_postgresql_primary_makes_no_lag() -> None:
    """The age of the last transaction grows; who has all of it is not behind."""
    here, there = Lsn.parse("0/5000028@1"), Lsn.parse("0/4000028@1")
    primary = replace(
        PRIMARY, family="postgresql", report=replace(PRIMARY.report or Report(Role.PRIMARY), position=here)
    )
    idle = Report(Role.REPLICA, lag=3600.0, lag_grows_when_idle=True, position=here, is_writable=False, follows=True)
    replica = replace(REPLICA, family="postgresql", report=idle)
    assert found(primary, replica, topic="lag", policy=RoutingPolicy(max_lag=5))[1:] == []
    behind = reporting(replica, position=there)
    assert found(primary, behind, topic="lag", policy=RoutingPolicy(max_lag=5))[0][:2] == (WARNING, "replica")


def test_a_pooler_that_nothing_disturbs_is_a_note() -> None:
    policy = RoutingPolicy(guard=False, session_tracking=False)
    ((severity, _, says),) = found(replace(PRIMARY, is_pooled=True), topic="proxy", policy=policy)
    assert severity is NOTE
    assert "turn off" not in says


@pytest.mark.parametrize(
    ("grant", "family", "version", "account", "statement"),
    [
        (MYSQL.probe[1].grant, "mysql", "8.4.1", "'app'@'%'", "GRANT REPLICATION CLIENT ON *.* TO 'app'@'%';"),
        (MARIADB.probe[1].grant, "mariadb", "10.11.19-MariaDB", "'a'@'b'", "GRANT SLAVE MONITOR ON *.* TO 'a'@'b';"),
        (MARIADB.probe[1].grant, "mariadb", "10.4.2-MariaDB", "'a'@'b'", "GRANT REPLICATION CLIENT ON *.* TO 'a'@'b';"),
        (POSTGRESQL.probe[1].grant, "postgresql", "15.18", "app",
         "GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() TO app;"),
    ],
)  # fmt: skip
def test_the_grant_statement_is_exact(grant: str, family: str, version: str, account: str, statement: str) -> None:
    lacking = replace(
        reporting(PRIMARY, missing=(missing_grant(grant, "much"),)), family=family, version=version, account=account
    )
    ((_, _, says),) = found(lacking, topic="grants")
    assert says.endswith(f"not known without it: much -> as an administrator of the primary: {statement}")


def test_a_missing_grant_is_told_as_it_was_written() -> None:
    assert told_grant(missing_grant("SELECT ON a.b", "all of it")) == ("SELECT ON a.b", "all of it")
    assert told_grant("the heartbeat could not be written") is None
    ((_, _, says),) = found(reporting(PRIMARY, missing=("the heartbeat could not be written",)), topic="grants")
    assert says == "the heartbeat could not be written"


DRIFTS: dict[str, tuple[dict[str, Table], list[tuple[Severity, str]]]] = {
    "a table less": ({}, [(ERROR, "table posts is missing")]),
    "a table more": ({"posts": POSTS, "old": POSTS}, [(WARNING, "table old is not on the primary")]),
    "a column less": (
        {"posts": replace(POSTS, columns={"id": "INTEGER NOT NULL"})},
        [(ERROR, "column posts.title is missing")],
    ),
    "a column more": (
        {"posts": replace(POSTS, columns={**POSTS.columns, "x": "INTEGER"})},
        [(WARNING, "column posts.x is not on the primary")],
    ),
    "another type": (
        {"posts": replace(POSTS, columns={**POSTS.columns, "title": "VARCHAR(40)"})},
        [(WARNING, "column posts.title is VARCHAR(40), but VARCHAR(80) on the primary")],
    ),
    "an index less": (
        {"posts": replace(POSTS, indexes={"the primary key": "(id)"})},
        [(WARNING, "index of posts: by_title is missing")],
    ),
    "another index": (
        {"posts": replace(POSTS, indexes={**POSTS.indexes, "by_title": "(title, id)"})},
        [(WARNING, "index of posts: by_title is (title, id), but (title) on the primary")],
    ),
}


@pytest.mark.parametrize("case", DRIFTS)
def test_a_drifted_schema_is_told(case: str) -> None:
    tables, expected = DRIFTS[case]
    do = "if a migration ran just now, look again; else repair it, or make the replica anew"
    told = found(PRIMARY, on_replica(tables=tables), topic="schema")
    assert told == [(severity, "replica", f"{says} -> {do}") for severity, says in expected]


def test_many_differences_are_counted_and_the_worst_come_first() -> None:
    wide = {f"t{number:02}": POSTS for number in range(SHOWN + 5)}
    primary = replace(PRIMARY, tables=wide)
    told = found(primary, on_replica(tables={"extra": POSTS}), topic="schema")
    assert [severity for severity, _, _ in told] == [ERROR] * (SHOWN + 1)
    assert told[-1] == (ERROR, "replica", "6 more differences")


def test_what_is_not_known_of_a_schema_is_not_compared() -> None:
    assert found(PRIMARY, on_replica(tables=None), topic="schema") == []
    assert found(replace(PRIMARY, tables=None), REPLICA, topic="schema") == []


BUDGETS: list[tuple[Load, Pool, Capacity, Severity, str]] = [
    (Load(4), Pool(5, 10), Capacity(200), OK,
     "4 workers x (5 + 10 + 1 for the monitor) = 64 connections, and 200 are left of 200"),
    (Load(4), Pool(5, 10), Capacity(66), WARNING,
     "4 workers x (5 + 10 + 1 for the monitor) = 64 connections, and 66 are left of 66: too tight for a deployment, "
     "when old and new processes overlap -> pool_size=5, max_overflow=7; or a larger server, or a pooler between "
     "(RDS Proxy)"),
    (Load(4, 2), Pool(5, 10), Capacity(100, 3, 12, 2), ERROR,
     "2 machines x 4 workers x (5 + 10 + 1 for the monitor) = 128 connections, but 87 are left of 100 (3 reserved, 10 "
     "in use by others): under load logins will be refused -> pool_size=3, max_overflow=4; or a larger server, or a "
     "pooler between (RDS Proxy)"),
    (Load(50), Pool(1, 0), Capacity(60), ERROR,
     "50 workers x (1 + 0 + 1 for the monitor) = 100 connections, but 60 are left of 60: under load logins will be "
     "refused -> fewer than 50 processes, a larger server, or a pooler between (RDS Proxy, pgbouncer)"),
    (Load(1), Pool(5, None), Capacity(60), WARNING,
     "the pool has no bound: each busy thread takes a connection, and 60 are left of 60 -> pool_size=5, "
     "max_overflow=10; or a larger server, or a pooler between (RDS Proxy)"),
]  # fmt: skip


@pytest.mark.parametrize(("load", "pool", "capacity", "severity", "says"), BUDGETS)
def test_pools_of_all_processes_against_what_the_server_takes(
    load: Load, pool: Pool, capacity: Capacity, severity: Severity, says: str
) -> None:
    facts = Facts(servers=(replace(PRIMARY, pool=pool, capacity=capacity), replace(REPLICA, capacity=None)), load=load)
    told = [each for each in findings_of(facts) if each.topic == "connections" and each.server == "primary"]
    assert [(each.severity, f"{each.says} -> {each.do}" if each.do else each.says) for each in told] == [
        (severity, says)
    ]


def test_a_load_that_nobody_told_is_reckoned_as_one_process_and_said() -> None:
    told = found(PRIMARY, REPLICA, topic="connections", load=Load(is_told=False))
    says = "how many processes there will be is not known: reckoned for one"
    assert told == [(NOTE, "", f"{says} -> say --workers and --machines, or set WEB_CONCURRENCY")]


def test_the_sum_over_all_servers_is_told() -> None:
    facts = Facts(servers=(PRIMARY, REPLICA), load=Load(4, 2))
    says = [each.says for each in findings_of(facts) if each.topic == "connections" and not each.server]
    assert says == ["256 connections at most, over 2 servers, from 2 machines x 4 workers"]


@pytest.mark.parametrize("left", range(0, 400, 7))
@pytest.mark.parametrize("processes", [1, 3, 16])
@pytest.mark.parametrize("has_monitor", [True, False])
def test_what_is_recommended_fits(left: int, processes: int, has_monitor: bool) -> None:
    load = Load(processes)
    pool = recommended(left, load, has_monitor=has_monitor)
    if pool is None:
        assert needed(Pool(1, 0), load, has_monitor=has_monitor) > left * 0.8  # type: ignore[operator]
    else:
        need = needed(pool, load, has_monitor=has_monitor)
        assert need is not None
        assert need <= left * 0.8
        assert pool.size >= 1


def test_findings_for_programs_and_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    findings = (
        Finding(OK, "role", "a", "is it"),
        Finding(WARNING, "lag", "", "late", "run"),
        Finding(NOTE, "x", "b", "y"),
    )
    assert json.loads(as_json(findings)) == {
        "worst": "warning",
        "findings": [
            {"severity": "ok", "topic": "role", "server": "a", "says": "is it", "do": None},
            {"severity": "warning", "topic": "lag", "server": None, "says": "late", "do": "run"},
            {"severity": "note", "topic": "x", "server": "b", "says": "y", "do": None},
        ],
    }
    assert summary(findings) == "1 warning, 1 note, 1 ok"
    assert summary(()) == "0 ok"
    print_table(findings)
    printed = capsys.readouterr().out
    assert "late\n" in printed.replace(" ", "")
    assert "-> run" in printed
    assert "1 warning, 1 note, 1 ok" in printed
