"""R9, R11, R12, R14: the net under the classifier, what is not known of a replica, pools, secrets."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from rds_router import Kind, NoServerAvailable, Replica, Router, RoutingPolicy, RoutingSession, Statement
from rds_router.core.observation import Observation
from rds_router.events import Healed, PrimaryMoved, ReplicaOut
from rds_router.monitor import Prober
from tests.conftest import ClusterFactory
from tests.session.conftest import MakeStage
from tests.session.models import Base, User, seed, users
from tests.session.stage import Stage, record

A_READ = select(User.name).where(User.id == 1)
AN_INSERT = text("INSERT INTO rt_user (id, name) VALUES (11, 'eva')")


def take_for_a_read(stage: Stage, clause: Any) -> None:
    """Have the classifier be wrong about a statement."""
    stage.router._classifier.learn(clause, Statement(Kind.READ, "a mistake"))


# --- R9


@pytest.fixture
def fooled(make_stage: MakeStage) -> Stage:
    """A router that takes AN_INSERT for a read."""
    stage = make_stage()
    take_for_a_read(stage, AN_INSERT)
    return stage


def test_r9_a_misrouted_write_is_refused_undone_and_run_on_the_primary(fooled: Stage) -> None:
    """The replica refuses it, the primary runs it once, and nobody has to know."""
    session = fooled.session()
    with fooled.watching() as seen:
        session.execute(AN_INSERT)
        assert session.scalar(select(User.name).where(User.id == 11)) == "eva"
        session.commit()
    assert seen.parts == ["replica", "primary", "primary"]
    assert [fooled.on_server(0, "SELECT count(*) FROM rt_user WHERE id = 11")] == [1]
    assert session.token is not None


def test_r9_it_is_told_and_counted(fooled: Stage) -> None:
    session = fooled.session()
    session.execute(AN_INSERT)
    (healed,) = fooled.told(Healed)
    assert isinstance(healed, Healed)
    assert healed.server in ("replica-1", "replica-2")
    assert healed.shape == "insert into rt_user (id, name) values (?, ?)"
    assert "eva" not in str(healed)
    assert fooled.router.healed_shapes == {healed.shape: 1}
    assert "read" in healed.error.lower()
    assert fooled.router.events.counts["Healed"] == 1


def test_r9_its_shape_is_remembered(fooled: Stage) -> None:
    session = fooled.session()
    session.execute(AN_INSERT)
    session.rollback()
    with fooled.watching() as seen:
        session.execute(AN_INSERT)
    assert seen.parts == ["primary"]
    assert str(fooled.router.judge(AN_INSERT)).startswith("write (refused by the read-only replica replica-")


def test_r9_reads_before_it_in_the_transaction_do_not_prevent_it(fooled: Stage) -> None:
    session = fooled.session()
    with fooled.watching() as seen:
        session.scalar(A_READ)
        session.execute(AN_INSERT)
        session.scalar(A_READ)
        session.commit()
    assert seen.parts == ["replica", "replica", "primary", "primary"]


def test_r9_the_primarys_own_refusal_is_raised(fooled: Stage) -> None:
    """Only a replica's refusal is healed, and once: what fails on the primary fails."""
    session = fooled.session()
    session.execute(text("INSERT INTO rt_user (id, name) VALUES (11, 'first')"))
    session.commit()
    session.read_after(None)
    fooled.catch_up()
    with pytest.raises(DBAPIError) as caught:
        session.execute(AN_INSERT)
    assert "11" in str(caught.value) or "UNIQUE" in str(caught.value)
    assert len(fooled.told(Healed)) == 1


def test_r9_other_errors_of_a_replica_are_raised(make_stage: MakeStage) -> None:
    stage = make_stage()
    session = stage.session()
    with stage.watching() as seen, pytest.raises(DBAPIError):
        session.execute(text("SELECT no_such_column FROM rt_user")).all()
    assert seen.parts == ["replica"]
    assert stage.told(Healed) == []


