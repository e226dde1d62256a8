"""What real servers answer to the probe: roles, lag in every state of replication, positions, missing grants."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from asking import Asked, asked, eventually

from rds_router.core.observation import Role
from rds_router.core.position import Lsn, MySQLGtidSet
from rds_router.dialects import Verdict
from rds_router.lab import Cluster

ENGINES = ["mysql", "mariadb", "postgresql"]
MYSQL_FAMILY = ["mysql", "mariadb"]


@pytest.fixture
def shared(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The run's cluster of the engine the test is asked for, caught up, and left as it was."""
    cluster: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    cluster.wait_caught_up()
    yield cluster
    for replica in cluster.replicas:
        if replica.delay:
            cluster.set_delay(replica, 0)
        cluster.resume_replication(replica)


every_engine = pytest.mark.parametrize("shared", [*ENGINES, "sqlite"], indirect=True)
every_server = pytest.mark.parametrize("shared", ENGINES, indirect=True)
mysql_family = pytest.mark.parametrize("shared", MYSQL_FAMILY, indirect=True)
only_postgresql = pytest.mark.parametrize("shared", ["postgresql"], indirect=True)


@every_engine
def test_roles(shared: Cluster) -> None:
    """The primary takes writes and follows nobody; replicas follow; nobody is mistaken for another."""
    with asked(shared.primary.url) as primary:
        report = primary.report()
    assert (report.role, report.is_writable, report.follows, report.lag) == (Role.PRIMARY, True, False, None)
    assert report.missing == ()
    identities = {report.identity}
    for replica in shared.replicas:
        with asked(replica.url) as connection:
            report = connection.report()
        assert (report.role, report.follows, report.missing) == (Role.REPLICA, True, ())
        assert report.is_writable is (None if shared.engine == "sqlite" else False)
        assert report.lag is not None
        identities.add(report.identity)
    assert len(identities) == 3
    assert "" not in identities


@every_server
def test_the_same_server_has_the_same_identity(shared: Cluster) -> None:
    """Whatever name or account it is reached by."""
    server = shared.primary
    urls = [server.url, server.bare_url, server.url.replace("127.0.0.1", "localhost")]
    identities = set()
    for url in urls:
        with asked(url) as connection:
            identities.add(connection.report().identity)
    assert len(identities) == 1


@every_server
def test_a_write_moves_the_position_and_replicas_follow(shared: Cluster) -> None:
    """A token is not covered by what was before, and is by the replica that has it: then it shows the row."""
    with asked(shared.primary.url) as primary, asked(shared.replicas[0].url) as replica:
        before = primary.write()
        assert eventually(lambda: replica.position().covers(before))
        held = replica.position()
        shared.pause_replication(shared.replicas[0], sql_only=True)
        token = primary.write()
        assert token.covers(before)
        assert not before.covers(token)
        assert not held.covers(token)
        assert not replica.position().covers(token)
        shared.resume_replication(shared.replicas[0], sql_only=True)
        assert eventually(lambda: replica.position().covers(token))
        assert replica.value("SELECT count(*) FROM dialect_notes") == 1
        assert primary.position().covers(token)
        assert eventually(lambda: replica.position().covers(primary.position()))


@every_server
def test_a_token_may_be_read_on_any_connection(shared: Cluster) -> None:
    """Another connection's token, read after the commit, covers it: pools hand out whichever they have."""
    with asked(shared.primary.url) as writer, asked(shared.primary.url) as other:
        other.write()
        token = writer.write()
        assert other.token().covers(token)


@mysql_family
def test_no_receiver_no_lag(shared: Cluster) -> None:
    """IO thread stopped: NULL, which is unknown and not zero."""
    shared.pause_replication(shared.replicas[0], io_only=True)
    with asked(shared.replicas[0].url) as replica:
        report = replica.report()
    assert (report.role, report.follows, report.lag) == (Role.REPLICA, True, None)


@mysql_family
def test_no_applier_no_lag(shared: Cluster) -> None:
    """SQL thread stopped: NULL as well, and the position stands still."""
    shared.pause_replication(shared.replicas[0], sql_only=True)
    with asked(shared.primary.url) as primary, asked(shared.replicas[0].url) as replica:
        token = primary.write()
        report = replica.report()
        assert report.lag is None
        assert report.position is not None
        assert not report.position.covers(token)


