"""What cluster() promises of each engine: one sentence a test."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from rds_router.lab import Cluster, LabError, LabTimeout, NotSupported, State
from rds_router.lab.watchdog import family, is_stopped, servers_of
from tests.conftest import ClusterFactory
from tests.lab.conftest import Run, engine_for

COUNT = "SELECT count(*) FROM notes"


def fill(run: Run, cluster: Cluster) -> None:
    """A table with one row, on every replica that can have it."""
    run(cluster.primary, "CREATE TABLE notes (id integer primary key)")
    run(cluster.primary, "INSERT INTO notes VALUES (1)")
    cluster.wait_caught_up()


def test_replicas_show_what_the_primary_committed(any_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """Two replicas by default; what the primary confirmed is on all of them after wait_caught_up()."""
    c = lab_cluster(any_engine)
    fill(run, c)
    assert len(c.replicas) == 2
    assert [run(replica, COUNT) for replica in c.replicas] == [1, 1]


def test_servers_are_named_and_on_loopback(server_engine: str, lab_cluster: ClusterFactory) -> None:
    """Names are engine-number, hosts 127.0.0.1, ports distinct and in the URLs, and repr shows no password."""
    c = lab_cluster(server_engine, replicas=1)
    assert [s.name for s in c.servers] == [f"{server_engine}-1", f"{server_engine}-2"]
    assert {s.host for s in c.servers} == {"127.0.0.1"}
    assert c.primary.port != c.replicas[0].port
    assert all(f"@127.0.0.1:{s.port}/app" in url for s in c.servers for url in (s.url, s.admin_url, s.bare_url))
    assert repr(c.replicas[0]) == f"<{server_engine}-2 replica 127.0.0.1:{c.replicas[0].port} running>"


def test_the_processes_of_a_server_are_known(server_engine: str, lab_cluster: ClusterFactory) -> None:
    """The main process first, of each server another one; none of a dead one."""
    c = lab_cluster(server_engine, replicas=1)
    assert len({c.pids(server)[0] for server in c.servers}) == 2
    c.kill(c.replicas[0])
    assert c.pids(c.replicas[0]) == []


def test_a_cluster_without_replicas(any_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """replicas=0 is a primary alone."""
    c = lab_cluster(any_engine, replicas=0)
    fill(run, c)
    assert c.replicas == ()


def test_replicas_refuse_writes_of_the_application(server_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """A replica takes no write of the application's account."""
    c = lab_cluster(server_engine, replicas=1)
    fill(run, c)
    with pytest.raises(DBAPIError):
        run(c.replicas[0], "INSERT INTO notes VALUES (2)")


