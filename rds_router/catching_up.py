"""A read that finds every replica behind has them asked, and waits a moment for one that has caught up.

What is known of them is up to a probe's interval old, and a write takes a millisecond to arrive. Readers that wait at
the same time share the probes. What was waited for in vain is not waited for again until the next regular probe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rds_router.core.decision import Decision, Reason
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import NOW, Scope
from rds_router.core.statement import Statement
from rds_router.core.token import Token
from rds_router.events import CaughtUp, Emitter, StillBehind
from rds_router.monitor import Monitor

_MAX_IN_VAIN: Final = 1024
"""How many tokens that were waited for in vain are remembered; more are forgotten all at once."""


class CatchingUp:
    """The waits of one router's readers."""

    def __init__(self, policy: RoutingPolicy, clock: Callable[[], float], events: Emitter) -> None:
        self._policy = policy
        self._clock = clock
        self._events = events
        self._in_vain: dict[Token | None, float] = {}

    def wait(
        self, decision: Decision, monitor: Monitor, decide: Callable[[Statement, Scope, frozenset[str]], Decision]
    ) -> Decision | None:
        """Another decision once a replica may answer, within ``causal_wait``; None if none may by then."""
        policy, now = self._policy, self._clock()
        token, behind = decision.demanded, decision.behind_token
        if token is None or token.at == NOW.at or not behind or not monitor.is_running:
            return None
        # Who lacks one moment lacks the later ones too.
        wanted = token if token.at is None else None
        if now < self._in_vain.get(wanted, now):
            return None
        if token.unplaced is not None and now - token.unplaced < policy.after_write_window:
            return None
        end = now + policy.causal_wait
        # A moment can only be compared once the primary's position after it is known.
        asked = behind if token.at is None else (decision.topology.writer, *behind)
        while (remaining := end - self._clock()) > 0:
            has_news = monitor.hurry(asked, remaining, enough=1 if token.at is None else 2)
            later = decide(decision.statement, decision.scope, decision.exclude)
            if later.reason is not Reason.NONE_FRESH_ENOUGH:
                self._events.emit(CaughtUp(later.target, self._clock() - now))
                return later
            if not has_news:
                break
        if len(self._in_vain) >= _MAX_IN_VAIN:
            self._in_vain.clear()
        self._in_vain[wanted] = self._clock() + policy.probe_interval
        self._events.emit(StillBehind(behind, self._clock() - now))
        return None