@mysql_family
def test_idle_is_no_lag(shared: Cluster) -> None:
    """A caught-up replica of an idle primary is zero seconds behind, and its figure does not grow."""
    with asked(shared.replicas[0].url) as replica:
        assert eventually(lambda: replica.report().lag == 0.0)
        assert not replica.report().lag_grows_when_idle


@mysql_family
def test_a_delayed_replica_says_so(shared: Cluster) -> None:
    """SOURCE_DELAY under writes: a figure above zero, and a position that lacks the write."""
    shared.set_delay(shared.replicas[0], 30)
    with asked(shared.primary.url) as primary, asked(shared.replicas[0].url) as replica:
        token = primary.write()
        assert eventually(lambda: (replica.report().lag or 0) > 0)
        assert not replica.position().covers(token)


@only_postgresql
@pytest.mark.parametrize("half", ["io_only", "sql_only"])
def test_postgresql_stopped_is_seen_in_the_position(shared: Cluster, half: str) -> None:
    """Whichever half stands still: the age counts, because the position is behind the primary's."""
    shared.pause_replication(shared.replicas[0], io_only=half == "io_only", sql_only=half == "sql_only")
    with asked(shared.primary.url) as primary, asked(shared.replicas[0].url) as replica:
        primary.write()
        report, source = replica.report(), primary.report()
        assert report.lag is not None
        assert report.lag_grows_when_idle
        assert report.position is not None
        assert source.position is not None
        assert not report.position.covers(source.position)


@only_postgresql
def test_postgresql_delay(shared: Cluster) -> None:
    """recovery_min_apply_delay: the age grows and the position lacks the write."""
    shared.set_delay(shared.replicas[0], 30)
    with asked(shared.primary.url) as primary, asked(shared.replicas[0].url) as replica:
        token = primary.write()
        age = replica.report().lag
        assert age is not None
        assert eventually(lambda: (replica.report().lag or 0) > age)
        assert not replica.position().covers(token)


@only_postgresql
def test_postgresql_idle_grows_and_does_not_count(shared: Cluster) -> None:
    """The age of the last replayed transaction grows on an idle primary, and nothing is missing."""
    with asked(shared.primary.url) as primary, asked(shared.replicas[0].url) as replica:
        token = primary.write()
        assert eventually(lambda: replica.position().covers(token))
        age = replica.report().lag
        assert age is not None
        assert eventually(lambda: (replica.report().lag or 0) > age)
        assert replica.report().lag_grows_when_idle
        assert eventually(lambda: replica.position().covers(primary.position()))


@only_postgresql
def test_postgresql_a_position_at_a_page_end_is_reached(shared: Cluster) -> None:
    """The insert location lies behind a page's header, which no replay reaches until the next record."""
    with asked(shared.primary.admin_url) as primary, asked(shared.replicas[0].url) as replica:
        token_sql = primary.dialect.position_after_write
        raw, token = Lsn(), Lsn()

        def at_page_begin() -> bool:
            nonlocal raw, token
            # Both in one statement: the server's own background writer logs something now and then.
            (row,) = primary.execute(f"SELECT pg_current_wal_insert_lsn()::text AS raw, ({token_sql}) AS token")
            raw, token = Lsn.parse(row["raw"]), Lsn.parse(row["token"])
            room = 8192 - raw.location % 8192
            if room == 8192 - 24:
                return True
            # A message of n bytes takes 56 more here; another version takes a little more or less.
            size = room - 56 if 200 < room < 4000 else 2000 if room >= 4000 else 8
            primary.execute(f"SELECT pg_logical_emit_message(false, 'p', repeat('x', {size}))")
            return False

        assert eventually(at_page_begin)
        assert token.location == raw.location - 24
        assert eventually(lambda: replica.position().covers(token), seconds=5)


@only_postgresql
def test_postgresql_a_position_at_a_segment_end_is_reached(shared: Cluster) -> None:
    """The same after a segment switch, whose page header is longer; RDS switches every five minutes."""
    with asked(shared.primary.admin_url) as primary, asked(shared.replicas[0].url) as replica:
        primary.execute("SELECT pg_switch_wal()")
        token = primary.token()
        assert isinstance(token, Lsn)
        assert token.location % 8192 == 0
        assert eventually(lambda: replica.position().covers(token), seconds=5)