def test_pause_and_resume(any_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """After pause_replication no later commit reaches the replica, the other one goes on; resume lets it catch up."""
    c = lab_cluster(any_engine)
    fill(run, c)
    paused, other = c.replicas
    c.pause_replication(paused)
    run(c.primary, "INSERT INTO notes VALUES (2)")
    c.wait_caught_up()
    assert (run(paused, COUNT), run(other, COUNT)) == (1, 2)
    c.resume_replication(paused)
    c.wait_caught_up(paused)
    assert run(paused, COUNT) == 2


@pytest.mark.parametrize("half", ["io_only", "sql_only"])
def test_pausing_one_half(any_engine: str, lab_cluster: ClusterFactory, run: Run, half: str) -> None:
    """Either half alone keeps commits from the replica, until it is resumed."""
    c = lab_cluster(any_engine, replicas=1)
    fill(run, c)
    replica = c.replicas[0]
    c.pause_replication(replica, **{half: True})
    run(c.primary, "INSERT INTO notes VALUES (2)")
    with pytest.raises(LabTimeout, match="has not"):
        c.wait_caught_up(replica, timeout=0.3)
    assert run(replica, COUNT) == 1
    c.resume_replication(replica, **{half: True})
    c.wait_caught_up(replica)
    assert run(replica, COUNT) == 2


def test_stopping_the_receiver_hides_the_lag_stopping_the_applier_does_not(
    lab_cluster: ClusterFactory, run: Run
) -> None:
    """PostgreSQL tells the halves apart: with a stopped applier the log still arrives."""
    c = lab_cluster("postgresql", replicas=2)
    fill(run, c)
    no_receiver, no_applier = c.replicas
    c.pause_replication(no_receiver, io_only=True)
    c.pause_replication(no_applier, sql_only=True)
    run(c.primary, "INSERT INTO notes VALUES (2)")
    time.sleep(0.3)
    behind = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
    assert run(no_receiver, behind) is False
    assert run(no_applier, behind) is True


@pytest.mark.parametrize("engine", ["mariadb", "mysql"])
def test_the_halves_are_the_threads_of_replica_status(engine: str, lab_cluster: ClusterFactory) -> None:
    """MySQL and MariaDB show in SHOW REPLICA STATUS which thread was stopped; app may ask, bare may not."""
    c = lab_cluster(engine, replicas=1)
    replica = c.replicas[0]
    c.pause_replication(replica, io_only=True)
    with engine_for(replica).connect() as connection:
        status = connection.execute(text("SHOW REPLICA STATUS")).mappings().one()
    prefix = "Slave" if engine == "mariadb" else "Replica"
    assert (status[f"{prefix}_IO_Running"], status[f"{prefix}_SQL_Running"]) == ("No", "Yes")
    with engine_for(replica.bare_url).connect() as connection, pytest.raises(DBAPIError, match="1227"):
        connection.execute(text("SHOW REPLICA STATUS"))


def test_delay(any_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """A delayed replica shows a commit when its time has come, not before; delay 0 ends it."""
    c = lab_cluster(any_engine, replicas=1)
    fill(run, c)
    replica = c.replicas[0]
    c.set_delay(replica, 2)
    before = time.time()
    run(c.primary, "INSERT INTO notes VALUES (2)")
    assert run(replica, COUNT) == 1
    c.wait_caught_up(replica)
    assert time.time() - before > 0.9  # whole seconds of two clocks: MySQL's 2 may be hardly more than 1
    assert run(replica, COUNT) == 2
    c.set_delay(replica, 60)
    run(c.primary, "INSERT INTO notes VALUES (3)")
    c.set_delay(replica, 0)
    c.wait_caught_up(replica)
    assert run(replica, COUNT) == 3


def test_kill_and_restart(any_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """A killed replica refuses connections, the rest go on; restarted, on the same URL, it catches up by itself."""
    c = lab_cluster(any_engine)
    fill(run, c)
    replica, other = c.replicas
    c.kill(replica)
    assert replica.state is State.DEAD
    with pytest.raises(DBAPIError):
        run(replica, COUNT)
    run(c.primary, "INSERT INTO notes VALUES (2)")
    c.wait_caught_up()
    assert run(other, COUNT) == 2
    c.restart(replica)
    c.wait_caught_up(replica)
    assert run(replica, COUNT) == 2


def test_a_killed_primary_loses_no_commit(any_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """SIGKILL and restart of the primary: what was committed is there, and replication goes on."""
    c = lab_cluster(any_engine, replicas=1)
    fill(run, c)
    run(c.primary, "INSERT INTO notes VALUES (2)")
    c.kill(c.primary)
    c.restart(c.primary)
    assert run(c.primary, COUNT) == 2
    run(c.primary, "INSERT INTO notes VALUES (3)")
    c.wait_caught_up(c.replicas[0], timeout=20)
    assert run(c.replicas[0], COUNT) == 3


def test_restart_of_a_running_server(any_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """restart() of running servers is an orderly stop and a start in the same role."""
    c = lab_cluster(any_engine, replicas=1)
    fill(run, c)
    c.restart(c.primary)
    c.restart(c.replicas[0])
    run(c.primary, "INSERT INTO notes VALUES (2)")
    c.wait_caught_up(timeout=20)
    assert run(c.replicas[0], COUNT) == 2


def test_freeze_and_thaw(server_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """A frozen server accepts the TCP connection and says nothing; thawed, it answers again."""
    c = lab_cluster(server_engine, replicas=1)
    fill(run, c)
    replica = c.replicas[0]
    c.freeze(replica)
    assert replica.state is State.FROZEN
    with pytest.raises(DBAPIError):
        run(replica, COUNT)
    c.thaw(replica)
    c.wait_caught_up(replica)
    assert run(replica, COUNT) == 1


def test_who_is_frozen_is_at_once(server_engine: str, lab_cluster: ClusterFactory) -> None:
    """SIGSTOP takes effect when the kernel finds the time: freeze() returns after that, of every thread."""
    c = lab_cluster(server_engine, replicas=0)
    pids = family(servers_of(str(c.primary.path.parent)))
    assert not any(is_stopped(pid) for pid in pids)
    for _ in range(50):
        c.freeze(c.primary)
        running = [pid for pid in pids if not is_stopped(pid)]
        c.thaw(c.primary)
        assert running == []


def test_demote(server_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """A demoted primary refuses writes and serves reads; promoting it again ends that."""
    c = lab_cluster(server_engine, replicas=0)
    fill(run, c)
    c.demote(c.primary)
    assert run(c.primary, COUNT) == 1
    with pytest.raises(DBAPIError):
        run(c.primary, "INSERT INTO notes VALUES (2)")
    c.promote(c.primary)
    run(c.primary, "INSERT INTO notes VALUES (2)")


@pytest.mark.parametrize("engine", ["mariadb", "mysql"])
def test_demote_beside_transactions_that_wait_for_one_another(
    engine: str, lab_cluster: ClusterFactory, run: Run
) -> None:
    """One waits for a row of the other's, whose next statement must not be made to wait for the demotion."""
    c = lab_cluster(engine, replicas=0)
    fill(run, c)
    run(c.primary, "INSERT INTO notes VALUES (2)")
    holder, waiter = (create_engine(c.primary.url, poolclass=NullPool).connect() for _ in range(2))
    with holder, waiter, ThreadPoolExecutor() as threads:
        holder.execute(text("DELETE FROM notes WHERE id = 1"))
        waits = threads.submit(waiter.execute, text("UPDATE notes SET id = 3 WHERE id = 1"))
        time.sleep(0.3)
        demotion = threads.submit(c.demote, c.primary)
        time.sleep(0.3)
        holder.execute(text("DELETE FROM notes WHERE id = 2"))
        holder.commit()
        demotion.result(timeout=30)
        with contextlib.suppress(DBAPIError):  # it may come too late
            waits.result(timeout=30)
    assert run(c.primary, COUNT) == 0


def check_roles(run: Run, c: Cluster) -> None:
    """The primary takes a write, and every running replica gets it."""
    before = run(c.primary, COUNT)
    run(c.primary, "INSERT INTO notes SELECT max(id) + 1 FROM notes")
    c.wait_caught_up(timeout=20)
    assert [run(server, COUNT) for server in c.servers if server.is_running] == [before + 1] * sum(
        server.is_running for server in c.servers
    )


def test_promote_with_the_old_primary_alive(any_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """The promoted server takes writes; the others, the old primary among them, follow it; URLs stay."""
    c = lab_cluster(any_engine)
    fill(run, c)
    old, new = c.primary, c.replicas[1]
    urls = [server.url for server in c.servers]
    assert c.promote(new) is new
    assert c.primary is new
    assert old in c.replicas
    assert [server.url for server in c.servers] == urls
    check_roles(run, c)
    if any_engine != "sqlite":
        with pytest.raises(DBAPIError):
            run(old, "INSERT INTO notes VALUES (99)")
    c.promote(old)
    check_roles(run, c)


def test_promote_with_the_old_primary_dead(any_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """After SIGKILL of the primary a replica takes over; the old one, restarted, comes back as a replica."""
    c = lab_cluster(any_engine)
    fill(run, c)
    old = c.primary
    c.kill(old)
    c.promote(c.replicas[0])
    check_roles(run, c)
    c.restart(old)
    check_roles(run, c)
    assert not old.is_primary


def test_promote_with_the_old_primary_frozen(server_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """A frozen primary is replaced; thawed, it still takes writes as if nothing had happened; rejoin() ends that."""
    c = lab_cluster(server_engine)
    fill(run, c)
    old = c.primary
    c.freeze(old)
    c.promote(c.replicas[0])
    check_roles(run, c)
    c.thaw(old)
    run(old, "INSERT INTO notes VALUES (1000)")
    with pytest.raises(LabError, match=r"rejoin\(\) it first"):
        c.promote(old)
    c.promote(c.replicas[1])
    run(old, "INSERT INTO notes VALUES (1001)")
    c.rejoin(old)
    assert run(old, "SELECT max(id) FROM notes") < 1000
    check_roles(run, c)


def test_promote_fetches_what_another_replica_has_more(
    server_engine: str, lab_cluster: ClusterFactory, run: Run
) -> None:
    """The primary dies while the replica to be promoted is paused: it takes the missing commit from the other one."""
    c = lab_cluster(server_engine)
    fill(run, c)
    behind, ahead = c.replicas
    c.pause_replication(behind, io_only=True)
    run(c.primary, "INSERT INTO notes VALUES (2)")
    c.wait_caught_up(ahead)
    c.kill(c.primary)
    c.promote(behind)
    assert run(behind, COUNT) == 2
    check_roles(run, c)


def test_promote_leaves_pauses_of_the_others(server_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """A replica whose applier is paused stays so when its primary changes."""
    c = lab_cluster(server_engine)
    fill(run, c)
    new, paused = c.replicas
    c.pause_replication(paused, sql_only=True)
    c.promote(new)
    run(new, "INSERT INTO notes VALUES (2)")
    c.wait_caught_up()
    assert run(paused, COUNT) == 1
    c.resume_replication(paused, sql_only=True)
    c.wait_caught_up(paused)
    assert run(paused, COUNT) == 2


def test_a_replica_frozen_during_a_promotion_follows_the_new_primary_when_thawed(
    server_engine: str, lab_cluster: ClusterFactory, run: Run
) -> None:
    """freeze(r), promote(s), thaw(r): r follows s."""
    c = lab_cluster(server_engine)
    fill(run, c)
    new, frozen = c.replicas
    c.freeze(frozen)
    c.promote(new)
    run(new, "INSERT INTO notes VALUES (2)")
    c.thaw(frozen)
    c.wait_caught_up(frozen)
    assert run(frozen, COUNT) == 2


def test_what_makes_no_sense_is_refused(any_engine: str, lab_cluster: ClusterFactory) -> None:
    """Pausing a primary, promoting or pausing the dead, freezing a file: LabError, naming the server or the reason."""
    c = lab_cluster(any_engine, replicas=1)
    replica = c.replicas[0]
    with pytest.raises(LabError, match=f"{any_engine}-1 is the primary"):
        c.pause_replication(c.primary)
    with pytest.raises(LabError, match=f"{any_engine}-1 is the primary"):
        c.rejoin(c.primary)
    c.kill(replica)
    with pytest.raises(LabError, match=f"{any_engine}-2 is dead"):
        c.promote(replica)
    with pytest.raises(LabError, match=f"{any_engine}-2 is dead"):
        c.set_delay(replica, 1)
    if any_engine == "sqlite":
        for refused in (c.freeze, c.thaw, c.demote):
            with pytest.raises(NotSupported):
                refused(c.primary)


def test_options_and_database(server_engine: str, lab_cluster: ClusterFactory, run: Run) -> None:
    """Extra server settings reach every server; another database exists, and all three accounts may use it."""
    options = {"idle_in_transaction_session_timeout": "77s"} if server_engine == "postgresql" else {"wait_timeout": 77}
    c = lab_cluster(server_engine, replicas=1, options=options, database="shop")
    for server in c.servers:
        name = next(iter(options))
        question = f"SHOW {name}" if server_engine == "postgresql" else f"SELECT @@GLOBAL.{name}"
        assert str(run(server, question)) in ("77", "77s", "77000", "1min 17s")
    run(c.primary, "CREATE TABLE things (id integer primary key)")
    run(c.primary.bare_url, "INSERT INTO things VALUES (1)")
    c.wait_caught_up()
    assert [run(url, "SELECT count(*) FROM things") for url in (c.replicas[0].bare_url, c.replicas[0].admin_url)] == [
        1,
        1,
    ]


def test_stop_may_be_called_twice(any_engine: str, lab_cluster: ClusterFactory) -> None:
    """After stop() every server is dead, and stopping again does nothing."""
    c = lab_cluster(any_engine, replicas=1)
    c.stop()
    c.stop()
    assert {server.state for server in c.servers} == {State.DEAD}


def test_errors_of_the_body_stop_the_cluster(any_engine: str, lab_cluster: ClusterFactory) -> None:
    """An exception inside the with block ends the servers and deletes the files."""
    c = lab_cluster(any_engine, replicas=0)
    path = c.primary.path
    assert path.exists()
    with contextlib.suppress(ZeroDivisionError), c:
        raise ZeroDivisionError
    assert not path.exists()
