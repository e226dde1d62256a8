"""The session's short cuts lead where decide() leads: whatever the servers say, and whatever was done before.

A short cut tells who captures of itself by asking ``decide()`` anew, with the scope as it is: so the decision that is
captured and the engine that was handed out must agree, every time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, literal, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rds_router import NoServerAvailable, Replica, RoutingPolicy, RoutingSession
from rds_router.engines import Part
from rds_router.testing import Clock, FixedServers, fixed_router, fixed_servers

Act = Callable[[RoutingSession, FixedServers, Clock], Any]


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


SELECT = select(Note.id)
PARTS: tuple[tuple[str, Part], ...] = (("db", "primary"), ("r1", "replica"), ("r2", "replica"))
STATEMENTS = {
    "a read": SELECT,
    "the same read": SELECT,
    "a read of another shape": select(literal(1)),
    "a read as text": text("SELECT 1"),
    "a locking read": select(Note).with_for_update(),
    "a write": delete(Note),
    "a read from the primary by wish": SELECT.execution_options(rds_route="primary"),
    "a read from a replica by wish": SELECT.execution_options(rds_route="replica"),
    "a fresh read": SELECT.execution_options(rds_max_staleness=0.5),
    "what nobody understands": text("FROBNICATE"),
}
EVENTS: dict[str, Act] = {
    "r1 falls behind": lambda session, servers, clock: servers.lags("r1", 9.0),
    "r1 catches up": lambda session, servers, clock: servers.lags("r1", 0.0),
    "r2 is a little behind": lambda session, servers, clock: servers.lags("r2", 1.0),
    "r2 fails": lambda session, servers, clock: servers.fails("r2"),
    "r2 recovers": lambda session, servers, clock: servers.recovers("r2"),
    "news comes": lambda session, servers, clock: servers.refresh(),
    "time passes": lambda session, servers, clock: clock.advance(3.0),
    "much time passes": lambda session, servers, clock: clock.advance(30.0),
    "commit": lambda session, servers, clock: session.commit(),
    "rollback": lambda session, servers, clock: session.rollback(),
    "session.connection()": lambda session, servers, clock: session.connection(),
    "a token is brought": lambda session, servers, clock: session.read_after(session.token),
}
steps = st.one_of(
    st.sampled_from(sorted(STATEMENTS)), st.sampled_from(["a read", "the same read"]), st.sampled_from(sorted(EVENTS))
)


@given(
    st.lists(steps, max_size=20),
    st.sampled_from(["primary", "error", "stalest"]),
    st.sampled_from(["token", "primary", "any"]),
    st.sampled_from([None, "primary", "replica"]),
)
def test_the_engine_handed_out_is_the_one_decided_on(
    acts: list[str], no_replica: Any, after_write: Any, block: str | None
) -> None:
    clock = Clock()
    policy = RoutingPolicy(no_replica=no_replica, after_write=after_write)
    replicas = [Replica(f"sqlite:////nowhere/{name}.db", name=name) for name in ("r1", "r2")]
    with (
        fixed_router(Replica("sqlite://", name="db"), replicas, policy=policy, clock=clock) as router,
        fixed_servers(router) as servers,
        RoutingSession(router=router) as session,
        contextlib.ExitStack() as blocks,
        router.capture() as routes,
    ):
        engines = {name: router._engines.get(name, part) for name, part in PARTS}
        if block is not None:
            blocks.enter_context(session.using_primary() if block == "primary" else session.using_replica())
        for act in acts:
            if act in EVENTS:
                EVENTS[act](session, servers, clock)
                continue
            session.in_transaction() or session.begin()
            routes.clear()
            scope = session._scope
            try:
                engine = session.get_bind(clause=STATEMENTS[act])
            except NoServerAvailable:
                assert no_replica != "primary"
                continue
            assert isinstance(engine, Engine)
            (route,) = routes
            decided = route.decision
            assert engine is engines[decided.target], f"{act}: {decided}"
            assert scope.pinned is None or decided.target in (scope.pinned, "db")
