"""What starts, ends and freezes servers: processes of this machine, or containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rds_router.lab.server import Server


class Runtime(Protocol):
    """Servers as things that run. It keeps ``Server.state`` right and leaves roles to the cluster."""

    def reserve_ports(self, count: int) -> list[int]:
        """Ports on 127.0.0.1 for the servers to come; kept until close()."""
        ...

    def peer(self, name: str, port: int) -> tuple[str, int]:
        """Host and port under which that server is reached by the others."""
        ...

    def create_all(self, primary: Server, replicas: Sequence[Server]) -> None:
        """Fresh data for all, started in their roles."""
        ...

    def rebuild(self, server: Server, source: Server) -> None:
        """End it, throw its data away and start it as a fresh replica of a running primary."""
        ...

    def start(self, server: Server) -> None:
        """Start a dead one with the data it has, in its present role; returns when it takes connections."""
        ...

    def stop(self, server: Server) -> None:
        """An orderly shutdown: everything confirmed reaches the replicas that are connected."""
        ...

    def kill(self, server: Server) -> None:
        """SIGKILL to all its processes. Returns when they are gone."""
        ...

    def freeze(self, server: Server) -> None:
        """SIGSTOP to all its processes; returns when none of them runs any more."""
        ...

    def thaw(self, server: Server) -> None:
        """SIGCONT to all its processes."""
        ...

    def is_up(self, server: Server) -> bool:
        """True if its main process exists, frozen or not."""
        ...

    def pids(self, server: Server) -> list[int]:
        """Its processes on this machine, the main one first; none where they are out of sight."""
        ...

    def log(self, server: Server) -> str:
        """The end of its log."""
        ...

    def close(self) -> None:
        """End everything and delete what was made for it. May be called twice."""
        ...
