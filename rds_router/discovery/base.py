"""What every source of a server list has to give, and how members become targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from sqlalchemy.engine import URL

from rds_router.core.topology import Server
from rds_router.dialects.members import Member
from rds_router.servers import DEFAULT_PORTS, Target

Reach: TypeAlias = Callable[[str, int], tuple[str, int]]
"""(host, port) as the cluster tells them -> as they are reached from here."""


class Discovery(Protocol):
    """Finds the servers of one cluster. Called from one thread at a time."""

    def find(self) -> tuple[Target, ...]:
        """The primary first. Never empty. Raises DiscoveryError, or what the way there raises."""
        ...


def directly(host: str, port: int) -> tuple[str, int]:
    """Servers are where the cluster says they are."""
    return host, port


def targets_of(members: Iterable[Member], url: URL, *, template: str, reach: Reach) -> tuple[Target, ...]:
    """The members as servers, with the user, database and options of ``url``; the primary first.

    ``template``: the host of a member that tells only its identifier, ``?`` for it.
    """
    found = [_target(each, url, template, reach) for each in members]
    return tuple(sorted(found, key=lambda each: (not each.server.is_primary, each.server.name)))


def _target(member: Member, url: URL, template: str, reach: Reach) -> Target:
    port = member.port or url.port or DEFAULT_PORTS.get(url.get_backend_name(), 0)
    host, port = reach(member.host or template.replace("?", member.identifier), port)
    return Target(Server(member.identifier, is_primary=member.is_primary), url.set(host=host, port=port))
