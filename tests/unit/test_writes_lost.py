"""WritesLost: what a former primary has confirmed, and its heir lacks, is announced, whenever it was told."""

from __future__ import annotations

from rds_router import Router
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.position import Lsn, MySQLGtidSet, Position
from rds_router.events import WritesLost
from rds_router.noticed import _MOST, Acknowledged

UUIDS = {"db": "3e11fa47-71ca-11e1-9e33-c80aa9429562", "r1": "4e11fa47-71ca-11e1-9e33-c80aa9429562"}


def at(number: int, first: int = 1) -> Position:
    return MySQLGtidSet.parse(f"{UUIDS['db']}:{first}-{number}")


def told(router: Router) -> list[WritesLost]:
    found: list[WritesLost] = []
    router.events.listen(lambda event: found.append(event) if isinstance(event, WritesLost) else None)
    return found


def heard(router: Router, name: str, role: Role, position: Position | None, storage: Position | None = None) -> None:
    is_primary = role is Role.PRIMARY
    lag = None if is_primary else 0.0
    report = Report(role, lag, position=position, storage=storage, is_writable=is_primary, follows=not is_primary)
    router._observe(Observation(name, router.clock(), report))


def cluster() -> Router:
    """A primary with three transactions, of which the replica has three; nobody is asked."""
    router = Router("mysql+pymysql://db/app", ["mysql+pymysql://r1/app"])
    primary, replica = (seen.server.name for seen in router.topology.servers)
    heard(router, primary, Role.PRIMARY, at(3))
    heard(router, replica, Role.REPLICA, at(3))
    return router


def promote(router: Router, position: Position) -> None:
    primary, replica = (seen.server.name for seen in router.topology.servers)
    heard(router, primary, Role.REPLICA, at(3))
    heard(router, replica, Role.PRIMARY, position)
    assert router.topology.writer == replica


def test_of_several_commits_the_one_that_was_told_last_need_not_be_the_lost_one() -> None:
    with cluster() as router:
        lost = told(router)
        for number in (5, 4):  # two threads: the answers came in this order
            router.acknowledge(at(number, number), None)
        promote(router, at(4))
        assert [event.had for event in lost] == [str(at(5, 5))]


def test_what_the_heir_has_is_not_announced() -> None:
    with cluster() as router:
        lost = told(router)
        router.acknowledge(at(4, 4), None)
        promote(router, at(4))
        assert not lost


def test_a_commit_that_is_confirmed_after_the_primary_was_left_is_announced_then() -> None:
    """A server that was frozen wakes up and answers somebody who had been waiting."""
    with cluster() as router:
        lost, engine = told(router), router.primary_engine(start=False)
        promote(router, at(3))
        assert not lost
        router.acknowledge(at(3, 3), engine)
        assert not lost, "the heir has it"
        router.acknowledge(at(4, 4), engine)
        assert [event.had for event in lost] == [str(at(4, 4))]


def test_a_place_in_shared_storage_is_nothing_that_an_heir_could_lack() -> None:
    """The storage has it, whoever is the primary; and the heir's line may be older than its promotion."""
    with Router("postgresql+psycopg://db/app", ["postgresql+psycopg://r1/app"]) as router:
        lost = told(router)
        primary, replica = (seen.server.name for seen in router.topology.servers)
        heard(router, primary, Role.PRIMARY, None, Lsn(7))
        heard(router, replica, Role.REPLICA, None, Lsn(6))
        heard(router, primary, Role.REPLICA, None, Lsn(7))
        heard(router, replica, Role.PRIMARY, None, Lsn(6))
        assert router.topology.writer == replica
        assert lost == []


def test_commits_are_remembered_for_two_probes_of_the_primary() -> None:
    known = Acknowledged()
    known.add(at(1))
    known.asked()
    known.add(at(2))
    assert list(known) == [at(2), at(1)]
    known.asked()
    assert list(known) == [at(2)]
    known.asked()
    assert not list(known)


def test_they_are_not_remembered_without_bound() -> None:
    known = Acknowledged()
    for _ in range(3 * _MOST):
        known.add(at(1))
    assert len(list(known)) <= 2 * _MOST
