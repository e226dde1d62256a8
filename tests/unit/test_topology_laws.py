"""What holds of every belief, whatever the news and its order; and that it is true, against a cluster in a model."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from rds_router.core.lag import HINDSIGHT, HISTORY
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import Lsn, MariaDBGtidList
from rds_router.core.token import Token
from rds_router.core.topology import Objection, Server, Topology, evolve
from tests.unit import core_strategies as core

lists = st.lists(
    st.builds(Server, st.sampled_from([*core.NAMES, "new"]), is_primary=st.booleans()),
    unique_by=lambda server: server.name,
    max_size=4,
)
news = st.one_of(core.observations, core.observations, core.observations, lists)


@given(core.servers, core.policies, st.lists(st.tuples(core.moments, news), max_size=20))
def test_no_news_in_whatever_order_breaks_the_belief(
    servers: list[Server], policy: RoutingPolicy, steps: list[tuple[float, Observation | list[Server]]]
) -> None:
    """It never raises, and each step leaves a belief that makes sense."""
    topology = Topology.of(servers, policy)
    for now, what in steps:
        before, text = topology, repr(topology)
        topology = evolve(before, what, now=now)
        assert (before, text) == (evolve_nothing(before), repr(before)), "the old snapshot was changed"
        check(topology, now)
        assert topology.generation - before.generation == (topology.writer != before.writer)
        assert evolve(before, what, now=now) == topology


def evolve_nothing(topology: Topology) -> Topology:
    return evolve(topology, Observation("nobody's name", 0.0), now=0.0)


def check(topology: Topology, now: float) -> None:
    """The parts of a snapshot agree."""
    names = [seen.server.name for seen in topology.servers]
    assert topology.writer in names
    assert len(set(names)) == len(names)
    assert [seen for seen in topology.servers if seen.objection is None] == list(topology.eligible)
    assert topology[topology.writer].objection is Objection.IS_PRIMARY
    assert set(topology.eligible_at(now)) <= set(topology.eligible) <= set(topology.replicas)
    assert len(topology.history) <= HISTORY
    for seen in topology.eligible_at(now):
        assert seen.observation is not None
        assert seen.observation.report is not None
        assert not seen.is_old_at(now, topology.policy)
        assert (seen.lag is None and topology.policy.unknown_lag == "allow") or (
            seen.lag is not None and seen.lag <= topology.policy.max_lag
        )
    for seen in topology.servers:
        assert seen.lag is None or seen.lag >= 0.0
    assert repr(topology)


@given(core.servers, core.policies, st.lists(core.observations, max_size=12), core.observations)
def test_the_news_of_other_replicas_changes_what_is_believed_of_one_only_through_zone_and_age(
    servers: list[Server], policy: RoutingPolicy, steps: list[Observation], last: Observation
) -> None:
    topology = Topology.of(servers, policy)
    for each in steps:
        topology = evolve(topology, each, now=100.0)
    later = evolve(topology, last, now=100.0)
    if later.writer == topology.writer != last.server:
        for before, after in zip(topology.servers, later.servers, strict=True):
            if before.server.name != last.server:
                assert (before.lag, before.as_of, before.report) == (after.lag, after.as_of, after.report)


@given(core.servers, core.policies, st.permutations(core.NAMES), st.lists(core.well, min_size=4, max_size=4))
def test_the_order_in_which_servers_are_first_heard_of_does_not_matter(
    servers: list[Server], policy: RoutingPolicy, names: list[str], reports: list[Report]
) -> None:
    """A round of probes that were sent at the same time, answered in any order, gives the same belief."""
    said = dict(zip(core.NAMES, reports, strict=True))
    said["db"] = replace(said["db"], role=Role.PRIMARY)
    beliefs = []
    for order in (names, core.NAMES):
        topology = Topology.of(servers, policy)
        for name in order:
            topology = evolve(topology, Observation(name, 1.0, said[name]), now=1.0)
        beliefs.append(topology)
    assert beliefs[0] == beliefs[1]


@given(st.lists(st.sampled_from([0.0, 2.4, 2.6, 4.9, 5.1, None]), min_size=1, max_size=12))
def test_lag_takes_a_replica_out_above_the_bound_and_lets_it_back_at_half_of_it(figures: list[float | None]) -> None:
    topology = Topology.of([Server("db", is_primary=True), Server("r1")], RoutingPolicy())
    is_out = False
    for at, lag in enumerate(figures):
        topology = evolve(topology, Observation("r1", at, Report(Role.REPLICA, lag=lag)), now=at)
        is_out = lag is None or lag > (2.5 if is_out else 5.0)
        assert bool(topology.eligible) is not is_out


class Model:
    """A primary whose commits reach a replica in order, some time later; a probe asks, and reads a moment after."""

    def __init__(self, *, keeps_positions: bool, interval: float) -> None:
        self.now = 100.0
        self.log: list[tuple[float, float | None]] = []
        """Commits: when, and the heartbeat it wrote, if it was one."""
        self.applied = 0
        self.keeps_positions = keeps_positions
        self.interval = interval

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def commit(self, beat: float | None = None) -> None:
        self.log.append((self.now, beat))

    def apply(self, number: int) -> None:
        self.applied = min(len(self.log), self.applied + number)

    def probe(self, server: str, delay: float, lie: float) -> Observation:
        """``lie``: what the replica says its lag is, which need not be true."""
        at = self.now
        self.pass_time(delay)
        is_primary = server == "db"
        if is_primary and at_last_beat(self.log) < self.now - self.interval / 2:
            self.commit(beat=self.now)
        known = self.log if is_primary else self.log[: self.applied]
        beats = [beat for _, beat in known if beat is not None]
        return Observation(
            server,
            at,
            Report(
                Role.PRIMARY if is_primary else Role.REPLICA,
                lag=None if is_primary else lie,
                position=MariaDBGtidList(((0, 1, len(known)),) if known else ()) if self.keeps_positions else None,
                heartbeat=beats[-1] if beats else None,
            ),
        )

    def goes_on(self, what: str, number: float) -> bool:
        """The servers go on by one step; False if the step is none of theirs."""
        if what == "commit":
            self.commit()
            self.pass_time(number)
        elif what == "wait":
            self.pass_time(number)
        elif what in ("apply", "catch up"):
            self.apply(len(self.log) if what == "catch up" else int(number))
        else:
            return False
        return True

    def lacks_commits_before(self, moment: float) -> bool:
        return any(at < moment for at, _ in self.log[self.applied :])


def at_last_beat(log: list[tuple[float, float | None]]) -> float:
    return max((beat for _, beat in log if beat is not None), default=float("-inf"))


gaps = st.integers(0, 12).map(lambda quarter: quarter / 4)
events = st.one_of(
    st.tuples(st.just("commit"), gaps),
    st.tuples(st.just("apply"), st.integers(1, 3)),
    st.tuples(st.just("wait"), gaps),
    st.tuples(st.just("db"), gaps),
    st.tuples(st.just("r1"), gaps),
    st.tuples(st.just("catch up"), gaps),
)


@given(
    st.lists(events, max_size=30),
    st.sampled_from(["positions", "heartbeat", "both"]),
    st.sampled_from([0.0, 3.0, 1e6]),
)
def test_what_is_believed_of_a_replica_is_true_whatever_it_says_itself(
    steps: list[tuple[str, float]], means: str, lie: float
) -> None:
    """With positions or a heartbeat: everything committed before ``as_of`` is there when the probe was answered, so a
    token that is satisfied shows its owner his write; and what is known to be missing is in the lag."""
    policy = RoutingPolicy(heartbeat=means != "positions", probe_interval=2.0)
    model = Model(keeps_positions=means != "heartbeat", interval=2.0)
    topology = Topology.of([Server("db", is_primary=True), Server("r1")], policy)
    written: list[Token] = []
    for what, number in steps:
        if not model.goes_on(what, number):
            topology = evolve(topology, model.probe(what, number, lie), now=model.now)
        elif what == "commit":
            written.append(Token(at=model.now))
        seen = topology["r1"]
        if seen.as_of is not None:
            assert not model.lacks_commits_before(seen.as_of)
        for token in written:
            if seen.satisfies(token):
                assert token.at is not None
                assert not model.lacks_commits_before(token.at)


class SharedStorage(Model):
    """Aurora: servers tell how far they are in lines that are kept up now and then, and stamped with a time, or that
    are of now and have no stamp. What a line says of the primary was true at most HINDSIGHT before."""

    def __init__(self, *, is_stamped: bool) -> None:
        super().__init__(keeps_positions=False, interval=2.0)
        self.is_stamped = is_stamped
        self.lines = {"db": (self.now, 0), "r1": (self.now, 0)}
        """When it was stamped, and the LSN."""

    def keep_up(self, server: str, early: float) -> None:
        durable = sum(at < self.now - early for at, _ in self.log)
        self.lines[server] = self.now, durable if server == "db" else self.applied

    def probe(self, server: str, delay: float, lie: float) -> Observation:
        at = self.now
        self.pass_time(delay / 2)
        if not self.is_stamped:
            self.keep_up(server, HINDSIGHT)
        self.pass_time(delay / 2)
        stamp, number = self.lines[server]
        age = self.now - stamp if self.is_stamped else 0.0
        role, lag = (Role.PRIMARY, None) if server == "db" else (Role.REPLICA, lie)
        return Observation(server, at, Report(role, lag=lag, storage=Lsn(1 + number), storage_age=age))


@given(
    st.lists(
        events | st.tuples(st.sampled_from(["line db", "line r1"]), st.sampled_from([0.0, 0.25, HINDSIGHT])),
        max_size=30,
    ),
    st.booleans(),
    st.sampled_from([0.0, 3.0, 1e6]),
)
@example([("commit", 3.0), ("db", 0.25), ("r1", 0.25)], True, 0.0)  # both lines are older than the commit
@example([("commit", 0.75), ("db", 0.25), ("r1", 0.25)], False, 0.0)  # the number is, that its line holds for new
@example([("commit", 3.0), ("r1", 0.25)], False, 0.0)  # nothing but the lag is known, and it is a lie
def test_no_line_of_a_shared_storage_however_old_shows_a_replica_to_have_what_it_lacks(
    steps: list[tuple[str, float]], is_stamped: bool, lie: float
) -> None:
    """And if all are asked in time, what is shown is not nothing: see the scenarios in tests/spec/topology."""
    model = SharedStorage(is_stamped=is_stamped)
    topology = Topology.of([Server("db", is_primary=True), Server("r1")], RoutingPolicy())
    for what, number in steps:
        if what.startswith("line"):
            model.keep_up(what.removeprefix("line "), number)
        elif not model.goes_on(what, number):
            topology = evolve(topology, model.probe(what, number, lie), now=model.now)
        as_of = topology["r1"].as_of
        assert as_of is None or not model.lacks_commits_before(as_of)
