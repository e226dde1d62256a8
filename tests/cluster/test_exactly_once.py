"""run_transaction: done exactly once, wherever the wire is cut, whoever dies; in doubt it is asked, not guessed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from rds_router import CommitInDoubt, RoutingSession, run_transaction
from rds_router.commit_marks import leave_mark
from rds_router.lab import Cluster
from tests.cluster.exactly_once import Bench, bench, kill_and_promote, kill_and_restart, run
from tests.cluster.watching import ENGINES
from tests.conftest import ClusterFactory

pytestmark = pytest.mark.once


@pytest.fixture(params=ENGINES)
def stand(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each engine's shared cluster; the test leaves it as it was."""
    c: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    with bench(c) as made:
        yield made
    run(c.primary, "DROP TABLE ledger, totals")


def test_the_wire_is_cut_at_every_packet(stand: Bench) -> None:
    """Of each direction, from before the first statement to after the COMMIT's answer."""
    packets = stand.packets()
    for n in range(packets["server"] + 1):
        stand.once(packets=n, to="server")
    for n in range(packets["client"] + 1):
        stand.once(packets=n, to="client")
    assert stand.wrong() == []
    # The COMMIT that arrived and was not answered: done or not, it was asked for.
    assert stand.outcomes["COMMIT in doubt: True"] + stand.outcomes["COMMIT in doubt: False"] >= 1
    assert stand.outcomes["COMMIT in doubt: None"] == 0
    assert stand.outcomes["2 attempts"] >= packets["server"] - 1


def test_a_commit_that_arrives_late(stand: Bench) -> None:
    """The client has given up, its COMMIT is still under way: whoever asks waits for it, or ends it."""
    packets = stand.packets()
    answer = 2 if stand.c.engine == "postgresql" else 1

    def hang_up(wire: Any, connection: Any) -> None:
        wire.blackhole(to_client=False)
        connection.hang_up()
        # New connections wait in the hole too: it is healed when the client has had time to come back.
        threading.Timer(0.5, wire.heal).start()

    stand.once(packets=packets["client"] - answer, to="client", do=hang_up)
    time.sleep(0.6)
    assert stand.wrong() == []
    # On PostgreSQL the one who asks may end the transaction before its COMMIT arrives.
    assert stand.outcomes["COMMIT in doubt: True"] + stand.outcomes["COMMIT in doubt: False"] == 1


def test_the_primary_dies_at_its_commit(request: pytest.FixtureRequest, lab_cluster: ClusterFactory) -> None:
    """Killed and restarted, killed and replaced: the answer is asked of whoever is the primary then."""
    for engine in ("mariadb", "postgresql"):
        c = lab_cluster(engine)
        with bench(c) as stand:
            packets = stand.packets()
            for n in (packets["server"] - 1, packets["server"]):
                c.wait_caught_up()
                stand.once(packets=n, to="server", do=kill_and_restart(c))
            for n in (packets["server"] - 1, packets["server"]):
                c.wait_caught_up()
                stand.once(packets=n, to="server", do=kill_and_promote(c))
            assert stand.wrong() == []
            assert stand.router.topology.generation == 2


def test_a_number_that_a_crash_has_undone(postgresql_cluster: Cluster) -> None:
    """The server died before its log told of the transaction: it gives that number out another day. It is not done."""
    with bench(postgresql_cluster) as stand, stand.router.primary.connect() as connection:
        mark = leave_mark(connection, stand.router.dialect)
        connection.rollback()
        assert mark is not None
        assert mark.was_committed(connection, 1.0) is False
        future = replace(mark, xid=str(int(mark.xid) + 100_000))  # type: ignore[type-var, attr-defined]
        assert future.was_committed(connection, 1.0) is False
        assert connection.scalar(text("SELECT 1")) == 1
    run(postgresql_cluster.primary, "DROP TABLE ledger, totals")


def test_without_a_mark_nobody_guesses(mariadb_cluster: Cluster) -> None:
    """The table was not prepared: a lost COMMIT is an error that says so, and what to do."""
    with bench(mariadb_cluster) as stand:
        run(mariadb_cluster.primary, "DROP TABLE rds_router_transactions")
        stand.once()
        packets = stand.packets()
        with pytest.raises(CommitInDoubt, match=r"it left no mark: call prepare_transactions\(router\) once"):
            stand.once(packets=packets["server"], to="server")
    run(mariadb_cluster.primary, "DROP TABLE ledger, totals")


def test_conflicts_are_run_again(stand: Bench) -> None:
    """A deadlock or a serialization failure between two: both are done, once each."""
    meeting = threading.Barrier(2)
    runs = [0, 0]

    def work(session: RoutingSession, me: int) -> None:
        runs[me] += 1
        first, second = (1, 2) if me == 0 else (2, 1)
        session.execute(text("UPDATE pairs SET n = n + 1 WHERE id = :id"), {"id": first})
        if runs[me] == 1:
            meeting.wait(20)
        session.execute(text("UPDATE pairs SET n = n + 1 WHERE id = :id"), {"id": second})

    run(stand.c.primary, "CREATE TABLE pairs (id INT PRIMARY KEY, n INT)", "INSERT INTO pairs VALUES (1, 0), (2, 0)")
    threads = [
        threading.Thread(target=lambda me=me: run_transaction(stand.make_session, lambda s: work(s, me), timeout=60))
        for me in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with stand.router.primary.connect() as connection:
        assert [row.n for row in connection.execute(text("SELECT n FROM pairs ORDER BY id"))] == [2, 2]
    assert sorted(runs) == [1, 2]
    assert stand.router.events.counts["TransactionRepeated"] == 1
    run(stand.c.primary, "DROP TABLE pairs")
