"""The tables. No column but the keys is unique: a write that is applied twice must show."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The torture's own metadata."""


class Entry(Base):
    """A number that a client appended to a list."""

    __tablename__ = "torture_entries"
    __table_args__ = (Index("torture_entries_by_list", "list"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    list: Mapped[int]
    number: Mapped[int] = mapped_column(BigInteger)


class Register(Base):
    """The last number put into a register, and how often one was."""

    __tablename__ = "torture_registers"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(default=0)
    number: Mapped[int] = mapped_column(BigInteger, default=0)


class Counter(Base):
    """How often its client made it one higher."""

    __tablename__ = "torture_counters"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(default=0)


class Ledger(Base):
    """The number of each write, put down in the same transaction."""

    __tablename__ = "torture_ledger"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
