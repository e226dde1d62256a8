"""The public API as a type checker sees it: never run, checked by ``mypy --strict`` (``make types``).

A line that must not type-check carries the error it must give; strict mode reports it when the error is gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from typing_extensions import assert_type

from rds_router import (
    CommitInDoubt,
    ConfigurationError,
    Contract,
    Decision,
    DiscoveryError,
    Find,
    IamAuth,
    Kind,
    NoPrimary,
    NoServerAvailable,
    Place,
    PolicyError,
    PrimaryChanged,
    Reason,
    Replica,
    Router,
    RouterClosed,
    RouterError,
    RoutingPolicy,
    RoutingSession,
    SecretsManager,
    StaleRead,
    Statement,
    Tls,
    Token,
    Trail,
    __version__,
    classify,
    prepare_transactions,
    run_transaction,
    scoped_session,
)
from rds_router.flask import SQLAlchemy, primary_only, reads


class Base(DeclarativeBase):
    pass


class Post(Base):
    __tablename__ = "posts"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


# --- a router

policy = RoutingPolicy(max_lag=2.0, after_write="token", no_replica="stalest", pure_functions=frozenset({"slugify"}))
assert_type(policy.max_lag, float)
RoutingPolicy(reads="bounded(2)", track_tables=True)
RoutingPolicy(reads=Contract(own_writes=True, max_staleness=2.0))
assert_type(policy.contract, Contract)
RoutingPolicy(5.0)  # type: ignore[call-arg]
RoutingPolicy(no_replica="anything")  # type: ignore[arg-type]
RoutingPolicy(max_leg=1.0)  # type: ignore[call-arg]
policy.max_lag = 3.0  # type: ignore[misc]

router = Router("sqlite:///primary", "sqlite:///one, sqlite:///two")
router = Router(
    "mysql+pymysql://primary/app",
    replicas=["mysql+pymysql://r1/app", Replica("mysql+pymysql://r2/app", name="r2", weight=0.5, zone="a")],
    policy=policy,
    engine_options={"pool_size": 5},
)
Router("mysql+pymysql://app@primary/app", credentials=IamAuth(region="eu-west-1"), tls=Tls(ca="bundle.pem"))
Router(
    "mysql+pymysql://app@primary/app", credentials=SecretsManager("prod/app"), tls=Tls("bundle.pem", check_host=False)
)


def password_of(place: Place) -> str:
    return place.name


Router("mysql+pymysql://app@primary/app", credentials=password_of)
Router("mysql+pymysql://app@primary/app", credentials=lambda place: (place.user, "geheim"))
Router("mysql+pymysql://app@primary/app", credentials="geheim")  # type: ignore[arg-type]
assert_type(Router.from_cluster("mysql+pymysql://app@my.cluster-abc.eu-west-1.rds.amazonaws.com/app"), Router)
Router.from_cluster("mysql+pymysql://app@db/app", find=Find(identifier="blog", tags={"tier": "web"}), policy=policy)
Find("positional")  # type: ignore[call-arg]
Router()  # type: ignore[call-arg]
Replica("sqlite:///x", "positional")  # type: ignore[call-arg]

assert_type(router.explain(select(Post)), Decision)
assert_type(router.explain("SELECT 1"), Decision)
assert_type(router.refresh(), bool)
with router as entered:
    assert_type(entered, Router)
with router.capture() as routed:
    for each in routed:
        assert_type(each.decision, Decision)
        assert_type(each.decision.reason, Reason)
        assert_type(each.decision.target, str)
with router.primary.connect() as connection:
    connection.execute(text("SELECT 1"))
primary: Engine = router.primary
reader: Engine = router.reader
with router.deadline(2.0):
    pass
stop = router.events.listen(lambda event: print(event))
stop()

# --- a statement

assert_type(classify("SELECT 1", dialect="postgresql"), Statement)
assert_type(classify(select(Post)).is_read, bool)
assert_type(classify(None).kind, Kind)

# --- a session

make_session = sessionmaker(class_=RoutingSession, router=router)
with make_session() as session:
    assert_type(session, RoutingSession)
    plain: Session = session
    assert_type(session.scalars(select(Post)).all(), Sequence[Post])
    with session.using_primary() as on_primary:
        assert_type(on_primary, RoutingSession)
    with session.reading("monotonic") as promised:
        assert_type(promised, RoutingSession)
    with session.using_replica(max_staleness=2.0):
        session.execute(select(Post), execution_options={"rds_route": "replica"})
    assert_type(session.token, Token | None)
    session.read_after(session.token)
    session.read_after(str(session.token))
    assert_type(Token.parse("mariadb:0-1-5"), Token)
    assert_type(session.trail, Trail | None)
    session.follow(session.trail)
    session.follow("run:0123456789ab")
    assert_type(Trail.parse("run:0123456789ab"), Trail)
    with router.read_after("mariadb:0-1-5") as reading:
        assert_type(reading, Router)
prepare_transactions(router)
assert_type(run_transaction(make_session, lambda session: len(session.scalars(select(Post)).all())), int)
run_transaction(make_session, lambda session: None, attempts=5, timeout=10.0)
registry = scoped_session(make_session)
assert_type(run_transaction(registry, lambda session: "x"), str)
with registry.reading("any"), registry.using_primary():
    assert_type(registry.token, Token | None)
    assert_type(registry.trail, Trail | None)
    registry.follow(None)

# --- Flask

app = Flask(__name__)
db = SQLAlchemy(app)
assert_type(db.router, Router)
with db.session.using_primary():
    pass


@primary_only
def view(number: int, *, flag: bool = False) -> str:
    return f"{number} {flag}"


assert_type(view(1, flag=True), str)
view("one")  # type: ignore[arg-type]


@reads("bounded(2)")
def bounded_view(number: int) -> str:
    return str(number)


assert_type(bounded_view(1), str)

# --- errors

errors: list[type[RouterError]] = [
    *(CommitInDoubt, ConfigurationError, DiscoveryError, NoPrimary, NoServerAvailable, PolicyError, PrimaryChanged),
    RouterClosed,
    StaleRead,
]
assert_type(StaleRead("stale").objects, tuple[str, ...])
not_a_value: type[ValueError] = ConfigurationError
assert_type(NoServerAvailable("none").objections, tuple[str, ...])
assert_type(__version__, str)
