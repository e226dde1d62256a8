"""What clients did and saw: one record for each attempt, one line of JSON for each record.

Times are CLOCK_MONOTONIC, which all processes of a machine share: a record that ended before another one began
happened before it, whoever wrote them.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


class Action(enum.Enum):
    """What a client may do. Every write also leaves its number in the ledger, in the same transaction."""

    APPEND = "append"
    """Add one's number to a list that all clients share."""
    SET = "set"
    """Put one's number into a register that all clients share, and make its version one higher."""
    INCREMENT = "increment"
    """Make one's own counter one higher."""
    LIST = "list"
    """Read a list: the numbers in it."""
    REGISTER = "register"
    """Read a register: version, number."""
    COUNTER = "counter"
    """Read one's own counter."""

    @property
    def is_read(self) -> bool:
        return self in READ_OF.values()


READ_OF = {Action.APPEND: Action.LIST, Action.SET: Action.REGISTER, Action.INCREMENT: Action.COUNTER}
"""The read that shows what a write did."""


class Outcome(enum.Enum):
    """How an attempt ended, as far as its client can honestly say."""

    OK = "ok"
    FAILED = "failed"
    """It failed before COMMIT was sent, or the server refused: nothing of it may ever be seen."""
    IN_DOUBT = "in doubt"
    """COMMIT was sent and its answer did not come: it may have been done, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One attempt of one client."""

    client: int
    worker: str
    """Process and thread that served the client this time."""
    start: float
    end: float
    action: Action
    key: int
    """Which list, register or counter."""
    number: int = 0
    """What a write writes: no two attempts have the same. 0 for reads."""
    seen: tuple[int, ...] = ()
    """What a read saw: numbers; version and number; value. For SET its version, for INCREMENT the new value."""
    outcome: Outcome = Outcome.OK
    server: str = ""
    """The server that answered last, as far as the client knows."""
    error: str = ""
    attempts: int = 1
    """How often its transaction was run."""

    def as_line(self) -> str:
        return json.dumps(
            [
                self.client,
                self.worker,
                self.start,
                self.end,
                self.action.value,
                self.key,
                self.number,
                self.seen,
                self.outcome.value,
                self.server,
                self.error,
                self.attempts,
            ]
        )

    @classmethod
    def of_line(cls, line: str) -> Record:
        client, worker, start, end, action, key, number, seen, outcome, server, error, attempts = json.loads(line)
        return cls(
            client=client,
            worker=worker,
            start=start,
            end=end,
            action=Action(action),
            key=key,
            number=number,
            seen=tuple(seen),
            outcome=Outcome(outcome),
            server=server,
            error=error,
            attempts=attempts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What one server held after everything had healed and caught up."""

    server: str
    ledger: tuple[int, ...]
    """Numbers of all writes applied, each as often as it was."""
    lists: dict[int, tuple[int, ...]]
    registers: dict[int, tuple[int, int]]
    """Version and number."""
    counters: dict[int, int]

    def as_line(self) -> str:
        tables = [list(table.items()) for table in (self.lists, self.registers, self.counters)]
        return json.dumps([self.server, self.ledger, *tables])

    @classmethod
    def of_line(cls, line: str) -> Contents:
        server, ledger, lists, registers, counters = json.loads(line)
        return cls(
            server=server,
            ledger=tuple(ledger),
            lists={key: tuple(numbers) for key, numbers in lists},
            registers={key: (version, number) for key, (version, number) in registers},
            counters=dict(counters),
        )


def read_history(folder: Path) -> list[Record]:
    """The records of all files ``*.history`` of a folder, in the order in which they began.

    The last line of a process that was killed may be half a one: it is left out.
    """
    return sorted(_records(folder.glob("*.history")), key=lambda record: record.start)


def _records(files: Iterable[Path]) -> Iterator[Record]:
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield Record.of_line(line)
