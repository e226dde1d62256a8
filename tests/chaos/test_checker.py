"""The checker passes what is right and finds what is wrong: histories of a simulated cluster, one fault planted."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rds_router.lab.torture.checker import Announced, Facts, Promises, Rule, Span, check
from rds_router.lab.torture.history import Action, Contents, Outcome, Record
from rds_router.lab.torture.workload import Operation, Workload

SMALL = Workload(clients=4, lists=3, registers=2)
STRICT = Promises(staleness=2.0)


class Cluster:
    """One primary in memory, and a history of clients who read from it: everything they see is right."""

    def __init__(self) -> None:
        self.ledger: list[int] = []
        self.lists: dict[int, list[int]] = {}
        self.registers: dict[int, tuple[int, int]] = {}
        self.counters: dict[int, int] = {}
        self.history: list[Record] = []
        self.now = 10.0

    def apply(self, operation: Operation, number: int, client: int) -> tuple[int, ...]:
        self.ledger.append(number)
        if operation.action is Action.APPEND:
            self.lists.setdefault(operation.key, []).append(number)
            return ()
        if operation.action is Action.SET:
            version = self.registers.get(operation.key, (0, 0))[0] + 1
            self.registers[operation.key] = version, number
            return (version,)
        self.counters[client] = self.counters.get(client, 0) + 1
        return (self.counters[client],)

    def read(self, operation: Operation) -> tuple[int, ...]:
        if operation.action is Action.LIST:
            return tuple(self.lists.get(operation.key, ()))
        if operation.action is Action.REGISTER:
            return self.registers.get(operation.key, (0, 0))
        return (self.counters.get(operation.key, 0),)

    def serve(self, client: int, operation: Operation, outcome: Outcome, *, is_applied: bool) -> None:
        number = 0 if operation.action.is_read else len(self.history) + 1
        if not number:
            outcome, seen = Outcome.OK, self.read(operation)
        else:
            seen = self.apply(operation, number, client) if is_applied else ()
        self.history.append(
            Record(
                client=client,
                worker="0/0",
                start=self.now,
                end=self.now + 0.01,
                action=operation.action,
                key=operation.key,
                number=number,
                seen=seen,
                outcome=outcome,
                server="a",
            )
        )
        self.now += 0.5

    def contents(self, server: str = "a") -> Contents:
        return Contents(
            server=server,
            ledger=tuple(self.ledger),
            lists={key: tuple(numbers) for key, numbers in self.lists.items()},
            registers=dict(self.registers),
            counters=dict(self.counters),
        )


def simulated(seed: int, operations: int) -> Cluster:
    """Clients at work; of their writes some fail, some are in doubt, of which half were done."""
    dice, cluster = random.Random(seed), Cluster()
    last: dict[int, Operation] = {}
    for _ in range(operations):
        client = dice.randrange(SMALL.clients)
        operation = SMALL.next(dice.random, client, last.get(client))
        outcome = dice.choice((Outcome.OK, Outcome.OK, Outcome.OK, Outcome.FAILED, Outcome.IN_DOUBT))
        is_applied = outcome is Outcome.OK or (outcome is Outcome.IN_DOUBT and dice.random() < 0.5)
        cluster.serve(client, operation, outcome, is_applied=is_applied)
        if not operation.action.is_read and outcome is Outcome.OK:
            last[client] = operation
    return cluster


def rules(
    cluster: Cluster, history: list[Record], facts: Facts | None = None, *, other: Contents | None = None
) -> set[Rule]:
    contents = [cluster.contents(), *([other] if other else [])]
    return {violation.rule for violation in check(history, contents, STRICT, facts).violations}


histories = st.builds(simulated, st.integers(0, 2**32), st.integers(0, 150))
picks = st.integers(0, 10**6)


def pick(history: list[Record], number: int, *conditions: bool) -> int | None:
    """The place of one of the records that fulfil a condition, or None."""
    places = [place for place, fulfilled in enumerate(conditions) if fulfilled]
    return places[number % len(places)] if places else None


@given(histories)
def test_a_right_history_is_clean(cluster: Cluster) -> None:
    """Failed writes, writes in doubt and interleaved clients break no rule."""
    assert rules(cluster, cluster.history, other=cluster.contents("b")) == set()


@given(histories)
def test_a_history_survives_its_text(cluster: Cluster) -> None:
    """Records and contents are the same after a round trip through their lines."""
    assert [Record.of_line(each.as_line()) for each in cluster.history] == cluster.history
    assert Contents.of_line(cluster.contents().as_line()) == cluster.contents()


@given(histories, picks)
def test_a_lost_write_is_found(cluster: Cluster, number: int) -> None:
    """An acknowledged write that the ledger and its place do not hold."""
    ok = [not each.action.is_read and each.outcome is Outcome.OK for each in cluster.history]
    place = pick(cluster.history, number, *ok)
    if place is None:
        return
    lost = cluster.history[place]
    cluster.ledger.remove(lost.number)
    assert rules(cluster, cluster.history) >= {Rule.LOST, Rule.TORN}
    # With a primary that was lost at that moment it may go.
    facts = Facts(losses=[Span("a", lost.end - 0.1, lost.end)])
    verdict = check(cluster.history, [cluster.contents()], STRICT, facts)
    assert Rule.LOST not in {violation.rule for violation in verdict.violations}
    assert lost in verdict.lost


@pytest.mark.parametrize(
    ("process", "server", "at", "is_announced"),
    [
        ("0", "a", 100.0, True),
        ("0", "a", 10.0, True),
        ("0", "a", 9.9, False),  # before it was asked for
        ("0", "b", 100.0, False),  # of another primary
        ("1", "a", 100.0, False),  # by a process that was not told of the commit
        ("0", "a", 300.0, False),  # of what the server confirmed when it was the primary again
    ],
)
def test_what_went_with_a_primary_has_to_be_announced(process: str, server: str, at: float, is_announced: bool) -> None:
    """By the process whose client was told that it was done, of that time as the primary."""
    cluster = Cluster()
    cluster.serve(0, Operation(Action.APPEND, 0), Outcome.OK, is_applied=True)
    cluster.ledger, cluster.lists = [], {}
    facts = Facts(
        losses=[Span("a", 90.0, 95.0), Span("a", 290.0, 295.0)],
        tenures=[Span("a", 0.0, 95.0), Span("b", 90.0, 200.0), Span("a", 200.0, 295.0)],
        announced=[Announced(process, server, at)],
    )
    assert rules(cluster, cluster.history, facts) == (set() if is_announced else {Rule.LOST})
    assert Rule.LOST in rules(cluster, cluster.history, replace(facts, losses=[])), "it was not lost, but forgotten"


def test_a_write_that_was_run_again_may_have_gone_before_it_came_again() -> None:
    """Its first COMMIT was lost with the primary: who had seen it there may miss it for a while, not at the end."""
    cluster = Cluster()
    cluster.serve(0, Operation(Action.APPEND, 0), Outcome.OK, is_applied=True)
    cluster.history[0] = replace(cluster.history[0], attempts=2, end=12.0)
    for _ in range(2):
        cluster.serve(1, Operation(Action.LIST, 0), Outcome.OK, is_applied=True)
    cluster.history[-1] = replace(cluster.history[-1], seen=())
    assert rules(cluster, cluster.history) == {Rule.MONOTONIC}
    assert rules(cluster, cluster.history, Facts(losses=[Span("a", 9.0, 11.0)], announced=[])) == set()


@given(histories, picks)
def test_a_write_applied_twice_is_found(cluster: Cluster, number: int) -> None:
    """Whether it was acknowledged or is in doubt."""
    if not cluster.ledger:
        return
    again = cluster.ledger[number % len(cluster.ledger)]
    record = next(each for each in cluster.history if each.number == again)
    cluster.apply(Operation(record.action, record.key), again, record.client)
    assert Rule.TWICE in rules(cluster, cluster.history)


@given(histories, picks)
def test_a_write_that_was_reported_as_undone_is_found(cluster: Cluster, number: int) -> None:
    """FAILED means not done: this one was."""
    applied = set(cluster.ledger)
    place = pick(cluster.history, number, *(each.number in applied for each in cluster.history))
    if place is None:
        return
    history = list(cluster.history)
    history[place] = replace(history[place], outcome=Outcome.FAILED)
    assert Rule.UNDONE in rules(cluster, history)


@given(histories, picks)
def test_half_a_write_is_found(cluster: Cluster, number: int) -> None:
    """The ledger has it, the counter has not."""
    if not cluster.counters:
        return
    client = sorted(cluster.counters)[number % len(cluster.counters)]
    cluster.counters[client] -= 1
    assert Rule.TORN in rules(cluster, cluster.history)


@given(histories, picks)
def test_a_write_on_a_replica_is_found(cluster: Cluster, number: int) -> None:
    """Acknowledged by a server that was the primary before, or left behind on one server only."""
    ok = [not each.action.is_read and each.outcome is Outcome.OK for each in cluster.history]
    place = pick(cluster.history, number, *ok)
    if place is None:
        return
    end = cluster.history[place].start - 0.1
    facts = Facts(tenures=[Span("a", 0.0, end), Span("b", end, 10**6)])
    assert Rule.ON_REPLICA in rules(cluster, cluster.history, facts)
    hidden = [replace(each, server="") for each in cluster.history]
    assert rules(cluster, hidden, facts) == set()  # behind a proxy nobody can tell
    other = replace(cluster.contents("b"), ledger=(*cluster.ledger, 10**12))
    assert rules(cluster, cluster.history, other=other) == {Rule.DIFFERENT}


@given(histories, picks)
def test_a_failed_read_is_found_unless_nobody_could_answer(cluster: Cluster, number: int) -> None:
    """An outage excuses it."""
    place = pick(cluster.history, number, *(each.action.is_read for each in cluster.history))
    if place is None:
        return
    history = list(cluster.history)
    history[place] = failed = replace(history[place], outcome=Outcome.FAILED, seen=(), error="gone")
    assert rules(cluster, history) == {Rule.READ_ERROR}
    assert rules(cluster, history, Facts(outages=[Span("a", failed.start - 1, failed.start + 1)])) == set()


@given(histories, picks)
def test_a_read_behind_ones_own_write_is_found(cluster: Cluster, number: int) -> None:
    """A client writes and then sees what was there before."""
    client = number % SMALL.clients
    action, read = ((Action.APPEND, Action.LIST), (Action.SET, Action.REGISTER), (Action.INCREMENT, Action.COUNTER))[
        number % 3
    ]
    key = client if read is Action.COUNTER else number % 2
    before = cluster.read(Operation(read, key))
    cluster.serve(client, Operation(action, key), Outcome.OK, is_applied=True)
    cluster.serve(client, Operation(read, key), Outcome.OK, is_applied=True)
    cluster.history[-1] = replace(cluster.history[-1], seen=before)
    assert rules(cluster, cluster.history) == {Rule.OWN_WRITES}


@given(histories, picks)
def test_a_read_behind_an_earlier_one_is_found(cluster: Cluster, number: int) -> None:
    """Another client's write is seen, and then not any more."""
    reader, writer = 0, 1
    action, read = ((Action.APPEND, Action.LIST), (Action.SET, Action.REGISTER))[number % 2]
    before = cluster.read(Operation(read, 1))
    cluster.serve(writer, Operation(action, 1), Outcome.OK, is_applied=True)
    for _ in range(2):
        cluster.serve(reader, Operation(read, 1), Outcome.OK, is_applied=True)
    cluster.history[-1] = replace(cluster.history[-1], seen=before)
    assert rules(cluster, cluster.history) == {Rule.MONOTONIC}