@only_postgresql
def test_postgresql_position_is_the_insert_location(shared: Cluster) -> None:
    """In the middle of a page it is the server's own number, and the timeline is the server's."""
    with asked(shared.primary.admin_url) as primary:
        primary.write()
        position = primary.position()
        assert isinstance(position, Lsn)
        distance = int(primary.value(f"SELECT pg_current_wal_insert_lsn() - '{str(position).partition('@')[0]}'"))
        assert 0 <= distance < 8192
        assert position.timeline == primary.value("SELECT timeline_id FROM pg_control_checkpoint()")


@mysql_family
def test_without_the_grant(shared: Cluster) -> None:
    """The missing grant is named, lag and role are not guessed, the position is known all the same."""
    grant = {"mysql": "GRANT REPLICATION CLIENT ON *.*", "mariadb": "GRANT SLAVE MONITOR ON *.*"}[shared.engine]
    with asked(shared.primary.bare_url) as primary, asked(shared.replicas[0].bare_url) as replica:
        report = primary.report()
        assert (report.role, report.follows, report.is_writable) == (Role.UNKNOWN, None, True)
        assert report.position is not None
        (line,) = report.missing
        assert line.startswith(grant)
        assert line.endswith("whether the server follows another one, and how far behind it is")
        report = replica.report()
        assert (report.role, report.follows, report.is_writable, report.lag) == (Role.REPLICA, None, False, None)
        assert report.missing == (line,)
        assert report.position is not None


@only_postgresql
def test_postgresql_without_the_grant(shared: Cluster) -> None:
    """An ordinary account sees everything but the receiver's row, and is told what follows."""
    with asked(shared.primary.bare_url) as primary, asked(shared.replicas[0].bare_url) as replica:
        assert primary.report().missing == ()
        assert primary.report().role is Role.PRIMARY
        report = replica.report()
        assert (report.role, report.is_writable) == (Role.REPLICA, False)
        assert report.lag is not None
        (line,) = report.missing
        assert line.startswith("GRANT pg_read_all_stats is missing")
        assert replica.position().covers(primary.position()) or eventually(
            lambda: replica.position().covers(primary.position())
        )


@only_postgresql
def test_postgresql_without_the_control_functions(shared: Cluster) -> None:
    """Where the control functions are taken from the public, their grant is named and the rest goes on."""
    functions = "pg_control_system(), pg_control_checkpoint()"
    with asked(shared.primary.admin_url) as admin, asked(shared.primary.bare_url) as primary:
        admin.execute(f"REVOKE EXECUTE ON FUNCTION {functions} FROM public")
        try:
            report = primary.report()
            assert report.role is Role.PRIMARY
            assert report.identity == ""
            assert report.position is not None
            (line,) = report.missing
            assert line.startswith(f"GRANT EXECUTE ON FUNCTION {functions} is missing")
        finally:
            admin.execute(f"GRANT EXECUTE ON FUNCTION {functions} TO public")


