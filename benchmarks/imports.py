"""What importing the package costs: CPU time of fresh processes above that of the SQLAlchemy they import anyway."""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

RUNS: Final = 7


@dataclass(frozen=True, slots=True)
class Import:
    """One import, what is there before it, and what it may add in milliseconds; None where nothing is promised."""

    what: str
    above: str
    budget: float | None = None


IMPORTS: Final = (
    # The same twice: what this adds is noise.
    Import("import sqlalchemy", "import sqlalchemy"),
    Import("import rds_router", "import sqlalchemy", 60),
    Import("from rds_router import Router, RoutingSession", "import sqlalchemy.orm"),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """The median CPU time, in milliseconds, of some fresh processes."""

    of: Import
    base: float
    """Of importing what is there before."""
    added: float

    @property
    def is_within(self) -> bool:
        return self.of.budget is None or self.added <= self.of.budget

    def __str__(self) -> str:
        verdict = "" if self.of.budget is None else f"   {'within' if self.is_within else 'OVER'} {self.of.budget:g} ms"
        return f"{self.of.what:<46} base {self.base:6.1f} ms ({self.of.above})   added {self.added:+6.1f} ms{verdict}"


def measure(*, runs: int = RUNS) -> list[Cost]:
    """Time each import in processes of its own, in turns, after one of each that fills the caches of the disk."""
    costs = []
    for each in IMPORTS:
        texts = each.above, f"{each.above}; {each.what}"
        for text in texts:
            _cpu_time(text)
        pairs = [tuple(_cpu_time(text) for text in texts) for _ in range(runs)]
        base, whole = (statistics.median(column) for column in zip(*pairs, strict=True))
        costs.append(Cost(each, base, whole - base))
    return costs


def _cpu_time(text: str) -> float:
    """Milliseconds of CPU that a new interpreter takes for ``text``, its own start not counted."""
    timed = f"import time; start = time.process_time(); {text}; print(time.process_time() - start)"
    done = subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True, text=True)
    return float(done.stdout) * 1e3
