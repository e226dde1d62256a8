"""Before a reader is sent to the primary: has a replica caught up with him by now, and is the primary still one?

The order is: a replica known to have what he wrote or saw (that was decided already), one that says so when asked, a
bounded wait, the primary. What is asked are the monitor's own probes, begun at once: readers who wait at the same time
share them, and what is learnt for one is known for all. A replica that lacks one write lacks the later ones: one that
was waited for in vain, or was surely too far behind by its last word, is left to the monitor's regular probes.
(docs/decisions/0021-a-reader-with-a-token-hurries-the-monitor.md)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from rds_router.core.decision import Decision, Reason
from rds_router.core.lag import shown_until, surely_behind
from rds_router.core.policy import RoutingPolicy
from rds_router.core.scope import NOW, Scope
from rds_router.core.statement import Statement
from rds_router.core.token import Token
from rds_router.core.topology import Topology
from rds_router.events import CaughtUp, Emitter, StillBehind
from rds_router.monitor import Monitor
from rds_router.noticed import Acknowledged

Decide: TypeAlias = Callable[[Statement, Scope, frozenset[str]], Decision]
WITHOUT_A_REPLICA: Final = (Reason.NONE_FRESH_ENOUGH, Reason.NO_REPLICA_ELIGIBLE)
_LOOKS: Final = 3
"""One may find its connection ended by the very change; another two are what it takes to call a server gone."""
_EAGER: Final = 0.005
"""Seconds in which probes follow one another without a pause: a healthy replica has a write within one or two
milliseconds. After that each pause is half of the time waited so far."""
_MAX_LOST: Final = 1024
"""How many tokens that no primary has are remembered; more are forgotten all at once."""


class CatchingUp:
    """The second looks of one router's readers. Thread-safe: of two who learn at once one may be forgotten, for a
    probe more."""

    def __init__(
        self,
        policy: RoutingPolicy,
        clock: Callable[[], float],
        events: Emitter,
        acknowledged: Acknowledged | None = None,
    ) -> None:
        """``acknowledged``: this process's own commits, of which the primary need not be asked."""
        self._policy = policy
        self._clock = clock
        self._events = events
        self._acknowledged = acknowledged or Acknowledged()
        self._sought: dict[str, tuple[Token, float]] = {}
        """Replica -> what it was first looked for to have and did not, and since when it is asked for that."""
        self._left_alone: dict[str, float] = {}
        """Replica -> until when nobody hurries it."""
        self._lost: dict[Token, float] = {}
        """Tokens that no primary has, and until when nobody is asked for them."""

    def looked_again(self, decision: Decision, monitor: Monitor, decide: Decide) -> Decision:
        """The decision, or another one once what it rests on was looked at again."""
        policy, now = self._policy, self._clock()
        token = decision.demanded
        if token is None or token.at == NOW.at or not monitor.is_running:
            return decision
        wanted = token if token.at is None else replace(token, at=None)
        if now < self._lost.get(wanted, now):
            return decision
        if token.unplaced is not None and now - token.unplaced < policy.after_write_window:
            return decision
        # Nobody waits for what cannot be shown in that time.
        is_too_early = token.at is not None and token.at > shown_until(decision.topology, now + policy.causal_wait)
        asked = () if is_too_early else self._worth_asking(decision.behind_token, decision.topology)
        later = self._waited(decision, asked, token, monitor, decide) if asked else decision
        if later.is_replica:
            return later
        later = self._on_a_primary(later, token, monitor, decide)
        if self._is_held(token, later.topology):
            self._leave_alone(asked, later.topology)
        else:
            if len(self._lost) >= _MAX_LOST:
                self._lost.clear()
            self._lost[wanted] = self._clock() + policy.probe_interval
        return later

    def _worth_asking(self, names: Sequence[str], topology: Topology) -> Sequence[str]:
        """Those of these replicas that may have it by now, or soon."""
        now = self._clock()
        may_have = {
            seen.server.name
            for seen in topology.servers
            if now >= self._left_alone.get(seen.server.name, now)
            and surely_behind(topology, seen) <= self._policy.causal_wait
        }
        return [name for name in names if name in may_have]

    def _waited(
        self, decision: Decision, asked: Sequence[str], token: Token, monitor: Monitor, decide: Decide
    ) -> Decision:
        """Probe the replicas that may have it by now, for ``causal_wait`` at most.

        What is known of them is up to a probe's interval old, and a write takes a millisecond to arrive.
        """
        # Real time: the router's clock may be one that a test moves by hand.
        begin, since = time.monotonic(), self._clock()
        later, left, end = decision, asked, begin + self._policy.causal_wait
        while left and (remaining := end - time.monotonic()) > 0:
            # A moment can only be compared once the primary's position after it is known.
            names = left if token.at is None else (decision.topology.writer, *left)
            has_news = monitor.hurry(names, remaining, enough=1 if token.at is None else 2)
            later = decide(decision.statement, decision.scope, decision.exclude)
            self._learn(left, token, since, later.topology)
            if later.is_replica:
                self._events.emit(CaughtUp(later.target, time.monotonic() - begin))
                return later
            if not has_news:
                break
            # Also one of which something else is said meanwhile: whose applier was stopped tells no lag.
            left = self._worth_asking(left, later.topology)
            waited = time.monotonic() - begin
            if left and waited > _EAGER:
                time.sleep(max(0.0, min(waited / 2, end - time.monotonic())))
        self._events.emit(StillBehind(tuple(asked), time.monotonic() - begin))
        return later

    def _learn(self, asked: Iterable[str], token: Token, since: float, topology: Topology) -> None:
        """Readers come one after the other, each with a later token: none of them may find that it is always behind.

        So each replica has ``causal_wait`` for the first of them, whoever waits, and whichever replica answers.
        """
        for name in asked:
            seen = next((each for each in topology.servers if each.server.name == name), None)
            first, asked_since = self._sought.get(name, (token, since))
            if seen is None or seen.satisfies(first) or not self._is_held(first, topology):
                first, asked_since = token, since
            self._sought[name] = first, asked_since
            if seen is not None and seen.reported_at - asked_since >= self._policy.causal_wait > 0:
                self._leave_alone((name,), topology)

    def _leave_alone(self, names: Iterable[str], topology: Topology) -> None:
        """Nobody hurries them before they had the time for a regular probe."""
        known = {seen.server.name for seen in topology.servers}
        for name in names:
            self._sought.pop(name, None)
            self._left_alone[name] = self._clock() + self._policy.probe_interval
        for forgotten in (self._sought.keys() | self._left_alone.keys()) - known:
            self._sought.pop(forgotten, None)
            self._left_alone.pop(forgotten, None)

    def _is_held(self, token: Token, topology: Topology) -> bool:
        """Some server is known to have it. What was lost in a fail over no replica will ever have: that says nothing of
        how far behind it is."""
        wanted = token.position
        if wanted is None or self._acknowledged.covers(wanted):
            return True
        reports = (seen.report for seen in topology.servers)
        return any(each is not None and each.position is not None and each.position.covers(wanted) for each in reports)

    def _on_a_primary(self, decision: Decision, token: Token, monitor: Monitor, decide: Decide) -> Decision:
        """Look whether the primary is still the primary, if it is not known to have the write itself.

        Another process may have written on a new one that this process has not heard of. What was lost in a fail over
        no primary has: then the primary of the moment answers all the same.
        """
        if token.position is None or self._acknowledged.covers(token.position):
            return decision
        for _ in range(_LOOKS):
            writer = decision.topology[decision.topology.writer]
            position = writer.report.position if writer.report else None
            if position is not None and position.covers(token.position):
                break
            monitor.hurry((writer.server.name,), self._policy.probe_timeout)
            decision = decide(decision.statement, decision.scope, decision.exclude)
        return decision