def test_r9_every_replica_connection_is_guarded(stage: Stage) -> None:
    """But for those that lead through a proxy: a setting would pin them. There the replica alone refuses."""
    if stage.is_proxied:
        ask, guarded, free = "SHOW default_transaction_read_only", "off", "off"
    elif stage.is_sqlite:
        ask, guarded, free = "PRAGMA query_only", 1, 0
    else:
        ask, guarded, free = "SELECT @@session.tx_read_only", 1, 0
    with stage.router.reader.connect() as connection:
        assert connection.exec_driver_sql(ask).scalar() == guarded
        with pytest.raises(DBAPIError):
            connection.execute(insert(users).values(id=11, name="eva"))
    with stage.router.primary.connect() as connection:
        assert connection.exec_driver_sql(ask).scalar() == free


# --- R11


@pytest.mark.parametrize(("unknown_lag", "part"), [("exclude", "primary"), ("allow", "replica")])
def test_r11_null_lag_is_not_zero(on_sqlite: MakeStage, unknown_lag: str, part: str) -> None:
    stage = on_sqlite(policy={"unknown_lag": unknown_lag})
    for number in (1, 2):
        stage.on_server(number, "UPDATE rds_router_replica_status SET caught_up_at = NULL")
    stage.refresh()
    with stage.watching() as seen:
        stage.session().scalar(A_READ)
    assert seen.parts == [part]


def test_r11_a_stopped_replica_on_mariadb_has_no_lag(on_mariadb: MakeStage) -> None:
    """Seconds_Behind_Master is NULL then."""
    stage = on_mariadb()
    assert stage.cluster is not None
    for replica in stage.cluster.replicas:
        stage.cluster.pause_replication(replica)
    try:
        stage.refresh()
        with stage.watching() as seen:
            stage.session().scalar(A_READ)
    finally:
        for replica in stage.cluster.replicas:
            stage.cluster.resume_replication(replica)
    assert seen.parts == ["primary"]
    assert {event.why for event in stage.told(ReplicaOut) if isinstance(event, ReplicaOut)} == {"lag unknown"}


