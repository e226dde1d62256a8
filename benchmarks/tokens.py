"""What it costs not to read behind one's own writes: at the commit, and at the read. Wall time, in random turns.

At the commit, one insert and its commit on a router's primary:

    plain        nobody wants the position (session_tracking=False, the token is not asked for)
    plain again  the same once more: what differs between the two is noise (A/A)
    told         the position comes with the commit's answer; the token is read
    asked        one SELECT after the commit, as for a driver that is not told

Compared are the fast tenths (the 10 % quantile): what a loaded machine adds to a measurement is not the token's. In
several sittings, each with connections of its own: on which core a connection's thread comes to run at the server makes
a tenth or two, and stays for as long as the connection does. The budget is told <= 1.10 x plain on MySQL and MariaDB
with PyMySQL.

At the read, one SELECT of a new session that must not read behind a token:

    no token     and once more (A/A)
    known        the last probe of the replica shows that it has the write
    checked      it has, and says so when asked
    waited       asked at once after the commit
    primary      the replica is held back: the read waits for ``causal_wait``, and the primary answers
    primary, 0   the same without the wait

MySQL Router's ``wait_for_my_writes`` does this for one connection: a SELECT before it wrote, a while after, at once
after, and with the replica held back. It knows no token that another connection could bring.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection

from benchmarks.context import Context
from benchmarks.paired import Interval, bounds, ratio
from benchmarks.peers.proxies import mysql_router, version
from benchmarks.report import Cell, Column, Section, said
from rds_router import Replica, Router, RoutingPolicy, RoutingSession
from rds_router.core.token import Token
from rds_router.events import CaughtUp, StillBehind
from rds_router.lab import Cluster, EngineMissing

ENGINES = ("mysql", "mariadb", "postgresql")
BUDGET = {"mysql": 1.10, "mariadb": 1.10}
INSERT = text("INSERT INTO bench_tokens (n) VALUES (1)")
SELECT = text("SELECT n FROM bench_tokens WHERE id = 1")
KEY = {"postgresql": "SERIAL PRIMARY KEY"}
Work = Callable[[], object]


def measure(context: Context) -> Iterator[Section]:
    found = False
    commits: list[list[Cell]] = []
    noises: list[Interval] = []
    broken: list[str] = []
    for engine in context.pick(ENGINES[:1], ENGINES):
        with contextlib.suppress(EngineMissing), context.own_cluster(engine, replicas=1) as c:
            found = True
            context.progress(0.05 + 0.3 * ENGINES.index(engine), f"{engine}: commits")
            sittings = [_commits(c, rounds=context.pick(20, 40), dice=context.dice) for _ in range(context.pick(4, 24))]
            rows, noise = _compared(sittings, seed=context.seed)
            commits += [[engine, *row] for row in rows]
            noises.append(noise)
            told = rows[2][2]
            assert isinstance(told, Interval)
            if engine in BUDGET and told.low > BUDGET[engine] * max(1.0, noise.high):
                broken.append(f"{engine}: told costs x{told.value:.2f} > x{BUDGET[engine]:.2f}")
            context.progress(0.15 + 0.3 * ENGINES.index(engine), f"{engine}: reads")
            yield _reads(c, context)
    if not found:
        raise EngineMissing("none of " + ", ".join(ENGINES))
    noise = max(noises, key=lambda each: each.high - each.low)
    yield Section(
        name="tokens-commit",
        title="A commit with its token",
        question="What does it cost to know the position of a commit?",
        answer="Told with the commit's answer: "
        + ", ".join(f"{row[0]} {_worded(row[3], noise)}" for row in commits if row[1] == "told")
        + ". Asked for: "
        + ", ".join(f"{row[0]} {_worded(row[3], noise)}" for row in commits if row[1] == "asked")
        + ".",
        columns=(Column("engine"), Column("way"), Column("fast tenth", "us", 0), Column("against plain", noise=noise)),
        rows=commits,
        notes=["One insert and its commit. PyMySQL and psycopg 3 are told; other drivers ask."],
        broken=broken,
    )


def _worded(cell: Cell, noise: Interval) -> str:
    assert isinstance(cell, Interval)
    return said(cell, noise)


# --- commits


def _commits(c: Cluster, *, rounds: int, dice: random.Random) -> dict[str, float]:
    """One sitting: the fast tenth of each way, in seconds."""
    ways = {
        "plain": (False, False),
        "plain again": (False, False),
        "told": (True, True),
        "asked": (False, True),
    }
    with contextlib.ExitStack() as opened:
        # Each has a connection of its own, those of the A/A pair too.
        work = {
            name: commit(opened.enter_context(router(c, tracking=tracking)), wants_token=wants_token)
            for name, (tracking, wants_token) in ways.items()
        }
        names = list(work)
        for name in names * 20:
            work[name]()
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            dice.shuffle(names)
            for name in names:
                times[name].append(_timed(work[name]))
    return {name: fast(took) for name, took in times.items()}


def _compared(sittings: Sequence[Mapping[str, float]], *, seed: int) -> tuple[list[list[Cell]], Interval]:
    rows: list[list[Cell]] = []
    plain = [each["plain"] for each in sittings]
    for name in sittings[0]:
        took = [each[name] for each in sittings]
        rows.append([name, statistics.median(took) * 1e6, None if name == "plain" else ratio(plain, took, seed=seed)])
    noise = rows[1][2]
    assert isinstance(noise, Interval)
    return rows, noise


def router(c: Cluster, *, tracking: bool = True, causal_wait: float = 2.0) -> Router:
    """Over the primary and one replica; its monitor looks when it is asked to, and else not."""
    made = Router(
        c.primary.url,
        [Replica(c.replicas[0].url)],
        policy=RoutingPolicy(probe_interval=3600, max_lag=7200, session_tracking=tracking, causal_wait=causal_wait),
    )
    with RoutingSession(router=made) as session:
        key = KEY.get(c.engine, "INT PRIMARY KEY AUTO_INCREMENT")
        session.execute(text(f"CREATE TABLE IF NOT EXISTS bench_tokens (id {key}, n INT)"))
        session.commit()
    made.refresh(30.0)  # a URL of mysql:// may lead to MariaDB: the first probe tells
    return made


def commit(router: Router, *, wants_token: bool = False) -> Callable[[], object]:
    def run() -> object:
        with RoutingSession(router=router) as session:
            session.execute(INSERT)
            session.commit()
            if not wants_token:
                return None
            token = session.token
            assert token is not None
            assert token.position is not None
            return token

    return run


def fast(values: Sequence[float]) -> float:
    """What a call takes when nothing comes between."""
    return sorted(values)[len(values) // 10]


# --- reads


def _reads(c: Cluster, context: Context) -> Section:
    rounds, few = context.pick(10, 50), context.pick(2, 10)
    with contextlib.ExitStack() as opened:
        patient, hasty = (opened.enter_context(router(c, causal_wait=seconds)) for seconds in (0.05, 0.0))
        c.wait_caught_up()
        for each in (patient, hasty):
            each.refresh()
        ways = Ways(c, patient)
        prepared: dict[str, tuple[Callable[[], Token | None], Router]] = {
            "no token": (ways.none, patient),
            "no token, again": (ways.none, patient),
            "known": (ways.known, patient),
            "checked": (ways.checked, patient),
            "waited": (ways.written, patient),
        }
        through: dict[str, tuple[Callable[[], None], Connection]] = {}
        notes = ["Median of a new session's one SELECT; each way's own read without a token is its base."]
        if c.engine == "mysql":
            try:
                through = _through_router(c, opened.enter_context(mysql_router(c)).url, opened)
                notes.append(
                    f"MySQL Router {version('mysqlrouter')}, wait_for_my_writes=1 (its default), one connection."
                )
            except EngineMissing as error:
                notes.append(f"MySQL Router is not here: {error}.")
        times: dict[str, list[float]] = {name: [] for name in (*prepared, *through)}
        names, dice = list(times), context.dice
        for _ in range(rounds):
            dice.shuffle(names)
            for name in names:
                if name in prepared:
                    prepare, by = prepared[name]
                    token = prepare()
                    times[name].append(_timed(lambda: read(by, token)))  # noqa: B023
                else:
                    write, connection = through[name]
                    write()
                    times[name].append(_timed(lambda: connection.execute(SELECT).all()))  # noqa: B023
        held = {"primary": patient, "primary, causal_wait=0": hasty}
        # By a delay: a replica whose applier is stopped has no lag to tell, and is out before anybody waits for it.
        c.set_delay(c.replicas[0], 60.0)
        try:
            for name, by in held.items():
                times[name] = []
                for _ in range(few):
                    token = ways.written()
                    times[name].append(_timed(lambda: read(by, token)))  # noqa: B023
            if through:
                write, connection = through["MySQL Router, at once"]
                times["MySQL Router, replica held back"] = []
                for _ in range(context.pick(1, 3)):
                    write()
                    times["MySQL Router, replica held back"].append(_timed(lambda: connection.execute(SELECT).all()))
        finally:
            c.set_delay(c.replicas[0], 0.0)
        notes.append(ways.account())
    noise = _against(times["no token"], times["no token, again"], context.seed)
    rows: list[list[Cell]] = []
    for name, took in times.items():
        base = times["MySQL Router, no write" if name.startswith("MySQL Router") else "no token"]
        is_base = took is base
        rows.append([name, statistics.median(took) * 1e3, None if is_base else _against(base, took, context.seed)])
    return Section(
        name=f"tokens-read-{c.engine}",
        title=f"A read with a token, {c.engine}",
        question="What does a read cost that must not be behind its author's write?",
        answer=", ".join(f"{row[0]} {row[1]:.2f} ms" for row in rows if "again" not in str(row[0])) + ".",
        columns=(Column("way"), Column("read", "ms"), Column("against its read without", noise=noise)),
        rows=rows,
        notes=notes,
        raw={name: [round(each, 7) for each in took] for name, took in times.items()},
    )


class Ways:
    """How a token comes to its reader; counts whether the reads went as their names say."""

    def __init__(self, c: Cluster, router: Router) -> None:
        self._c, self._router = c, router
        self._commit = commit(router, wants_token=True)
        self._counts = {CaughtUp: 0, StillBehind: 0}
        router.events.listen(self._hear)

    def written(self) -> Token:
        token = self._commit()
        assert isinstance(token, Token)
        return token

    def none(self) -> None:
        """The same work before the read as for :meth:`known`, which the reader then does not ask for."""
        self.known()

    def checked(self) -> Token:
        token = self.written()
        self._c.wait_caught_up()
        return token

    def known(self) -> Token:
        token = self.checked()
        if not self._router.refresh():
            raise RuntimeError("the servers do not answer the monitor")
        return token

    def account(self) -> str:
        caught, behind = self._counts[CaughtUp], self._counts[StillBehind]
        return f"{caught} reads found their replica caught up when they asked it, {behind} did not in time."

    def _hear(self, event: object) -> None:
        for kind in self._counts:
            self._counts[kind] += isinstance(event, kind)


def read(router: Router, token: Token | None) -> None:
    with RoutingSession(router=router) as session:
        session.read_after(token)
        session.execute(SELECT).all()


def _through_router(
    c: Cluster, url: str, opened: contextlib.ExitStack
) -> dict[str, tuple[Callable[[], None], Connection]]:
    """Two connections, one of which never writes; in autocommit, as the Router keeps transactions on the primary."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True)
    opened.callback(engine.dispose)
    reader, author = (opened.enter_context(engine.connect()) for _ in range(2))

    def at_once() -> None:
        author.execute(INSERT)

    def later() -> None:
        author.execute(INSERT)
        c.wait_caught_up()

    return {
        "MySQL Router, no write": (later, reader),
        "MySQL Router, caught up": (later, author),
        "MySQL Router, at once": (at_once, author),
    }


def _against(base: Sequence[float], other: Sequence[float], seed: int) -> Interval:
    """The ratio of the medians; its interval from medians drawn anew."""
    low_base, high_base = bounds(base, random.Random(seed))
    low, high = bounds(other, random.Random(seed + 1))
    return Interval(statistics.median(other) / statistics.median(base), low / high_base, high / low_base)


def _timed(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
