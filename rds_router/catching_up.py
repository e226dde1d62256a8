"""Before a reader is sent to the primary: has a replica caught up with him by now, and is the primary still one?

The order is: a replica known to have what he wrote or saw (that was decided already), one that says so when asked, a
bounded wait, the primary. What is asked are the monitor's own probes, begun at once: readers who wait at the same time
share them, and what is learnt for one is known for all. What was looked after in vain is not looked after again until
the next regular probe. (docs/decisions/0021-a-reader-with-a-token-hurries-the-monitor.md)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

from rds_router.core.decision import Decision, Reason
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import NOW, Scope
from rds_router.core.statement import Statement
from rds_router.core.token import Token
from rds_router.events import CaughtUp, Emitter, StillBehind
from rds_router.monitor import Monitor

Decide: TypeAlias = Callable[[Statement, Scope, frozenset[str]], Decision]
WITHOUT_A_REPLICA: Final = (Reason.NONE_FRESH_ENOUGH, Reason.NO_REPLICA_ELIGIBLE)
_LOOKS: Final = 3
"""One may find its connection ended by the very change; another two are what it takes to call a server gone."""
_MAX_IN_VAIN: Final = 1024
"""How many tokens that were looked after in vain are remembered; more are forgotten all at once."""


class CatchingUp:
    """The second looks of one router's readers."""

    def __init__(self, policy: RoutingPolicy, clock: Callable[[], float], events: Emitter) -> None:
        self._policy = policy
        self._clock = clock
        self._events = events
        self._in_vain: dict[Token, float] = {}

    def looked_again(self, decision: Decision, monitor: Monitor, decide: Decide) -> Decision:
        """The decision, or another one once what it rests on was looked at again."""
        policy, now = self._policy, self._clock()
        token = decision.demanded
        if token is None or token.at == NOW.at or not monitor.is_running:
            return decision
        # Who lacks one moment lacks the later ones too; who lacks a position may have all that others are asked for.
        wanted = token if token.at is None else replace(token, at=None)
        if now < self._in_vain.get(wanted, now):
            return decision
        if token.unplaced is not None and now - token.unplaced < policy.after_write_window:
            return decision
        later = self._waited(decision, token, monitor, decide)
        if later.is_replica:
            return later
        if len(self._in_vain) >= _MAX_IN_VAIN:
            self._in_vain.clear()
        self._in_vain[wanted] = self._clock() + policy.probe_interval
        return self._on_a_primary(later, token, monitor, decide)

    def _waited(self, decision: Decision, token: Token, monitor: Monitor, decide: Decide) -> Decision:
        """Probe the replicas that may have it by now, for ``causal_wait`` at most.

        What is known of them is up to a probe's interval old, and a write takes a millisecond to arrive.
        """
        # Real time: the router's clock may be one that a test moves by hand.
        begin, behind = time.monotonic(), decision.behind_token
        # A moment can only be compared once the primary's position after it is known.
        asked = behind if token.at is None else (decision.topology.writer, *behind)
        later, end = decision, begin + self._policy.causal_wait
        while behind and (remaining := end - time.monotonic()) > 0:
            has_news = monitor.hurry(asked, remaining, enough=1 if token.at is None else 2)
            later = decide(decision.statement, decision.scope, decision.exclude)
            if later.is_replica:
                self._events.emit(CaughtUp(later.target, time.monotonic() - begin))
                return later
            if not has_news:
                break
        if behind:
            self._events.emit(StillBehind(behind, time.monotonic() - begin))
        return later

    def _on_a_primary(self, decision: Decision, token: Token, monitor: Monitor, decide: Decide) -> Decision:
        """Look whether the primary is still the primary, if it is not known to have the write itself.

        Another process may have written on a new one that this process has not heard of. What was lost in a fail over
        no primary has: then the primary of the moment answers all the same.
        """
        for _ in range(_LOOKS):
            writer = decision.topology[decision.topology.writer]
            position = writer.report.position if writer.report else None
            if token.position is None or (position is not None and position.covers(token.position)):
                break
            monitor.hurry((writer.server.name,), self._policy.probe_timeout)
            decision = decide(decision.statement, decision.scope, decision.exclude)
        return decision