@every_server
def test_a_guarded_probe_is_not_mistaken(shared: Cluster) -> None:
    """The guard is the connection's, not the server's: the probe of a guarded connection says the same."""
    with asked(shared.primary.url) as primary:
        before = primary.report()
        for statement in primary.dialect.guard:
            primary.execute(statement)
        after = primary.report()
        assert (after.role, after.is_writable) == (before.role, before.is_writable) == (Role.PRIMARY, True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_restarted_replica_has_its_position_and_a_figure(engine: str, lab_cluster: Callable[..., Cluster]) -> None:
    """MySQL and MariaDB: the seconds may count what it had applied before, and come back to zero; the position is exact
    from the start. PostgreSQL: nothing replayed since the start, the age of the last checkpoint is the bound."""
    own = lab_cluster(engine, replicas=1)
    with asked(own.primary.url) as primary:
        token = primary.write()
        own.wait_caught_up()
        own.restart(own.replicas[0])
        with asked(own.replicas[0].url) as replica:
            if engine == "postgresql":
                assert replica.report().lag is not None
                assert eventually(lambda: replica.position().covers(primary.position()))
            else:
                assert replica.position().covers(token)
                assert eventually(lambda: replica.report().lag == 0.0)


@pytest.mark.parametrize("engine", MYSQL_FAMILY)
def test_a_dead_primary_leaves_the_lag_unknown(engine: str, lab_cluster: Callable[..., Cluster]) -> None:
    """Once the receiver has noticed, it is connecting, and that is not zero seconds."""
    own = lab_cluster(engine, replicas=1)
    own.kill(own.primary)
    with asked(own.replicas[0].url) as replica:
        assert eventually(lambda: replica.report().lag is None)
        assert replica.report().follows


@pytest.mark.parametrize("engine", MYSQL_FAMILY)
def test_a_frozen_primary_is_not_seen_in_the_seconds(engine: str, lab_cluster: Callable[..., Cluster]) -> None:
    """Zero until replica_net_timeout: the figure alone proves nothing, so the primary is probed as well."""
    own = lab_cluster(engine, replicas=1)
    with asked(own.replicas[0].url) as replica:
        assert eventually(lambda: replica.report().lag == 0.0)
        own.freeze(own.primary)
        assert replica.report().lag == 0.0
        own.thaw(own.primary)


@pytest.mark.parametrize("engine", ENGINES)
def test_demotion_and_promotion(engine: str, lab_cluster: Callable[..., Cluster]) -> None:
    """The roles change hands; positions of before are covered by the new primary and by those who follow it."""
    own = lab_cluster(engine, replicas=2)
    old, heir, third = own.primary, own.replicas[0], own.replicas[1]
    with asked(old.url) as connection:
        token = connection.write()
    own.demote(old)
    with asked(old.url) as connection:
        report = connection.report()
        assert report.is_writable is False
        # PostgreSQL keeps it a primary that refuses writes; MySQL has no such word.
        assert report.role is (Role.PRIMARY if engine == "postgresql" else Role.REPLICA)
    own.promote(heir)
    own.wait_caught_up()
    with asked(heir.url) as primary, asked(third.url) as replica, asked(old.url) as former:
        report = primary.report()
        assert (report.role, report.is_writable, report.follows) == (Role.PRIMARY, True, False)
        assert replica.report().role is former.report().role is Role.REPLICA
        # Before and after the new primary's first write.
        for _ in range(2):
            for follower in (replica, former):
                assert eventually(lambda follower=follower: follower.position().covers(primary.position()))  # type: ignore[misc]
                assert eventually(lambda follower=follower: follower.position().covers(token))  # type: ignore[misc]
            newer = primary.write()
            assert eventually(lambda newer=newer: replica.position().covers(newer))  # type: ignore[misc]
        assert _covers_or_stands_at(primary, token)
        _remembers_both(replica, engine)


def _covers_or_stands_at(primary: Asked, token: object) -> bool:
    """A MariaDB primary shows its last GTID only; the other two contain the token by their own rule."""
    position = primary.position()
    return primary.dialect.name == "mariadb" or position.covers(token)  # type: ignore[arg-type]


def _remembers_both(replica: Asked, engine: str) -> None:
    """Who has written: two UUIDs, two server ids, the second timeline."""
    position = replica.position()
    if engine == "mysql":
        assert isinstance(position, MySQLGtidSet)
        assert len({source for source, _ in position.ranges}) >= 2
    elif engine == "mariadb":
        assert {text.split("-")[1] for text in str(position).split(",")} >= {"1", "2"}
    else:
        assert isinstance(position, Lsn)
        assert position.timeline == 2


def test_mariadb_failover_without_the_replicas_binary_log(lab_cluster: Callable[..., Cluster]) -> None:
    """Replicas that log nothing still cover the new primary; the former one's GTIDs they no longer can."""
    own = lab_cluster("mariadb", replicas=2, options={"log-slave-updates": "OFF"})
    with asked(own.primary.url) as connection:
        token = connection.write()
    heir, third = own.replicas
    own.promote(heir)
    with asked(heir.url) as primary, asked(third.url) as replica:
        newer = primary.write()
        assert eventually(lambda: replica.position().covers(newer))
        assert eventually(lambda: replica.position().covers(primary.position()))
        assert not replica.position().covers(token)
        assert replica.value(f"SELECT MASTER_GTID_WAIT('{token}', 0)") == 0  # the server's own rule says yes


@pytest.mark.parametrize("engine", ENGINES)
def test_verdicts_of_real_errors(engine: str, lab_cluster: Callable[..., Cluster]) -> None:
    """What the servers and drivers really raise, from a read-only server to a killed connection."""
    own = lab_cluster(engine, replicas=1)
    primary, replica = own.primary, own.replicas[0]
    with asked(primary.url) as connection:
        connection.write()
        assert verdict_of(connection, "SELECT * FROM no_such_table") is Verdict.STATEMENT
        assert verdict_of(connection, "SELEKT 1") is Verdict.STATEMENT
        private = "pg_authid" if engine == "postgresql" else "mysql.user"
        assert verdict_of(connection, f"SELECT * FROM {private}") is Verdict.DENIED
        for statement in connection.dialect.guard:
            connection.execute(statement)
        for statement in _writes(engine):
            assert verdict_of(connection, statement) is Verdict.READ_ONLY, statement
        assert connection.value("SELECT n FROM dialect_notes") == 1
    own.wait_caught_up()
    with asked(replica.url) as connection:
        assert verdict_of(connection, "UPDATE dialect_notes SET n = 2") is Verdict.READ_ONLY
        assert connection.value("SELECT n FROM dialect_notes") == 1
    with asked(primary.admin_url) as admin, asked(primary.url) as connection:
        number, kill = {
            "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        }.get(engine, ("SELECT CONNECTION_ID()", "KILL {}"))
        admin.execute(kill.format(connection.value(number)))
        assert verdict_of(connection, "SELECT 1") is Verdict.GONE
    assert verdict_of_connecting(primary.url.replace(":lab-canary@", ":wrong@"), connection) is Verdict.LOGIN
    _limit_connections(primary.admin_url, engine)
    with asked(primary.bare_url):
        assert verdict_of_connecting(primary.bare_url, connection) is Verdict.TOO_MANY
    own.kill(primary)
    assert verdict_of_connecting(primary.url, connection) is Verdict.GONE


@pytest.mark.parametrize("engine", ENGINES)
def test_verdict_of_a_lock(
    engine: str, mysql_cluster: Cluster, mariadb_cluster: Cluster, postgresql_cluster: Cluster
) -> None:
    """A lock that is not had in time: the transaction may be run again."""
    own = {"mysql": mysql_cluster, "mariadb": mariadb_cluster, "postgresql": postgresql_cluster}[engine]
    with asked(own.primary.url) as holder, asked(own.primary.url) as waiter:
        holder.write()
        holder.execute("BEGIN")
        holder.execute("SELECT * FROM dialect_notes FOR UPDATE")
        waiter.execute(
            "SET lock_timeout = '1ms'" if engine == "postgresql" else "SET SESSION innodb_lock_wait_timeout = 1"
        )
        assert verdict_of(waiter, "UPDATE dialect_notes SET n = 3") is Verdict.RETRY
        holder.execute("ROLLBACK")


def verdict_of(connection: Asked, sql: str) -> Verdict:
    with pytest.raises(Exception) as refusal:  # noqa: PT011  # each driver's own class; the verdict is what is tested
        connection.execute(sql)
    return connection.dialect.verdict_of_error(getattr(refusal.value, "orig", refusal.value))


def verdict_of_connecting(url: str, like: Asked) -> Verdict:
    with pytest.raises(Exception) as refusal, asked(url):  # noqa: PT011  # as above
        pass
    return like.dialect.verdict_of_error(getattr(refusal.value, "orig", refusal.value))


def _writes(engine: str) -> list[str]:
    common = [
        "INSERT INTO dialect_notes VALUES (2, 2)",
        "UPDATE dialect_notes SET n = 2",
        "DELETE FROM dialect_notes",
        "CREATE TABLE dialect_more (id INT)",
        "TRUNCATE TABLE dialect_notes",
        "SELECT * FROM dialect_notes FOR UPDATE",
    ]
    # PostgreSQL lets temporary tables through on a primary that is only read-only by default.
    return common if engine == "postgresql" else [*common, "CREATE TEMPORARY TABLE dialect_temp (id INT)"]


def _limit_connections(admin_url: str, engine: str) -> None:
    with asked(admin_url) as admin:
        admin.execute(
            "ALTER ROLE bare CONNECTION LIMIT 1"
            if engine == "postgresql"
            else "ALTER USER 'bare'@'%%' WITH MAX_USER_CONNECTIONS 1"
        )
