"""What a snapshot tells the shell to act on: replicas whose name leads elsewhere by now, and those that fell silent."""

from __future__ import annotations

from rds_router.core.observation import Observation, Report, Role
from rds_router.core.policy import RoutingPolicy
from rds_router.core.topology import Server, Topology, evolve

FIRST = Report(Role.REPLICA, lag=0.1, is_writable=False, follows=True, identity="first")
SECOND = Report(Role.REPLICA, lag=0.1, is_writable=False, follows=True, identity="second")
BEGIN = Topology.of([Server("db", is_primary=True), Server("r1")], RoutingPolicy())


def after(topology: Topology, at: float, report: Report | None, **changes: bool) -> Topology:
    return evolve(topology, Observation("r1", at, report, error="" if report else "gone", **changes), now=at)


def test_another_server_behind_a_replicas_name_is_a_return() -> None:
    """So its pool is let go: what idles there leads to the former one."""
    one = after(BEGIN, 1.0, FIRST)
    assert list(after(one, 2.0, FIRST).returned_since(one)) == []
    assert list(after(one, 2.0, SECOND).returned_since(one)) == ["r1"]
    gone = after(one, 2.0, None)
    assert list(gone.returned_since(one)) == []
    assert list(after(gone, 3.0, FIRST).returned_since(gone)) == ["r1"]


def test_a_replica_is_silent_once_a_probe_failed_and_it_was_not_heard_of_for_so_long() -> None:
    one = after(BEGIN, 1.0, FIRST)
    assert list(one.silent_for(2.0, now=9.0)) == []  # nobody asked
    gone = after(one, 2.5, None)
    assert list(gone.silent_for(2.0, now=2.9)) == []
    assert list(gone.silent_for(2.0, now=3.0)) == ["r1"]
    assert list(after(one, 2.5, None, is_read=True).silent_for(2.0, now=9.0)) == []  # one read failed, no probe
    assert list(after(one, 2.5, None, is_login_refused=True).silent_for(2.0, now=9.0)) == []  # it is there
    assert list(after(gone, 3.5, FIRST).silent_for(2.0, now=9.0)) == []
