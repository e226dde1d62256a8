"""What must be done in a forked child: no thread of the parent lives there, and its sockets are the parent's (R13)."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that holds threads, locks or sockets."""

    def forked(self) -> None:
        """Called in a forked child, before anything else runs there."""
        ...


def tell_when_forked(one: Forkable) -> None:
    """Have ``forked()`` called in every child, for as long as it lives."""
    _told.add(one)


def _after_fork() -> None:
    for each in list(_told):
        each.forked()


_told: weakref.WeakSet[Forkable] = weakref.WeakSet()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
