"""One server's health: up, suspect or down, how large its share is, and when to ask it again.

1. A server is UP until a probe or a read fails there, or its lag is over the bound: one such sample is enough.
2. Then it is SUSPECT. It gets no reads, and is asked again at the next regular probe; at once, if a read failed.
3. Failing again before it had its full share back, it is DOWN: it is asked ever more rarely, by one probe at a time,
   which is also its only test (half-open). Reads that fail after good probes keep it out as long (``held_until``).
4. A good probe at half the bound or less brings it back, with a tenth of its share, which grows to the whole during
   ``slow_start``; so does a server that is added to a running router. A process that has just begun takes every
   server at its full share: all of them are new to it.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import Final

from rds_router.core.policy import RoutingPolicy

FIRST_SHARE: Final = 0.1
"""The part of its share with which a server comes back."""


class State(enum.Enum):
    """What is thought of a server."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Health:
    """The state, and what it takes to leave it. Never changed, only replaced."""

    state: State = State.UP
    back_at: float = -math.inf
    """Monotonic seconds: when it came back up; its slow start counts from then."""
    failures: int = 0
    """Failed probes, and first failed reads after a good one, since it last had its full share."""
    held_until: float = -math.inf
    """Monotonic seconds: no probe brings it back before."""
    starts_until: float = math.inf
    """Monotonic seconds: coming up for the first time until then is no return, but the process's own start."""

    def share_at(self, now: float, slow_start: float) -> float:
        """The part of its weight that counts at ``now``: 1, or less in its slow start."""
        elapsed = now - self.back_at
        if elapsed >= slow_start:
            return 1.0
        return FIRST_SHARE + (1.0 - FIRST_SHARE) * max(0.0, elapsed) / slow_start


AT_START: Final = Health()
"""A server of which nothing was heard yet."""
NEWCOMER: Final = Health(State.SUSPECT, starts_until=-math.inf)
"""A server that is added while the router runs."""


def after_failure(health: Health, policy: RoutingPolicy, *, now: float, is_read: bool) -> Health:
    """After a failed probe, or after a read that failed there (``is_read``)."""
    if is_read and health.state is not State.UP:
        return health  # the echo of a failure that is known: reads that were under way fail together
    failures = health.failures + 1
    is_first = failures == 1
    return replace(
        health,
        state=State.SUSPECT if is_first else State.DOWN,
        failures=failures,
        held_until=now + back_off(failures, policy) if is_read and not is_first else health.held_until,
        starts_until=_start(health, policy, now),
    )


def after_answer(health: Health, lag: float | None, policy: RoutingPolicy, *, now: float) -> Health:
    """After a good probe that found this lag; None: it is not known."""
    is_up = health.state is State.UP
    bound = policy.max_lag if is_up else policy.max_lag / 2
    is_fit = policy.unknown_lag == "allow" if lag is None else lag <= bound
    starts_until = _start(health, policy, now)
    if not is_fit:
        return replace(health, state=State.SUSPECT, starts_until=starts_until)
    if is_up:
        has_full_share = now - health.back_at >= policy.slow_start
        if health.starts_until == -math.inf and not (health.failures and has_full_share):
            return health
        return replace(health, failures=0 if has_full_share else health.failures, starts_until=-math.inf)
    if now < health.held_until:
        return health
    return replace(
        health,
        state=State.UP,
        back_at=-math.inf if now <= starts_until else now,
        failures=0 if policy.slow_start == 0 else health.failures,
        starts_until=-math.inf,
    )


def back_off(failures: int, policy: RoutingPolicy) -> float:
    """The longest pause before a server that failed so often is asked again: the interval, doubled each time."""
    doubled = policy.probe_interval * 2.0 ** min(max(0, failures - 2), 30)
    return min(doubled, max(policy.max_backoff, policy.probe_interval))


def pause(health: Health, policy: RoutingPolicy, *, draw: float, is_urgent: bool = False) -> float:
    """Seconds until the next probe; ``draw`` is in [0, 1).

    The interval, a fifth more or less, so that workers spread; of a server that is down anything up to its back-off,
    so that they do not come back to it together. ``is_urgent``: the primary is missing, and this server may be it.
    """
    if health.state is State.DOWN and not is_urgent and policy.max_backoff > policy.probe_interval:
        return back_off(health.failures, policy) * draw
    return policy.probe_interval * (0.8 + 0.4 * draw)


def _start(health: Health, policy: RoutingPolicy, now: float) -> float:
    return now + policy.max_age if health.starts_until == math.inf else health.starts_until