def test_r11_a_replica_nobody_has_asked_yet_gets_nothing(
    sqlite_urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    gate, probe = threading.Event(), Prober.probe

    def later(prober: Prober, *, as_primary: bool) -> Observation:
        gate.wait(30)
        return probe(prober, as_primary=as_primary)

    monkeypatch.setattr(Prober, "probe", later)
    with Router(sqlite_urls[0], sqlite_urls[1:], on_engine=lambda engine, server, part: seen.append(part)) as router:
        session = RoutingSession(router=router)
        session.get_bind(clause=A_READ)
        assert seen == ["primary"]
        session.close()
        gate.set()


def test_r11_the_last_resort_error(on_sqlite: MakeStage) -> None:
    stage = on_sqlite(policy={"no_replica": "error", "max_lag": 5.0})
    stage.fall_behind(100)
    session = stage.session()
    with pytest.raises(NoServerAvailable, match=r"replica-1 lagging 100\.\d s") as caught:
        session.scalar(A_READ)
    assert len(caught.value.objections) == 2
    with stage.watching() as seen, session.using_primary():
        session.scalar(A_READ)
    assert seen.parts == ["primary"]


def test_r11_the_last_resort_stalest(on_sqlite: MakeStage) -> None:
    """The least stale replica, within hard_max_lag."""
    stage = on_sqlite(policy={"no_replica": "stalest", "max_lag": 5.0, "hard_max_lag": 1000.0})
    stage.fall_behind(100)
    with stage.watching() as seen:
        stage.session().scalar(A_READ)
    assert seen.parts == ["replica"]


# --- R12


def test_r12_one_engine_a_server(stage: Stage) -> None:
    engines = set()
    for _ in range(20):
        session = stage.session()
        engines.add(session.get_bind(clause=A_READ))
        engines.add(session.get_bind())
        session.close()
    assert len(engines) == 3
    assert len({str(bind.engine.url) for bind in engines}) == 3


def test_r12_a_demoted_primarys_pool_is_let_go(lab_cluster: ClusterFactory) -> None:
    """After a promotion writes go to the new primary over new connections; the old one answers reads only."""
    cluster = lab_cluster("mariadb")
    urls = [server.url for server in cluster.servers]
    stage = Stage(urls, cluster=cluster)
    try:
        session = stage.session()
        Base.metadata.create_all(stage.router.primary)
        with stage.router.primary.begin() as connection:
            seed(connection)
        session.execute(insert(users).values(id=11, name="before"))
        session.commit()
        old = stage.router.primary_engine()
        cluster.promote(cluster.replicas[0])
        cluster.wait_caught_up()
        stage.refresh()
        stage.refresh()
        assert [event.new for event in stage.told(PrimaryMoved) if isinstance(event, PrimaryMoved)] == ["replica-1"]
        assert stage.router.primary_engine() is not old
        assert old.pool.checkedin() == 0  # type: ignore[attr-defined]  # QueuePool has it
        with stage.watching() as seen:
            session.execute(insert(users).values(id=12, name="after"))
            session.commit()
            assert session.scalar(select(User.name).where(User.id == 12)) == "after"
        assert {ran.server for ran in seen.statements if ran.part == "primary"} == {"replica-1"}
    finally:
        stage.close()


def test_r12_a_transaction_under_way_stays_where_it_began(lab_cluster: ClusterFactory) -> None:
    """It fails there, rather than being torn in two."""
    cluster = lab_cluster("mariadb", replicas=1)
    stage = Stage([server.url for server in cluster.servers], cluster=cluster, replicas=1)
    try:
        Base.metadata.create_all(stage.router.primary)
        with stage.router.primary.begin() as connection:
            seed(connection)
        session = stage.session()
        session.execute(insert(users).values(id=11, name="torn"))
        cluster.promote(cluster.replicas[0])
        stage.refresh()
        stage.refresh()
        with stage.watching() as seen, pytest.raises(OperationalError):
            session.execute(insert(users).values(id=12, name="torn"))
        assert {ran.server for ran in seen.statements} == {"primary"}
        session.rollback()
        with stage.watching() as seen:
            session.execute(insert(users).values(id=12, name="whole"))
            session.commit()
        assert seen.servers == ["replica-1"]
    finally:
        stage.close()


# --- R14

SECRET = "s3cr3t-w0rd"


def test_r14_no_password_anywhere(on_mariadb: MakeStage, caplog: pytest.LogCaptureFixture) -> None:
    """Wrong passwords make errors in the monitor, in events, in the log and in explain(): none shows them."""
    stage = on_mariadb()
    wrong = [url.replace(url.split("@")[0].rsplit(":", 1)[1], SECRET) for url in stage.urls]
    assert all(SECRET in url for url in wrong)
    told: list[str] = []
    with (
        caplog.at_level(logging.DEBUG),
        Router(
            wrong[0], [Replica(wrong[1], name="r1"), wrong[2]], policy=RoutingPolicy(probe_interval=3600.0)
        ) as router,
    ):
        router.events.listen(lambda event: told.append(repr(event) + str(event)))
        router.refresh()
        shown = [
            repr(router),
            repr(router.topology),
            str(router.explain(A_READ)),
            repr(router.explain(A_READ)),
            repr(router.primary),
            repr(router.events),
            repr(router.topology.servers),
            *told,
            caplog.text,
        ]
    assert "Access denied" in "".join(told)
    assert not [each for each in shown if SECRET in each]


@pytest.mark.parametrize(
    "url", [f"mysql+pymysql://app:{SECRET}@/db", f"nosuch://app:{SECRET}@h/db", f"://app:{SECRET}"]
)
def test_r14_no_password_in_a_configuration_error(url: str) -> None:
    from rds_router import ConfigurationError

    with pytest.raises(ConfigurationError) as caught:
        Router("mysql+pymysql://app:x@primary/db", [url])
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(Replica(url))


def test_r14_engines_of_the_record_are_real(on_sqlite: MakeStage) -> None:
    """record() listens to the engine it is given and to no other."""
    from tests.session.stage import Record

    stage = on_sqlite()
    own = Record()
    record(stage.router.primary_engine(), own)
    stage.session().execute(A_READ.with_for_update()).all()
    assert own.parts == ["primary"]
