"""Looks at a router's servers and says what is wrong, what it means and what to do.

1. ``facts.py``: what is known of the servers, as frozen values.
2. ``questions.py`` and ``gather.py``: ask them; the only part that does I/O.
3. ``checks.py``, ``schema.py``, ``connections.py``: pure functions from facts to findings.
4. ``showing.py`` and ``command.py``: what ``rds-router doctor`` and ``flask rds doctor`` print, and
   their exit code.
"""

from __future__ import annotations

from rds_router.doctor.checks import findings_of
from rds_router.doctor.facts import Facts, Load
from rds_router.doctor.finding import Finding, Severity
from rds_router.doctor.gather import gather

__all__ = ["Facts", "Finding", "Load", "Severity", "findings_of", "gather"]
