"""What each contract promises, costs, and does when it cannot be kept: docs/contracts.md, sentence by sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Table, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from rds_router import RoutingSession
from rds_router.classify.mapped import tables_of
from rds_router.core.contract import ANY, MONOTONIC, SESSION, STRONG, Contract, contract_of
from rds_router.core.scope import Scope
from rds_router.events import CaughtUp, StillBehind
from rds_router.testing import fixed_router, fixed_servers
from rds_router.wishes import asked
from tests.session.conftest import MakeStage
from tests.session.models import User, users
from tests.session.stage import Stage, copy_file

PAGE = Path(__file__).resolve().parents[2] / "docs" / "contracts.md"
A_READ = select(User.name).where(User.id == 1)
COUNT = select(User.id)


class Family(DeclarativeBase):
    pass


marks = Table("Marks", Family.metadata, Column("a", ForeignKey("animal.id")), Column("t", ForeignKey("app.tag.id")))


class Tag(Family):
    __tablename__ = "tag"
    __table_args__ = {"schema": "app"}
    id: Mapped[int] = mapped_column(primary_key=True)


class Animal(Family):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    tags: Mapped[list[Tag]] = relationship(secondary=marks)


class Dog(Animal):
    __tablename__ = "dog"
    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)


def write(session: Any, name: str = "anna") -> None:
    session.execute(update(User).where(User.id == 1).values(name=name))
    session.commit()


def read(session: Any, statement: Any = A_READ) -> Any:
    """One read in a transaction of its own."""
    found = session.scalar(statement)
    session.rollback()
    return found


def copy_to(stage: Stage, *numbers: int) -> None:
    """SQLite: have these replicas alone contain what the primary contains, and the router know it."""
    stage.refresh()
    for number in numbers:
        copy_file(stage._paths[0], stage._paths[number])
    stage.refresh()


def test_each_sentence_of_the_page_has_a_test() -> None:
    stated = re.findall(r"^\*\*(C\d+)\*\*", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    tested = re.findall(r"^def test_(c\d+)_", Path(__file__).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert stated == [f"C{number}" for number in range(1, len(stated) + 1)]
    assert [each.upper() for each in dict.fromkeys(tested)] == stated


# --- any


def test_c1_any_does_not_wait_for_own_writes_nor_for_what_was_seen(stage: Stage) -> None:
    session = stage.session()
    write(session)
    with session.using_primary():
        assert read(session) == "anna"
    with session.reading("any"), stage.watching() as seen:
        read(session)
    assert seen.parts == ["replica"]
    assert not stage.told(CaughtUp) + stage.told(StillBehind), "nobody was asked"


def test_c2_any_keeps_the_bound_on_lag(on_sqlite: MakeStage) -> None:
    stage = on_sqlite(policy={"max_lag": 5.0, "reads": "any"})
    stage.fall_behind(100)
    with stage.watching() as seen:
        read(stage.session())
    assert seen.parts == ["primary"]


# --- bounded


def test_c3_bounded_counts_the_lag_and_the_time_since_it_was_measured(tmp_path: Path) -> None:
    with fixed_router("sqlite://", "sqlite:///one", lag={}) as router, fixed_servers(router) as servers:
        (replica,) = (seen.server.name for seen in router.topology.replicas)
        servers.lags(replica, 1.5)
        scope = Scope(contract=contract_of("bounded(2)"))
        assert router.explain(A_READ, scope).is_replica
        router.clock.advance(0.6)  # type: ignore[attr-defined]
        assert not router.explain(A_READ, scope).is_replica
        assert router.explain(A_READ).is_replica


def test_c4_a_looser_bound_takes_a_replica_that_is_out_for_others(on_sqlite: MakeStage) -> None:
    stage = on_sqlite(policy={"max_lag": 5.0})
    stage.fall_behind(100)
    session = stage.session()
    with session.reading("bounded(1000)"), stage.watching() as seen:
        read(session)
    assert seen.parts == ["replica"]


def test_c5_bounded_does_not_wait_for_own_writes(stage: Stage) -> None:
    """Behind a proxy nobody tells a lag, so the primary keeps the bound."""
    session = stage.session()
    write(session)
    with session.reading("bounded(3000)"), stage.watching() as seen:
        read(session)
    assert seen.parts == ["primary" if stage.is_proxied else "replica"]


def test_c6_bounded_goes_to_the_primary_when_nobody_keeps_it(on_sqlite: MakeStage) -> None:
    stage = on_sqlite(policy={"reads": "bounded(3)"})
    stage.fall_behind(10)
    with stage.watching() as seen:
        read(stage.session())
    assert seen.parts == ["primary"]


# --- monotonic


def test_c7_monotonic_stays_with_the_replica_that_was_read_from(stage: Stage) -> None:
    session = stage.session()
    with session.reading("monotonic"), stage.watching() as seen:
        for _ in range(12):
            read(session)
    assert len(set(seen.servers)) == 1
    assert set(seen.parts) == {"replica"}


def test_c8_monotonic_moves_only_to_a_replica_that_has_what_was_seen(on_sqlite: MakeStage) -> None:
    """Whoever showed the new row is out; the other one shows it too, or does not answer."""
    stage = on_sqlite(policy={"reads": "monotonic"})
    session = stage.session()
    write(stage.session())
    read(session)
    shown = 1 if session._scope.seen.server == "replica-1" else 2  # type: ignore[union-attr]
    other = 3 - shown
    copy_to(stage, shown)
    assert read(session) == "anna"
    stage.router.lost(f"replica-{shown}", OSError("gone"))
    with stage.watching() as seen:
        assert read(session) == "anna"
    assert seen.servers == ["primary"], "the other one lacks it"
    copy_to(stage, other)
    stage.router.lost(f"replica-{shown}", OSError("gone"))
    with stage.watching() as seen:
        assert read(session) == "anna"
    assert seen.servers == [f"replica-{other}"]


def test_c9_monotonic_asks_the_replicas_before_it_takes_the_primary(on_mariadb: MakeStage) -> None:
    """What was seen on the primary is on an idle replica in no time; then it answers."""
    stage = on_mariadb(policy={"reads": "monotonic", "causal_wait": 5.0})
    session = stage.session()
    with session.using_primary():
        read(session)
    with stage.watching() as seen:
        read(session)
    assert seen.parts == ["replica"]
    assert stage.told(CaughtUp)


def test_c9_and_takes_the_primary_if_they_do_not_have_it(on_mariadb: MakeStage) -> None:
    stage = on_mariadb(policy={"reads": "monotonic", "causal_wait": 0.05, "unknown_lag": "allow"})
    assert stage.cluster is not None
    for replica in stage.cluster.replicas:
        stage.cluster.pause_replication(replica)
    try:
        write(stage.session())
        session = stage.session()
        with session.using_primary():
            assert read(session) == "anna"
        with stage.watching() as seen:
            assert [read(session) for _ in range(3)] == ["anna"] * 3
    finally:
        for replica in stage.cluster.replicas:
            stage.cluster.resume_replication(replica)
    assert set(seen.parts) == {"primary"}
    assert len(stage.told(StillBehind)) == 1, "who lacks one moment lacks the later ones: one wait in vain"


def test_c10_what_was_seen_on_the_primary_is_remembered(stage: Stage) -> None:
    session = stage.session()
    with stage.watching() as seen:
        session.scalar(A_READ.execution_options(rds_reads="strong"))
        session.scalar(A_READ)
        session.rollback()
        session.scalar(A_READ)
        session.rollback()
        stage.catch_up()
        session.scalar(A_READ)
    assert seen.parts == ["primary", "primary", "primary", "replica"]


def test_c11_monotonic_does_not_wait_for_a_write_without_a_look(stage: Stage) -> None:
    session = stage.session()
    session.execute(insert(users).values(id=11, name="eva"))
    session.commit()
    with session.reading("monotonic"), stage.watching() as seen:
        read(session)
    assert seen.parts == ["replica"]


def test_c12_a_replica_that_was_gone_has_to_prove_what_it_showed(on_sqlite: MakeStage) -> None:
    """It was put back to an older state while it was away."""
    stage = on_sqlite(policy={"reads": "monotonic"}, replicas=1)
    write(stage.session())
    copy_to(stage, 1)
    session = stage.session()
    assert read(session) == "anna"
    stage.router.lost("replica-1", OSError("gone"))
    stage.on_server(1, "UPDATE rt_user SET name = 'ann' WHERE id = 1")
    stage.fall_behind(20)  # within the policy's bound
    with stage.watching() as seen:
        assert read(session) == "anna"
    assert seen.parts == ["primary"]


def test_c13_a_weaker_read_is_remembered_too(on_sqlite: MakeStage) -> None:
    """What "any" showed on another replica was shown."""
    stage = on_sqlite(policy={"reads": "monotonic"})
    session = stage.session()
    read(session)
    first = session._scope.seen.server  # type: ignore[union-attr]
    stage.router.lost(first, OSError("gone"))
    with session.reading("any"):
        read(session)
    assert session._scope.seen is not None
    assert session._scope.seen.server == "", "neither is known to have what both have shown"


# --- session, strong


def test_c14_session_is_the_default_and_both(stage: Stage) -> None:
    assert stage.router.policy.contract == SESSION
    session = stage.session()
    with stage.watching() as seen:
        for _ in range(6):
            read(session)
        write(session)
        assert read(session) == "anna"
        stage.catch_up()
        assert read(session) == "anna"
    assert len(set(seen.servers[:6])) == 1
    assert seen.parts == ["replica"] * 6 + ["primary"] * 2 + ["replica"]


def test_c15_strong_is_the_primary(stage: Stage) -> None:
    session = stage.session()
    with session.reading("strong"), stage.watching() as seen:
        read(session)
        session.scalars(COUNT).all()
    assert set(seen.parts) == {"primary"}


# --- where it is said


def test_c16_the_statement_wins_over_the_block_the_block_over_the_policy(make_stage: MakeStage) -> None:
    stage = make_stage(policy={"reads": "strong"})
    session = stage.session()
    with stage.watching() as seen:
        read(session)
        with session.reading("any"):
            read(session)
            read(session, A_READ.execution_options(rds_reads="strong"))
            session.scalar(A_READ.execution_options(rds_reads="strong"), execution_options={"rds_reads": "any"})
            session.rollback()
        read(session, A_READ.execution_options(rds_reads="bounded(3000)"))
    # Behind a proxy nobody tells a lag: the primary keeps the bound of the last one.
    assert seen.parts == ["primary", "replica", "primary", "replica", "primary" if stage.is_proxied else "replica"]


@pytest.mark.parametrize(
    ("shorthand", "contract"),
    [
        ({"rds_route": "primary"}, STRONG),
        ({"rds_route": "replica"}, ANY),
        ({"rds_max_staleness": 2}, SESSION.within(2.0)),
        ({"rds_route": "replica", "rds_max_staleness": 2}, contract_of("bounded(2)")),
        ({"rds_reads": "monotonic", "rds_max_staleness": 2}, MONOTONIC.within(2.0)),
    ],
)
def test_c17_the_other_options_are_shorthands(shorthand: dict[str, Any], contract: Contract) -> None:
    assert asked(SESSION, shorthand) == contract


def test_c17_and_so_are_the_blocks(stage: Stage) -> None:
    session = stage.session()
    for block, contract in (
        (session.using_primary(), "strong"),
        (session.using_replica(), "any"),
        (session.using_replica(max_staleness=2.0), "bounded(2)"),
    ):
        with block:
            assert session._scope.contract == contract_of(contract)
    assert session._scope.contract is None


@pytest.mark.parametrize("given", ["anything", "bounded", "bounded()", "bounded(-1)", "bounded(nan)", "Strong", 2, ""])
def test_c18_what_is_no_contract_is_refused(stage: Stage, given: Any) -> None:
    session = stage.session()
    with pytest.raises(ValueError, match="is no contract: "), session.reading(given):
        pass
    with pytest.raises(ValueError, match=r"execution option rds_reads: .* is no contract"):
        session.scalar(A_READ, execution_options={"rds_reads": given})


@pytest.mark.parametrize("name", ["any", "bounded(2.5)", "monotonic", "session", "strong"])
def test_c18_a_contract_prints_as_it_is_written(name: str) -> None:
    assert str(contract_of(name)) == name


# --- track_tables


def test_c19_a_read_of_other_tables_than_those_written_need_not_wait(make_stage: MakeStage) -> None:
    stage = make_stage(policy={"track_tables": True})
    session = stage.session()
    session.add(User(id=11, name="eva"))
    session.commit()
    with stage.watching() as seen:
        session.scalars(text("SELECT balance FROM rt_account")).all()
        session.rollback()
        session.scalars(COUNT).all()
    assert seen.parts == ["replica", "primary"]


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session.execute(text("UPDATE rt_user SET name = 'x' WHERE id = 1")),
        lambda session: session.connection(),
        lambda session: session.read_after(RoutingSession.token.fget(_wrote(session))),  # type: ignore[attr-defined]
    ],
    ids=["text", "connection()", "a token from elsewhere"],
)
def test_c20_after_what_is_not_known_every_read_waits(make_stage: MakeStage, change: Any) -> None:
    stage = make_stage(policy={"track_tables": True})
    session = stage.session()
    change(session)
    session.commit()
    with stage.watching() as seen:
        session.scalars(text("SELECT balance FROM rt_account")).all()
    assert seen.parts == ["primary"]


def _wrote(session: Any) -> RoutingSession:
    other = RoutingSession(router=session._router)
    write(other)
    other.close()
    return other


def test_c20_and_so_does_a_read_whose_tables_are_not_known(make_stage: MakeStage) -> None:
    stage = make_stage(policy={"track_tables": True, "pure_functions": {"abs"}})
    session = stage.session()
    session.add(User(id=11, name="eva"))
    session.commit()
    with stage.watching() as seen:
        session.scalar(text("SELECT abs(1)"))
    assert seen.parts == ["primary"]


def test_c21_a_flush_touches_the_whole_hierarchy_and_many_to_many_tables() -> None:
    assert tables_of(Animal.__mapper__) == {"animal", "dog", "marks"}
    assert tables_of(Tag.__mapper__) == {"tag"}


# --- how long it is remembered


def test_c22_a_session_remembers_from_transaction_to_transaction(stage: Stage) -> None:
    session = stage.session()
    read(session)
    seen = session._scope.seen
    assert seen is not None
    session.close()
    assert session._scope.seen == seen
    assert stage.session()._scope.seen is None, "another session is another client"
