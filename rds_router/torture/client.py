"""Serves clients, one request after another, and writes down what each saw."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, TextIO

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from rds_router.lab.torture.history import Action, Outcome, Record
from rds_router.lab.torture.workload import Operation, Workload
from rds_router.torture.jar import Cookie, Jar
from rds_router.torture.model import Counter, Entry, Ledger, Register
from rds_router.torture.ways import InDoubt, Way, listen

_BREATH = 0.02  # seconds after a failure: who is refused does not ask in a busy loop


class Client:
    """One thread of one process. ``number`` is its own among all threads of all processes."""

    def __init__(self, name: str, number: int, way: Way, jar: Jar, workload: Workload, seed: int, out: TextIO) -> None:
        self._name = name
        self._way = way
        self._jar = jar
        self._workload = workload
        self._draw = random.Random(f"{seed} {number}").random
        self._numbers = count(number * 10**9 + 1)
        self._out = out

    def work(self, stop: threading.Event, operations: int | None) -> None:
        """Serve requests until told to stop, or until ``operations`` are done."""
        done = 0
        while not stop.is_set() and done != operations:
            with self._jar.borrow(self._draw) as cookie:
                operation = self._workload.next(self._draw, cookie.client, cookie.last)
                record = self._serve(cookie, operation)
                self._out.write(record.as_line() + "\n")
                if record.outcome is Outcome.OK and not operation.action.is_read:
                    cookie.last = operation
            done += 1
            if record.outcome is not Outcome.OK:
                stop.wait(_BREATH)

    def _serve(self, cookie: Cookie, operation: Operation) -> Record:
        number = 0 if operation.action.is_read else next(self._numbers)
        heard: list[str] = []
        made: list[Session] = []

        def make_session() -> Session:
            session = self._way.session(cookie, writes=bool(number))
            listen(session, self._way, heard)
            made.append(session)
            return session

        seen: tuple[int, ...] = ()
        outcome, error, start = Outcome.OK, "", time.monotonic()
        try:
            if number:
                # The same number each time it is run: what is applied twice shows.
                seen = self._way.transact(make_session, lambda session: _write(session, operation, number))
            else:
                seen = _read(make_session(), operation)
        except Exception as failure:
            outcome = Outcome.IN_DOUBT if isinstance(failure, InDoubt) else Outcome.FAILED
            error = _one_line(failure)
        end = time.monotonic()
        with _closing(made[-1]):
            self._way.keep(made[-1], cookie)
        return Record(
            client=cookie.client,
            worker=self._name,
            start=start,
            end=end,
            action=operation.action,
            key=operation.key,
            number=number,
            seen=seen,
            outcome=outcome,
            server=heard[-1] if heard else "",
            error=error,
            attempts=len(made),
        )


def _write(session: Session, operation: Operation, number: int) -> tuple[int, ...]:
    """All but the COMMIT. Returns what the write made of the register or the counter."""
    key = operation.key
    seen: tuple[int, ...] = ()
    if operation.action is Action.APPEND:
        session.add(Entry(list=key, number=number))
    elif operation.action is Action.SET:
        session.get(Register, key)  # read on a replica, in the transaction that then writes
        values: dict[str, Any] = {"version": Register.version + 1, "number": number}
        session.execute(update(Register).where(Register.id == key).values(values))
        seen = (session.scalars(select(Register.version).where(Register.id == key)).one(),)
    else:
        session.execute(update(Counter).where(Counter.id == key).values(value=Counter.value + 1))
        seen = (session.scalars(select(Counter.value).where(Counter.id == key)).one(),)
    session.add(Ledger(number=number))
    session.flush()
    return seen


def _read(session: Session, operation: Operation) -> tuple[int, ...]:
    key = operation.key
    if operation.action is Action.LIST:
        return tuple(session.scalars(select(Entry.number).where(Entry.list == key).order_by(Entry.id)))
    if operation.action is Action.REGISTER:
        row = session.execute(select(Register.version, Register.number).where(Register.id == key)).one()
        return (row.version, row.number)
    return (session.scalars(select(Counter.value).where(Counter.id == key)).one(),)


@contextmanager
def _closing(session: Session) -> Iterator[None]:
    """The session is closed in any case; a connection that broke may complain of that."""
    try:
        yield
    finally:
        try:
            session.close()
        except Exception:
            session.invalidate()


def _one_line(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")
    return text[:300]
