"""What a statement is, as far as routing cares."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """The kinds of statement. Only READ may run on a replica."""

    READ = "read"
    """The same answer on a replica as on the primary, but for lag."""
    LOCKING_READ = "locking read"
    """Takes row, table or named locks, which only mean something on the primary."""
    WRITE = "write"
    """Changes rows, sequences or files, or calls what may."""
    DDL = "ddl"
    """Changes the schema, users or the server."""
    SESSION = "session"
    """Sets or reads the state of one connection: SET, BEGIN, LAST_INSERT_ID(), temporary tables."""
    UNKNOWN = "unknown"
    """Not understood, therefore treated as a write."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The verdict on one statement."""

    kind: Kind
    because: str = ""
    """What decided it, in a few words a developer understands: ``FOR UPDATE``, ``function nextval()``."""
    tables: frozenset[str] | None = None
    """Names of the tables it touches, lower case, schema-qualified where written so; None when not known."""

    @property
    def is_read(self) -> bool:
        """True only if it may run on a replica."""
        return self.kind is Kind.READ

    def __str__(self) -> str:
        return f"{self.kind.value} ({self.because})" if self.because else self.kind.value
