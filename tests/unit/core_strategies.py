"""Hypothesis strategies for the core's values: anything a probe may say, in any order, whatever the policy."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from rds_router.core.contract import Contract
from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.position import Lsn, MariaDBGtidList, MySQLGtidSet, Position
from rds_router.core.scope import NOW, Hold, Scope, Sight
from rds_router.core.statement import Kind, Statement
from rds_router.core.token import Token
from rds_router.core.topology import Server, Topology, evolve

REPLICAS = ("r1", "r2", "r3")
NAMES = ("db", *REPLICAS)
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

moments = st.integers(0, 400).map(lambda quarter: quarter / 4)
lags = st.none() | st.sampled_from([0.0, 0.5, 2.5, 5.0, 5.1, 9.0, 60.0, 61.0, 1e9])
numbers = st.integers(1, 9)
positions: st.SearchStrategy[Position] = st.one_of(
    st.builds(lambda server, number: MariaDBGtidList(((0, server, number),)), st.integers(1, 2), numbers),
    st.builds(lambda number: MySQLGtidSet(((UUID, ((1, number),)),)), numbers),
    st.builds(Lsn, numbers, st.integers(0, 2)),
)
reports = st.builds(
    Report,
    role=st.sampled_from(Role),
    lag=lags,
    lag_grows_when_idle=st.booleans(),
    position=st.none() | positions,
    is_writable=st.none() | st.booleans(),
    follows=st.none() | st.booleans(),
    heartbeat=st.none() | moments,
    storage=st.none() | st.builds(Lsn, numbers),
    storage_age=st.sampled_from([0.0, 0.5, 90.0]),
)
well = st.builds(
    Report, role=st.just(Role.REPLICA), lag=st.sampled_from([0.0, 0.5, 9.0]), position=st.none() | positions
)
observations = st.builds(
    lambda name, at, outcome: (
        Observation(name, at, error=outcome) if isinstance(outcome, str) else Observation(name, at, outcome)
    ),
    st.sampled_from(NAMES),
    moments,
    st.one_of(reports, well, st.just("OperationalError: gone")),
)
policies = st.builds(
    RoutingPolicy,
    max_lag=st.sampled_from([0.0, 1.0, 5.0]),
    unknown_lag=st.sampled_from(["exclude", "allow"]),
    reads=st.sampled_from(["session", "session", "monotonic", "any", "bounded(1)", "strong"]),
    after_write=st.sampled_from(["token", "primary", "any"]),
    track_tables=st.booleans(),
    no_replica=st.sampled_from(["primary", "error", "stalest"]),
    heartbeat=st.booleans(),
    probe_interval=st.sampled_from([0.1, 1.0, 30.0]),
    zone=st.sampled_from(["", "", "a", "b"]),
)
servers = st.builds(
    lambda weights, zones: [
        Server("db", is_primary=True),
        *(
            Server(name, weight=weight, zone=zone)
            for name, weight, zone in zip(REPLICAS, weights, zones)  # noqa: B905  both are drawn at this length
        ),
    ],
    st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * len(REPLICAS)),
    st.tuples(*[st.sampled_from(["", "a", "b"])] * len(REPLICAS)),
)
statements = st.builds(
    Statement,
    st.sampled_from(Kind),
    tables=st.none() | st.sampled_from([frozenset({"posts"}), frozenset({"blog.users"}), frozenset[str]()]),
)
tokens = st.builds(Token, st.none() | moments, st.none() | positions)
sights = st.builds(Sight, st.sampled_from(["", *REPLICAS]), st.one_of(st.just(NOW), tokens, st.builds(Token, moments)))
contracts = st.builds(
    Contract,
    own_writes=st.booleans(),
    monotonic=st.booleans(),
    max_staleness=st.none() | st.none() | st.sampled_from([0.0, 1.0, 30.0]),
    strong=st.sampled_from([False, False, True]),
)
scopes = st.builds(
    Scope,
    pinned=st.none() | st.sampled_from(REPLICAS),
    hold=st.none() | st.sampled_from(Hold),
    token=st.none() | tokens,
    tables=st.none() | st.sampled_from([frozenset({"posts"}), frozenset({"posts", "users"})]),
    seen=st.none() | sights,
    contract=st.none() | contracts,
)
free_scopes = scopes.map(
    lambda scope: Scope(
        pinned=scope.pinned,
        token=scope.token,
        tables=scope.tables,
        seen=scope.seen,
        contract=None if scope.contract is not None and scope.contract.strong else scope.contract,
    )
)
"""Scopes that leave the choice open."""
draws = st.floats(0.0, 1.0, exclude_max=True)
exclusions = st.frozensets(st.sampled_from(REPLICAS), max_size=2)


@st.composite
def topologies(draw: st.DrawFn) -> tuple[Topology, float]:
    """A topology after some news, and a moment not long after the last of it."""
    topology = Topology.of(draw(servers), draw(policies))
    last = 0.0
    for news in sorted(draw(st.lists(observations, max_size=12)), key=lambda each: each.at):
        topology = evolve(topology, news, now=news.at)
        last = news.at
    # Most of the time all is well, or nothing but refusals would be looked at.
    for name in draw(st.lists(st.sampled_from(REPLICAS), max_size=4)):
        topology = evolve(topology, Observation(name, last, draw(well)), now=last)
    return topology, last + draw(st.sampled_from([0.0, 0.5, 4.0, 5.0, 100.0]))


@st.composite
def healthy_worlds(draw: st.DrawFn) -> tuple[Topology, float]:
    """A topology with a replica or more that may be chosen by those who ask nothing."""
    topology, last = draw(topologies())
    policy = draw(policies.filter(lambda policy: policy.max_lag > 0 and not policy.heartbeat))
    topology = evolve(replace(topology, policy=policy, history=()), Observation("nobody's", last), now=last)
    for name in draw(st.lists(st.sampled_from(REPLICAS), min_size=1, unique=True)):
        report = Report(Role.REPLICA, lag=draw(st.sampled_from([0.0, 0.5])), position=draw(st.none() | positions))
        topology = evolve(topology, Observation(name, last, report), now=last)
    return topology, last + draw(st.sampled_from([0.0, 0.25]))


modest_scopes = st.builds(
    Scope,
    pinned=st.none() | st.none() | st.sampled_from(REPLICAS),
    token=st.none() | st.none() | tokens,
    seen=st.none() | st.none() | sights,
    contract=st.none() | st.none() | contracts.filter(lambda contract: not contract.strong),
)
"""Scopes that often can be served by a replica."""