@given(histories, picks)
def test_a_read_staler_than_allowed_is_found(cluster: Cluster, number: int) -> None:
    """Somebody else's write is not seen within the bound: that may be. Later: that may not."""
    reader, writer = 0, 1
    action, read = ((Action.APPEND, Action.LIST), (Action.SET, Action.REGISTER))[number % 2]
    key = SMALL.lists + SMALL.registers  # nobody else uses it
    before = cluster.read(Operation(read, key))
    cluster.serve(writer, Operation(action, key), Outcome.OK, is_applied=True)
    cluster.serve(reader, Operation(read, key), Outcome.OK, is_applied=True)
    cluster.history[-1] = replace(cluster.history[-1], seen=before)
    assert rules(cluster, cluster.history) == set()
    assert STRICT.staleness is not None
    cluster.now += STRICT.staleness
    cluster.serve(reader, Operation(read, key), Outcome.OK, is_applied=True)
    cluster.history[-1] = replace(cluster.history[-1], seen=before)
    assert rules(cluster, cluster.history) == {Rule.STALE}


@pytest.mark.parametrize("number", [999_999, 1])
def test_a_read_of_what_nobody_wrote_is_found(number: int) -> None:
    """A number out of the air, and one of a write that was undone."""
    cluster = Cluster()
    cluster.serve(0, Operation(Action.APPEND, 0), Outcome.FAILED, is_applied=False)
    cluster.serve(0, Operation(Action.LIST, 0), Outcome.OK, is_applied=True)
    cluster.history[-1] = replace(cluster.history[-1], seen=(number,))
    assert rules(cluster, cluster.history) == {Rule.PHANTOM}


def test_what_was_seen_and_went_with_a_primary_is_missed_by_nobody() -> None:
    """A write seen before its server was lost is asked of no later read: neither its number nor its count."""
    cluster = Cluster()
    for action in (Action.APPEND, Action.SET, Action.INCREMENT):
        cluster.serve(0, Operation(action, 0), Outcome.OK, is_applied=True)
    for action in (Action.LIST, Action.REGISTER, Action.COUNTER):
        cluster.serve(0, Operation(action, 0), Outcome.OK, is_applied=True)
    lost = Facts(losses=[Span("a", 0.0, cluster.now)])
    history, cluster.history = cluster.history, []
    cluster.ledger, cluster.lists, cluster.registers, cluster.counters = [], {}, {}, {}
    for action in (Action.LIST, Action.REGISTER, Action.COUNTER):
        cluster.serve(0, Operation(action, 0), Outcome.OK, is_applied=True)
    verdict = check([*history, *cluster.history], [cluster.contents()], STRICT, lost)
    assert verdict.violations == ()
    assert len(verdict.lost) == 3
