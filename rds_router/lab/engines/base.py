"""What the lab must know of an engine: how to make and start a server, and how to turn replication's knobs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rds_router.lab.binaries import Binaries
from rds_router.lab.server import Server

APP, BARE, REPLICATION = ("app", "lab-canary"), ("bare", "bare"), ("repl", "repl")
"""Accounts (user, password) that every cluster has, beside the engine's administrator. The first password is a word
that stands nowhere else: whoever tests software on a cluster can search what that writes for it."""

Options = Mapping[str, "str | int | float | bool"]
"""Extra server settings: name as the server spells it -> value."""


def environment(temporary: Path) -> dict[str, str]:
    """The environment of a server's processes: nothing of ours that could configure them.

    ``temporary`` must be the server's own: a starting MariaDB deletes all ``#sql*`` files there, whoever made them.
    """
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TMPDIR": str(temporary)}


class Engine(Protocol):
    """An engine family, over SQL connections: the same whether the server is a process or a container.

    Every method that changes something returns when the change has taken effect. Durations are seconds.
    """

    name: str
    scheme: str
    """SQLAlchemy's dialect and driver."""
    admin: tuple[str, str]
    """User and password of the account that may do everything."""

    rejoins: bool
    """True if a running former primary can simply follow its successor."""

    def check(self, server: Server) -> str:
        """The server's version. Raises LabError while it does not answer."""
        ...

    def provision(self, primary: Server, database: str) -> None:
        """Create the database if it is missing and let the accounts use it."""
        ...

    def follow(self, replica: Server, source: Server) -> None:
        """Replicate from that source from now on, with the replica's delay and pauses; refuse writes."""
        ...

    def is_following(self, replica: Server) -> bool:
        """True if its connection to its source is up."""
        ...

    def pause(self, replica: Server, halves: frozenset[str]) -> None:
        """Stop these halves (``receiver``, ``applier``); what is received later is not applied."""
        ...

    def resume(self, replica: Server, halves: frozenset[str], source: Server) -> None:
        """Start these halves."""
        ...

    def set_delay(self, replica: Server, seconds: float) -> None:
        """Hold every transaction back for that long before it is applied."""
        ...

    def written(self, primary: Server) -> str:
        """The position after its last commit."""
        ...

    def received(self, replica: Server) -> str:
        """The position up to which its data cannot be lost any more if its source is."""
        ...

    def wait_for(self, replica: Server, position: str, timeout: float) -> bool:
        """Wait until that position is visible to readers; False if it is not in time."""
        ...

    def drain(self, replica: Server, timeout: float) -> bool:
        """Apply everything already received; False if that is not done in time."""
        ...

    def fence(self, server: Server) -> None:
        """Refuse writes of ordinary accounts."""
        ...

    def let_go_of(self, primary: Server, replicas: Sequence[str]) -> None:
        """Drop the streams to these replicas if a clean shutdown of the primary would wait for them."""
        ...

    def become_primary(self, server: Server) -> None:
        """Follow nobody and accept writes."""
        ...


class Recipe(Protocol):
    """How to make and start a server of one engine from the programs of this machine."""

    binaries: Binaries
    run_as: int | None
    """User id for the server's processes, when they must not run as root; else None."""

    @property
    def key(self) -> str:
        """Names the template: another version or another way of making it has another key."""
        ...

    def build(self, directory: Path) -> None:
        """Make the template: an empty, cleanly stopped server with its accounts."""
        ...

    def prepare(self, server: Server, source: Server | None) -> None:
        """Make a fresh copy of the template into a server of its own."""
        ...

    def clone(self, server: Server, source: Server) -> bool:
        """Fill its data directory from a running primary; False if a copy of the template does as well."""
        ...

    def command(self, server: Server, options: Options) -> list[str]:
        """The command line that starts it in its present role."""
        ...
