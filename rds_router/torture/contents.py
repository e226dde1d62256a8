"""Makes the tables, and reads what a server holds at the end."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine, insert, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from rds_router.lab.torture.history import Contents
from rds_router.lab.torture.workload import Workload
from rds_router.torture.model import Base, Counter, Entry, Ledger, Register


def prepare(url: str, workload: Workload) -> None:
    """Fresh tables, with all registers and counters at 0."""
    engine = create_engine(url, poolclass=NullPool)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(insert(Register), [{"id": key} for key in range(workload.registers)])
        session.execute(insert(Counter), [{"id": key} for key in range(workload.clients)])
        session.commit()


def contents(server: str, url: str) -> Contents:
    """All that the server at ``url`` holds."""
    return _read(server, create_engine(url, poolclass=NullPool))


def _read(server: str, engine: Engine) -> Contents:
    lists: dict[int, tuple[int, ...]] = {}
    with Session(engine) as session:
        for entry in session.scalars(select(Entry).order_by(Entry.id)):
            lists[entry.list] = (*lists.get(entry.list, ()), entry.number)
        return Contents(
            server=server,
            ledger=tuple(session.scalars(select(Ledger.number).order_by(Ledger.id))),
            lists=lists,
            registers={row.id: (row.version, row.number) for row in session.scalars(select(Register))},
            counters={row.id: row.value for row in session.scalars(select(Counter))},
        )
