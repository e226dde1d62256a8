"""Collects the decisions that are made while somebody wants to see them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from rds_router.core.decision import Decision


@dataclass(frozen=True, slots=True)
class Routed:
    """One decision, with what it was made for."""

    clause: Any
    """The statement: an Executable, or a mapper in a flush."""
    decision: Decision


@contextmanager
def capturing() -> Iterator[list[Routed]]:
    """Collect the decisions made in this thread or task while the block runs."""
    collected: list[Routed] = []
    mark = captured.set(collected)
    try:
        yield collected
    finally:
        captured.reset(mark)


captured: ContextVar[list[Routed] | None] = ContextVar("rds_router captured", default=None)
"""Where to put them; None while nobody wants to see them."""
