"""Cuts the wire at every packet of a transaction, kills the primary there, and counts: done once, each time.

``python -m tests.cluster.exactly_once mysql --runs 3000 --kills 60 --seed 1`` prints what came of it.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from rds_router import Replica, Router, RoutingPolicy, RoutingSession, prepare_transactions, run_transaction
from rds_router.drivers import wire_of
from rds_router.events import CommitResolved, Event
from rds_router.lab import Cluster, Proxy, Server, cluster
from rds_router.lab.proxy import Connection, To

Break = Callable[[Proxy, Connection], object]


class Bench:
    """A cluster behind wires, a router before them, and a ledger with a row for each operation."""

    def __init__(self, c: Cluster, wires: dict[str, Proxy], router: Router) -> None:
        self.c, self.wires, self.router = c, wires, router
        self.make_session = sessionmaker(class_=RoutingSession, router=router)
        self.outcomes: Counter[str] = Counter()
        self.operations = 0
        self.mine: Connection | None = None
        self.begun: dict[To, int] = {}
        self.committed: dict[To, int] = {}
        event.listen(self.make_session, "after_commit", self._committed)
        router.events.listen(self._heard)

    @property
    def wire(self) -> Proxy:
        return self.wires[self.router.topology.writer]

    def once(self, *, packets: int | None = None, to: To = "server", do: Break | None = None, **options: Any) -> int:
        """One transaction, its wire broken after so many packets of its first attempt. Returns its number."""
        self.operations += 1
        number, attempts = self.operations, 0
        broken: list[threading.Event] = []

        def work(session: RoutingSession) -> int:
            nonlocal attempts
            attempts += 1
            port = client_port(session.connection())
            wire = self.wire
            self.mine = next(each for each in wire.connections if each.client_port == port)
            self.begun = dict(self.mine.passed)
            if attempts == 1 and packets is not None:
                act = do or (lambda wire, connection: connection.cut())
                broken.append(wire.after(packets, to=to, of=port, do=lambda connection: act(wire, connection)))
            session.execute(text("INSERT INTO ledger (operation) VALUES (:number)"), {"number": number})
            session.execute(text("UPDATE totals SET n = n + 1 WHERE id = 1"))
            return number

        assert run_transaction(self.make_session, work, **{"timeout": 60.0, "attempts": 5, **options}) == number
        self.outcomes[f"{attempts} attempts"] += 1
        for each in broken:
            assert each.wait(60)
        return number

    def packets(self) -> dict[To, int]:
        """How many packets one undisturbed transaction takes from its first statement to the end of its COMMIT."""
        self.once()
        return {to: self.committed[to] - self.begun[to] for to in self.begun}

    def _committed(self, session: object) -> None:
        if self.mine is not None:
            self.committed = dict(self.mine.passed)

    def wrong(self) -> list[tuple[int, int]]:
        """Operations that are not there exactly once, with how often they are; and a total that is not theirs."""
        where = next(each for each in self.c.servers if each.name == self.router.topology.writer)
        engine = create_engine(where.url, poolclass=NullPool)
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT operation, count(*) FROM ledger GROUP BY operation")).all()
            total = connection.execute(text("SELECT n FROM totals")).scalar_one()
        engine.dispose()
        found = {int(operation): int(count) for operation, count in rows}
        numbers = range(1, self.operations + 1)
        wrong = [(number, found.get(number, 0)) for number in numbers if found.get(number) != 1]
        return wrong if total == self.operations or wrong else [(-1, total)]

    def _heard(self, event: Event) -> None:
        if isinstance(event, CommitResolved):
            self.outcomes[f"COMMIT in doubt: {event.was_committed}"] += 1


@contextmanager
def bench(c: Cluster, *, driver: str = "", **policy: Any) -> Iterator[Bench]:
    """The ledger made, every server behind a wire of its own. ``driver``: another one than the lab's own."""
    run(
        c.primary,
        "DROP TABLE IF EXISTS ledger, totals",
        "CREATE TABLE ledger (operation INT NOT NULL)",
        "CREATE TABLE totals (id INT PRIMARY KEY, n INT NOT NULL)",
        "INSERT INTO totals VALUES (1, 0)",
    )
    c.wait_caught_up()
    with ExitStack() as opened:
        wires = {each.name: opened.enter_context(Proxy(each)) for each in c.servers}
        urls = {name: make_url(wire.url) for name, wire in wires.items()}
        if driver:
            urls = {name: url.set(drivername=f"{url.get_backend_name()}+{driver}") for name, url in urls.items()}
        primary, *replicas = (Replica(urls[each.name], name=each.name) for each in (c.primary, *c.replicas))
        given = RoutingPolicy(**{"probe_interval": 0.5, "probe_timeout": 2.0, "failover_timeout": 60.0, **policy})
        arguments = {"connect_args": _PLAIN.get(urls[c.primary.name].get_driver_name(), {})}
        router = opened.enter_context(Router(primary, replicas, policy=given, engine_options=arguments))
        assert router.refresh(30)
        prepare_transactions(router)
        yield Bench(c, wires, router)


_PLAIN: Final[dict[str, dict[str, Any]]] = {
    "pymysql": {"ssl_disabled": True},
    "mysqldb": {"ssl_mode": "DISABLED"},
    "mysqlconnector": {"ssl_disabled": True, "use_pure": True},
}


def run(server: Server, *statements: str) -> None:
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def client_port(connection: Any) -> int:
    """The client's own port of a SQLAlchemy connection."""
    wire = wire_of(connection.connection.dbapi_connection)
    assert wire is not None
    return int(wire.ends[0][1])


def kill_and_restart(c: Cluster) -> Break:
    """The server dies at that packet and comes back."""

    def act(wire: Proxy, connection: Connection) -> None:
        dead = c.primary
        c.kill(dead)
        connection.cut()
        c.restart(dead)

    return act


def kill_and_promote(c: Cluster) -> Break:
    """The server dies at that packet, and another one takes its place."""

    def act(wire: Proxy, connection: Connection) -> None:
        old = c.primary
        c.kill(old)
        connection.cut()
        c.promote(next(each for each in c.replicas if each.is_running))
        c.restart(old)

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("--driver", default="")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    dice, begun = random.Random(given.seed), time.monotonic()
    with cluster(given.engine) as c, bench(c, driver=given.driver) as stand:
        packets = stand.packets()
        points: list[tuple[To, int]] = [(to, n) for to in ("server", "client") for n in range(packets[to] + 1)]
        for number in range(given.runs):
            to, n = points[number % len(points)]
            stand.once(packets=n, to=to)
        cut = dict(stand.outcomes)
        print(f"{given.engine}: {given.runs} cuts at {len(points)} points: {cut}; wrong: {stand.wrong()}", flush=True)
        # Once the client has the COMMIT's answer, the commit is acknowledged: asynchronous replication may lose it with
        # the primary, which is nothing that running a transaction again could mend. See WritesLost.
        unanswered = [point for point in points if point != ("client", packets["client"])]
        for number in range(given.kills):
            to, n = dice.choice(unanswered if number % 2 else points)
            c.wait_caught_up()
            act = kill_and_promote(c) if number % 2 else kill_and_restart(c)
            stand.once(packets=n, to=to, do=act)
        took = time.monotonic() - begun
        print(f"{given.engine}: {given.kills} kills: {dict(stand.outcomes)}; wrong: {stand.wrong()}; {took:.0f} s")


if __name__ == "__main__":
    main()
