"""Does to a cluster what a schedule says, and keeps the books: who was the primary when, and what may be lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from rds_router.lab.clusters import Cluster
from rds_router.lab.errors import LabError
from rds_router.lab.proxy import Proxy
from rds_router.lab.server import Server, State
from rds_router.lab.torture.checker import Facts, Span
from rds_router.lab.torture.schedule import LAG, PRIMARY, WIRES, Fault, Step, Verb

TAIL = 1.0
"""Seconds before a primary's loss in which its commits may not have reached anybody yet. Idle machines need 1 ms."""
SLOWNESS = 0.2
"""Seconds that a packet takes longer on a slow wire."""
NOTICE = 1.0
"""Seconds after a promotion in which clients may still ask a former primary that nobody could fence."""
GRACE = 3.0
"""Seconds after an outage in which clients may still be told of it."""


@dataclass(frozen=True, slots=True)
class Done:
    """One step as it was carried out. Times are CLOCK_MONOTONIC."""

    kind: str
    verb: Verb
    server: str
    start: float
    end: float
    trouble: str = ""


class Conductor:
    """Carries out one schedule on one cluster, step by step, in one thread."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        wires: Mapping[str, Proxy] | None = None,
        promoted: Callable[[Server], object] | None = None,
    ) -> None:
        self._cluster = cluster
        self._wires = wires or {}
        self._severed: set[str] = set()
        self._clock = time.monotonic
        self._promoted = promoted
        self._server_of: dict[int, Server] = {}
        self._down_since: float | None = None
        self.done: list[Done] = []
        self._tenures: list[Span] = []
        self._since = float("-inf")  # who is the primary at first was it before the first client came
        self._losses: list[Span] = []
        self._lost_at: dict[str, float] = {}
        self._outages: list[Span] = []

    def play(self, schedule: Sequence[Fault], stop: threading.Event) -> None:
        """Carry the steps out at their times, or as soon after as the ones before are done.

        Lags are a track of their own. What delays one step delays the rest of its track as much: faults stay apart,
        and time to notice is not taken from the router.
        """
        begin = self._clock()
        tracks = [_track(schedule, lambda fault: fault.kind == LAG), _track(schedule, lambda fault: fault.kind != LAG)]
        agenda = [(track[0][0].at, number, 0) for number, track in enumerate(tracks) if track]
        heapify(agenda)
        while agenda:
            at, number, place = heappop(agenda)
            if stop.wait(max(0.0, begin + at - self._clock())):
                return
            step, fault = tracks[number][place]
            self._carry_out(schedule[fault].kind, step, fault)
            if place + 1 < len(tracks[number]):
                done = max(at, self._clock() - begin)
                heappush(agenda, (done + tracks[number][place + 1][0].at - step.at, number, place + 1))

    def heal(self) -> None:
        """Bring all servers back, as followers of the one primary, without lag, and wait until they have caught up."""
        c = self._cluster
        for wire in self._wires.values():
            wire.heal()
        for server in c.servers:
            if server.state is State.FROZEN:
                c.thaw(server)
        if not c.primary.is_running:
            c.restart(c.primary)
        if c.primary.is_fenced:
            c.promote(c.primary)
        for replica in c.replicas:
            if not replica.is_running:
                c.restart(replica)
            if replica.is_stale:
                c.rejoin(replica)
            self._make_well(replica)
        c.wait_caught_up(timeout=60.0)

    def facts(self) -> Facts:
        """The books, closed now."""
        now = self._clock()
        tenures = [*self._tenures, Span(self._cluster.primary.name, self._since, now)]
        losses = [*self._losses, *(Span(name, at - TAIL, now) for name, at in self._lost_at.items())]
        return Facts(tenures=tenures, losses=losses, outages=self._outages)

    def _carry_out(self, kind: str, step: Step, number: int) -> None:
        server = self._server_of[number] if step.place is None else self._at(step.place)
        self._server_of.setdefault(number, server)
        start, old, trouble = self._clock(), self._cluster.primary, ""
        try:
            self._do(step, server)
        except LabError as error:
            trouble = str(error).splitlines()[0]
        self._note(step.verb, server, old, start)
        self.done.append(Done(kind, step.verb, server.name, start, self._clock(), trouble))

    def _do(self, step: Step, server: Server) -> None:
        c, verb = self._cluster, step.verb
        if verb in WIRES:
            self._do_to_wire(verb, server)
        elif verb is Verb.KILL:
            c.kill(server)
        elif verb is Verb.RESTART:
            c.restart(server)
        elif verb is Verb.FREEZE:
            c.freeze(server)
        elif verb is Verb.THAW:
            c.thaw(server)
        elif verb is Verb.DEMOTE:
            c.demote(server)
        elif verb is Verb.PROMOTE:
            c.promote(server)
            if self._promoted is not None:
                self._promoted(server)
        elif verb is Verb.REJOIN:
            c.rejoin(server)
        elif verb is Verb.LAG:
            c.set_delay(server, step.seconds)
        elif verb is Verb.STALL:
            c.pause_replication(server, sql_only=True)
        elif verb is Verb.DEAFEN:
            c.pause_replication(server, io_only=True)
        else:
            self._make_well(server)

    def _do_to_wire(self, verb: Verb, server: Server) -> None:
        wire = self._wires[server.name]
        if verb is Verb.CUT:
            wire.refuse()
            wire.cut()
        elif verb is Verb.SWALLOW:
            wire.blackhole()
        elif verb is Verb.SLOW:
            wire.delay(to_client=SLOWNESS)
        else:
            wire.heal()

    def _make_well(self, server: Server) -> None:
        """End lag and pauses, if it is a replica that has any."""
        with suppress(LabError):
            if server.delay:
                self._cluster.set_delay(server, 0.0)
            if server.pauses:
                self._cluster.resume_replication(server)

    def _at(self, place: int) -> Server:
        """The server in that place: a replica in good order where there is one."""
        if place == PRIMARY:
            return self._cluster.primary
        replicas = self._cluster.replicas
        well = [each for each in replicas if each.is_running and not each.is_stale] or list(replicas)
        return well[(place - 1) % len(well)]

    def _is_well(self, primary: Server) -> bool:
        return primary.is_running and not primary.is_fenced and primary.name not in self._severed

    def _note(self, verb: Verb, server: Server, old: Server, start: float) -> None:
        now, new = self._clock(), self._cluster.primary
        if verb in (Verb.CUT, Verb.SWALLOW):
            self._severed.add(server.name)
        elif verb is Verb.MEND:
            self._severed.discard(server.name)
        if verb in _OUT and server is old:
            self._down_since = start
        if verb in (Verb.KILL, Verb.FREEZE) and server is old:
            self._lost_at[server.name] = start
        if new is not old:
            self._tenures.append(Span(old.name, self._since, now + NOTICE if old.is_stale else now))
            self._since = start
            self._down_since = start if self._down_since is None else self._down_since
        if self._down_since is not None and self._is_well(new):
            self._outages.append(Span(old.name, self._down_since, now + GRACE))
            self._down_since = None
        if server.name in self._lost_at and server.is_running and not server.is_stale:
            at = self._lost_at.pop(server.name)
            # Back in its old part it has all it ever confirmed.
            if server is not new:
                self._losses.append(Span(server.name, at - TAIL, now))


_OUT = frozenset({Verb.KILL, Verb.FREEZE, Verb.DEMOTE, Verb.RESTART, Verb.CUT, Verb.SWALLOW})


def _track(schedule: Sequence[Fault], is_in: Callable[[Fault], bool]) -> list[tuple[Step, int]]:
    """The steps of some faults, in order, each with its fault's number."""
    return [(step, number) for number, fault in enumerate(schedule) if is_in(fault) for step in fault.steps]
