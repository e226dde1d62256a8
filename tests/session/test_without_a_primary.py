"""There is no primary, or its name leads elsewhere, or it refuses what its transaction's owner forbade. No server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import NoResultFound, OperationalError

from rds_router import NoPrimary, PrimaryChanged, Replica, Router, RoutingPolicy, RoutingSession
from rds_router.dialects.base import Verdict
from rds_router.errors import WrongServer
from rds_router.events import MissUnconfirmed, WriteRefused
from rds_router.testing import FixedServers, fixed_router, fixed_servers
from tests.session.models import User

LONG = 100.0
"""Seconds: nobody may wait for them here."""


class Stand:
    """A router over three files, whose servers are as the test says."""

    def __init__(self, urls: list[str], **policy: Any) -> None:
        self.engines: dict[str, Engine] = {}
        self.events: list[Any] = []
        primary, *replicas = (Replica(url, name=name) for url, name in zip(urls, ("db", "r1", "r2"), strict=True))
        self.router = fixed_router(primary, replicas, policy=RoutingPolicy(**policy), on_engine=self.made)
        self.router.events.listen(self.events.append)

    def made(self, engine: Engine, server: str, part: str) -> None:
        self.engines[f"{server} {part}"] = engine

    def told(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]


@pytest.fixture
def stand(sqlite_urls: list[str]) -> Iterator[Stand]:
    made = Stand(sqlite_urls, failover_timeout=LONG)
    with made.router:
        yield made


@pytest.fixture
def servers(stand: Stand) -> Iterator[FixedServers]:
    with fixed_servers(stand.router) as made:
        yield made


def is_lost(router: Router, servers: FixedServers) -> None:
    """The primary, for two probes."""
    servers.fails("db")
    servers.refresh()
    assert router.topology.lacks_primary


# --- a miss that nobody can confirm


def test_a_miss_is_not_waited_for(stand: Stand, servers: FixedServers) -> None:
    """The replica's answer stands, as an event and a count, and the transaction goes on reading there."""
    is_lost(stand.router, servers)
    with RoutingSession(router=stand.router) as session:
        assert session.get(User, 99) is None
        with pytest.raises(NoResultFound):
            session.confirmed_or(NoResultFound, lambda: session.scalars(select(User).where(User.id == 98)).one(), "one")
        (unconfirmed, other) = stand.told(MissUnconfirmed)
        assert (unconfirmed.what, other.what) == ("User", "one")
        assert unconfirmed.server == session._scope.pinned
        assert session._scope.hold is None
        assert session.get_one(User, 1).name == "ann"
    assert stand.router.events.counts["MissUnconfirmed"] == 2
    for never in ("WriteHeld", "WriteRefused", "MissConfirmed"):
        assert stand.router.events.counts[never] == 0


def test_a_primary_that_goes_while_it_is_asked_is_not_waited_for(stand: Stand, servers: FixedServers) -> None:
    with RoutingSession(router=stand.router) as session:
        stand.router.primary_engine()

        def goes(*_: Any) -> None:
            is_lost(stand.router, servers)
            raise OperationalError(
                "", {}, stand.engines["db primary"].dialect.loaded_dbapi.OperationalError("closed database")
            )

        event.listen(stand.engines["db primary"], "do_connect", goes)
        stand.engines["db primary"].dispose()
        assert session.get(User, 99) is None
        assert session._scope.hold is None
        assert session.get_one(User, 1).name == "ann"
    assert stand.router.events.counts["MissUnconfirmed"] == 1


def test_a_primary_that_is_back_confirms_again(stand: Stand, servers: FixedServers) -> None:
    is_lost(stand.router, servers)
    with RoutingSession(router=stand.router) as session:
        assert session.get(User, 99) is None
        servers.recovers("db")
        stand.router.clock.advance(0.1)  # type: ignore[attr-defined]
        servers.refresh()
        assert session.get(User, 99) is None
    assert [stand.router.events.counts[each] for each in ("MissUnconfirmed", "MissConfirmed")] == [1, 1]


# --- a name that leads elsewhere


@pytest.mark.parametrize("timeout", [0.0, 0.2])
def test_a_name_that_leads_elsewhere_is_no_primary(sqlite_urls: list[str], timeout: float) -> None:
    """Whether it may be waited for or not; told with what to do, in a class of the router's that people know."""
    stand = Stand(sqlite_urls, failover_timeout=timeout)
    with stand.router as router:

        def elsewhere(connection: Any, record: Any) -> None:
            raise WrongServer("db led to a server that refuses writes")

        event.listen(router.primary_engine(), "connect", elsewhere)
        with RoutingSession(router=router) as session, pytest.raises(NoPrimary) as raised:
            session.execute(insert(User).values(id=9, name="x"))
        assert type(raised.value) is NoPrimary
        assert str(raised.value).startswith("db led to a server that refuses writes: its name may resolve to the old ")
        assert f"(failover_timeout {timeout:g} s). Nothing was sent" in str(raised.value)
        assert raised.value.waited >= timeout
        assert raised.value.objections[0].startswith("db ")
        with pytest.raises(NoPrimary) as raised:
            router.primary.connect()
        assert type(raised.value) is NoPrimary
        assert len(stand.told(WriteRefused)) == 2
        with pytest.raises(NoPrimary):  # past the router: the engine of the moment
            router.primary_engine().connect()


# --- a transaction that is read-only by its owner's wish


@pytest.fixture
def wishful(stand: Stand) -> Stand:
    """Its dialect knows an error that may be either."""
    router = stand.router
    router._dialect = replace(
        router._dialect,
        verdict_of_error=lambda error: Verdict.READ_ONLY,
        may_be_own_wish=lambda error: True,
    )
    return stand


def refused(router: Router) -> Any:
    with RoutingSession(router=router) as session, pytest.raises(OperationalError) as raised:
        session.execute(text("INSERT INTO no_such_table VALUES (1)"))
    return raised.value


def test_the_owners_own_wish_is_no_demotion(wishful: Stand, servers: FixedServers) -> None:
    """The server is asked, and takes writes: the pool stays, nobody is suspected."""
    pool = wishful.router.primary_engine().pool
    assert not isinstance(refused(wishful.router), PrimaryChanged)
    assert wishful.router.primary_engine().pool is pool
    assert wishful.router.events.counts["PrimarySuspected"] == 0


def test_a_server_that_does_not_answer_is_taken_for_demoted(wishful: Stand, servers: FixedServers) -> None:
    with wishful.router.primary_engine().connect() as connection:
        servers.fails("db")
        with pytest.raises(PrimaryChanged):
            connection.execute(text("INSERT INTO no_such_table VALUES (1)"))
    assert wishful.router.events.counts["PrimarySuspected"] == 1


def test_nobody_is_asked_of_an_error_that_tells_by_itself(wishful: Stand, servers: FixedServers) -> None:
    router = wishful.router
    router._dialect = replace(router._dialect, may_be_own_wish=lambda error: False)
    assert isinstance(refused(router), PrimaryChanged)
