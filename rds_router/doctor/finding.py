"""One line of the doctor's."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """How bad it is. Ordered: the worst decides the exit code."""

    OK = 0
    NOTE = 1
    """Good to know; nothing needs to be done."""
    WARNING = 2
    """It works, but not as well or as safely as it should."""
    ERROR = 3
    """Something will fail, or a server cannot be used."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it."""

    severity: Severity
    topic: str
    server: str
    """Whom it is about; empty for all."""
    says: str
    """What is so, and what it means."""
    do: str = ""
    """What to do; empty if nothing."""
