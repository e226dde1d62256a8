"""rds_router as its Flask extension has it: a token of what was written goes out with the response to a write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from rds_router import RoutingSession
from rds_router.torture.jar import Cookie
from rds_router.torture.ways import ThroughRouter, Way


def way(task: Mapping[str, Any]) -> Way:
    """Made by ``rds_router.torture.ways.way_for`` for ``kind="benchmarks.peers.ours:way"``."""
    return OwnWrites(task["servers"], task["primary"], task["through"].get("policy", {}), task["threads"])


class OwnWrites(ThroughRouter):
    """The torture's way keeps what was read as well, which costs a look at the replica."""

    def keep_token(self, session: Session, cookie: Cookie) -> None:
        assert isinstance(session, RoutingSession)
        if (token := session.token) is not None:
            cookie.token = str(token)
